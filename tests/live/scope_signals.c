// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_signals.c - handlers, masks, pending signals, alternate stacks */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static volatile sig_atomic_t n_seen, seen[16], values[16];

static void note(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (n_seen < 16) {
		seen[n_seen] = sig;
		values[n_seen] = info->si_value.sival_int;
	}
	n_seen++;
}

static void catch(int sig, int flags)
{
	struct sigaction a = { .sa_sigaction = note, .sa_flags = SA_SIGINFO | flags };

	sigemptyset(&a.sa_mask);
	CHECK(!sigaction(sig, &a, NULL));
}

static void run_actions(void)
{
	static const int flags[] = { 0, SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_ONSTACK, SA_NOCLDWAIT };
	struct sigaction a = { .sa_sigaction = note }, now;

	for (int i = 0; i < 6; i++) {
		a.sa_flags = SA_SIGINFO | flags[i];
		sigemptyset(&a.sa_mask);
		sigaddset(&a.sa_mask, SIGRTMIN + i);
		CHECK(!sigaction(SIGRTMIN + 5 + i, &a, NULL));
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	scope_point();
	for (int i = 0; i < 6; i++) {
		CHECK(!sigaction(SIGRTMIN + 5 + i, NULL, &now));
		CHECK(now.sa_sigaction == note);
		CHECK_IS(now.sa_flags & ~0x04000000, SA_SIGINFO | flags[i]);
		CHECK(sigismember(&now.sa_mask, SIGRTMIN + i) && !sigismember(&now.sa_mask, SIGRTMIN + i + 1));
	}
	CHECK(!sigaction(SIGPIPE, NULL, &now) && now.sa_handler == SIG_IGN);
	CHECK(!sigaction(SIGHUP, NULL, &now) && now.sa_handler == SIG_IGN);
	CHECK(!sigaction(SIGTERM, NULL, &now) && now.sa_handler == SIG_DFL);
	CHECK(!sigaction(SIGSEGV, NULL, &now) && now.sa_handler == SIG_DFL);
	CHECK(!raise(SIGRTMIN + 5) && n_seen == 1 && seen[0] == SIGRTMIN + 5);
}

static void *other_thread(void *arg)
{
	sigset_t mask;

	(void)arg;
	sigfillset(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + 2);
	for (;;) {
		siginfo_t info;

		CHECK_IS(sigwaitinfo(&mask, &info), SIGRTMIN + 2);
		if (info.si_value.sival_int == 99)
			return NULL;
	}
}

/* Signals that wait, in their order and with their values: of the process and of a thread. */
static void run_pending(void)
{
	sigset_t mask, old, pending;
	pthread_t t;

	catch(SIGRTMIN + 1, 0);
	catch(SIGUSR1, 0);
	catch(SIGCHLD, 0);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + 1);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &mask, &old);
	t = scope_blocked(other_thread, NULL);
	for (int i = 0; i < 5; i++)
		CHECK(!sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i }));
	CHECK(!raise(SIGUSR1)); /* the thread's own */
	CHECK(!kill(getpid(), SIGCHLD));
	scope_point();
	CHECK(!sigpending(&pending) && sigismember(&pending, SIGRTMIN + 1) && sigismember(&pending, SIGUSR1) &&
	      sigismember(&pending, SIGCHLD) && !sigismember(&pending, SIGUSR2));
	CHECK_IS(n_seen, 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	CHECK_IS(n_seen, 7);
	for (int i = 0, next = 100; i < 7; i++)
		if (seen[i] == SIGRTMIN + 1)
			CHECK_IS(values[i], next++);
	pthread_sigqueue(t, SIGRTMIN + 2, (union sigval){ .sival_int = 99 });
	CHECK(!pthread_join(t, NULL));
}

static void point_in_handler(int sig)
{
	stack_t now;
	char here;

	(void)sig;
	scope_point();
	CHECK(!sigaltstack(NULL, &now));
	CHECK(now.ss_flags == SS_ONSTACK && &here > (char *)now.ss_sp && &here < (char *)now.ss_sp + now.ss_size);
	n_seen++;
}

/* Interrupted in a handler, on the alternate stack: it returns to where it was. */
static void run_altstack(void)
{
	stack_t ss = { .ss_size = 1 << 16 }, now;
	struct sigaction a = { .sa_handler = point_in_handler, .sa_flags = SA_ONSTACK };
	sigset_t mask;

	ss.ss_sp = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(ss.ss_sp != MAP_FAILED && !sigaltstack(&ss, NULL));
	CHECK(!sigaction(SIGUSR1, &a, NULL));
	CHECK(!raise(SIGUSR1));
	CHECK_IS(n_seen, 1);
	CHECK(!sigaltstack(NULL, &now) && now.ss_sp == ss.ss_sp && now.ss_size == ss.ss_size && now.ss_flags == 0);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	CHECK(!sigismember(&mask, SIGUSR1));
	CHECK(!raise(SIGUSR1)); /* DIR/go is there: it does not wait again */
	CHECK_IS(n_seen, 2);
}

static void *suspend(void *arg)
{
	sigset_t mask = *(sigset_t *)arg, now;

	CHECK(sigsuspend(&mask) == -1 && errno == EINTR);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	CHECK(sigismember(&now, SIGUSR1) && sigismember(&now, SIGUSR2));
	return NULL;
}

/* In sigsuspend its mask holds; behind it, the old one. A blocked signal sent in between waits. */
static void run_sigsuspend(void)
{
	sigset_t block, mask;
	pthread_t t;

	catch(SIGUSR1, 0);
	catch(SIGUSR2, 0);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigaddset(&block, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	t = scope_blocked(suspend, &mask);
	scope_point();
	CHECK(!pthread_kill(t, SIGUSR2));
	usleep(50000);
	CHECK_IS(n_seen, 0);
	CHECK(!pthread_kill(t, SIGUSR1) && !pthread_join(t, NULL));
	CHECK_IS(n_seen, 1);
	CHECK_IS(seen[0], SIGUSR1);
}

static void *sleeper(void *arg)
{
	(void)arg;
	pause();
	return (void *)(long)errno;
}

/* A signal that comes while nobody runs is delivered in the new life; here, one that waits at a thread which has it open. */
static void run_pause(void)
{
	pthread_t t;

	catch(SIGUSR1, 0);
	t = scope_blocked(sleeper, NULL);
	scope_point();
	usleep(20000);
	CHECK_IS(n_seen, 0);
	CHECK(!pthread_kill(t, SIGUSR1));
	void *err;
	CHECK(!pthread_join(t, &err));
	CHECK_IS((long)err, EINTR);
	CHECK_IS(n_seen, 1);
}

const struct scope_item scope_signals[] = {
	{ "actions", run_actions },
	{ "pending", run_pending },
	{ "altstack", run_altstack },
	{ "sigsuspend", run_sigsuspend },
	{ "pause", run_pause },
	{ 0 },
};
