// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_timers.c - interval timers and POSIX timers, with what is left of them */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "util/err.h"

#define TIMERS_FILE_MAX (1 << 20)
#define ITIMERS 3

struct kernel_itimerspec {
	int64_t interval_sec, interval_nsec, value_sec, value_nsec;
};

/* ---- which POSIX timers there are: /proc/PID/timers ------------------------------------------------------------- */
static int set_notify(struct thaw_dumper *d, ThawState__PosixTimer *t, const char *kind, const char *type, int target)
{
	if (!strcmp(kind, "none"))
		t->notify = SIGEV_NONE;
	else if (!strcmp(kind, "signal"))
		t->notify = SIGEV_SIGNAL;
	else
		return thaw_err_set(-ENOTSUP, "timer %d of process %d: notification \"%s\": not supported; delete the timer",
				    t->id, d->pid, kind);
	if (!strcmp(type, "tid")) {
		t->notify |= SIGEV_THREAD_ID;
		t->has_tid = 1;
		t->tid = target;
	}
	return 0;
}

/* The kernel's number of a clock: below zero it holds, inverted, the process or thread whose CPU time it counts. */
static int check_clock(struct thaw_dumper *d, const ThawState__PosixTimer *t)
{
	pid_t owner = t->clock < 0 ? ~(t->clock >> 3) : 0;
	unsigned i;

	if (t->clock >= 0 || owner == 0 || owner == d->pid)
		return 0;
	if ((t->clock & 7) == 3)
		return thaw_err_set(-ENOTSUP, "timer %d of process %d: a clock of a device: not supported", t->id, d->pid);
	for (i = 0; i < d->sz.n; i++)
		if (d->sz.threads[i].tid == owner)
			return 0;
	return thaw_err_set(-ENOTSUP, "timer %d of process %d: CPU clock of process %d: not supported", t->id, d->pid, owner);
}

static int add_timer(struct thaw_dumper *d, const char *block)
{
	unsigned long long value = 0;
	int id, signo, target = 0, clock;
	ThawState__PosixTimer *t;
	char kind[16], type[8];

	if (sscanf(block, "ID: %d\nsignal: %d/%llx\nnotify: %15[a-z]/%7[a-z].%d\nClockID: %d", &id, &signo, &value, kind, type,
		   &target, &clock) != 7)
		return thaw_err_set(-EPROTO, "process %d: /proc/%d/timers cannot be read: \"%.40s\"", d->pid, d->pid, block);
	t = thaw_dump_alloc(sizeof(*t));
	thaw_state__posix_timer__init(t);
	t->id = id;
	t->clock = clock;
	t->signo = signo;
	t->sigval = value;
	d->p.timers = thaw_dump_grow(d->p.timers, d->p.n_timers, sizeof(*d->p.timers));
	d->p.timers[d->p.n_timers++] = t;
	return set_notify(d, t, kind, type, target) ?: check_clock(d, t);
}

static int by_id(const void *a, const void *b)
{
	const ThawState__PosixTimer *const *x = a, *const *y = b;

	return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static int list_timers(struct thaw_dumper *d)
{
	char *buf = malloc(TIMERS_FILE_MAX), *at;
	ssize_t n;
	int r = 0;

	if (!buf)
		return thaw_err_set(-ENOMEM, "no memory for the list of timers");
	n = thaw_procfs_read(d->pid, "timers", buf, TIMERS_FILE_MAX);
	if (n < 0)
		r = thaw_err_set((int)n, "process %d: /proc/%d/timers: %s (does the kernel have CONFIG_CHECKPOINT_RESTORE?)",
				 d->pid, d->pid, strerror((int)-n));
	for (at = buf; r == 0 && (at = strstr(at, "ID: ")); at++)
		if (at == buf || at[-1] == '\n')
			r = add_timer(d, at);
	free(buf);
	if (d->p.n_timers)
		qsort(d->p.timers, d->p.n_timers, sizeof(*d->p.timers), by_id);
	return r;
}

/* ---- what is left of them ----------------------------------------------------------------------------------------- */
static ThawState__Timespec *spec(int64_t sec, int64_t nsec)
{
	ThawState__Timespec *t = thaw_dump_alloc(sizeof(*t));

	thaw_state__timespec__init(t);
	t->sec = sec;
	t->nsec = nsec;
	return t;
}

static ThawState__Timeval *val(const struct timeval *tv)
{
	ThawState__Timeval *t = thaw_dump_alloc(sizeof(*t));

	thaw_state__timeval__init(t);
	t->sec = tv->tv_sec;
	t->usec = tv->tv_usec;
	return t;
}

static int ask_timer(struct thaw_dumper *d, struct thaw_batch *b, ThawState__PosixTimer *t)
{
	struct kernel_itimerspec v;
	uint64_t at;
	int64_t res;
	int r;

	thaw_batch_reset(b);
	at = thaw_batch_data(b, NULL, sizeof(v));
	thaw_batch_call(b, 0, SYS_timer_gettime, (uint64_t)t->id, at, 0, 0, 0, 0);
	thaw_batch_call(b, 0, SYS_timer_getoverrun, (uint64_t)t->id, 0, 0, 0, 0, 0);
	r = thaw_batch_run(b, d->sz.threads[0].tid, NULL);
	if (r == 0)
		r = thaw_batch_read(b, at, &v, sizeof(v));
	if (r < 0)
		return r;
	res = thaw_batch_result(b, 0);
	if (res < 0)
		return thaw_err_set((int)res, "timer %d of process %d: %s", t->id, d->pid, strerror((int)-res));
	t->interval = spec(v.interval_sec, v.interval_nsec);
	t->value = spec(v.value_sec, v.value_nsec);
	res = thaw_batch_result(b, 1);
	t->overrun = res < 0 ? 0 : (int32_t)res;
	return 0;
}

static bool is_set(const struct timeval *tv)
{
	return tv->tv_sec || tv->tv_usec;
}

static int ask_itimers(struct thaw_dumper *d, struct thaw_batch *b)
{
	struct itimerval v[ITIMERS];
	uint64_t at = thaw_batch_data(b, NULL, sizeof(v));
	unsigned i;
	int r;

	for (i = 0; i < ITIMERS; i++)
		thaw_batch_call(b, 0, SYS_getitimer, i, at + i * sizeof(v[0]), 0, 0, 0, 0);
	r = thaw_batch_run(b, d->sz.threads[0].tid, NULL);
	if (r == 0)
		r = thaw_batch_read(b, at, v, sizeof(v));
	for (i = 0; r == 0 && i < ITIMERS; i++) {
		ThawState__Itimer *t;

		if (thaw_batch_result(b, (int)i) < 0)
			continue;
		/* It has expired and starts again when its signal, pending now, is delivered. Expiring at once is the same. */
		if (!is_set(&v[i].it_value) && is_set(&v[i].it_interval))
			v[i].it_value.tv_usec = 1;
		if (!is_set(&v[i].it_value))
			continue;
		t = thaw_dump_alloc(sizeof(*t));
		thaw_state__itimer__init(t);
		t->which = i;
		t->interval = val(&v[i].it_interval);
		t->value = val(&v[i].it_value);
		d->p.itimers = thaw_dump_grow(d->p.itimers, d->p.n_itimers, sizeof(*d->p.itimers));
		d->p.itimers[d->p.n_itimers++] = t;
	}
	return r;
}

int thaw_dump_timers(struct thaw_dumper *d, struct thaw_batch *b)
{
	size_t i;
	int r;

	r = list_timers(d);
	if (r == 0)
		r = ask_itimers(d, b);
	for (i = 0; r == 0 && i < d->p.n_timers; i++)
		r = ask_timer(d, b, d->p.timers[i]);
	return r;
}
