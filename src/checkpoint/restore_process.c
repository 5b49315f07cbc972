// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_process.c - state of the process as a whole that its leader sets: limits, timers, pending signals, locks */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/files.h"
#include "util/err.h"

#ifndef ARCH_REQ_XCOMP_PERM /* Linux 5.16 */
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif
#define XFEATURE_XTILEDATA 18
#define SET_MEMORY_MERGE 67 /* PR_SET_MEMORY_MERGE, Linux 6.4 */
#define GET_MEMORY_MERGE 68

/* Before there are other threads: what they inherit. */
void thaw_restore_process_first(struct thaw_script *s, const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;

	THAW_STEP(s, .what = "personality 0x%lx", .at = p->personality, .nr = SYS_personality, .args = { p->personality });
	/* Its lazy memory is registered by now: see restore_mm.c. */
	THAW_STEP(s, .what = "PR_SET_THP_DISABLE", .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE, p->thp_disabled });
	if (p->thp_flags) /* an older kernel knows none: no huge pages at all then */
		THAW_STEP(s, .what = "PR_SET_THP_DISABLE", .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE, 1, p->thp_flags }, .may_fail = true);
	THAW_STEP(s, .what = "PR_SET_CHILD_SUBREAPER", .nr = SYS_prctl, .args = { PR_SET_CHILD_SUBREAPER, p->child_subreaper });
	if (p->has_mce_kill)
		THAW_STEP(s, .what = "PR_MCE_KILL", .nr = SYS_prctl, .args = { PR_MCE_KILL, PR_MCE_KILL_SET, p->mce_kill });
	/* Ours is inherited. */
	if (p->has_memory_merge && p->memory_merge != (prctl(GET_MEMORY_MERGE, 0, 0, 0, 0) > 0))
		THAW_STEP(s, .what = "PR_SET_MEMORY_MERGE", .nr = SYS_prctl, .args = { SET_MEMORY_MERGE, p->memory_merge, 0, 0, 0 });
	/* The other states are granted to everybody. */
	if (p->has_xcomp_perm && p->xcomp_perm >> XFEATURE_XTILEDATA & 1)
		THAW_STEP(s, .what = "permission for AMX tiles (does this CPU have them?)", .nr = SYS_arch_prctl,
			  .args = { ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA });
	for (uint64_t bit = 0; p->has_membarrier && bit < 31; bit++)
		if (p->membarrier >> bit & 1)
			THAW_STEP(s, .what = "membarrier registration 0x%lx", .at = 1UL << bit, .nr = SYS_membarrier,
				  .args = { 1UL << bit, 0, 0 });
}

static void limit_steps(struct thaw_script *s, const ThawState__Process *p)
{
	struct rlimit l, now;

	for (size_t i = 0; i < p->n_limits; i++) {
		l = (struct rlimit){ p->limits[i]->soft, p->limits[i]->hard };
		if (!getrlimit((int)p->limits[i]->resource, &now) && now.rlim_cur == l.rlim_cur && now.rlim_max == l.rlim_max)
			continue;
		THAW_STEP(s, .what = "resource limit %ld", .at = p->limits[i]->resource,
			  .remedy = "the process had a higher hard limit than thaw has: raise it first, or restore with "
				    "CAP_SYS_RESOURCE", .nr = SYS_prlimit64, .args = { 0, p->limits[i]->resource, 0, 0 },
			  .data = &l, .len = sizeof(l), .data_args = 1u << 2);
	}
}

/* Signals are queued by the thread that they wait for: to nobody else does the kernel allow every si_code. */
static void queue_step(struct thaw_script *s, const ThawState__Siginfo *si, pid_t tgid, pid_t tid)
{
	int32_t signo;

	memcpy(&signo, si->info.data, sizeof(signo));
	if (tid)
		THAW_STEP(s, .what = "pending signal %ld of a thread", .at = (uint64_t)signo, .nr = SYS_rt_tgsigqueueinfo,
			  .args = { (uint64_t)tgid, (uint64_t)tid, (uint64_t)signo, 0 }, .data = si->info.data,
			  .len = si->info.len, .data_args = 1u << 3);
	else
		THAW_STEP(s, .what = "pending signal %ld", .at = (uint64_t)signo, .nr = SYS_rt_sigqueueinfo,
			  .args = { (uint64_t)tgid, (uint64_t)signo, 0 }, .data = si->info.data, .len = si->info.len,
			  .data_args = 1u << 2);
}

void thaw_restore_pending_steps(struct thaw_script *s, const struct thaw_restore *r, const ThawState__Thread *t)
{
	for (size_t i = 0; i < t->n_pending; i++)
		queue_step(s, t->pending[i], r->p->pid, t->tid);
}

static int late_file_steps(struct thaw_script *s, const ThawState__Process *p)
{
	struct thaw_late *calls = NULL;
	int n = thaw_files_late(p, &calls);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++)
		THAW_STEP(s, .what = calls[i].what, .nr = calls[i].nr,
			  .args = { (uint64_t)calls[i].fd, calls[i].cmd, calls[i].len ? 0 : calls[i].value },
			  .data = calls[i].data, .len = calls[i].len, .data_args = calls[i].len ? 1u << 2 : 0);
	n = thaw_script_run(s); /* now: the sentences are in `calls` */
	free(calls);
	return n;
}

/* The leader's; all threads are there. */
int thaw_restore_process_steps(struct thaw_script *s, const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	int err = late_file_steps(s, p);

	if (err)
		return err;
	for (size_t i = 0; i < p->n_pending; i++)
		queue_step(s, p->pending[i], p->pid, 0);
	thaw_restore_timer_steps(s, p);
	if (p->has_mlockall_flags && p->mlockall_flags)
		THAW_STEP(s, .what = "mlockall", .nr = SYS_mlockall, .args = { p->mlockall_flags });
	limit_steps(s, p);
	return s->err;
}

/* When all credentials are in place (changing them makes a process undumpable), and the clocks at the very end. */
void thaw_restore_process_last(struct thaw_script *s, const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	uint32_t dumpable = p->has_dumpable_value ? p->dumpable_value : (uint32_t)p->dumpable;

	/* 2 (only root may have the core) cannot be asked for; 0 is the stricter neighbour. */
	THAW_STEP(s, .what = "PR_SET_DUMPABLE", .nr = SYS_prctl, .args = { PR_SET_DUMPABLE, dumpable == 1 });
	thaw_restore_timer_arm_steps(s, p);
}

/* A number of /proc/PID, set if it is another. */
static int set_number(const struct thaw_restore *r, const char *name, int base, long value, const char *remedy)
{
	char path[64], text[24];
	int fd, n, err = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)r->pid, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return thaw_err_set(-errno, "%s: %s", path, strerror(errno));
	n = (int)read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	if (strtol(text, NULL, base) != value) {
		n = snprintf(text, sizeof(text), base == 16 ? "0x%lx" : "%ld", value);
		if (pwrite(fd, text, (size_t)n, 0) != n)
			err = thaw_err_set(-errno, "%s: %s: setting it to %s%s", path, strerror(errno), text, remedy);
	}
	close(fd);
	return err;
}

/* By us, from outside: the files belong to root once the process is not dumpable. */
int thaw_restore_numbers(const struct thaw_restore *r)
{
	int err = set_number(r, "oom_score_adj", 10, r->p->oom_score_adj, " takes CAP_SYS_RESOURCE if that is lower");

	if (!err && r->p->has_coredump_filter)
		err = set_number(r, "coredump_filter", 16, (long)r->p->coredump_filter, "");
	return err;
}
