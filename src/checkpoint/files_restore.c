// SPDX-License-Identifier: LGPL-2.1-or-later
// The descriptor table of the new process: the old out of the way, every description made once, put at its numbers.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "checkpoint/files_priv.h"

/* ---- clearing the table ---- */

static int by_int(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Everything but `stay` (sorted here). */
static void close_others(int *stay, size_t n)
{
	unsigned from = 0;

	qsort(stay, n, sizeof(*stay), by_int);
	for (size_t i = 0; i < n; i++) {
		if (stay[i] < 0)
			continue;
		if ((unsigned)stay[i] > from)
			close_range(from, (unsigned)stay[i] - 1, 0);
		from = (unsigned)stay[i] + 1;
	}
	close_range(from, ~0U, 0);
}

/* Room for the numbers of the checkpoint and for ours beside them, until the process's own limits are set. */
static int raise_limit(struct thaw_fr *r, unsigned spare, struct rlimit *old)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, old))
		return thaw_err_set(-errno, "getrlimit: %s", strerrordesc_np(errno));
	l = *old;
	if (l.rlim_cur < r->n_taken + spare + 64)
		l.rlim_cur = r->n_taken + spare + 64;
	if (l.rlim_max < l.rlim_cur)
		l.rlim_max = l.rlim_cur;
	if (setrlimit(RLIMIT_NOFILE, &l)) {
		l = *old;
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
	return 0;
}

static int mark_numbers(struct thaw_fr *r)
{
	for (size_t i = 0; i < r->p->n_fds; i++) {
		if (r->p->fds[i]->fd < 0 || r->p->fds[i]->fd >= 1 << 30 || thaw_fr_index(r, r->p->fds[i]->file) < 0)
			return thaw_err_set(-EINVAL, "fd %d has no file; the image is damaged", r->p->fds[i]->fd);
		if ((unsigned)r->p->fds[i]->fd >= r->n_taken)
			r->n_taken = (unsigned)r->p->fds[i]->fd + 1;
	}
	r->taken = calloc(r->n_taken / 8 + 1, 1);
	r->at = malloc((r->p->n_files + 1) * sizeof(*r->at));
	r->first = malloc((r->p->n_files + 1) * sizeof(*r->first));
	r->next = malloc((r->p->n_fds + 1) * sizeof(*r->next));
	if (!r->taken || !r->at || !r->first || !r->next)
		return thaw_nomem();
	for (size_t i = 0; i < r->p->n_fds; i++)
		r->taken[r->p->fds[i]->fd / 8] |= (unsigned char)(1 << r->p->fds[i]->fd % 8);
	for (size_t i = 0; i < r->p->n_files; i++)
		r->at[i] = r->first[i] = -1;
	for (size_t k = r->p->n_fds; k-- > 0;) {  /* they come in order, so that the lowest ends up first */
		ssize_t i = thaw_fr_index(r, r->p->fds[k]->file);

		r->next[k] = r->first[i];
		r->first[i] = (int)k;
	}
	return 0;
}

static bool in_keep(int fd, int *keep[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (*keep[i] == fd)
			return true;
	return false;
}

static int clear_table(struct thaw_fr *r, int *keep[], unsigned n_keep)
{
	int *stay = malloc((n_keep + 4 + thaw_objects_count()) * sizeof(*stay));
	size_t n = 0;
	int rc = stay ? 0 : thaw_nomem();

	for (unsigned i = 0; i < n_keep && !rc; i++) {
		int was = *keep[i];

		if (was < 0)
			continue;
		*keep[i] = thaw_fr_out(r, was);
		rc = *keep[i] < 0 ? *keep[i] : 0;
		if (was == r->dirfd)
			r->dirfd = *keep[i];
		stay[n++] = *keep[i];
	}
	if (!rc) {
		r->dirfd = thaw_fr_out(r, r->dirfd);
		rc = r->dirfd < 0 ? r->dirfd : 0;
	}
	if (!rc) {
		stay[n++] = r->dirfd;
		for (int k = 0; k < 3; k++) {
			r->stdio[k] = in_keep(k, keep, n_keep) || fcntl(k, F_GETFD) < 0 ? -1 : thaw_fr_dup_out(r, k);
			stay[n++] = r->stdio[k];
		}
		n = thaw_objects_move(r, stay, n);
		close_others(stay, n);
	}
	free(stay);
	return rc;
}

/* ---- making them ---- */

static int make_one(struct thaw_fr *r, const File *f)
{
	if (f->has_stored)
		return thaw_restore_stored(r, f);
	switch (f->kind) {
	case KIND(REG):
	case KIND(DIR):
	case KIND(PATH):
		return thaw_restore_path(r, f);
	case KIND(CHR):
		return thaw_restore_chr(r, f);
	case KIND(INHERITED):
	case KIND(TTY):
		return thaw_restore_stdio(r, f);
	case KIND(EVENTFD):
	case KIND(TIMERFD):
	case KIND(SIGNALFD):
		return thaw_restore_event(r, f);
	case KIND(INOTIFY):
		return thaw_restore_inotify(r, f);
	default:
		return thaw_restore_socket(r, f);
	}
}

static bool made_in_groups(const File *f)
{
	return f->kind == KIND(PIPE) || f->kind == KIND(FIFO) || f->kind == KIND(UNIX_PAIR) || f->kind == KIND(EPOLL);
}

static int make_all(struct thaw_fr *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->p->n_files && !rc; i++) {
		const File *f = r->p->files[i];
		int fd;

		if (made_in_groups(f) || thaw_fr_num(r, f) < 0)
			continue;
		fd = make_one(r, f);
		rc = fd < 0 ? fd : thaw_fr_place(r, i, fd);
	}
	if (!rc)
		rc = thaw_restore_pipes(r);
	if (!rc)
		rc = thaw_restore_pairs(r);
	if (!rc)
		rc = thaw_restore_epolls(r);
	if (!rc)
		rc = thaw_restore_owners(r);
	if (!rc)
		rc = thaw_objects_finish(r);
	return rc ? rc : thaw_restore_locks(r);
}

/* A File must bring what its kind needs, and nothing else: the image may be damaged. */
static bool is_complete(const File *f)
{
	bool piped = f->kind == KIND(PIPE) || f->kind == KIND(FIFO);
	bool socket = f->kind >= KIND(TCP_LISTEN) && f->kind <= KIND(UNIX_PAIR);

	if (f->kind == KIND(SOCKET))
		socket = true;
	if (piped != !!f->pipe || socket != !!f->socket || (f->kind == KIND(EVENTFD)) != !!f->eventfd ||
	    (f->kind == KIND(TIMERFD)) != !!f->timerfd)
		return false;
	if (f->has_stored && (f->stored < 0 || !f->has_object || !(f->path || f->memfd_name)))
		return false;
	if (f->has_stored)
		return f->kind == KIND(REG) || f->kind == KIND(MEMFD) || f->kind == KIND(PATH);
	if (f->kind == KIND(MEMFD))
		return false;
	if (f->socket)
		return f->socket->address.len <= 128 && (f->socket->domain != AF_UNIX || f->socket->address.len <= 110);
	if (f->kind == KIND(SIGNALFD))
		return f->has_signalfd_mask;
	return f->path || !(f->kind == KIND(REG) || f->kind == KIND(DIR) || f->kind == KIND(PATH) || f->kind == KIND(CHR) ||
			    f->kind == KIND(TTY) || f->kind == KIND(FIFO));
}

static int check_files(const ThawState__Process *p)
{
	for (size_t i = 0; i < p->n_files; i++)
		if (!is_complete(p->files[i]))
			return thaw_err_set(-EINVAL, "file %u: its description (kind %d) is not complete; the image is damaged",
					    p->files[i]->id, (int)p->files[i]->kind);
	return 0;
}

int thaw_files_restore(const ThawState__Process *p, int dirfd, int *keep[], unsigned n_keep)
{
	struct thaw_fr r = { .p = p, .dirfd = dirfd, .stdio = { -1, -1, -1 } };
	bool dir_stays = in_keep(dirfd, keep, n_keep);
	struct rlimit limit = { 0, 0 };
	int rc = check_files(p);

	if (!rc)
		rc = mark_numbers(&r);
	if (!rc)
		rc = raise_limit(&r, n_keep, &limit);
	if (!rc)
		rc = clear_table(&r, keep, n_keep);
	if (!rc) {
		rc = make_all(&r);
		thaw_fr_undo_end(&r, rc != 0);
		for (int k = 0; k < 3; k++)
			if (r.stdio[k] >= 0)
				close(r.stdio[k]);
		if (!dir_stays)
			close(r.dirfd);
	}
	if (limit.rlim_max)
		setrlimit(RLIMIT_NOFILE, &limit);
	free(r.taken);
	free(r.at);
	free(r.first);
	free(r.next);
	return rc;
}
