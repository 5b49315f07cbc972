// SPDX-License-Identifier: LGPL-2.1-or-later
// UNIX sockets: listening ones with their socket file, fresh ones, pairs within the process with what is on its way.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "checkpoint/files_priv.h"

#define PATH_AT offsetof(struct sockaddr_un, sun_path)

static const char *type_word(int type)
{
	return type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "datagram" : "seqpacket";
}

/* The path of a bound socket with its end, "" for none and abstract ones. */
static void sun_path(const ThawState__Socket *s, char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1])
{
	size_t n = s->address.len > PATH_AT ? s->address.len - PATH_AT : 0;

	memcpy(path, s->address.data + (n ? PATH_AT : 0), n);
	path[n] = 0;
}

/* ---- dump ---- */

/* The socket file must be where the name says, as the process sees it. */
static int dump_socket_file(struct thaw_dt *t, const struct thaw_unix *u, ThawState__Socket *s)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1], full[256];
	struct stat st;

	sun_path(s, path);
	if (!path[0])
		return 0;
	snprintf(full, sizeof(full), "/proc/%d/%s/%s", t->d->pid, path[0] == '/' ? "root" : "cwd", path);
	if (!u->has_vfs || stat(full, &st) || (uint32_t)st.st_ino != u->vfs_ino || st.st_dev != u->vfs_dev)
		return thaw_refuse(t->fd->num, "UNIX socket %s: its socket file was removed or replaced: not supported; close it before the checkpoint",
				   path);
	s->bound = malloc(sizeof(*s->bound));
	if (!s->bound)
		return thaw_nomem();
	thaw_state__file_id__init(s->bound);
	s->bound->dev = st.st_dev;
	s->bound->ino = st.st_ino;
	s->bound->mode = st.st_mode;
	s->has_mode = s->has_uid = s->has_gid = true;
	s->mode = st.st_mode & 07777;
	s->uid = st.st_uid;
	s->gid = st.st_gid;
	return 0;
}

static void own_name(const struct thaw_dt *t, char *buf, size_t room)
{
	struct sockaddr_un a;
	socklen_t len = sizeof(a);

	buf[0] = 0;
	if (!getsockname(t->dup, (struct sockaddr *)&a, &len) && len > PATH_AT)
		thaw_sock_text(&a, len, buf, room);
}

/* Neither connected nor listening. */
static int dump_fresh(struct thaw_dt *t, const struct thaw_unix *u, File *f)
{
	struct pollfd pfd = { .fd = t->dup, .events = POLLIN };
	int rc;

	if (u->shut || (poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLIN)))
		return thaw_refuse(t->fd->num, "UNIX %s socket with %s: not supported; close it before the checkpoint", type_word(u->type),
				   u->shut ? "a connection that has ended" : "messages that have not been read");
	f->kind = KIND(SOCKET);
	rc = thaw_sock_new(t, f);
	return rc ? rc : dump_socket_file(t, u, f->socket);
}

static int dump_listening(struct thaw_dt *t, const struct thaw_unix *u, File *f)
{
	char name[200];
	int rc;

	own_name(t, name, sizeof(name));
	if (u->pending)
		return thaw_refuse(t->fd->num, "listening UNIX socket %s with %u connection%s waiting to be accepted: not supported; accept them first",
				   name, u->pending, u->pending == 1 ? "" : "s");
	f->kind = KIND(UNIX_LISTEN);
	rc = thaw_sock_new(t, f);
	if (rc)
		return rc;
	f->socket->has_backlog = true;
	f->socket->backlog = (int32_t)u->backlog;
	return dump_socket_file(t, u, f->socket);
}

static int refuse_peer(const struct thaw_dt *t, const struct thaw_unix *u)
{
	struct sockaddr_un a;
	struct thaw_holder h = { 0 };
	socklen_t len = sizeof(a);
	char name[200] = "", link[40];

	if (!getpeername(t->dup, (struct sockaddr *)&a, &len) && len > PATH_AT)
		thaw_sock_text(&a, len, name, sizeof(name));
	snprintf(link, sizeof(link), "socket:[%llu]", (unsigned long long)u->peer);
	if (thaw_others_find(link, t->d->pid, &h))
		return thaw_refuse(t->fd->num, "UNIX %s socket connected to %s%sprocess %d (%s): not supported; close it before the checkpoint",
				   type_word(u->type), name, name[0] ? " of " : "", h.pid, h.comm);
	return thaw_refuse(t->fd->num, "UNIX %s socket connected to %s: not supported; close it before the checkpoint", type_word(u->type),
			   name[0] ? name : "a socket that no process has open");
}

static const struct thaw_desc *find_socket(const struct thaw_dt *t, uint64_t ino)
{
	for (size_t i = 0; i < t->d->n_descs; i++) {
		const struct thaw_dfd *e = t->d->descs[i].fd;

		if (S_ISSOCK(e->st.st_mode) && !(e->flags & O_PATH) && e->st.st_ino == ino)
			return &t->d->descs[i];
	}
	return NULL;
}

static int dump_pair(struct thaw_dt *t, const struct thaw_unix *u, File *f)
{
	const struct thaw_desc *peer = u->peer ? find_socket(t, u->peer) : NULL;
	struct thaw_unix back = { .has_peer = true, .peer = t->fd->st.st_ino };
	char name[200];
	int rc;

	if (u->peer && !peer)
		return refuse_peer(t, u);
	if (peer) {
		rc = thaw_unix_diag(peer->fd->num, u->peer, &back);
		if (rc)
			return rc;
	}
	own_name(t, name, sizeof(name));
	if (name[0] || !back.has_peer || back.peer != t->fd->st.st_ino)
		return thaw_refuse(t->fd->num, "UNIX %s connection over a name (%s) within the process: not supported; close it before the checkpoint",
				   type_word(u->type), name[0] ? name : "of the other end");
	f->kind = KIND(UNIX_PAIR);
	rc = thaw_sock_new(t, f);
	if (rc)
		return rc;
	f->socket->has_peer = peer != NULL;
	f->socket->peer = peer ? peer->id : 0;
	f->socket->has_shut = true;
	f->socket->shut = u->shut;
	return thaw_dump_queue(t, f->socket);
}

int thaw_dump_unix(struct thaw_dt *t, File *f)
{
	struct thaw_unix u;
	int rc = thaw_unix_diag(t->fd->num, t->fd->st.st_ino, &u);

	if (rc)
		return rc;
	if (t->desc->other.pid)
		return thaw_refuse(t->fd->num, "UNIX %s socket that process %d (%s) also has open: not supported; close it in one of the two",
				   type_word(u.type), t->desc->other.pid, t->desc->other.comm);
	if (u.state == TCP_LISTEN)
		return dump_listening(t, &u, f);
	return u.has_peer ? dump_pair(t, &u, f) : dump_fresh(t, &u, f);
}

/* ---- restore: names ---- */

/* A socket of another type never connects, but the answer tells whether somebody is behind the file. */
static bool somebody_listens(const char *path, size_t len, int type)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, (type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e;

	memcpy(a.sun_path, path, len < sizeof(a.sun_path) ? len : sizeof(a.sun_path));
	e = fd >= 0 && !connect(fd, (struct sockaddr *)&a, (socklen_t)(PATH_AT + len)) ? 0 : errno;
	if (fd >= 0)
		close(fd);
	return e != ECONNREFUSED;
}

/* The old socket file goes away if it is the old one, or one like it with nobody behind (an earlier restore made it). */
static int clear_name(struct thaw_fr *r, const File *f, const char *path)
{
	const ThawState__Socket *s = f->socket;
	int num = thaw_fr_num(r, f);
	struct stat st;
	bool old;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : thaw_err_set(-errno, "fd %d: UNIX socket %s: %s", num, path, strerrordesc_np(errno));
	old = s->bound && st.st_ino == s->bound->ino && st.st_dev == s->bound->dev;
	if (!S_ISSOCK(st.st_mode) || (s->bound && !old && st.st_uid != s->uid))
		return thaw_err_set(-EADDRINUSE, "fd %d: UNIX socket %s: is not the socket file that was checkpointed; move it away", num, path);
	if (somebody_listens(path, strlen(path), s->type))
		return thaw_err_set(-EADDRINUSE, "fd %d: UNIX socket %s: is in use by another program; end it first", num, path);
	if (unlink(path))
		return thaw_err_set(-errno, "fd %d: UNIX socket %s: the old socket file cannot be removed: %s", num, path,
				    strerrordesc_np(errno));
	return 0;
}

static int bind_path(struct thaw_fr *r, const File *f, int fd, const char *path)
{
	const ThawState__Socket *s = f->socket;
	int rc = clear_name(r, f, path);

	if (rc)
		return rc;
	if (bind(fd, (const struct sockaddr *)s->address.data, (socklen_t)s->address.len))
		return thaw_err_set(-errno, "fd %d: UNIX socket %s: cannot be bound: %s", thaw_fr_num(r, f), path, strerrordesc_np(errno));
	rc = thaw_fr_undo_add(r, path);
	if (rc)
		return rc;
	if (s->has_uid && (s->uid != geteuid() || s->gid != getegid()) && lchown(path, s->uid, s->gid) && geteuid() == 0)
		return thaw_err_set(-errno, "fd %d: UNIX socket %s: owner cannot be set: %s", thaw_fr_num(r, f), path, strerrordesc_np(errno));
	if (s->has_mode && chmod(path, s->mode))
		return thaw_err_set(-errno, "fd %d: UNIX socket %s: mode cannot be set: %s", thaw_fr_num(r, f), path,
				    strerrordesc_np(errno));
	return 0;
}

static int go_home(int root, int cwd, bool rooted)
{
	if ((rooted && (fchdir(root) || chroot("."))) || fchdir(cwd))
		return thaw_err_set(-errno, "cannot return to the own directory: %s", strerrordesc_np(errno));
	return 0;
}

/* A name is bound as the process wrote it, relative or below its own root: so stand where it stood. */
int thaw_unix_bind(struct thaw_fr *r, const File *f, int fd)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	bool rooted = r->p->root && r->p->root[0] && strcmp(r->p->root, "/");
	int root, cwd, rc = 0, back;

	sun_path(f->socket, path);
	if (!path[0]) {
		char text[200];

		if (!bind(fd, (const struct sockaddr *)f->socket->address.data, (socklen_t)f->socket->address.len))
			return 0;
		rc = -errno;
		thaw_sock_text(f->socket->address.data, f->socket->address.len, text, sizeof(text));
		return thaw_err_set(rc, "fd %d: UNIX socket %s: cannot be bound: %s", thaw_fr_num(r, f), text, strerrordesc_np(-rc));
	}
	root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cwd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || cwd < 0 || (path[0] != '/' && chdir(r->p->cwd)) || (rooted && chroot(r->p->root)))
		rc = thaw_err_set(-errno, "fd %d: UNIX socket %s: its directory cannot be reached: %s", thaw_fr_num(r, f), path,
				  strerrordesc_np(errno));
	if (!rc)
		rc = bind_path(r, f, fd, path);
	back = root < 0 || cwd < 0 ? 0 : go_home(root, cwd, rooted);
	if (root >= 0)
		close(root);
	if (cwd >= 0)
		close(cwd);
	return rc ? rc : back;
}

/* ---- restore: pairs ---- */

/* The message goes in at the other end. The buffer of the sender was large enough once; if its limit has been lowered
 * since, it is raised for the moment. */
static int put_message(int from, const ProtobufCBinaryData *m, bool stream)
{
	size_t done = 0;
	int big = 16 << 20;

	do {
		ssize_t n = send(from, m->data + done, m->len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EMSGSIZE) && big) {
			if (setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big)))
				setsockopt(from, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
			big = 0;
			continue;
		}
		if (n < 0)
			return -errno;
		done += (size_t)n;
	} while (stream && done < m->len);
	return done == m->len ? 0 : -EIO;
}

static int put_queue(struct thaw_fr *r, const File *to, int from)
{
	const ThawState__Socket *s = to->socket;
	int was, rc = 0;
	socklen_t len = sizeof(was);

	if (!s->n_queue)
		return 0;
	if (getsockopt(from, SOL_SOCKET, SO_SNDBUF, &was, &len))
		return thaw_err_set(-errno, "fd %d: SO_SNDBUF: %s", thaw_fr_num(r, to), strerrordesc_np(errno));
	for (size_t i = 0; i < s->n_queue && !rc; i++)
		rc = put_message(from, &s->queue[i], s->type == SOCK_STREAM);
	was /= 2;
	if (setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &was, sizeof(was)))
		setsockopt(from, SOL_SOCKET, SO_SNDBUF, &was, sizeof(was));
	return rc ? thaw_err_set(rc, "fd %d: what waits in the UNIX socket (%zu messages) cannot be put back: %s", thaw_fr_num(r, to),
				 s->n_queue, strerrordesc_np(-rc)) : 0;
}

static void shut(const ThawState__Socket *s, int fd)
{
	if (s->shut & 1)
		shutdown(fd, SHUT_RD);
	if (s->shut & 2)
		shutdown(fd, SHUT_WR);
}

/* b < 0: the other end was closed already. */
static int fill_pair(struct thaw_fr *r, ssize_t a, ssize_t b, const int fd[2])
{
	const File *f = r->p->files[a], *g = b < 0 ? NULL : r->p->files[b];
	int rc = thaw_sock_set_options(f->socket, fd[0], thaw_fr_num(r, f));

	if (!rc && g)
		rc = thaw_sock_set_options(g->socket, fd[1], thaw_fr_num(r, g));
	if (!rc)
		rc = put_queue(r, f, fd[1]);
	if (!rc && g)
		rc = put_queue(r, g, fd[0]);
	if (rc)
		return rc;
	shut(f->socket, fd[0]);
	if (g) {
		shut(g->socket, fd[1]);
		rc = thaw_fr_setfl(r, g, fd[1]);
	}
	return rc ? rc : thaw_fr_setfl(r, f, fd[0]);
}

static int restore_pair(struct thaw_fr *r, ssize_t a, ssize_t b)
{
	const ThawState__Socket *s = r->p->files[a]->socket;
	int fd[2], rc;

	if (socketpair(AF_UNIX, s->type | SOCK_CLOEXEC, 0, fd))
		return thaw_err_set(-errno, "fd %d: no socket pair: %s", thaw_fr_num(r, r->p->files[a]), strerrordesc_np(errno));
	fd[0] = thaw_fr_out(r, fd[0]);
	fd[1] = thaw_fr_out(r, fd[1]);
	rc = fd[0] < 0 || fd[1] < 0 ? -EMFILE : fill_pair(r, a, b, fd);
	if (!rc)
		rc = thaw_fr_place(r, (size_t)a, fd[0]);
	else
		close(fd[0]);
	if (!rc && b >= 0)
		return thaw_fr_place(r, (size_t)b, fd[1]);
	close(fd[1]);
	return rc;
}

int thaw_restore_pairs(struct thaw_fr *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->p->n_files && !rc; i++) {
		const File *f = r->p->files[i];
		ssize_t peer;

		if (f->kind != KIND(UNIX_PAIR) || r->at[i] >= 0)
			continue;
		peer = f->socket->has_peer ? thaw_fr_index(r, f->socket->peer) : -1;
		if (f->socket->has_peer && (peer < 0 || r->p->files[peer]->kind != KIND(UNIX_PAIR) || peer == (ssize_t)i))
			return thaw_err_set(-EINVAL, "fd %d: UNIX socket pair without its other end; the image is damaged", thaw_fr_num(r, f));
		rc = restore_pair(r, (ssize_t)i, peer);
	}
	return rc;
}
