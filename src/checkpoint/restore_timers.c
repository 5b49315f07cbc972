// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_timers.c - interval timers and POSIX timers: made with their ids, set going last; what became of the clocks */
#include "config.h"
#include "checkpoint/restore.h"

#include <linux/time_types.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "checkpoint/state.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS /* Linux 6.15 */
#define PR_TIMER_CREATE_RESTORE_IDS 77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF 0
#define PR_TIMER_CREATE_RESTORE_IDS_ON 1
#define PR_TIMER_CREATE_RESTORE_IDS_GET 2
#endif

/* struct sigevent as the kernel has it, and where the id goes in and out. */
struct request {
	uint64_t value;
	int32_t signo, notify, tid;
	char pad[64 - 20];
	int32_t id;
};

static void create_step(struct thaw_script *s, const ThawState__PosixTimer *t, int32_t id)
{
	struct request q = { .value = t->sigval, .signo = t->signo, .notify = t->notify, .tid = t->tid, .id = id };

	THAW_STEP(s, .what = "timer %ld", .at = (uint64_t)id, .nr = SYS_timer_create, .args = { (uint64_t)(int64_t)t->clock, 0,
		  offsetof(struct request, id) }, .data = &q, .len = sizeof(q), .data_args = 1u << 1 | 1u << 2);
}

/* Without a way to choose, the kernel counts from 0: the numbers between are made and deleted again. */
static void count_to(struct thaw_script *s, const ThawState__PosixTimer *t, int32_t from)
{
	for (int32_t id = from; id < t->id; id++) {
		create_step(s, t, id);
		THAW_STEP(s, .what = "counting past timer %ld", .at = (uint64_t)id, .nr = SYS_timer_delete,
			  .args = { (uint64_t)id });
	}
}

void thaw_restore_timer_steps(struct thaw_script *s, const ThawState__Process *p)
{
	bool choose = prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0) >= 0;

	if (!p->n_timers)
		return;
	if (choose)
		THAW_STEP(s, .what = "PR_TIMER_CREATE_RESTORE_IDS", .nr = SYS_prctl,
			  .args = { PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON });
	for (size_t i = 0; i < p->n_timers; i++) {
		if (!choose)
			count_to(s, p->timers[i], i ? p->timers[i - 1]->id + 1 : 0);
		create_step(s, p->timers[i], p->timers[i]->id);
	}
	if (choose)
		THAW_STEP(s, .what = "PR_TIMER_CREATE_RESTORE_IDS", .nr = SYS_prctl,
			  .args = { PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_OFF });
}

static bool is_zero(const ThawState__Timespec *t)
{
	return !t->sec && !t->nsec;
}

void thaw_restore_timer_arm_steps(struct thaw_script *s, const ThawState__Process *p)
{
	for (size_t i = 0; i < p->n_timers; i++) {
		const ThawState__PosixTimer *t = p->timers[i];
		struct __kernel_itimerspec v = { { t->interval->sec, t->interval->nsec }, { t->value->sec, t->value->nsec } };

		if (is_zero(t->value) && is_zero(t->interval))
			continue;
		THAW_STEP(s, .what = "setting timer %ld", .at = (uint64_t)t->id, .nr = SYS_timer_settime,
			  .args = { (uint64_t)t->id, 0, 0, 0 }, .data = &v, .len = sizeof(v), .data_args = 1u << 2);
	}
	for (size_t i = 0; i < p->n_itimers; i++) {
		const ThawState__Itimer *t = p->itimers[i];
		struct itimerval v = { { t->interval->sec, t->interval->usec }, { t->value->sec, t->value->usec } };

		/* A real timer that has expired is started again by the kernel when its SIGALRM is taken, which still waits
		 * in the queue; that cannot be set up, so the next one comes an interval from now. */
		if (!v.it_value.tv_sec && !v.it_value.tv_usec)
			v.it_value = v.it_interval;
		if (!v.it_value.tv_sec && !v.it_value.tv_usec)
			continue;
		THAW_STEP(s, .what = "interval timer %ld", .at = t->which, .nr = SYS_setitimer, .args = { t->which, 0, 0 },
			  .data = &v, .len = sizeof(v), .data_args = 1u << 1);
	}
}

/* ---- clocks ---- */
static uint64_t went_back(bool known, uint64_t then, clockid_t clock)
{
	struct timespec t = { 0 };
	uint64_t now;

	clock_gettime(clock, &t);
	now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	return known && then > now ? then - now : 0;
}

uint64_t thaw_restore_clock_back(const struct thaw_restored *out)
{
	const struct thaw_restore *r = out->impl;
	uint64_t monotonic, boottime;
	char boot[64];

	thaw_state_boot_id(boot);
	if (!strcmp(boot, r->head->boot_id)) /* then they have only gone on */
		return 0;
	monotonic = went_back(r->head->has_taken_monotonic_ns, r->head->taken_monotonic_ns, CLOCK_MONOTONIC);
	boottime = went_back(r->head->has_taken_boottime_ns, r->head->taken_boottime_ns, CLOCK_BOOTTIME);
	return monotonic > boottime ? monotonic : boottime;
}
