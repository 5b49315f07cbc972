// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_seize.c - a process whose timer never rests is stopped all the same: the request to stop came while a thread
 * was taking the timer's signal, was forgotten with that, and the wait for the stop went on from signal to signal */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/seize.h"
#include "util/err.h"

#define STOPS 4000
#define SECONDS 60        /* on a slow machine fewer stops have to do */
#define PERIOD_NS 100000
#define THREADS 8
#define LOST_FOR_GOOD 100 /* seconds: far more than the limit for one stop */
#define LATE_ALLOWED 2    /* stops in a run that took longer than their limit, on a machine that is busy beyond reason */

static volatile sig_atomic_t ticks;

static void tick(int sig)
{
	(void)sig;
	ticks++;
}

static void *timed(void *unused)
{
	struct sigevent e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3 };
	struct itimerspec s = { { 0, PERIOD_NS }, { 0, PERIOD_NS } };
	timer_t t;

	(void)unused;
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
	e.sigev_notify_thread_id = gettid();
	if (timer_create(CLOCK_MONOTONIC, &e, &t) || timer_settime(t, 0, &s, NULL))
		_exit(1);
	for (;;)
		pause();
	return NULL;
}

/* More than one thread: they also wait for each other where the window is. */
static _Noreturn void target(void)
{
	pthread_t t;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGRTMIN + 3, tick);
	for (int i = 1; i < THREADS; i++)
		if (pthread_create(&t, NULL, timed, NULL))
			_exit(1);
	timed(NULL);
	_exit(1);
}

static void lost(int sig)
{
	static const char text[] = "test_seize: FAILED: thaw_seize() did not come back\n";

	(void)sig;
	_exit(write(2, text, sizeof(text) - 1) < 0 ? 2 : 1);
}

int main(void)
{
	unsigned stops = 0, late = 0;
	time_t end;
	pid_t pid;

	signal(SIGALRM, lost);
	pid = fork();
	if (pid == 0)
		target();
	srand(1);
	for (end = time(NULL) + SECONDS; stops < STOPS && time(NULL) < end; stops++) {
		struct thaw_seized s;

		alarm(LOST_FOR_GOOD);
		if (thaw_seize(&s, pid) == 0) {
			thaw_seize_release(&s);
		} else if (thaw_err_code() != -ETIMEDOUT || ++late > LATE_ALLOWED) {
			fprintf(stderr, "test_seize: FAILED: stop %u: %s\n", stops, thaw_err_text());
			kill(pid, SIGKILL);
			return 1;
		}
		usleep((useconds_t)(rand() % 60)); /* where in the timer's period the next request comes */
	}
	alarm(0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("%u stops, %u late\n", stops, late);
	return stops ? 0 : 1;
}
