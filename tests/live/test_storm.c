// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_storm.c - while some threads discard and move memory without pause, the faults of the others are all answered.
 *
 * With an event always on its way nearly every fill is refused (EAGAIN). A fault that is refused is neither lost nor spun on. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SEED 51
#define STORMS 3
#define READERS 3
#define PAGES 700
#define AREA(i) (LIVE_BASE + (uint64_t)(i) * (1ULL << 32))
#define SLOWEST_MS 3000 /* on a machine with much else to do; a lost fault takes for ever */

static _Atomic bool stop;
static _Atomic unsigned long changes;

static void *storm(void *arg)
{
	uint64_t at = AREA((uintptr_t)arg), to = at + (1ULL << 31);

	while (!stop) {
		volatile char *p = (char *)(uintptr_t)at;

		p[0] = 1; /* a zero page by a write */
		if (madvise((void *)(uintptr_t)at, 16 * LIVE_PAGE, MADV_DONTNEED) || p[5 * LIVE_PAGE])
			LIVE_DIE("madvise: %s", strerror(errno));
		if (mremap((void *)(uintptr_t)at, 16 * LIVE_PAGE, 16 * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   (void *)(uintptr_t)to) == MAP_FAILED)
			LIVE_DIE("mremap: %s", strerror(errno));
		at ^= to;
		to ^= at;
		at ^= to;
		changes += 2;
	}
	return NULL;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

/* Content and zero pages by turns; the second half of its area is beyond what the source has. */
static void *reader(void *arg)
{
	uint64_t base = AREA(STORMS + (uintptr_t)arg), slowest = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t t0 = now_ms(), took;

		if (!live_is(base + i * LIVE_PAGE, 1, SEED, 0) || !live_is_zero(base + (PAGES + i) * LIVE_PAGE, 1))
			return (void *)2;
		took = now_ms() - t0;
		slowest = took > slowest ? took : slowest;
	}
	if (slowest >= SLOWEST_MS) {
		fprintf(stderr, "a fault took %llu ms\n", (unsigned long long)slowest);
		return (void *)3;
	}
	return NULL;
}

static int work(void *arg, int sock)
{
	pthread_t s[STORMS], r[READERS];
	void *bad = NULL, *any = NULL;

	for (uintptr_t i = 0; i < STORMS; i++)
		pthread_create(&s[i], NULL, storm, (void *)i);
	for (uintptr_t i = 0; i < READERS; i++)
		pthread_create(&r[i], NULL, reader, (void *)i);
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(r[i], &bad);
		any = bad ? bad : any;
	}
	stop = true;
	for (unsigned i = 0; i < STORMS; i++)
		pthread_join(s[i], NULL);
	return any != NULL || !changes;
}

static void run(enum thaw_background policy, unsigned monitors_readers)
{
	struct thaw_range r[STORMS + READERS], content[READERS];
	struct thaw_memfile_range at[READERS];
	struct thaw *h = live_monitor(THAW_IO_AUTO, 2, policy);
	struct thaw_source *s;
	struct thaw_stats st;
	struct live l;
	int fd, status;

	for (unsigned i = 0; i < STORMS + READERS; i++)
		r[i] = (struct thaw_range){ AREA(i), (i < STORMS ? 16 : 2 * PAGES) * LIVE_PAGE, 0, PROT_READ | PROT_WRITE, 0 };
	for (unsigned i = 0; i < READERS; i++) {
		content[i] = r[STORMS + i];
		content[i].length /= 2;
	}
	LIVE_OK(thaw_set_readers(h, monitors_readers));
	live_start(&l, r, STORMS + READERS, work, NULL);
	fd = live_file(true, SEED, content, READERS, at);
	s = thaw_source_memfile(fd, at, READERS);
	live_add(h, &l, s, r, STORMS + READERS);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	if (status)
		LIVE_DIE("policy %d: the worker ended with %d", policy, status);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	st = live_stats(h, 0);
	printf("policy %d: %llu faults, %llu events, %llu EAGAIN, p50 %llu us, max %llu us\n", policy,
	       (unsigned long long)st.faults, (unsigned long long)(st.events_remap + st.events_remove + st.events_unmap),
	       (unsigned long long)st.eagain, (unsigned long long)st.latency_p50 / 1000,
	       (unsigned long long)st.latency_max / 1000);
	LIVE_CHECK(st.eagain > 0 || policy == THAW_BACKGROUND_RUN); /* which may be done before the storm begins */
	thaw_close(h);
	close(fd);
}

int main(void)
{
	alarm(patience(120));
	run(THAW_BACKGROUND_STAY_LAZY, 1);
	run(THAW_BACKGROUND_STAY_LAZY, 2);
	run(THAW_BACKGROUND_RUN, 1);
	return 0;
}
