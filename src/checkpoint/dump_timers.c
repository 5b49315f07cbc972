// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_timers.c - interval timers and POSIX timers, with what is left of them, and the signals that wait
 *
 * Time goes on while the process stands still, so a timer may expire between the look at its signal and the look at what is left of
 * it: the one order loses an expiry, the other doubles it. Nobody takes a signal meanwhile, and each timer has at most one that
 * waits. So the queues are looked at before and after the timers, until no timer's signal has come in between: then what was left is
 * true beside the queues. */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "checkpoint/tracee.h"
#include "util/err.h"

#define TIMERS_FILE_MAX (1 << 20)
#define TIMERS_AT_ONCE 256
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

/* As many timers as one batch takes, from `first` on; how many those were. */
static int ask_posix(struct thaw_dumper *d, struct thaw_batch *b, size_t first)
{
	struct kernel_itimerspec v[TIMERS_AT_ONCE];
	size_t n = d->p.n_timers - first < TIMERS_AT_ONCE ? d->p.n_timers - first : TIMERS_AT_ONCE, i;
	uint64_t at;
	int r;

	thaw_batch_reset(b);
	at = thaw_batch_data(b, NULL, n * sizeof(v[0]));
	for (i = 0; i < n; i++) {
		uint64_t id = (uint64_t)d->p.timers[first + i]->id;

		thaw_batch_call(b, 0, SYS_timer_gettime, id, at + i * sizeof(v[0]), 0, 0, 0, 0);
		thaw_batch_call(b, 0, SYS_timer_getoverrun, id, 0, 0, 0, 0, 0);
	}
	r = thaw_batch_run(b, d->sz.threads[0].tid, NULL);
	if (r == 0)
		r = thaw_batch_read(b, at, v, n * sizeof(v[0]));
	for (i = 0; r == 0 && i < n; i++) {
		ThawState__PosixTimer *t = d->p.timers[first + i];
		int64_t got = thaw_batch_result(b, (int)(2 * i)), overrun = thaw_batch_result(b, (int)(2 * i + 1));

		if (got < 0)
			return thaw_err_set((int)got, "timer %d of process %d: %s", t->id, d->pid, strerror((int)-got));
		free(t->interval);
		free(t->value);
		t->interval = spec(v[i].interval_sec, v[i].interval_nsec);
		t->value = spec(v[i].value_sec, v[i].value_nsec);
		t->overrun = overrun < 0 ? 0 : (int32_t)overrun;
	}
	return r < 0 ? r : (int)n;
}

static int ask_itimers(struct thaw_dumper *d, struct thaw_batch *b, struct itimerval v[ITIMERS])
{
	uint64_t at;
	int i, r;

	thaw_batch_reset(b);
	at = thaw_batch_data(b, NULL, ITIMERS * sizeof(v[0]));
	for (i = 0; i < ITIMERS; i++)
		thaw_batch_call(b, 0, SYS_getitimer, (uint64_t)i, at + (uint64_t)i * sizeof(v[0]), 0, 0, 0, 0);
	r = thaw_batch_run(b, d->sz.threads[0].tid, NULL);
	return r < 0 ? r : thaw_batch_read(b, at, v, ITIMERS * sizeof(v[0]));
}

static int ask_all(struct thaw_dumper *d, struct thaw_batch *b, struct itimerval v[ITIMERS])
{
	size_t i;
	int r = ask_itimers(d, b, v);

	for (i = 0; r >= 0 && i < d->p.n_timers; i += (size_t)r)
		r = ask_posix(d, b, i);
	return r < 0 ? r : 0;
}

/* ---- signals that wait ---------------------------------------------------------------------------------------------- */
static void forget(size_t *n, ThawState__Siginfo ***list)
{
	for (size_t i = 0; i < *n; i++) {
		free((*list)[i]->info.data);
		free((*list)[i]);
	}
	free(*list);
	*list = NULL;
	*n = 0;
}

/* A signal of a timer. More of them than timers can only be another process's imitations. */
static bool of_timer(const siginfo_t *info)
{
	return info->si_code == SI_TIMER || (info->si_code == SI_KERNEL && (info->si_signo == SIGALRM || info->si_signo == SIGVTALRM ||
									      info->si_signo == SIGPROF));
}

/* The queue anew; *expired is increased by those of timers. */
static int look_at(pid_t tid, bool shared, size_t *n, ThawState__Siginfo ***list, size_t *expired)
{
	struct __ptrace_peeksiginfo_args args = { .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = 16 };
	siginfo_t infos[16];
	int got, i;

	_Static_assert(sizeof(infos[0]) == 128, "what the kernel writes");
	forget(n, list);
	for (;; args.off += (uint64_t)got) {
		got = thaw_tracee_ptrace(PTRACE_PEEKSIGINFO, tid, (uintptr_t)&args, (uintptr_t)infos);
		if (got <= 0)
			return got;
		for (i = 0; i < got; i++) {
			ThawState__Siginfo *m = thaw_dump_alloc(sizeof(*m));

			thaw_state__siginfo__init(m);
			m->info = thaw_dump_bytes(&infos[i], sizeof(infos[i]));
			*list = thaw_dump_grow(*list, *n, sizeof(**list));
			(*list)[(*n)++] = m;
			*expired += of_timer(&infos[i]);
		}
	}
}

static int look_at_all(struct thaw_dumper *d, size_t *expired)
{
	size_t i;
	int r;

	*expired = 0;
	r = look_at(d->pid, true, &d->p.n_pending, &d->p.pending, expired);
	for (i = 0; r == 0 && i < d->p.n_threads; i++) {
		ThawState__Thread *t = d->p.threads[i];

		r = look_at(t->tid, false, &t->n_pending, &t->pending, expired);
	}
	return r;
}

/* ---- both ------------------------------------------------------------------------------------------------------------ */
static bool is_set(const struct timeval *tv)
{
	return tv->tv_sec || tv->tv_usec;
}

static bool waits(const struct thaw_dumper *d, int signo)
{
	for (size_t i = 0; i < d->p.n_pending; i++)
		if (((const siginfo_t *)d->p.pending[i]->info.data)->si_signo == signo)
			return true;
	return false;
}

static void take_itimers(struct thaw_dumper *d, struct itimerval v[ITIMERS])
{
	for (unsigned i = 0; i < ITIMERS; i++) {
		ThawState__Itimer *t;

		/* The real one, expired: it starts again when its signal is taken, an interval from now as near as can be said.
		 * When that does not wait it was ignored: expiring at once comes to the same. */
		if (!is_set(&v[i].it_value) && is_set(&v[i].it_interval)) {
			if (waits(d, SIGALRM))
				v[i].it_value = v[i].it_interval;
			else
				v[i].it_value.tv_usec = 1;
		}
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
}

int thaw_dump_timers(struct thaw_dumper *d)
{
	size_t before, expired = 0, rounds = 0;
	struct itimerval v[ITIMERS] = { 0 };
	struct thaw_batch *b;
	int r;

	b = thaw_batch_new(&d->sz.remote);
	if (!b)
		return -ENOMEM;
	r = list_timers(d);
	if (r == 0)
		r = look_at_all(d, &expired);
	do {
		before = expired;
		if (r == 0)
			r = ask_all(d, b, v);
		if (r == 0)
			r = look_at_all(d, &expired);
		if (r == 0)
			r = thaw_dump_abandoned(d);
		if (r == 0 && rounds++ > d->p.n_timers + ITIMERS)
			r = thaw_err_set(-EAGAIN, "process %d: signals of timers come faster than they can be looked at, more than it has "
					 "timers: does another process send them?", d->pid);
	} while (r == 0 && expired != before);
	if (r == 0)
		take_itimers(d, v);
	thaw_batch_free(b);
	return r;
}
