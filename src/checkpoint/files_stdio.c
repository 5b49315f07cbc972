// SPDX-License-Identifier: LGPL-2.1-or-later
// Standard input, output and error that lead out of the process (terminal, pipe, socket), and further descriptors of
// a terminal: the restored process gets those of the program that restores it.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "checkpoint/files_priv.h"

/* /dev/tty, consoles, serial lines, pseudo terminals (not their master, 5:2). */
bool thaw_is_tty(const struct stat *st)
{
	unsigned ma = major(st->st_rdev), mi = minor(st->st_rdev);

	return S_ISCHR(st->st_mode) && (ma == 4 || (ma == 5 && mi != 2) || (ma >= 136 && ma <= 143) || ma == 204 || ma == 229);
}

static void inherit(File *f, int from)
{
	f->kind = KIND(INHERITED);
	f->has_inherit = true;
	f->inherit = from;
	f->pos = 0;
}

/* Raw or not, echo or not: as the process had set it. A terminal that has hung up has none. */
static int keep_modes(struct thaw_dt *t, File *f)
{
	struct termios m;

	if (tcgetattr(t->dup, &m))
		return 0;
	f->has_modes = true;
	return thaw_bytes(&f->modes, &m, sizeof(m)) ? 0 : thaw_nomem();
}

bool thaw_files_modes(const ThawState__Process *p, struct termios *m)
{
	for (size_t i = 0; i < p->n_files; i++) {
		const File *f = p->files[i];

		if (f->kind == KIND(INHERITED) && f->has_modes && f->modes.len == sizeof(*m)) {
			memcpy(m, f->modes.data, sizeof(*m));
			return true;
		}
	}
	return false;
}

/* A pipe of stdio of which the process has one end only. A standard input that nobody can write to any more is kept
 * with its content instead. */
static bool pipe_leads_out(struct thaw_dt *t, const struct thaw_desc *std)
{
	struct pollfd pfd = { .fd = t->dup };
	int ends = thaw_pipe_ends(t);

	if (ends == 3)
		return false;
	if (ends == 2 || std->other.pid)
		return true;
	return poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLHUP);
}

/* The description of stdio with the inode of t. */
static const struct thaw_desc *stdio_of_inode(const struct thaw_dt *t)
{
	for (size_t i = 0; i < t->d->n_descs; i++) {
		const struct thaw_desc *o = &t->d->descs[i];

		if (o->stdio >= 0 && o->fd->st.st_ino == t->fd->st.st_ino && o->fd->st.st_dev == t->fd->st.st_dev &&
		    !(o->fd->flags & O_PATH))
			return o;
	}
	return NULL;
}

int thaw_dump_stdio(struct thaw_dt *t, File *f)
{
	const struct stat *st = &t->fd->st;
	const struct thaw_desc *std = t->desc->stdio >= 0 ? t->desc : stdio_of_inode(t);

	if (!std)
		return 1;
	if ((thaw_is_tty(st) && t->desc->stdio >= 0) || (S_ISFIFO(st->st_mode) && pipe_leads_out(t, std))) {
		inherit(f, std->stdio);
		return thaw_is_tty(st) ? keep_modes(t, f) : 0;
	}
	if (S_ISSOCK(st->st_mode)) {
		int rc = thaw_socket_leads_out(t);

		if (rc == 1) {
			inherit(f, std->stdio);
			return 0;
		}
		return rc < 0 ? rc : 1;
	}
	return 1;
}

/* ---- restore ---- */

static int dev_null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* O_NONBLOCK belongs to the description, which others (the shell) have too. A terminal gives a description of our own
 * then; a pipe or socket is changed as the process had changed its own. */
static int adopt_flags(const struct thaw_fr *r, const File *f, int fd)
{
	int now = fcntl(fd, F_GETFL), want, own;

	if (now < 0 || !((now ^ (int)f->flags) & O_NONBLOCK))
		return fd;
	want = (now & ~O_NONBLOCK) | ((int)f->flags & O_NONBLOCK);
	own = isatty(fd) ? thaw_reopen(fd, (want & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY) : -1;
	if (own >= 0) {
		close(fd);
		return own;
	}
	if (!fcntl(fd, F_SETFL, want))
		return fd;
	own = thaw_err_set(-errno, "fd %d: flags of inherited standard I/O cannot be set: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	close(fd);
	return own;
}

static int restore_inherited(struct thaw_fr *r, const File *f)
{
	int from = f->inherit >= 0 && f->inherit <= 2 ? r->stdio[f->inherit] : -1;
	int fd = from < 0 ? dev_null() : fcntl(from, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: standard I/O cannot be taken over: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	return from < 0 ? fd : adopt_flags(r, f, fd);
}

static int open_flags(const File *f)
{
	return ((int)f->flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY | O_CLOEXEC;
}

/* A description of its own: of the terminal that is our stdio, or of the path. */
static int restore_tty(struct thaw_fr *r, const File *f)
{
	int from = f->has_inherit && f->inherit >= 0 && f->inherit <= 2 ? r->stdio[f->inherit] : -1;
	int fd;

	if (from >= 0) {
		fd = isatty(from) ? thaw_reopen(from, open_flags(f)) : -1;
		return fd >= 0 ? fd : restore_inherited(r, f);
	}
	fd = open(f->path, open_flags(f));
	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: terminal %s cannot be opened: %s; restore from a terminal", thaw_fr_num(r, f),
				    f->path, strerrordesc_np(errno));
	if (isatty(fd))
		return fd;
	close(fd);
	return thaw_err_set(-ENOTTY, "fd %d: %s: is not a terminal", thaw_fr_num(r, f), f->path);
}

int thaw_restore_stdio(struct thaw_fr *r, const File *f)
{
	return f->kind == KIND(TTY) ? restore_tty(r, f) : restore_inherited(r, f);
}
