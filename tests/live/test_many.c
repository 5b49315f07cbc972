// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_many.c - 64 processes at once, half of them added while the monitor runs; threads that wait and ask meanwhile.
 *
 * Their content comes from several sources. A copier that went from one space to the next once took the window that it had on
 * the first one's file for one on the second's: same number, other file. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SPACES 64
#define PAGES 700
#define SOURCES 8
#define SEED(i) (41 + (i) % SOURCES)

static const struct thaw_range range = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
static struct thaw *h;
static _Atomic bool stop;

static int work(void *arg, int sock)
{
	uint32_t order[PAGES];
	uint64_t seed = SEED((uintptr_t)arg);
	pid_t pid;
	int status = 0;

	live_shuffle(order, PAGES, (uintptr_t)arg);
	for (unsigned i = 0; i < PAGES / 2; i++)
		if (!live_is(LIVE_BASE + order[i] * LIVE_PAGE, 1, seed, 0))
			return 1;
	pid = (uintptr_t)arg % 4 ? -1 : fork();
	if (pid == 0)
		_exit(!live_is(LIVE_BASE, PAGES, seed, 0));
	if (!live_is(LIVE_BASE, PAGES, seed, 0))
		return 1;
	return pid > 0 && (waitpid(pid, &status, 0) != pid || status);
}

static void *waiter(void *arg)
{
	return (void *)(intptr_t)thaw_wait(h, (intptr_t)arg, patience(30000));
}

/* Sums never run backwards, and never beyond the whole. */
static void *asker(void *arg)
{
	uint64_t before = 0;

	while (!stop) {
		struct thaw_progress p = { .size = sizeof(p) };

		LIVE_OK(thaw_get_progress(h, 0, &p));
		LIVE_CHECK(p.bytes_placed >= before && p.bytes_placed + p.bytes_gone <= p.bytes_total);
		before = p.bytes_placed;
		usleep(1000);
	}
	return NULL;
}

static void ignore(void *opaque, enum thaw_log_level level, const char *line)
{
	(void)opaque;
	(void)level;
	(void)line;
}

/* Processes that wait for their memory when the monitor is closed: all get the same moment to be gone, not one after the other. */
static void closed_early(void)
{
	struct thaw_memfile_range at;
	struct thaw_source *s;
	struct timespec a, b;
	struct live l[SPACES];
	int fd = live_file(false, SEED(0), &range, 1, &at);

	for (uintptr_t i = 0; i < SPACES; i++)
		live_start(&l[i], &range, 1, work, (void *)i);
	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	LIVE_OK(thaw_set_log(h, ignore, NULL, THAW_LOG_ERROR));
	s = thaw_source_memfile(fd, &at, 1);
	for (unsigned i = 0; i < SPACES; i++)
		live_add(h, &l[i], s, &range, 1);
	LIVE_OK(thaw_start(h));
	clock_gettime(CLOCK_MONOTONIC, &a);
	thaw_close(h);
	clock_gettime(CLOCK_MONOTONIC, &b);
	thaw_source_close(s);
	close(fd);
	for (unsigned i = 0; i < SPACES; i++)
		live_kill(&l[i]);
	printf("closed in %ld ms\n", (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	LIVE_CHECK(b.tv_sec - a.tv_sec < patience(3000) / 1000);
}

int main(void)
{
	struct thaw_memfile_range at;
	struct live l[SPACES];
	int64_t id[SPACES];
	pthread_t t[SPACES], ask;
	struct thaw_source *s[SOURCES];
	struct thaw_stats st;
	void *ret;

	alarm(patience(60));
	for (uintptr_t i = 0; i < SPACES; i++)
		live_start(&l[i], &range, 1, work, (void *)i);
	h = live_monitor(THAW_IO_AUTO, 3, THAW_BACKGROUND_RUN);
	LIVE_OK(thaw_set_readers(h, 2));
	for (unsigned i = 0; i < SOURCES; i++) {
		int fd = live_file(i % 2, SEED(i), &range, 1, &at);

		s[i] = thaw_source_memfile(fd, &at, 1);
		close(fd);
	}
	for (unsigned i = 0; i < SPACES / 2; i++)
		id[i] = live_add(h, &l[i], s[i % SOURCES], &range, 1);
	LIVE_OK(thaw_start(h));
	pthread_create(&ask, NULL, asker, NULL);
	for (unsigned i = 0; i < SPACES; i++) {
		if (i >= SPACES / 2)
			id[i] = live_add(h, &l[i], s[i % SOURCES], &range, 1);
		pthread_create(&t[i], NULL, waiter, (void *)(intptr_t)id[i]);
		live_go(&l[i]);
	}
	for (unsigned i = 0; i < SOURCES; i++)
		thaw_source_close(s[i]);
	for (unsigned i = 0; i < SPACES; i++) {
		int status = live_end(&l[i]);

		if (status)
			LIVE_DIE("worker %u ended with %d", i, status);
		pthread_join(t[i], &ret);
		LIVE_CHECK(!ret);
	}
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	stop = true;
	pthread_join(ask, NULL);
	st = live_stats(h, 0);
	printf("%llu faults, %llu forks, %llu pages in the background, %llu KiB of state\n", (unsigned long long)st.faults,
	       (unsigned long long)st.events_fork, (unsigned long long)st.pages_background,
	       (unsigned long long)st.state_bytes >> 10);
	/* A space that was complete before its process forked hears nothing of it. */
	LIVE_CHECK(st.events_fork <= SPACES / 4);
	thaw_close(h);
	closed_early();
	return 0;
}
