// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_check.c - a state image that was read well but makes no sense is refused here, before there is a process */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/user.h>

#include "checkpoint/state.h"
#include "util/err.h"

#define PAGE 4096ULL
#define XSAVE_MIN 576u          /* legacy area and header */
#define XSAVE_MAX (64u << 10)
#define AUXV_MAX 1024u
#define TIMERS_MAX 65536u

#define BAD(...) thaw_err_set(-EBADMSG, "thaw.img: " __VA_ARGS__)
#define U(x) ((unsigned long long)(x))

static bool is_user_range(uint64_t start, uint64_t end)
{
	return start % PAGE == 0 && end % PAGE == 0 && start < end && end <= THAW_RESTORE_TASK_SIZE;
}

/* Advice that only marks a mapping; others discard its pages or harm the machine's. */
static bool is_mark(uint32_t advice)
{
	switch (advice) {
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_DONTFORK:
	case MADV_MERGEABLE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_DONTDUMP:
	case MADV_WIPEONFORK:
		return true;
	default:
		return false;
	}
}

static int check_mapping(const struct thaw_restore *r, size_t i)
{
	const ThawState__Mapping *m = r->p->mappings[i];
	bool file = m->kind == THAW_STATE__MAPPING__KIND__FILE_PRIVATE || m->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED;

	if (m->kind == THAW_STATE__MAPPING__KIND__SPECIAL)
		return 0;
	if (!is_user_range(m->start, m->end) || m->pgoff % PAGE)
		return BAD("mapping %zu: 0x%llx-0x%llx at 0x%llx is no range of pages of a process", i, U(m->start), U(m->end),
			   U(m->pgoff));
	if (m->prot & ~(unsigned)(PROT_READ | PROT_WRITE | PROT_EXEC))
		return BAD("mapping %zu: protection 0x%x", i, m->prot);
	if ((unsigned)m->kind > THAW_STATE__MAPPING__KIND__SPECIAL)
		return BAD("mapping %zu: kind %d", i, (int)m->kind);
	if (file && !m->has_stored && (!m->path || !*m->path))
		return BAD("mapping %zu: of a file without a path", i);
	if (m->kind == THAW_STATE__MAPPING__KIND__SHARED_ANON && !m->has_stored)
		return BAD("mapping %zu: shared memory without content", i);
	if (m->has_stored && (m->stored < 0 || (size_t)m->stored >= r->head->n_stored_sizes))
		return BAD("mapping %zu: stored object %d of %zu", i, m->stored, r->head->n_stored_sizes);
	if (m->lazy && (m->kind != THAW_STATE__MAPPING__KIND__ANON || m->locked))
		return BAD("mapping %zu: is lazy but not private anonymous memory", i);
	if (m->lazy && m->map_flags & THAW_MAP_DROPPABLE)
		return BAD("mapping %zu: is lazy but may lose its content", i);
	for (size_t a = 0; a < m->n_madvise; a++)
		if (!is_mark(m->madvise[a]))
			return BAD("mapping %zu: advice %u", i, m->madvise[a]);
	for (size_t g = 0; g < m->n_guards; g++)
		if (!is_user_range(m->guards[g]->start, m->guards[g]->end) || m->guards[g]->start < m->start ||
		    m->guards[g]->end > m->end)
			return BAD("mapping %zu: guard range %zu is outside", i, g);
	return 0;
}

static int check_mappings(const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	const struct thaw_special *s = &r->special;
	uint64_t end = 0, special_start = r->head->vdso_start - r->head->vvar_len;
	uint64_t special_end = r->head->vdso_start + (s->vdso_end - s->vdso_start);
	int err;

	if (!p->n_mappings)
		return BAD("no mappings");
	if (r->head->vvar_len && r->head->vvar_start != special_start)
		return BAD("vvar at 0x%llx is not before the vdso", U(r->head->vvar_start));
	if (!is_user_range(special_start, special_end))
		return BAD("vdso at 0x%llx", U(r->head->vdso_start));
	for (size_t i = 0; i < p->n_mappings; i++) {
		const ThawState__Mapping *m = p->mappings[i];

		err = check_mapping(r, i);
		if (err)
			return err;
		if (m->start < end)
			return BAD("mapping %zu: 0x%llx overlaps the one before", i, U(m->start));
		end = m->end;
		if (m->kind != THAW_STATE__MAPPING__KIND__SPECIAL && m->start < special_end && m->end > special_start)
			return BAD("mapping %zu: 0x%llx overlaps the vdso", i, U(m->start));
	}
	return 0;
}

static int check_siginfos(const char *whose, ThawState__Siginfo **v, size_t n)
{
	int signo;

	for (size_t i = 0; i < n; i++) {
		if (v[i]->info.len != sizeof(siginfo_t))
			return BAD("%s: pending signal %zu has %zu bytes", whose, i, v[i]->info.len);
		memcpy(&signo, v[i]->info.data, sizeof(signo));
		if (signo < 1 || signo > 64 || signo == SIGKILL || signo == SIGSTOP)
			return BAD("%s: pending signal %zu is number %d", whose, i, signo);
	}
	return 0;
}

static int check_thread(const ThawState__Process *p, size_t i)
{
	const ThawState__Thread *t = p->threads[i];

	if (t->tid < 1 || (i == 0) != (t->tid == p->pid))
		return BAD("thread %zu: id %d (the process is %d)", i, t->tid, p->pid);
	if (t->regs.len != sizeof(struct user_regs_struct))
		return BAD("thread %d: %zu bytes of registers", t->tid, t->regs.len);
	if (t->xsave.len < XSAVE_MIN || t->xsave.len > XSAVE_MAX)
		return BAD("thread %d: %zu bytes of xsave state", t->tid, t->xsave.len);
	if (t->affinity.len % 8 || !t->affinity.len || t->affinity.len > 8192)
		return BAD("thread %d: %zu bytes of CPU mask", t->tid, t->affinity.len);
	if (t->has_tls && t->tls.len != 48)
		return BAD("thread %d: %zu bytes of TLS descriptors", t->tid, t->tls.len);
	if (t->has_mempolicy_nodes && (t->mempolicy_nodes.len % 8 || t->mempolicy_nodes.len > 1024))
		return BAD("thread %d: %zu bytes of nodes", t->tid, t->mempolicy_nodes.len);
	if (t->pdeathsig > 64 || t->policy > 7 || t->creds->n_groups > 65536)
		return BAD("thread %d: signal, policy or groups out of range", t->tid);
	if (t->sleep_left && (t->sleep_left->sec < 0 || t->sleep_left->nsec < 0 || t->sleep_left->nsec > 999999999))
		return BAD("thread %d: time left to sleep", t->tid);
	return check_siginfos("thread", t->pending, t->n_pending);
}

static int by_number(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* -1: no memory; 1: a number twice */
static int twice(const int *numbers, size_t n, int *which)
{
	int *sorted = malloc(sizeof(int) * (n + 1));
	int found = 0;

	if (!sorted)
		return -1;
	memcpy(sorted, numbers, sizeof(int) * n);
	qsort(sorted, n, sizeof(int), by_number);
	for (size_t i = 1; i < n && !found; i++)
		if (sorted[i] == sorted[i - 1]) {
			*which = sorted[i];
			found = 1;
		}
	free(sorted);
	return found;
}

static int check_unique(const char *what, const int *numbers, size_t n)
{
	int which = 0, t = twice(numbers, n, &which);

	if (t < 0)
		return thaw_err_set(-ENOMEM, "no memory to check %zu numbers", n);
	return t ? BAD("%s %d is there twice", what, which) : 0;
}

static int check_threads(const ThawState__Process *p)
{
	int err = 0, *tids;

	if (!p->n_threads || p->n_threads > 4000000)
		return BAD("%zu threads", p->n_threads);
	tids = malloc(sizeof(int) * p->n_threads);
	if (!tids)
		return thaw_err_set(-ENOMEM, "no memory for %zu threads", p->n_threads);
	for (size_t i = 0; i < p->n_threads && !err; i++) {
		err = check_thread(p, i);
		tids[i] = p->threads[i]->tid;
	}
	if (!err)
		err = check_unique("thread", tids, p->n_threads);
	free(tids);
	return err;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t *sorted_files(const ThawState__Process *p)
{
	uint32_t *ids = malloc(sizeof(*ids) * (p->n_files + 1));

	for (size_t i = 0; ids && i < p->n_files; i++)
		ids[i] = p->files[i]->id;
	if (ids)
		qsort(ids, p->n_files, sizeof(*ids), by_id);
	return ids;
}

static int check_fds(const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	int err = 0, *fds = malloc(sizeof(int) * (p->n_fds + 1));
	uint32_t *ids = sorted_files(p);

	if (!fds || !ids)
		err = thaw_err_set(-ENOMEM, "no memory for %zu descriptors", p->n_fds);
	for (size_t i = 0; i < p->n_files && !err; i++) {
		const ThawState__File *f = p->files[i];

		if (f->has_stored && (f->stored < 0 || (size_t)f->stored >= r->head->n_stored_sizes))
			err = BAD("file %u: stored object %d of %zu", f->id, f->stored, r->head->n_stored_sizes);
		else if (i && ids[i] == ids[i - 1])
			err = BAD("file %u is there twice", ids[i]);
	}
	for (size_t i = 0; i < p->n_fds && !err; i++) {
		fds[i] = p->fds[i]->fd;
		if (fds[i] < 0 || fds[i] > 1 << 30)
			err = BAD("descriptor %d", fds[i]);
		else if (!bsearch(&p->fds[i]->file, ids, p->n_files, sizeof(*ids), by_id))
			err = BAD("descriptor %d: of file %u, which is not there", fds[i], p->fds[i]->file);
	}
	if (!err)
		err = check_unique("descriptor", fds, p->n_fds);
	free(fds);
	free(ids);
	return err;
}

static int check_timers(const ThawState__Process *p)
{
	int err, ids[256];

	if (p->n_timers > TIMERS_MAX)
		return BAD("%zu timers", p->n_timers);
	for (size_t i = 0; i < p->n_timers; i++) {
		const ThawState__PosixTimer *t = p->timers[i];

		if (t->id < 0 || (i && t->id <= p->timers[i - 1]->id))
			return BAD("timer %zu: id %d is not above the one before", i, t->id);
		if (t->signo < 0 || t->signo > 64 || t->value->sec < 0 || t->value->nsec < 0 || t->value->nsec > 999999999 ||
		    t->interval->sec < 0 || t->interval->nsec < 0 || t->interval->nsec > 999999999)
			return BAD("timer %d: signal or time out of range", t->id);
	}
	for (size_t i = 0; i < p->n_itimers; i++) {
		if (p->itimers[i]->which > 2 || i >= 3)
			return BAD("interval timer %u", p->itimers[i]->which);
		ids[i] = (int)p->itimers[i]->which;
	}
	err = check_unique("interval timer", ids, p->n_itimers);
	if (err)
		return err;
	for (size_t i = 0; i < p->n_actions; i++)
		if (p->actions[i]->signo < 1 || p->actions[i]->signo > 64)
			return BAD("action for signal %u", p->actions[i]->signo);
	for (size_t i = 0; i < p->n_limits; i++)
		if (p->limits[i]->resource >= RLIM_NLIMITS)
			return BAD("resource limit %u", p->limits[i]->resource);
	return 0;
}

int thaw_restore_check(const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	int err;

	if (p->pid < 1 || (p->pid == 1 && !r->o.pidns))
		return p->pid == 1 ? thaw_err_set(-EINVAL, "the process was process 1 of its container: restore it with --pidns") :
				     BAD("process id %d", p->pid);
	if (p->auxv.len % 16 || p->auxv.len > AUXV_MAX)
		return BAD("%zu bytes of auxiliary vector", p->auxv.len);
	if (strlen(p->exe) >= PATH_MAX || strlen(p->cwd) >= PATH_MAX || strlen(p->root) >= PATH_MAX || p->root[0] != '/')
		return BAD("a path of the process");
	err = check_mappings(r);
	if (!err)
		err = check_threads(p);
	if (!err)
		err = check_siginfos("process", p->pending, p->n_pending);
	if (!err)
		err = check_fds(r);
	return err ? err : check_timers(p);
}
