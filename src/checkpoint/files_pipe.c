// SPDX-License-Identifier: LGPL-2.1-or-later
// Pipes and FIFOs whose ends are all within the process, with what is in them (looked at with tee, so it stays there).
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "checkpoint/files_priv.h"

enum { READ_END = 1, WRITE_END = 2 };

static int ends_of(unsigned flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY: return READ_END;
	case O_WRONLY: return WRITE_END;
	default: return READ_END | WRITE_END;
	}
}

/* ---- dump ---- */

static bool same_pipe(const struct thaw_dfd *a, const struct thaw_dfd *b)
{
	return a->st.st_ino == b->st.st_ino && a->st.st_dev == b->st.st_dev && !(a->flags & O_PATH) && !(b->flags & O_PATH);
}

int thaw_pipe_ends(const struct thaw_dt *t)
{
	int ends = 0;

	for (size_t i = 0; i < t->d->n_descs; i++)
		if (same_pipe(t->d->descs[i].fd, t->fd))
			ends |= ends_of(t->d->descs[i].fd->flags);
	return ends;
}

/* The content is written down with the first description that can read it. */
static bool is_first_reader(const struct thaw_dt *t)
{
	for (size_t i = 0; i < t->d->n_descs; i++) {
		const struct thaw_dfd *e = t->d->descs[i].fd;

		if (same_pipe(e, t->fd) && (ends_of(e->flags) & READ_END) && e->num < t->fd->num)
			return false;
	}
	return ends_of(t->fd->flags) & READ_END;
}

/* Others whom /proc does not show to this user: the kernel tells whether the other end is open at all. */
static bool other_end_is_open(const struct thaw_dt *t, int ends)
{
	struct pollfd pfd = { .fd = t->dup };

	if (poll(&pfd, 1, 0) < 0)
		return false;
	if (ends == WRITE_END)
		return !(pfd.revents & POLLERR);
	/* a FIFO that never had a writer shows no hangup either */
	return ends == READ_END && !(pfd.revents & POLLHUP) && t->fd->link[0] != '/';
}

static const char *pipe_word(const struct thaw_dt *t)
{
	return t->fd->link[0] == '/' ? "FIFO " : "";  /* the link says pipe:[N] by itself */
}

static int check_alone(struct thaw_dt *t, int ends)
{
	const struct thaw_holder *h = &t->desc->other;

	if (h->pid)
		return thaw_refuse(t->fd->num,
				   "%s%s that process %d (%s) also has open: not supported; end that process, or if this one only inherited it start it with %d>&-",
				   pipe_word(t), t->fd->link, h->pid, h->comm, t->fd->num);
	if (other_end_is_open(t, ends))
		return thaw_refuse(t->fd->num, "%s%s whose other end is open in a process that this user may not look into: not supported; close it before the checkpoint",
				   pipe_word(t), t->fd->link);
	return 0;
}

/* Reads our copy. In packet mode every read gives one packet. */
static int take(int num, int from, size_t total, ThawState__Pipe *p)
{
	size_t got = 0, room = 0;

	p->data.data = malloc(total);
	if (!p->data.data)
		return thaw_nomem();
	while (got < total) {
		ssize_t n = read(from, p->data.data + got, total - got);

		if (n <= 0)
			return thaw_err_set(-EIO, "fd %d: content of the pipe cannot be read", num);
		if (p->n_lens == room) {
			uint32_t *more = reallocarray(p->lens, room = room ? room * 2 : 16, sizeof(*more));

			if (!more)
				return thaw_nomem();
			p->lens = more;
		}
		p->lens[p->n_lens++] = (uint32_t)n;
		got += (size_t)n;
	}
	p->data.len = got;
	return 0;
}

static int dump_content(struct thaw_dt *t, ThawState__Pipe *p)
{
	int total = 0, mine[2], rc = 0;
	ssize_t n;

	if (ioctl(t->dup, FIONREAD, &total) || total <= 0)
		return 0;
	if (pipe2(mine, O_CLOEXEC | O_NONBLOCK))
		return thaw_err_set(-errno, "fd %d: no pipe to copy the content of the pipe: %s", t->fd->num, strerrordesc_np(errno));
	if ((int)p->size > fcntl(mine[1], F_GETPIPE_SZ))
		fcntl(mine[1], F_SETPIPE_SZ, (int)p->size);
	n = tee(t->dup, mine[1], (size_t)total, SPLICE_F_NONBLOCK);
	if (n != total)
		rc = thaw_err_set(n < 0 ? -errno : -EIO, "fd %d: content of the pipe (%d bytes) cannot be copied with tee", t->fd->num, total);
	else
		rc = take(t->fd->num, mine[0], (size_t)total, p);
	close(mine[0]);
	close(mine[1]);
	return rc;
}

int thaw_dump_pipe(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;
	int ends = thaw_pipe_ends(t), rc = check_alone(t, ends), size;
	struct stat s;

	if (rc)
		return rc;
	f->pipe = malloc(sizeof(*f->pipe));
	f->has_object = true;
	f->object = thaw_dump_object(t);
	if (!f->pipe || !f->object)
		return thaw_nomem();
	thaw_state__pipe__init(f->pipe);
	size = fcntl(t->dup, F_GETPIPE_SZ);
	f->pipe->size = size > 0 ? (uint32_t)size : 65536;
	f->pipe->write_end = (ends_of(e->flags) & WRITE_END) != 0;
	f->pipe->packet = (e->flags & O_DIRECT) != 0;
	f->has_uid = f->has_gid = true;
	f->uid = e->st.st_uid;
	f->gid = e->st.st_gid;
	f->pos = 0;
	f->kind = KIND(PIPE);
	if (e->link[0] == '/' && e->st.st_nlink) {
		f->kind = KIND(FIFO);
		f->path = strdup(e->link);
		f->file = malloc(sizeof(*f->file));
		if (!f->path || !f->file)
			return thaw_nomem();
		thaw_state__file_id__init(f->file);
		thaw_file_id(f->file, t->dup);
		if (stat(e->link, &s) || s.st_ino != e->st.st_ino || s.st_dev != e->st.st_dev)
			return thaw_refuse(e->num, "FIFO %s: the path does not lead to it any more: not supported; close it before the checkpoint",
					   e->link);
	}
	return is_first_reader(t) ? dump_content(t, f->pipe) : 0;
}

/* ---- restore ---- */

/* Both ends of one pipe while its Files are made: for a FIFO the same descriptor twice. */
struct ends {
	int r, w;
	bool r_used, w_used;   /* the first File of a direction takes the description itself */
};

static int open_base(struct thaw_fr *r, const File *f, struct ends *b)
{
	int fd[2], num = thaw_fr_num(r, f), left = 0, rc = 0;

	if (f->kind == KIND(PIPE)) {
		if (pipe2(fd, O_CLOEXEC | O_NONBLOCK))
			return thaw_err_set(-errno, "fd %d: no pipe: %s", num, strerrordesc_np(errno));
		/* or the process, as another user, could not open it through /proc; without the right to it, it stays ours */
		if (f->has_uid && f->has_gid && (f->uid != geteuid() || f->gid != getegid()))
			(void)!fchown(fd[0], f->uid, f->gid);
		*b = (struct ends){ thaw_fr_out(r, fd[0]), thaw_fr_out(r, fd[1]), false, false };
		return b->r < 0 ? b->r : b->w < 0 ? b->w : 0;
	}
	fd[0] = open(f->path, O_PATH | O_CLOEXEC);
	if (fd[0] < 0)
		return thaw_err_set(-errno, "fd %d: FIFO %s: cannot be opened again: %s", num, f->path, strerrordesc_np(errno));
	if (f->file && thaw_file_id_check(f->file, fd[0], f->path))
		rc = thaw_err_wrap("fd %d", num);
	close(fd[0]);
	if (rc)
		return rc;
	fd[0] = open(f->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd[0] < 0)
		return thaw_err_set(-errno, "fd %d: FIFO %s: cannot be opened again: %s", num, f->path, strerrordesc_np(errno));
	b->r = thaw_fr_out(r, fd[0]);
	if (b->r >= 0 && (ioctl(b->r, FIONREAD, &left) || left))
		return thaw_err_set(-EBUSY, "fd %d: FIFO %s: another program is using it", num, f->path);
	b->w = b->r < 0 ? b->r : fcntl(b->r, F_DUPFD_CLOEXEC, (int)r->n_taken);
	if (b->w < 0 && b->r >= 0)
		b->w = thaw_fr_out(r, fcntl(b->r, F_DUPFD_CLOEXEC, 3));
	b->r_used = b->w_used = true;
	return b->r < 0 ? b->r : b->w < 0 ? b->w : 0;
}

/* Packet mode is a flag of the writing descriptions. */
static bool in_packets(const struct thaw_fr *r, const File *f)
{
	if (f->pipe->n_lens != 1 || f->pipe->lens[0] > 4096)
		return f->pipe->n_lens > 1;
	for (size_t i = 0; i < r->p->n_files; i++)
		if (r->p->files[i]->pipe && r->p->files[i]->object == f->object && r->p->files[i]->pipe->packet)
			return true;
	return false;
}

static int put_content(struct thaw_fr *r, const File *f, int w)
{
	const ThawState__Pipe *p = f->pipe;
	size_t done = 0;
	int flags = fcntl(w, F_GETFL);

	if (in_packets(r, f))
		fcntl(w, F_SETFL, flags | O_DIRECT);
	for (size_t i = 0; i < p->n_lens; i++) {
		ssize_t n = done + p->lens[i] > p->data.len ? -1 : write(w, p->data.data + done, p->lens[i]);

		if (n != (ssize_t)p->lens[i])
			return thaw_err_set(-EIO, "fd %d: content of the pipe (%zu bytes) cannot be put back: %s", thaw_fr_num(r, f),
					    p->data.len, n < 0 ? strerrordesc_np(errno) : "pipe is full");
		done += p->lens[i];
	}
	fcntl(w, F_SETFL, flags);
	return 0;
}

static int set_size(struct thaw_fr *r, const File *f, int w)
{
	int size = fcntl(w, F_GETPIPE_SZ);

	if (size == (int)f->pipe->size || fcntl(w, F_SETPIPE_SZ, (int)f->pipe->size) >= 0)
		return 0;
	return thaw_err_set(-errno, "fd %d: pipe size %u cannot be set: %s (see /proc/sys/fs/pipe-max-size)", thaw_fr_num(r, f),
			    f->pipe->size, strerrordesc_np(errno));
}

static int make_one(struct thaw_fr *r, size_t i, struct ends *b)
{
	const File *f = r->p->files[i];
	int acc = (int)f->flags & O_ACCMODE, fd, rc;
	bool *used = acc == O_WRONLY ? &b->w_used : &b->r_used;

	if (acc != O_RDWR && !*used) {
		fd = fcntl(acc == O_WRONLY ? b->w : b->r, F_DUPFD_CLOEXEC, 0);
		*used = true;
	} else if (f->kind == KIND(FIFO)) {
		fd = open(f->path, acc | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	} else {
		fd = thaw_reopen(b->r, acc | O_NONBLOCK);
		if (fd < 0)
			errno = -fd;
	}
	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: pipe cannot be opened again: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	rc = thaw_fr_setfl(r, f, fd);
	if (!rc)
		return thaw_fr_place(r, i, fd);
	close(fd);
	return rc;
}

/* All Files of the pipe that File `first` belongs to. */
static int restore_one(struct thaw_fr *r, size_t first)
{
	const File *f = r->p->files[first];
	struct ends b = { -1, -1, false, false };
	int rc = open_base(r, f, &b);

	if (!rc)
		rc = set_size(r, f, b.w);
	for (size_t i = first; i < r->p->n_files && !rc; i++)
		if (r->p->files[i]->pipe && r->p->files[i]->object == f->object)
			rc = put_content(r, r->p->files[i], b.w);
	for (size_t i = first; i < r->p->n_files && !rc; i++)
		if (r->p->files[i]->pipe && r->p->files[i]->object == f->object)
			rc = make_one(r, i, &b);
	if (b.r >= 0)
		close(b.r);
	if (b.w >= 0)
		close(b.w);
	return rc;
}

int thaw_restore_pipes(struct thaw_fr *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->p->n_files && !rc; i++)
		if (r->p->files[i]->pipe && r->at[i] < 0)
			rc = restore_one(r, i);
	return rc;
}
