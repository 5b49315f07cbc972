// SPDX-License-Identifier: LGPL-2.1-or-later
// What waits until all mappings and threads exist: POSIX locks, seals of mapped memfds, owners that are threads.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "checkpoint/files_priv.h"

struct late {
	struct thaw_late *calls;
	size_t n;
};

static int add_call(struct late *l, const File *f, const struct thaw_late *call, const char *what)
{
	struct thaw_late *more = reallocarray(l->calls, l->n + 1, sizeof(*more));

	if (!more)
		return thaw_nomem();
	l->calls = more;
	more = &l->calls[l->n++];
	*more = *call;
	more->nr = SYS_fcntl;
	snprintf(more->what, sizeof(more->what), "fd %d: %.60s: %s", call->fd,
		 f->path ? f->path : f->memfd_name ? f->memfd_name : "file", what);
	return 0;
}

static int late_locks(struct late *l, const File *f, int fd)
{
	int rc = 0;

	for (size_t k = 0; k < f->n_locks && !rc; k++) {
		const ThawState__Lock *lock = f->locks[k];
		struct flock fl = { .l_type = (short)lock->type, .l_whence = SEEK_SET, .l_start = (off_t)lock->start,
				    .l_len = (off_t)lock->len };
		struct thaw_late c = { .fd = fd, .cmd = F_SETLK, .len = sizeof(fl) };

		if (lock->kind != 2)
			continue;
		memcpy(c.data, &fl, sizeof(fl));
		rc = add_call(l, f, &c, "POSIX lock");
	}
	return rc;
}

static int late_owner(struct late *l, const ThawState__Process *p, const File *f, int fd)
{
	struct f_owner_ex o = { .type = f->owner_type, .pid = f->owner };
	struct thaw_late c = { .fd = fd, .cmd = F_SETOWN_EX, .len = sizeof(o) };

	if (!f->has_owner || f->owner_type != F_OWNER_TID || f->owner == p->pid)
		return 0;
	memcpy(c.data, &o, sizeof(o));
	return add_call(l, f, &c, "signal owner");
}

/* One memfd may be open several times; sealing it twice fails when the first added F_SEAL_SEAL. */
static bool sealed_before(const ThawState__Process *p, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (p->files[k]->kind == KIND(MEMFD) && p->files[k]->object == p->files[i]->object)
			return true;
	return false;
}

static int late_seals(struct late *l, const ThawState__Process *p, size_t i, int fd)
{
	const File *f = p->files[i];
	struct thaw_late c = { .fd = fd, .cmd = F_ADD_SEALS, .value = (uint64_t)f->seals };

	if (f->kind != KIND(MEMFD) || !f->has_seals || !f->seals || !thaw_seals_wait(p, f) || sealed_before(p, i))
		return 0;
	return add_call(l, f, &c, "seals");
}

int thaw_files_late(const ThawState__Process *p, struct thaw_late **calls)
{
	struct late l = { NULL, 0 };
	int rc = 0;

	for (size_t i = 0; i < p->n_files && !rc; i++) {
		const File *f = p->files[i];
		int fd = -1;

		for (size_t k = 0; k < p->n_fds && fd < 0; k++)
			if (p->fds[k]->file == f->id)
				fd = p->fds[k]->fd;
		if (fd < 0)
			continue;
		rc = late_locks(&l, f, fd);
		if (!rc)
			rc = late_owner(&l, p, f, fd);
		if (!rc)
			rc = late_seals(&l, p, i, fd);
	}
	if (rc) {
		free(l.calls);
		return rc;
	}
	*calls = l.calls;
	return (int)l.n;
}
