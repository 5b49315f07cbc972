// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_moves.c - absent memory that moves while copiers aim at it is placed where it went.
 *
 * A copier that was overtaken by an mremap was told ENOENT at the old address and took the page for gone; the REMAP then carried
 * that mark to the new address, and the page read as zero there when the space was finished. usage: test_moves [ms] */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SEED 5
#define THREADS 2
#define REGIONS 400
#define REGION_PAGES 3
#define PITCH 4 /* pages from one region to the next: each is a mapping of its own once it has moved */
#define BYTES ((uint64_t)REGIONS * PITCH * LIVE_PAGE)
#define HOME(t) (LIVE_BASE + (t) * (1ULL << 32))
#define AWAY(t) (HOME(t) + (1ULL << 31))

static void move(uint64_t from, uint64_t to)
{
	if (mremap((void *)(uintptr_t)from, REGION_PAGES * LIVE_PAGE, REGION_PAGES * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   (void *)(uintptr_t)to) == MAP_FAILED)
		LIVE_DIE("mremap: %s", strerror(errno));
}

static void *mover(void *arg)
{
	uint64_t t = (uintptr_t)arg, rnd = t + 1;
	static _Thread_local bool away[REGIONS];

	for (unsigned i = 0; i < 700; i++) {
		unsigned r = live_random(&rnd) % REGIONS;
		uint64_t off = r * PITCH * LIVE_PAGE;

		move((away[r] ? AWAY(t) : HOME(t)) + off, (away[r] ? HOME(t) : AWAY(t)) + off);
		away[r] = !away[r];
	}
	for (unsigned r = 0; r < REGIONS; r++) {
		uint64_t off = r * PITCH * LIVE_PAGE;

		if (!live_moved_is((away[r] ? AWAY(t) : HOME(t)) + off, HOME(t) + off, REGION_PAGES, SEED, 0))
			return (void *)1;
	}
	return NULL;
}

static int work(void *arg, int sock)
{
	pthread_t id[THREADS];
	void *bad = NULL, *any = NULL;

	for (uintptr_t t = 0; t < THREADS; t++)
		pthread_create(&id[t], NULL, mover, (void *)t);
	for (unsigned t = 0; t < THREADS; t++) {
		pthread_join(id[t], &bad);
		any = bad ? bad : any;
	}
	return any != NULL;
}

static struct thaw_stats run(const struct thaw_range *r, int fd, const struct thaw_memfile_range *at)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 2, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_memfile(fd, at, THREADS);
	struct thaw_stats st;
	struct live l;
	int status;

	LIVE_OK(thaw_set_chunk(h, LIVE_PAGE));
	live_start(&l, r, THREADS, work, NULL);
	live_add(h, &l, s, r, THREADS);
	thaw_source_close(s);
	live_go(&l); /* in motion before the first page is placed */
	usleep(500);
	LIVE_OK(thaw_start(h));
	status = live_end(&l);
	if (status)
		LIVE_DIE("the worker ended with %d", status);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	st = live_stats(h, 0);
	thaw_close(h);
	return st;
}

int main(int argc, char **argv)
{
	struct thaw_range r[THREADS];
	struct thaw_memfile_range at[THREADS];
	struct timespec t0, t1;
	long ms = argc > 1 ? atol(argv[1]) : thorough(5000, 2500);
	uint64_t enoent = 0, eagain = 0, remaps = 0;
	unsigned rounds = 0;
	int fd;

	for (unsigned t = 0; t < THREADS; t++)
		r[t] = (struct thaw_range){ HOME(t), BYTES, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	fd = live_file(false, SEED, r, THREADS, at);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	do {
		struct thaw_stats st;

		alarm(patience(60));
		st = run(r, fd, at);
		enoent += st.enoent;
		eagain += st.eagain;
		remaps += st.events_remap;
		rounds++;
		clock_gettime(CLOCK_MONOTONIC, &t1);
	} while ((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 < ms);
	printf("%u rounds: %llu moves, %llu ENOENT, %llu EAGAIN\n", rounds, (unsigned long long)remaps,
	       (unsigned long long)enoent, (unsigned long long)eagain);
	return !(remaps && eagain);
}
