// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/fork_races.c - forks beside faults, discards and moves, children that are killed at once or outlive their parents: no
 * child is without its userfaultfd, and each finds the memory of the moment of its fork */
#include "config.h"
#include "lazy/restorer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define A LIVE_BASE
#define C (LIVE_BASE + (1ULL << 32)) /* changed while children are made */
#define P LIVE_PAGE
#define PAGES 1200
#define FORKS 30

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES }, { .addr = C, .pages = 256 } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY }, { C, 256, REST_LAZY } };

static const struct rest_task *self;
static _Atomic bool stop;
static _Atomic int wrong;

/* Only the raw call: children of a process with threads must not wait for a lock that a thread had. */
static pid_t bare_fork(void)
{
	return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
}

static void *fault(void *arg)
{
	for (uint64_t i = 0; i < PAGES && !stop; i++)
		if (!live_is(A + (i * 577 % PAGES) * P, 1, self->pid, 0))
			wrong = 1;
	return NULL;
}

/* Every second page of C goes, one by one. */
static void *discard(void *arg)
{
	for (uint64_t i = 0; i < 256; i += 2)
		if (madvise((void *)(uintptr_t)(C + i * P), P, MADV_DONTNEED))
			wrong = 2;
	return NULL;
}

static bool content_or_zero(uint64_t addr)
{
	return *(volatile uint64_t *)(uintptr_t)addr ? live_is(addr, 1, self->pid, 0) : live_is_zero(addr, 1);
}

static void child(unsigned n)
{
	int bad = 0;

	for (uint64_t i = n; i < PAGES; i += 13)
		bad |= !live_is(A + i * P, 1, self->pid, 0);
	for (uint64_t i = 0; i < 256; i++)
		bad |= i % 2 ? !live_is(C + i * P, 1, self->pid, 0) : !content_or_zero(C + i * P);
	syscall(SYS_exit_group, bad);
}

static void tick(int sig) {}

static int body(const struct rest_task *t)
{
	struct itimerval often = { { 0, 1500 }, { 0, 1500 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = tick, .sa_flags = SA_RESTART };
	pthread_t thread[3];
	unsigned alive = 0;
	int status;

	self = t;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL); /* forks are interrupted and begun again */
	for (unsigned i = 0; i < 3; i++)
		if (pthread_create(&thread[i], NULL, i < 2 ? fault : discard, NULL))
			return 3;
	for (unsigned i = 0; i < FORKS; i++) {
		pid_t pid = bare_fork();

		if (!pid)
			child(i);
		if (pid < 0)
			continue;
		alive++;
		if (i % 5 == 4)
			kill(pid, SIGKILL);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	while (alive) {
		pid_t pid = waitpid(-1, &status, 0);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			return 4;
		alive--;
		if (WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) != SIGKILL)
			wrong = 5;
	}
	stop = t->arg;
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	return wrong;
}

#ifdef THAW_DEBUG
/* For the space of a child there is no memory. Its userfaultfd is nobody's, and was closed with the daemon that had nothing left to do: the
 * child, which slept or would, read zeros. */
enum { CHILD, GO };

static int leaves(const struct rest_task *t)
{
	pid_t pid = fork();

	if (!pid) {
		rest_words[CHILD] = getpid();
		_exit(rest_await(GO, 1) ? rest_whole(t) : 9);
	}
	return pid > 0 && rest_await(CHILD, 1) ? rest_whole(t) : 8;
}

static void no_memory(const char *inject)
{
	const struct rest_task task = { .pid = 76, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = leaves };
	struct rest r;

	rest_begin(&r, &task, 1, true);
	setenv("THAW_INJECT", inject, 1);
	LIVE_CHECK(rest_daemon(&r, "--stay-lazy", NULL));
	unsetenv("THAW_INJECT");
	rest_restore(&r);
	rest_ended(&r, 1, "no memory to serve 1 forked children with: they wait for ever");
	rest_words[GO] = 1;
	LIVE_CHECK(rest_sleeps(rest_words[CHILD]));
	rest_await_said(&r, "waits for memory");
	kill(rest_words[CHILD], SIGKILL);
	rest_end(&r);
}
#endif

int main(void)
{
	const struct rest_task task[] = {
		{ .pid = 74, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = body },
		{ .pid = 75, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = body, .arg = 1 },
	};
	struct rest r;

	if (thaw_probe() < 0) {
		printf("fork_races: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < 4; i++) {
		rest_begin(&r, task, 2, true);
		LIVE_CHECK(rest_daemon(&r, i % 2 ? "--stay-lazy" : NULL, NULL));
		rest_restore(&r);
		rest_ended(&r, 0, NULL);
		rest_end(&r);
	}
#ifdef THAW_DEBUG
	no_memory("memory.space:ENOMEM:2");
#endif
	return 0;
}
