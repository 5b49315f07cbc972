// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_lock.c - locks exclude, and the order checker of debug builds bites */
#include "config.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/lock.h"

static struct thaw_lock space = THAW_LOCK_INIT(space, THAW_RANK_SPACE);
static struct thaw_lock stats = THAW_LOCK_INIT(stats, THAW_RANK_STATS);
static struct thaw_cond cond;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int counter;

static void *count(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		THAW_SCOPED_LOCK(&space);
		counter++;
	}
	return NULL;
}

Test(lock, excludes)
{
	pthread_t t[3];

	for (int i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, count, NULL), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	cr_expect_eq(counter, 60000);
}

Test(lock, wait_ends_at_the_deadline)
{
	uint64_t start = now_ns();

	thaw_cond_init(&cond);
	thaw_lock_acquire(&space);
	while (thaw_cond_wait_until(&cond, &space, start + 30000000u))
		; /* a spurious wakeup */
	thaw_lock_release(&space);
	cr_expect_geq(now_ns(), start + 30000000u);
	thaw_cond_destroy(&cond);
}

Test(lock, rising_ranks_are_fine_and_release_is_in_any_order)
{
	for (int i = 0; i < 2; i++) {
		thaw_lock_acquire(&space);
		thaw_lock_acquire(&stats);
		thaw_lock_release(&space);
		thaw_lock_release(&stats);
	}
}

#ifdef THAW_DEBUG
static struct thaw_lock other_space = THAW_LOCK_INIT(other_space, THAW_RANK_SPACE);

/* Runs fn in a child and gives its last words; the child has to die by abort(). */
static void last_words(void (*fn)(void), char *text, size_t size)
{
	int pipefd[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(pipefd), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(pipefd[1], STDERR_FILENO);
		fn();
		_exit(0);
	}
	close(pipefd[1]);
	while (used < size - 1 && (n = read(pipefd[0], text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(pipefd[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x, said '%s'", (unsigned)status, text);
}

static void wrong_order(void)
{
	thaw_lock_acquire(&stats);
	thaw_lock_acquire(&space);
}

static void same_rank(void)
{
	thaw_lock_acquire(&space);
	thaw_lock_acquire(&other_space);
}

static void twice(void)
{
	thaw_lock_acquire(&space);
	thaw_lock_acquire(&space);
}

static void not_mine(void)
{
	thaw_lock_release(&space);
}

static void wait_with_inner_lock(void)
{
	thaw_cond_init(&cond);
	thaw_lock_acquire(&space);
	thaw_lock_acquire(&stats);
	thaw_cond_wait(&cond, &space);
}

static void unlocked_call(void)
{
	THAW_LOCK_ASSERT_HELD(&space);
}

static void destroyed_while_held(void)
{
	thaw_lock_acquire(&space);
	thaw_lock_destroy(&space);
}

Test(lock, wrong_order_names_both_locks)
{
	char text[512];

	last_words(wrong_order, text, sizeof(text));
	cr_expect(strstr(text, "wrong lock order: space (rank"), "%s", text);
	cr_expect(strstr(text, "while stats (rank"), "%s", text);
}

Test(lock, two_of_one_rank)
{
	char text[512];

	last_words(same_rank, text, sizeof(text));
	cr_expect(strstr(text, "other_space") && strstr(text, "while space (rank"), "%s", text);
}

Test(lock, misuse_is_named)
{
	static const struct {
		void (*fn)(void);
		const char *says;
	} cases[] = {
		{ twice, "space is taken twice" },
		{ not_mine, "space is released by a thread that does not hold it" },
		{ wait_with_inner_lock, "not the innermost lock (stats)" },
		{ unlocked_call, "unlocked_call: called without space" },
		{ destroyed_while_held, "destroyed while it is held" },
	};
	char text[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		last_words(cases[i].fn, text, sizeof(text));
		cr_expect(strstr(text, cases[i].says), "wanted '%s', got '%s'", cases[i].says, text);
	}
}

static void *take_space(void *arg)
{
	thaw_lock_acquire(&space);
	thaw_lock_release(&space);
	return NULL;
}

/* What another thread holds is not this thread's order. */
Test(lock, each_thread_has_its_own_order)
{
	pthread_t t;

	thaw_lock_acquire(&stats);
	cr_assert_eq(pthread_create(&t, NULL, take_space, NULL), 0);
	pthread_join(t, NULL);
	thaw_lock_release(&stats);
}
#endif
