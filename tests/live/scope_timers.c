// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_timers.c - interval timers and POSIX timers go on with what was left, under their ids; none expires unnoticed, or
 * twice, because it did so during the checkpoint */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

static volatile sig_atomic_t ticks, values[4];

static void tick(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	ticks++;
	if (info->si_code == SI_TIMER && info->si_value.sival_int >= 0 && info->si_value.sival_int < 4)
		values[info->si_value.sival_int]++;
}

static void catch(int sig)
{
	struct sigaction a = { .sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART };

	CHECK(!sigaction(sig, &a, NULL));
}

static void run_itimers(void)
{
	struct itimerval fast = { { 0, 20000 }, { 0, 20000 } }, slow = { { 0, 0 }, { 3600, 0 } }, now;

	catch(SIGALRM);
	signal(SIGVTALRM, SIG_IGN);
	CHECK(!setitimer(ITIMER_REAL, &fast, NULL) && !setitimer(ITIMER_VIRTUAL, &slow, NULL));
	scope_point();
	ticks = 0;
	while (ticks < 5)
		pause();
	CHECK(!getitimer(ITIMER_REAL, &now));
	CHECK_IS(now.it_interval.tv_usec, 20000);
	CHECK(now.it_value.tv_sec == 0 && now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 20000);
	CHECK(!getitimer(ITIMER_VIRTUAL, &now) && now.it_interval.tv_sec == 0);
	CHECK(now.it_value.tv_sec > 3000 && now.it_value.tv_sec <= 3600);
	CHECK(!getitimer(ITIMER_PROF, &now) && !now.it_value.tv_sec && !now.it_value.tv_usec);
}

static timer_t timer(int clock, int notify, int sig, int value, pid_t tid)
{
	struct sigevent e = { .sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_int = value };
	timer_t t;

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
	e.sigev_notify_thread_id = tid;
	CHECK(!timer_create(clock, &e, &t));
	return t;
}

static void set(timer_t t, double value, double interval)
{
	struct itimerspec s = { { (time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9) },
				{ (time_t)value, (long)((value - (double)(time_t)value) * 1e9) } };

	CHECK(!timer_settime(t, 0, &s, NULL));
}

static _Atomic pid_t waiter_tid;

static void *waiter(void *arg)
{
	sigset_t set_;
	siginfo_t info;

	(void)arg;
	sigemptyset(&set_);
	sigaddset(&set_, SIGRTMIN + 4);
	waiter_tid = (pid_t)syscall(SYS_gettid);
	CHECK_IS(sigwaitinfo(&set_, &info), SIGRTMIN + 4);
	CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 3);
	return NULL;
}

static void run_posix(void)
{
	struct itimerspec now;
	timer_t gone, a, b, c, d;
	sigset_t block;
	pthread_t t;

	catch(SIGRTMIN + 3);
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN + 4);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	t = scope_blocked(waiter, NULL);
	gone = timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0); /* a hole in the ids */
	a = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3, 1, 0);
	CHECK(!timer_delete(gone));
	b = timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 3, 2, 0);
	c = timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 4, 3, waiter_tid);
	d = timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	set(d, 1000, 7);
	set(a, 3600, 0);
	scope_point();
	CHECK(!timer_gettime(d, &now));
	CHECK(now.it_value.tv_sec > 900 && now.it_value.tv_sec <= 1000 && now.it_interval.tv_sec == 7);
	CHECK(!timer_gettime(a, &now) && now.it_value.tv_sec > 3000);
	CHECK(!timer_gettime(b, &now) && !now.it_value.tv_sec && !now.it_value.tv_nsec);
	CHECK(timer_gettime(gone, &now) < 0);
	set(a, 0.01, 0);
	set(b, 0.01, 0.01);
	set(c, 0.01, 0);
	CHECK(!pthread_join(t, NULL));
	while (!values[1] || values[2] < 3)
		usleep(5000);
	CHECK_IS(values[1], 1);
	CHECK(!timer_delete(a) && !timer_delete(b) && !timer_delete(c) && !timer_delete(d));
}

/* One that runs all the time: it goes on by itself. */
static void run_running(void)
{
	timer_t a;
	int before;

	catch(SIGRTMIN + 3);
	a = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3, 1, 0);
	set(a, 0.005, 0.005);
	while (ticks < 3)
		usleep(1000);
	scope_point();
	before = ticks;
	while (ticks < before + 20)
		usleep(1000);
	CHECK(timer_getoverrun(a) >= 0);
}

/* Many that expire once each, one after the other, before, during and after the checkpoint. One that did so between the look at its
 * signal and the look at what is left of it was lost, the other way round it came twice. */
enum { EXPIRING = 200 };
static volatile bool may_take;

/* Takes the signals of the timers of one kind, and one that only closes the list: those that come late are still counted. */
static void take_each_once(int sig, int parity, bool alarm)
{
	const struct timespec patience = { .tv_sec = 20 }, rest = { .tv_nsec = 200000000 };
	int seen[EXPIRING] = { 0 }, left = EXPIRING / 2 + alarm, alarms = 0, got;
	siginfo_t info;
	sigset_t wanted;

	sigemptyset(&wanted);
	sigaddset(&wanted, sig);
	if (alarm)
		sigaddset(&wanted, SIGALRM);
	while ((got = sigtimedwait(&wanted, &info, left > 0 ? &patience : &rest)) > 0) {
		left--;
		if (got == SIGALRM) {
			alarms++;
			continue;
		}
		CHECK(info.si_code == SI_TIMER && info.si_value.sival_int >= 0 && info.si_value.sival_int < EXPIRING);
		seen[info.si_value.sival_int]++;
	}
	for (int i = parity; i < EXPIRING; i += 2)
		if (seen[i] != 1) {
			fprintf(stderr, "timer %d has expired %d times\n", i, seen[i]);
			CHECK_IS(seen[i], 1);
		}
	CHECK_IS(alarms, alarm);
	CHECK_IS(left, 0);
}

static void *taker(void *arg)
{
	waiter_tid = (pid_t)syscall(SYS_gettid);
	while (!may_take)
		usleep(1000);
	take_each_once(SIGRTMIN + 4, 1, false);
	return arg;
}

static void run_expiring(void)
{
	struct itimerval once = { { 0, 0 }, { 0, 350000 } };
	timer_t timers[EXPIRING];
	sigset_t block;
	pthread_t t;

	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	sigaddset(&block, SIGRTMIN + 3);
	sigaddset(&block, SIGRTMIN + 4);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	CHECK(!pthread_create(&t, NULL, taker, NULL));
	while (!waiter_tid)
		usleep(1000);
	for (int i = 0; i < EXPIRING; i++)
		timers[i] = i % 2 ? timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 4, i, waiter_tid) :
				    timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 3, i, 0);
	for (int i = 0; i < EXPIRING; i++)
		set(timers[i], 0.01 * (i + 1), 0);
	CHECK(!setitimer(ITIMER_REAL, &once, NULL));
	scope_point();
	may_take = true;
	take_each_once(SIGRTMIN + 3, 0, true);
	CHECK(!pthread_join(t, NULL));
}

/* Timerfds likewise: what they have counted, and what is left. */
static void run_expiring_timerfds(void)
{
	enum { N = 10 };
	uint64_t count;
	int fds[N];

	for (int i = 0; i < N; i++) {
		struct itimerspec once = { .it_value = { (i + 1) / 4, (i + 1) % 4 * 250000000 } };

		fds[i] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
		CHECK(fds[i] >= 0 && !timerfd_settime(fds[i], 0, &once, NULL));
	}
	scope_point();
	for (int i = 0; i < N; i++) {
		struct itimerspec left;

		CHECK_IS(read(fds[i], &count, sizeof(count)), sizeof(count));
		CHECK_IS(count, 1);
		CHECK(!timerfd_gettime(fds[i], &left));
		CHECK(!left.it_value.tv_sec && !left.it_value.tv_nsec);
	}
}

const struct scope_item scope_timers[] = {
	{ "itimers", run_itimers },
	{ "posix-timers", run_posix },
	{ "running-timer", run_running },
	{ "expiring", run_expiring },
	{ "expiring-timerfds", run_expiring_timerfds },
	{ 0 },
};
