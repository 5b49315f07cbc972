// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_process.c - the state of the process as a whole */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/xsave.h"
#include "kern/sys.h"
#include "util/err.h"

#define SIGNALS 64
#define MEMBARRIER_GET_REGISTRATIONS (1 << 9) /* Linux 6.3 */
#define ARCH_GET_XCOMP_PERM 0x1022           /* Linux 5.16 */
#define GET_MEMORY_MERGE 68                  /* PR_GET_MEMORY_MERGE, Linux 6.4 */

/* A number in a file of /proc/PID: 0, or -errno. */
static int read_number(pid_t pid, const char *name, int base, int64_t *value)
{
	char buf[64];
	ssize_t n = thaw_procfs_read(pid, name, buf, sizeof(buf));

	if (n < 0)
		return (int)n;
	*value = strtoll(buf, NULL, base);
	return 0;
}

static int fail(const struct thaw_dumper *d, const char *what, int err)
{
	return thaw_err_set(err, "process %d: %s: %s", d->pid, what, strerror(-err));
}

/* ---- from outside -------------------------------------------------------------------------------------------- */
static int dump_paths(struct thaw_dumper *d)
{
	static const char mark[] = " (deleted)";
	ThawState__Process *p = &d->p;
	char link[64];
	size_t len;
	int fd;

	p->cwd = thaw_dump_readlink("/proc/%d/cwd", d->pid);
	p->root = thaw_dump_readlink("/proc/%d/root", d->pid);
	p->exe = thaw_dump_readlink("/proc/%d/exe", d->pid);
	if (!p->cwd || !p->root || !p->exe)
		return fail(d, "its directories", -errno);
	len = strlen(p->cwd);
	if (len > strlen(mark) && !strcmp(p->cwd + len - strlen(mark), mark) && access(p->cwd, F_OK) < 0)
		return thaw_err_set(-ENOTSUP, "process %d: its working directory has been deleted (%s): not supported; let it change "
				    "to another one first", d->pid, p->cwd);
	len = strlen(p->exe);
	if (len > strlen(mark) && !strcmp(p->exe + len - strlen(mark), mark) && access(p->exe, F_OK) < 0)
		return thaw_err_set(-ENOTSUP, "process %d: its program has been deleted or replaced (%s): not supported; "
				    "restart it with the new one", d->pid, p->exe);
	snprintf(link, sizeof(link), "/proc/%d/exe", d->pid);
	fd = open(link, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return fail(d, "its program", -errno);
	p->exe_id = thaw_dump_alloc(sizeof(*p->exe_id));
	thaw_state__file_id__init(p->exe_id);
	thaw_file_id(p->exe_id, fd);
	close(fd);
	return 0;
}

static int dump_mm(struct thaw_dumper *d)
{
	ThawState__Process *p = &d->p;
	char auxv[4096];
	ssize_t n;

	p->start_code = d->stat.start_code;
	p->end_code = d->stat.end_code;
	p->start_data = d->stat.start_data;
	p->end_data = d->stat.end_data;
	p->start_brk = d->stat.start_brk;
	p->start_stack = d->stat.start_stack;
	p->arg_start = d->stat.arg_start;
	p->arg_end = d->stat.arg_end;
	p->env_start = d->stat.env_start;
	p->env_end = d->stat.env_end;
	n = thaw_procfs_read(d->pid, "auxv", auxv, sizeof(auxv));
	if (n < 0)
		return fail(d, "its auxiliary vector", (int)n);
	p->auxv = thaw_dump_bytes(auxv, (size_t)n);
	return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now = { 0 };

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void dump_head(struct thaw_dumper *d)
{
	ThawState__Head *h = &d->head;
	struct utsname u;
	char boot[64];

	h->version = THAW_STATE_VERSION;
	uname(&u);
	h->kernel = thaw_dump_strdup(u.release);
	h->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	thaw_state_boot_id(boot);
	h->boot_id = thaw_dump_strdup(boot);
	h->taken_realtime_ns = clock_ns(CLOCK_REALTIME);
	h->has_taken_monotonic_ns = h->has_taken_boottime_ns = 1;
	h->taken_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	h->taken_boottime_ns = clock_ns(CLOCK_BOOTTIME);
	thaw_xsave_to_state(h);
}

int thaw_dump_process_early(struct thaw_dumper *d)
{
	ThawState__Process *p = &d->p;
	int64_t v = 0;
	int r;

	dump_head(d);
	p->pid = d->pid;
	p->ppid = d->stat.ppid;
	p->pgid = d->stat.pgrp;
	p->sid = d->stat.session;
	p->umask = d->status.umask;
	r = dump_paths(d);
	if (r == 0)
		r = dump_mm(d);
	if (r < 0)
		return r;
	r = read_number(d->pid, "personality", 16, &v);
	if (r < 0)
		return fail(d, "its personality", r);
	p->personality = (uint32_t)v;
	r = read_number(d->pid, "oom_score_adj", 10, &v);
	if (r < 0)
		return fail(d, "its oom_score_adj", r);
	p->oom_score_adj = (int32_t)v;
	r = read_number(d->pid, "coredump_filter", 16, &v);
	if (r < 0 && r != -ENOENT) /* a kernel that writes no core files */
		return fail(d, "its coredump_filter", r);
	p->has_coredump_filter = r == 0;
	p->coredump_filter = (uint32_t)v;
	return 0;
}

/* ---- by asking it ---------------------------------------------------------------------------------------------- */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

struct questions {
	int actions[SIGNALS + 1];
	int limits[RLIM_NLIMITS]; /* from outside they take CAP_SYS_RESOURCE when the user is another */
	int brk, dumpable, subreaper, thp, mce, tsc, membarrier, merge, segments, xcomp;
	uint64_t actions_at, limits_at, subreaper_at, tsc_at, segments_at, xcomp_at;
};

static int ask(struct thaw_batch *b, struct questions *q)
{
	uint64_t at = thaw_batch_data(b, NULL, (SIGNALS + 1) * sizeof(struct kernel_sigaction));
	int i;

	q->actions_at = at;
	for (i = 1; i <= SIGNALS; i++)
		q->actions[i] = thaw_batch_call(b, 0, SYS_rt_sigaction, (uint64_t)i, 0,
						at + (uint64_t)i * sizeof(struct kernel_sigaction), 8, 0, 0);
	q->limits_at = thaw_batch_data(b, NULL, RLIM_NLIMITS * sizeof(struct rlimit));
	for (i = 0; i < RLIM_NLIMITS; i++)
		q->limits[i] = thaw_batch_call(b, 0, SYS_prlimit64, 0, (uint64_t)i, 0,
					       q->limits_at + (uint64_t)i * sizeof(struct rlimit), 0, 0);
	q->subreaper_at = thaw_batch_data(b, NULL, 8);
	q->tsc_at = thaw_batch_data(b, NULL, 8);
	q->segments_at = thaw_batch_data(b, NULL, 8);
	q->xcomp_at = thaw_batch_data(b, NULL, 8);
	q->brk = thaw_batch_call(b, 0, SYS_brk, 0, 0, 0, 0, 0, 0);
	q->dumpable = thaw_batch_call(b, 0, SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0, 0);
	q->subreaper = thaw_batch_call(b, 0, SYS_prctl, PR_GET_CHILD_SUBREAPER, q->subreaper_at, 0, 0, 0, 0);
	q->thp = thaw_batch_call(b, 0, SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0, 0);
	q->mce = thaw_batch_call(b, 0, SYS_prctl, PR_MCE_KILL_GET, 0, 0, 0, 0, 0);
	q->tsc = thaw_batch_call(b, 0, SYS_prctl, PR_GET_TSC, q->tsc_at, 0, 0, 0, 0);
	q->membarrier = thaw_batch_call(b, 0, SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0, 0, 0, 0);
	q->merge = thaw_batch_call(b, 0, SYS_prctl, GET_MEMORY_MERGE, 0, 0, 0, 0, 0);
	q->segments = thaw_batch_call(b, 0, SYS_modify_ldt, 0 /* read */, q->segments_at, 8, 0, 0, 0);
	q->xcomp = thaw_batch_call(b, 0, SYS_arch_prctl, ARCH_GET_XCOMP_PERM, q->xcomp_at, 0, 0, 0, 0);
	return q->xcomp < 0 || !q->xcomp_at ? thaw_err_set(-ENOSPC, "the work area is too small") : 0;
}

static int take_actions(struct thaw_dumper *d, struct thaw_batch *b, const struct questions *q)
{
	struct kernel_sigaction acts[SIGNALS + 1];
	int i, r;

	r = thaw_batch_read(b, q->actions_at, acts, sizeof(acts));
	if (r < 0)
		return r;
	for (i = 1; i <= SIGNALS; i++) {
		ThawState__Sigaction *m;

		if (i == SIGKILL || i == SIGSTOP)
			continue;
		if (thaw_batch_result(b, q->actions[i]) < 0)
			return fail(d, "asking for its signal handlers", (int)thaw_batch_result(b, q->actions[i]));
		m = thaw_dump_alloc(sizeof(*m));
		thaw_state__sigaction__init(m);
		m->signo = (uint32_t)i;
		m->handler = acts[i].handler;
		m->flags = acts[i].flags;
		m->restorer = acts[i].restorer;
		m->mask = acts[i].mask;
		d->p.actions = thaw_dump_grow(d->p.actions, d->p.n_actions, sizeof(*d->p.actions));
		d->p.actions[d->p.n_actions++] = m;
	}
	return 0;
}

static int take_limits(struct thaw_dumper *d, struct thaw_batch *b, const struct questions *q)
{
	struct rlimit limits[RLIM_NLIMITS];
	unsigned i;
	int r;

	r = thaw_batch_read(b, q->limits_at, limits, sizeof(limits));
	d->p.limits = thaw_dump_alloc(RLIM_NLIMITS * sizeof(*d->p.limits));
	for (i = 0; r == 0 && i < RLIM_NLIMITS; i++) {
		ThawState__Rlimit *m;

		if (thaw_batch_result(b, q->limits[i]) < 0)
			return fail(d, "asking for its resource limits", (int)thaw_batch_result(b, q->limits[i]));
		m = d->p.limits[d->p.n_limits++] = thaw_dump_alloc(sizeof(*m));
		thaw_state__rlimit__init(m);
		m->resource = i;
		m->soft = limits[i].rlim_cur;
		m->hard = limits[i].rlim_max;
	}
	return r;
}

static int take_rest(struct thaw_dumper *d, struct thaw_batch *b, const struct questions *q)
{
	ThawState__Process *p = &d->p;
	int32_t subreaper = 0, tsc = 0;
	uint64_t xcomp = 0;
	int r;

	r = thaw_batch_read(b, q->subreaper_at, &subreaper, sizeof(subreaper));
	if (r == 0)
		r = thaw_batch_read(b, q->tsc_at, &tsc, sizeof(tsc));
	if (r == 0)
		r = thaw_batch_read(b, q->xcomp_at, &xcomp, sizeof(xcomp));
	if (r < 0)
		return r;
	if (tsc == PR_TSC_SIGSEGV)
		return thaw_err_set(-ENOTSUP, "process %d has forbidden itself the time stamp counter (PR_SET_TSC): not supported",
				    d->pid);
	if ((int32_t)thaw_batch_result(b, q->segments) > 0) /* how much there is; an int, unlike of any other call */
		return thaw_err_set(-ENOTSUP, "process %d has segments of its own (modify_ldt, as 16-bit and some 32-bit programs "
				    "need them): not supported", d->pid);
	p->brk = (uint64_t)thaw_batch_result(b, q->brk);
	p->has_dumpable_value = 1;
	p->dumpable_value = (uint32_t)thaw_batch_result(b, q->dumpable);
	p->dumpable = p->dumpable_value == 1;
	p->child_subreaper = subreaper;
	p->thp_disabled = thaw_batch_result(b, q->thp) > 0; /* 1, and from Linux 6.18 on with its flags */
	p->has_thp_flags = p->thp_disabled && thaw_batch_result(b, q->thp) > 1;
	p->thp_flags = p->has_thp_flags ? (uint32_t)thaw_batch_result(b, q->thp) & ~1u : 0;
	if (thaw_batch_result(b, q->mce) >= 0 && thaw_batch_result(b, q->mce) != PR_MCE_KILL_DEFAULT) {
		p->has_mce_kill = 1;
		p->mce_kill = (uint32_t)thaw_batch_result(b, q->mce);
	}
	if (thaw_batch_result(b, q->membarrier) > 0) {
		p->has_membarrier = 1;
		p->membarrier = (uint64_t)thaw_batch_result(b, q->membarrier);
	}
	if (thaw_batch_result(b, q->merge) >= 0) {
		p->has_memory_merge = 1;
		p->memory_merge = thaw_batch_result(b, q->merge) > 0;
	}
	if (thaw_batch_result(b, q->xcomp) == 0) {
		p->has_xcomp_perm = 1;
		p->xcomp_perm = xcomp;
	}
	return 0;
}

int thaw_dump_process_remote(struct thaw_dumper *d)
{
	struct thaw_seized_thread *leader = &d->sz.threads[0];
	struct questions q = { 0 };
	struct thaw_batch *b;
	int r;

	b = thaw_batch_new(&d->sz.remote);
	if (!b)
		return -ENOMEM;
	r = ask(b, &q);
	if (r == 0)
		r = thaw_batch_run(b, leader->tid, NULL);
	if (r == 0)
		r = take_actions(d, b, &q);
	if (r == 0)
		r = take_limits(d, b, &q);
	if (r == 0)
		r = take_rest(d, b, &q);
	if (r == 0)
		r = thaw_dump_refuse_policies(d, b);
	thaw_batch_free(b);
	return r;
}
