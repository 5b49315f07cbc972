// SPDX-License-Identifier: LGPL-2.1-or-later
// What hangs on a description besides its kind: file locks, and who is sent SIGIO.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/syscall.h>

#include "checkpoint/files_priv.h"

enum { FLOCK = 1, POSIX = 2, OFD = 3 };

/* ---- dump ---- */

static int add_lock(File *f, uint32_t kind, int type, unsigned long long start, const char *end)
{
	ThawState__Lock **more = reallocarray(f->locks, f->n_locks + 1, sizeof(*more));
	ThawState__Lock *l = malloc(sizeof(*l));

	if (more)
		f->locks = more;
	if (!more || !l) {
		free(l);
		return thaw_nomem();
	}
	thaw_state__lock__init(l);
	l->kind = kind;
	l->type = type;
	l->start = start;
	l->len = strcmp(end, "EOF") ? strtoull(end, NULL, 10) - start + 1 : 0;
	f->locks[f->n_locks++] = l;
	return 0;
}

/* fdinfo of a description lists the locks that were taken through it: "lock: 1: POSIX  ADVISORY  WRITE 77 08:01:5 0 EOF". */
int thaw_dump_locks(struct thaw_dt *t, File *f)
{
	for (const char *p = t->fd->info; p; p = strchr(p, '\n')) {
		char kind[16], how[16], type[16], end[32];
		unsigned long long start;
		int rc;

		p += *p == '\n';
		if (strncmp(p, "lock:", 5))
			continue;
		if (sscanf(p, "lock: %*d: %15s %15s %15s %*d %*s %llu %31s", kind, how, type, &start, end) != 5)
			return thaw_refuse(t->fd->num, "file lock: fdinfo of this kernel is not understood: not supported");
		if (t->desc->other.pid && strcmp(kind, "POSIX") && t->fd->link[0] == '/')
			return thaw_refuse(t->fd->num,
					   "lock of %s that process %d (%s) holds through the same description: not supported; end that process, or if this one only inherited it start it with %d>&-",
					   t->fd->link, t->desc->other.pid, t->desc->other.comm, t->fd->num);
		if (strcmp(kind, "FLOCK") && strcmp(kind, "POSIX") && strcmp(kind, "OFDLCK"))
			return thaw_refuse(t->fd->num, "file %s on %s: not supported; give it up before the checkpoint",
					   strcmp(kind, "LEASE") ? kind : "lease", t->fd->link);
		rc = add_lock(f, *kind == 'F' ? FLOCK : *kind == 'P' ? POSIX : OFD, strcmp(type, "WRITE") ? F_RDLCK : F_WRLCK, start, end);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_thread(pid_t pid, pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", pid, tid);
	return !access(path, F_OK);
}

static bool is_own(pid_t pid, const struct f_owner_ex *o)
{
	switch (o->type) {
	case F_OWNER_TID: return is_thread(pid, o->pid);
	case F_OWNER_PID: return o->pid == pid;
	default: return o->pid == getpgid(pid);
	}
}

int thaw_dump_owner(struct thaw_dt *t, File *f)
{
	struct f_owner_ex o = { 0 };
	int sig = fcntl(t->dup, F_GETSIG);

	if (sig > 0) {
		f->has_signo = true;
		f->signo = sig;
	}
	if (fcntl(t->dup, F_GETOWN_EX, &o) || o.pid == 0)
		return 0;
	if (!is_own(t->d->pid, &o)) {
		if (f->kind == KIND(INHERITED) || f->kind == KIND(TTY))
			return 0;  /* not this process's doing */
		if (kill(o.type == F_OWNER_PGRP ? -o.pid : o.pid, 0) && errno == ESRCH)
			return 0;  /* nobody is left */
		return thaw_refuse(t->fd->num, "signals for %s %d (F_SETOWN): not supported; set another owner before the checkpoint",
				   o.type == F_OWNER_PGRP ? "process group" : "process", o.pid);
	}
	f->has_owner = f->has_owner_type = true;
	f->owner = o.pid;
	f->owner_type = o.type;
	return 0;
}

/* ---- restore ---- */

static struct flock lock_of(const ThawState__Lock *l)
{
	return (struct flock){ .l_type = (short)l->type, .l_whence = SEEK_SET, .l_start = (off_t)l->start,
			       .l_len = (off_t)l->len };
}

static const char *lock_word(const ThawState__Lock *l)
{
	return l->kind == FLOCK ? "flock" : l->kind == POSIX ? "POSIX lock" : "OFD lock";
}

static const char *name_of(const File *f)
{
	return f->path ? f->path : f->memfd_name ? f->memfd_name : "file";
}

static int take(const ThawState__Lock *l, int fd)
{
	struct flock fl = lock_of(l);

	if (l->kind == FLOCK)
		return flock(fd, (l->type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB);
	return fcntl(fd, l->kind == OFD ? F_OFD_SETLK : F_SETLK, &fl);
}

/* POSIX locks are taken here too, though the mappings' descriptors may drop them yet: a conflict shows now. */
int thaw_restore_locks(struct thaw_fr *r)
{
	for (size_t i = 0; i < r->p->n_files; i++) {
		const File *f = r->p->files[i];

		for (size_t k = 0; k < f->n_locks && r->at[i] >= 0; k++)
			if (take(f->locks[k], r->at[i]))
				return thaw_err_set(-errno, "fd %d: %s: %s cannot be taken again: %s%s", thaw_fr_num(r, f), name_of(f),
						    lock_word(f->locks[k]), strerrordesc_np(errno),
						    errno == EAGAIN || errno == EACCES ? "; another process has it" : "");
	}
	return 0;
}

/* A thread that is not the leader does not exist yet. */
static bool owner_waits(const ThawState__Process *p, const File *f)
{
	return f->has_owner && f->owner_type == F_OWNER_TID && f->owner != p->pid;
}

static int set_owner(struct thaw_fr *r, const File *f, int fd)
{
	struct f_owner_ex o = { .type = f->owner_type, .pid = f->owner_type == F_OWNER_PGRP ? getpgrp() : getpid() };

	if (f->has_signo && fcntl(fd, F_SETSIG, f->signo))
		return -1;
	if (f->has_owner && !owner_waits(r->p, f) && fcntl(fd, F_SETOWN_EX, &o))
		return -1;
	if ((f->flags & O_ASYNC) && f->kind != KIND(INHERITED))
		return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
	return 0;
}

int thaw_restore_owners(struct thaw_fr *r)
{
	for (size_t i = 0; i < r->p->n_files; i++) {
		const File *f = r->p->files[i];

		if (r->at[i] < 0 || f->kind == KIND(PATH) || !(f->has_signo || f->has_owner || (f->flags & O_ASYNC)))
			continue;
		if (set_owner(r, f, r->at[i]))
			return thaw_err_set(-errno, "fd %d: signal owner cannot be set: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	}
	return 0;
}
