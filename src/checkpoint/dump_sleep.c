// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_sleep.c - how much of an interrupted sleep was left.
 *
 * The kernel knows and tells nobody, unless the program gave nanosleep a place for it. But it tells when a thread last
 * ran (se.exec_start of /proc/PID/task/TID/sched, in a clock of the thread's CPU), and a sleeping thread last ran when
 * it went to sleep. That clock is compared with CLOCK_MONOTONIC by running on the same CPU ourselves. So the threads are
 * looked at before they are stopped, and the look counts only if they slept through until the stop. Without the file
 * (CONFIG_SCHED_DEBUG) a sleep starts anew when it is restored: never too short. */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/tracee.h"
#include "kern/sys.h"
#include "util/err.h"

#define MAX_CPUS 1024
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define SECOND 1000000000LL
#define SYS_EPOLL_PWAIT2 441

struct thaw_dump_sleep {
	pid_t tid;
	int nr;              /* the system call it sleeps in; SYS_restart_syscall: one that was interrupted before */
	int64_t began;       /* CLOCK_MONOTONIC, nanoseconds */
	uint64_t switches;   /* voluntary ones so far */
	char wchan[64];
};

struct sched_facts {
	int64_t exec_start;
	uint64_t switches;
};

static int read_sched(pid_t pid, pid_t tid, struct sched_facts *f)
{
	char name[64], buf[8192], *a, *b;
	long long ms, frac;
	ssize_t n;

	snprintf(name, sizeof(name), "task/%d/sched", tid);
	n = thaw_procfs_read(pid, name, buf, sizeof(buf));
	if (n < 0)
		return (int)n;
	a = strstr(buf, "se.exec_start");
	b = strstr(buf, "nr_voluntary_switches");
	a = a ? strchr(a, ':') : NULL;
	b = b ? strchr(b, ':') : NULL;
	if (!a || !b || sscanf(a + 1, "%lld.%lld", &ms, &frac) != 2)
		return -EPROTO;
	f->exec_start = ms * 1000000 + frac;
	f->switches = strtoull(b + 1, NULL, 10);
	return 0;
}

/* What is to be added to the CPU's clock. INT64_MIN: it could not be found. */
static int64_t calibrate(int cpu)
{
	struct sched_facts f;

	if (thaw_sys_pin_thread(cpu) < 0)
		return INT64_MIN;
	sched_yield(); /* brings our own exec_start up to now */
	if (read_sched(getpid(), thaw_sys_gettid(), &f) < 0)
		return INT64_MIN;
	return (int64_t)thaw_sys_now_ns() - f.exec_start;
}

static bool sleeps_with_timeout(int nr)
{
	return nr == SYS_nanosleep || nr == SYS_clock_nanosleep || nr == SYS_poll || nr == SYS_futex || nr == SYS_epoll_wait ||
	       nr == SYS_epoll_pwait || nr == SYS_restart_syscall;
}

struct looking {
	struct thaw_dumper *d;
	int64_t offset[MAX_CPUS]; /* 0: not yet known */
};

static int look_at(void *opaque, pid_t tid)
{
	struct looking *l = opaque;
	struct thaw_dumper *d = l->d;
	struct thaw_dump_sleep s = { .tid = tid };
	struct thaw_proc_stat stat;
	struct sched_facts f;
	char name[64], text[128];

	snprintf(name, sizeof(name), "task/%d/syscall", tid);
	if (thaw_procfs_read(d->pid, name, text, sizeof(text)) <= 0)
		return 0;
	s.nr = atoi(text); /* "running" is 0, which is read(2): without a time-out as well */
	if (!sleeps_with_timeout(s.nr) || read_sched(d->pid, tid, &f) < 0 || thaw_procfs_task_stat(d->pid, tid, &stat) < 0)
		return 0;
	if (stat.state != 'S' || stat.cpu < 0 || stat.cpu >= MAX_CPUS)
		return 0;
	snprintf(name, sizeof(name), "task/%d/wchan", tid);
	if (thaw_procfs_read(d->pid, name, s.wchan, sizeof(s.wchan)) < 0)
		s.wchan[0] = '\0';
	if (!l->offset[stat.cpu])
		l->offset[stat.cpu] = calibrate(stat.cpu);
	if (l->offset[stat.cpu] == INT64_MIN)
		return 0;
	s.began = f.exec_start + l->offset[stat.cpu];
	s.switches = f.switches;
	d->sleeps = thaw_dump_grow(d->sleeps, d->n_sleeps, sizeof(*d->sleeps));
	d->sleeps[d->n_sleeps++] = s;
	return 0;
}

void thaw_dump_sleep_look(struct thaw_dumper *d)
{
	struct looking *l = thaw_dump_alloc(sizeof(*l));
	cpu_set_t before;

	l->d = d;
	if (sched_getaffinity(0, sizeof(before), &before) == 0) {
		thaw_procfs_tasks(d->pid, look_at, l);
		sched_setaffinity(0, sizeof(before), &before);
	}
	free(l);
}

/* ---- after the stop ------------------------------------------------------------------------------------------------- */
static const struct thaw_dump_sleep *find(const struct thaw_dumper *d, pid_t tid)
{
	struct sched_facts now;
	size_t i;

	for (i = 0; i < d->n_sleeps; i++)
		if (d->sleeps[i].tid == tid)
			break;
	/* One more switch: from the sleep into our stop. */
	if (i == d->n_sleeps || read_sched(d->pid, tid, &now) < 0 || now.switches != d->sleeps[i].switches + 1)
		return NULL;
	return &d->sleeps[i];
}

/* A sleep that had been interrupted before is restart_syscall; what it restarts shows in where it waits. */
static uint64_t real_call(const struct user_regs_struct *regs, const struct thaw_dump_sleep *s)
{
	if (regs->orig_rax != SYS_restart_syscall)
		return regs->orig_rax;
	if (!s)
		return ~0ULL;
	if (strstr(s->wchan, "nanosleep"))
		return regs->rdi < 64 ? SYS_clock_nanosleep : SYS_nanosleep;
	if (strstr(s->wchan, "futex"))
		return SYS_futex;
	if (strstr(s->wchan, "poll"))
		return SYS_poll;
	return ~0ULL;
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

/* epoll_wait is restarted as a whole: its time-out is in a register, where the rest of it can be put. */
static void shorten_epoll(const struct thaw_dumper *d, const struct thaw_dump_sleep *s, struct user_regs_struct *regs)
{
	int64_t slept;
	int32_t ms = (int32_t)regs->r10;

	if (!s || ms <= 0)
		return;
	slept = ((int64_t)d->sz.stopped_at - s->began) / 1000000;
	if (slept > 0)
		regs->r10 = slept < ms ? (uint64_t)(ms - slept) : 0;
}

void thaw_dump_sleep_left(struct thaw_dumper *d, const struct thaw_seized_thread *t, ThawState__Thread *out)
{
	struct user_regs_struct *regs = (struct user_regs_struct *)(void *)out->regs.data;
	const struct thaw_dump_sleep *s;
	bool exact = false;
	int64_t ns;

	if ((int64_t)regs->orig_rax < 0)
		return;
	s = find(d, t->tid);
	if ((int64_t)regs->rax == -ERESTARTNOHAND && (regs->orig_rax == SYS_epoll_wait || regs->orig_rax == SYS_epoll_pwait))
		shorten_epoll(d, s, regs);
	if ((int64_t)regs->rax != -ERESTART_RESTARTBLOCK)
		return;
	if (regs->orig_rax == SYS_restart_syscall) {
		regs->orig_rax = real_call(regs, s);
		if (regs->orig_rax == ~0ULL) { /* unknown: it ends as if a signal had come */
			regs->rax = (uint64_t)-EINTR;
			return;
		}
	}
	ns = span(d, regs, regs->orig_rax, &exact);
	if (ns < 0)
		return;
	if (!exact && s)
		ns -= (int64_t)d->sz.stopped_at - s->began;
	ns = ns < 0 ? 0 : ns;
	out->sleep_left = thaw_dump_alloc(sizeof(*out->sleep_left));
	thaw_state__timespec__init(out->sleep_left);
	out->sleep_left->sec = ns / SECOND;
	out->sleep_left->nsec = ns % SECOND;
}
