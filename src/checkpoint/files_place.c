// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers during a restore: which belong to the checkpoint, where ours stand meanwhile; names that a failure removes.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "checkpoint/files_priv.h"

bool thaw_fr_is_taken(const struct thaw_fr *r, int fd)
{
	return fd >= 0 && (unsigned)fd < r->n_taken && (r->taken[fd / 8] >> (fd % 8) & 1);
}

/* Above all numbers of the checkpoint if the limit allows it, else in a gap. */
int thaw_fr_dup_out(const struct thaw_fr *r, int fd)
{
	int n = fcntl(fd, F_DUPFD_CLOEXEC, (int)r->n_taken);

	for (int from = 0; n < 0;) {
		n = fcntl(fd, F_DUPFD_CLOEXEC, from);
		if (n < 0)
			return thaw_err_set(-errno, "no descriptor number is left beside those of the checkpoint; raise the limit of open files");
		if (thaw_fr_is_taken(r, n)) {
			from = n + 1;
			close(n);
			n = -1;
		}
	}
	return n;
}

int thaw_fr_out(const struct thaw_fr *r, int fd)
{
	int n;

	if (fd < 0)
		return thaw_err_set(errno ? -errno : -EBADF, "a descriptor cannot be made: %s", strerrordesc_np(errno));
	if (!thaw_fr_is_taken(r, fd))
		return fd;
	n = thaw_fr_dup_out(r, fd);
	close(fd);
	return n;
}

int thaw_fr_num(const struct thaw_fr *r, const File *f)
{
	ssize_t i = thaw_fr_index(r, f->id);

	return i < 0 || r->first[i] < 0 ? -1 : r->p->fds[r->first[i]]->fd;
}

ssize_t thaw_fr_index(const struct thaw_fr *r, uint32_t id)
{
	/* mostly the ids are the places; but the image says it, not we */
	if (id && id <= r->p->n_files && r->p->files[id - 1]->id == id)
		return (ssize_t)id - 1;
	for (size_t i = 0; i < r->p->n_files; i++)
		if (r->p->files[i]->id == id)
			return (ssize_t)i;
	return -1;
}

/* Numbers come from an array that a caller never sees half done: a failure ends the process. */
int thaw_fr_place(struct thaw_fr *r, size_t i, int fd)
{
	bool own = false;

	for (int k = r->first[i]; k >= 0; k = r->next[k]) {
		const ThawState__Fd *d = r->p->fds[k];
		int rc;

		own |= d->fd == fd;
		rc = d->fd == fd ? fcntl(fd, F_SETFD, d->cloexec ? FD_CLOEXEC : 0) : dup3(fd, d->fd, d->cloexec ? O_CLOEXEC : 0);
		if (rc < 0) {
			rc = thaw_err_set(-errno, "fd %d: number cannot be used: %s; raise the limit of open files", d->fd,
					  strerrordesc_np(errno));
			close(fd);
			return rc;
		}
		if (r->at[i] < 0)
			r->at[i] = d->fd;
	}
	if (!own)
		close(fd);
	return 0;
}

int thaw_fr_setfl(const struct thaw_fr *r, const File *f, int fd)
{
	int flags = (int)f->flags & (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME);

	if (!fcntl(fd, F_SETFL, flags))
		return 0;
	return thaw_err_set(-errno, "fd %d: flags %#o cannot be set: %s", thaw_fr_num(r, f), (unsigned)flags, strerrordesc_np(errno));
}

int thaw_reopen(int fd, int flags)
{
	char link[40];
	int n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = open(link, flags | O_CLOEXEC);
	return n < 0 ? -errno : n;
}

/* ---- names that a failure takes away again ---- */

struct thaw_undo {
	int dir;               /* the name may have been made below another root */
	char *name;
};

int thaw_fr_undo_add(struct thaw_fr *r, const char *path)
{
	struct thaw_undo *more = reallocarray(r->undo, r->n_undo + 1, sizeof(*more));
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	char *name = strdup(slash ? slash + 1 : path);
	int fd = dir ? thaw_fr_out(r, open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) : -ENOMEM;

	if (more)
		r->undo = more;
	free(dir);
	if (!more || !name || fd < 0) {
		free(name);
		unlink(path);
		return fd < 0 && fd != -ENOMEM ? fd : thaw_nomem();
	}
	r->undo[r->n_undo++] = (struct thaw_undo){ fd, name };
	return 0;
}

void thaw_fr_undo_end(struct thaw_fr *r, bool failed)
{
	for (size_t i = 0; i < r->n_undo; i++) {
		if (failed)
			unlinkat(r->undo[i].dir, r->undo[i].name, 0);
		close(r->undo[i].dir);
		free(r->undo[i].name);
	}
	free(r->undo);
}
