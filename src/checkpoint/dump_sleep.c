// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_sleep.c - how much of an interrupted sleep was left.
 *
 * The kernel knows and tells nobody, unless the program gave nanosleep a place for it. But it tells when a thread last
 * ran (se.exec_start of /proc/PID/task/TID/sched, in a clock of the thread's CPU), and a sleeping thread last ran when
 * it went to sleep. That clock is compared with CLOCK_MONOTONIC by running on the same CPU ourselves. So the threads are
 * looked at before they are stopped, and a look counts only if the thread did not run again before it was stopped: it ran
 * once since, and that began after PTRACE_INTERRUPT. Without the file (CONFIG_SCHED_DEBUG), or in doubt, a sleep starts
 * anew when it is restored: never too short. */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/tracee.h"
#include "kern/sys.h"
#include "util/err.h"

#define MAX_CPUS 1024
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define SECOND 1000000000LL
#define SYS_EPOLL_PWAIT2 441

struct sched_facts {
	int64_t exec_start, runtime; /* nanoseconds */
	uint64_t voluntary, involuntary;
};

struct thaw_dump_sleep {
	pid_t tid;
	int nr;              /* the system call it sleeps in; SYS_restart_syscall: one that was interrupted before */
	bool timed;          /* began counts: it slept through until the stop */
	int64_t began;       /* CLOCK_MONOTONIC, nanoseconds; not before */
	struct sched_facts then;
	char wchan[64];
};

/* What is to be added to the clock of a CPU: somewhere between the two. */
struct offset {
	bool tried;
	int64_t low, high;
};
static struct offset offsets[MAX_CPUS]; /* the worker is one process with one thread */

static int64_t number_of(const char *text, const char *key, bool *found)
{
	long long whole = 0, frac = 0;
	const char *at = strstr(text, key);
	int n;

	at = at ? strchr(at, ':') : NULL;
	n = at ? sscanf(at + 1, "%lld.%lld", &whole, &frac) : 0;
	*found = *found && n >= 1;
	return n == 2 ? whole * 1000000 + frac : whole;
}

static int read_sched(pid_t pid, pid_t tid, struct sched_facts *f)
{
	char name[64], buf[8192];
	bool found = true;
	ssize_t n;

	snprintf(name, sizeof(name), "task/%d/sched", tid);
	n = thaw_procfs_read(pid, name, buf, sizeof(buf));
	if (n < 0)
		return (int)n;
	f->exec_start = number_of(buf, "se.exec_start", &found);
	f->runtime = number_of(buf, "se.sum_exec_runtime", &found);
	f->voluntary = (uint64_t)number_of(buf, "nr_voluntary_switches", &found);
	f->involuntary = (uint64_t)number_of(buf, "nr_involuntary_switches", &found);
	return found && f->exec_start ? 0 : -EPROTO;
}

/* Our own exec_start is brought up to now when we ask for our CPU time, and perhaps once more by a tick before it is read: a
 * few turns narrow it down. (sched_yield would do it too, at the price of everybody else's turn.) */
static const struct offset *calibrate(int cpu)
{
	struct offset *o = &offsets[cpu];
	struct sched_facts f;
	struct timespec cpu_time;
	int turn;

	if (o->tried)
		return o->low <= o->high ? o : NULL;
	*o = (struct offset){ true, INT64_MIN, INT64_MAX };
	for (turn = 0; turn < 5; turn++) {
		int64_t before, after;

		if (thaw_sys_pin_thread(cpu) < 0)
			break;
		before = (int64_t)thaw_sys_now_ns();
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_time);
		if (read_sched(getpid(), thaw_sys_gettid(), &f) < 0)
			break;
		after = (int64_t)thaw_sys_now_ns();
		if (before - f.exec_start > o->low)
			o->low = before - f.exec_start;
		if (after - f.exec_start < o->high)
			o->high = after - f.exec_start;
	}
	if (turn < 5 || o->low > o->high) /* it cannot be known, or the clock was stretched meanwhile */
		*o = (struct offset){ true, 1, 0 };
	return o->low <= o->high ? o : NULL;
}

static bool sleeps_with_timeout(int nr)
{
	return nr == SYS_nanosleep || nr == SYS_clock_nanosleep || nr == SYS_poll || nr == SYS_futex || nr == SYS_epoll_wait ||
	       nr == SYS_epoll_pwait || nr == SYS_restart_syscall;
}

static int look_at(void *opaque, pid_t tid)
{
	struct thaw_dumper *d = opaque;
	struct thaw_dump_sleep s = { .tid = tid };
	const struct offset *o;
	struct thaw_proc_stat stat;
	char name[64], text[128];

	snprintf(name, sizeof(name), "task/%d/syscall", tid);
	if (thaw_procfs_read(d->pid, name, text, sizeof(text)) <= 0)
		return 0;
	s.nr = atoi(text); /* "running" is 0, which is read(2): without a time-out as well */
	if (!sleeps_with_timeout(s.nr) || read_sched(d->pid, tid, &s.then) < 0 ||
	    thaw_procfs_task_stat(d->pid, tid, &stat) < 0)
		return 0;
	if (stat.state != 'S' || stat.cpu < 0 || stat.cpu >= MAX_CPUS)
		return 0;
	snprintf(name, sizeof(name), "task/%d/wchan", tid);
	if (thaw_procfs_read(d->pid, name, s.wchan, sizeof(s.wchan)) < 0)
		s.wchan[0] = '\0';
	o = calibrate(stat.cpu);
	s.timed = o != NULL;
	s.began = o ? s.then.exec_start + o->high : 0;
	d->sleeps = thaw_dump_grow(d->sleeps, d->n_sleeps, sizeof(*d->sleeps));
	d->sleeps[d->n_sleeps++] = s;
	return 0;
}

void thaw_dump_sleep_look(struct thaw_dumper *d)
{
	cpu_set_t before;

	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		return;
	thaw_procfs_tasks(d->pid, look_at, d);
	sched_setaffinity(0, sizeof(before), &before);
}

/* ---- after the stop ------------------------------------------------------------------------------------------------- */
static const struct thaw_dump_sleep *find(const struct thaw_dumper *d, pid_t tid)
{
	size_t i;

	for (i = 0; i < d->n_sleeps; i++)
		if (d->sleeps[i].tid == tid)
			return &d->sleeps[i];
	return NULL;
}

/* epoll_wait is restarted as a whole, here and after a restore: its time-out is in a register, where the rest can be put. */
static void shorten_epoll(const struct thaw_dumper *d, const struct thaw_dump_sleep *s, struct user_regs_struct *regs)
{
	int64_t slept;
	int32_t ms = (int32_t)regs->r10;

	if ((int64_t)regs->rax != -ERESTARTNOHAND || ms <= 0 ||
	    (regs->orig_rax != SYS_epoll_wait && regs->orig_rax != SYS_epoll_pwait))
		return;
	slept = ((int64_t)d->sz.stopped_at - s->began) / 1000000; /* rounded down */
	if (slept > 0)
		regs->r10 = slept < ms ? (uint64_t)(ms - slept) : 0;
}

/* Since the look it ran once, from after the interrupt until our stop. */
static bool slept_through(const struct thaw_dumper *d, const struct thaw_dump_sleep *s, const struct thaw_seized_thread *t)
{
	struct thaw_proc_stat stat;
	struct sched_facts now;
	const struct offset *o;

	if (read_sched(d->pid, s->tid, &now) < 0 || thaw_procfs_task_stat(d->pid, s->tid, &stat) < 0)
		return false;
	if (now.voluntary != s->then.voluntary + 1 || now.involuntary != s->then.involuntary)
		return false;
	o = stat.cpu >= 0 && stat.cpu < MAX_CPUS ? calibrate(stat.cpu) : NULL;
	return o && now.exec_start + o->low - (now.runtime - s->then.runtime) >= (int64_t)t->interrupted_at;
}

static const struct thaw_seized_thread *thread_of(const struct thaw_dumper *d, pid_t tid)
{
	unsigned i;

	for (i = 0; i < d->sz.n; i++)
		if (d->sz.threads[i].tid == tid)
			return &d->sz.threads[i];
	return NULL;
}

void thaw_dump_sleep_check(struct thaw_dumper *d)
{
	cpu_set_t before;
	unsigned n;
	size_t i;

	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		d->n_sleeps = 0;
	for (i = 0; i < d->n_sleeps; i++) {
		const struct thaw_seized_thread *t = thread_of(d, d->sleeps[i].tid);

		d->sleeps[i].timed = t && d->sleeps[i].timed && slept_through(d, &d->sleeps[i], t);
	}
	if (d->n_sleeps)
		sched_setaffinity(0, sizeof(before), &before);
	for (n = 0; n < d->sz.n; n++) {
		const struct thaw_dump_sleep *s = find(d, d->sz.threads[n].tid);

		if (s && s->timed && d->sz.threads[n].amended)
			shorten_epoll(d, s, &d->sz.threads[n].saved.regs);
	}
}

/* The number in the last "mov $NR, %eax" before the system call instruction, if it is one that can be restarted. */
static uint64_t call_in_code(pid_t pid, uint64_t rip)
{
	unsigned char code[64];
	int i;

	if (rip < sizeof(code) || thaw_sys_vm_read(pid, rip - sizeof(code), code, sizeof(code)) < 0)
		return ~0ULL;
	for (i = (int)sizeof(code) - 7; i >= 0; i--) {
		uint32_t nr;

		memcpy(&nr, code + i + 1, sizeof(nr));
		if (code[i] == 0xb8 &&
		    (nr == SYS_nanosleep || nr == SYS_clock_nanosleep || nr == SYS_poll || nr == SYS_futex))
			return nr;
	}
	return ~0ULL;
}

/* A sleep that had been interrupted before is restart_syscall. What it restarts shows in where it waits, of nanosleep only
 * by the entry of the system call, or in the program's code. */
static uint64_t real_call(pid_t pid, const struct user_regs_struct *regs, const struct thaw_dump_sleep *s)
{
	if (s && s->nr == SYS_restart_syscall) {
		if (strstr(s->wchan, "futex"))
			return SYS_futex;
		if (strstr(s->wchan, "poll"))
			return SYS_poll;
		if (strstr(s->wchan, "nanosleep") || strstr(s->wchan, "syscall"))
			return regs->rdi < 64 ? SYS_clock_nanosleep : SYS_nanosleep;
	}
	return call_in_code(pid, regs->rip);
}

static int read_span(pid_t pid, uint64_t at, int64_t *ns)
{
	int64_t ts[2];
	int r = thaw_sys_vm_read(pid, at, ts, sizeof(ts));

	if (r == 0 && ts[0] >= 0 && ts[0] < INT64_MAX / SECOND - 1)
		*ns = ts[0] * SECOND + ts[1];
	else
		r = -EINVAL;
	return r;
}

/* The whole span that was asked for, or what the kernel says was left (*exact). Negative: without end, or unknown. */
static int64_t span(struct thaw_dumper *d, const struct user_regs_struct *regs, uint64_t nr, bool *exact)
{
	uint64_t asked = 0, left = 0;
	int64_t ns = -1;

	switch (nr) {
	case SYS_nanosleep:
		asked = regs->rdi;
		left = regs->rsi;
		break;
	case SYS_clock_nanosleep:
		if (regs->rsi & 1) /* TIMER_ABSTIME: simply made again */
			return -1;
		asked = regs->rdx;
		left = regs->r10;
		break;
	case SYS_poll:
		return (int32_t)regs->rdx < 0 ? -1 : (int64_t)(int32_t)regs->rdx * 1000000;
	case SYS_futex:
		if ((regs->rsi & 0x7f) != 0 || !regs->r10) /* only FUTEX_WAIT counts from now */
			return -1;
		asked = regs->r10;
		break;
	default:
		return -1;
	}
	*exact = left != 0;
	return read_span(d->pid, left ? left : asked, &ns) < 0 ? -1 : ns;
}

void thaw_dump_sleep_left(struct thaw_dumper *d, const struct thaw_seized_thread *t, ThawState__Thread *out)
{
	struct user_regs_struct *regs = (struct user_regs_struct *)(void *)out->regs.data;
	const struct thaw_dump_sleep *s;
	bool exact = false;
	int64_t ns;

	if ((int64_t)regs->orig_rax < 0 || (int64_t)regs->rax != -ERESTART_RESTARTBLOCK)
		return;
	s = find(d, t->tid);
	if (regs->orig_rax == SYS_restart_syscall) {
		regs->orig_rax = real_call(d->pid, regs, s);
		if (regs->orig_rax == ~0ULL) { /* unknown: it ends as if a signal had come */
			regs->rax = (uint64_t)-EINTR;
			return;
		}
	}
	ns = span(d, regs, regs->orig_rax, &exact);
	if (ns < 0)
		return;
	if (!exact && s && s->timed)
		ns -= (int64_t)d->sz.stopped_at - s->began;
	ns = ns < 0 ? 0 : ns;
	out->sleep_left = thaw_dump_alloc(sizeof(*out->sleep_left));
	thaw_state__timespec__init(out->sleep_left);
	out->sleep_left->sec = ns / SECOND;
	out->sleep_left->nsec = ns % SECOND;
}
