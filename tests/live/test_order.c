// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_order.c - buffers that threads grow, shrink and unmap at the same time keep their content.
 *
 * The kernel gives the address that one thread has just left to the next, and the messages of the two come in any
 * order. Every buffer has one page of content and a tail that was never written: the content must be at the head when
 * the buffer is read at the end, and the tail must be zero. Messages alone cannot tell every case (an UNMAP of a tail, queued late
 * by a thread that has lost its CPU), so a few in a million may be wrong, more where the CPUs themselves are taken away for a while, as on
 * a loaded host, and on emulated processors a few in a thousand; a monitor that replays messages as they come has
 * 8 wrong ones in a hundred. With numbered messages none may be. usage: test_order [ms] */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEED 9
#define THREADS 4
#define BUFFERS 500
#define STEPS 2500
#define HOME(t) (LIVE_BASE + (t) * (1ULL << 32))

struct buffer {
	uint64_t addr, pages; /* pages 0: unmapped */
};
struct result {
	uint64_t moves, unmaps, heads, wrong_heads, tails, wrong_tails;
};
struct grower {
	pthread_t id;
	uint64_t t;
	struct buffer b[BUFFERS];
	struct result r;
};

static void resize(struct grower *g, struct buffer *b, uint64_t pages)
{
	void *to = mremap((void *)(uintptr_t)b->addr, b->pages * LIVE_PAGE, pages * LIVE_PAGE, MREMAP_MAYMOVE);

	if (to == MAP_FAILED)
		LIVE_DIE("mremap: %s", strerror(errno));
	g->r.moves += (uintptr_t)to != b->addr;
	g->r.unmaps += pages < b->pages;
	b->addr = (uintptr_t)to;
	b->pages = pages;
}

static void verify(struct grower *g, struct buffer *b, unsigned i)
{
	uint64_t home = HOME(g->t) + i * LIVE_PAGE;

	if (!b->pages)
		return;
	g->r.heads++;
	g->r.wrong_heads += !live_moved_is(b->addr, home, 1, SEED, 0);
	for (uint64_t p = 1; p < b->pages; p++) {
		g->r.tails++;
		g->r.wrong_tails += !live_is_zero(b->addr + p * LIVE_PAGE, 1);
	}
}

static void *grow(void *arg)
{
	struct grower *g = arg;
	uint64_t rnd = g->t + 1;

	for (unsigned i = 0; i < BUFFERS; i++)
		g->b[i] = (struct buffer){ HOME(g->t) + i * LIVE_PAGE, 1 };
	for (unsigned i = 0; i < STEPS; i++) {
		struct buffer *b = &g->b[live_random(&rnd) % BUFFERS];
		unsigned op = live_random(&rnd) % 32;

		if (!b->pages)
			continue;
		if (op == 0) {
			munmap((void *)(uintptr_t)b->addr, b->pages * LIVE_PAGE);
			b->pages = 0;
			g->r.unmaps++;
		} else if (b->pages > 3 || (b->pages > 1 && op < 10)) {
			resize(g, b, b->pages - 1);
		} else {
			resize(g, b, b->pages + 1);
		}
	}
	for (unsigned i = 0; i < BUFFERS; i++)
		verify(g, &g->b[i], i);
	return NULL;
}

static int work(void *arg, int sock)
{
	static struct grower g[THREADS];
	struct result sum = { 0 };

	for (uint64_t t = 0; t < THREADS; t++) {
		g[t].t = t;
		pthread_create(&g[t].id, NULL, grow, &g[t]);
	}
	for (unsigned t = 0; t < THREADS; t++) {
		pthread_join(g[t].id, NULL);
		sum.moves += g[t].r.moves;
		sum.unmaps += g[t].r.unmaps;
		sum.heads += g[t].r.heads;
		sum.wrong_heads += g[t].r.wrong_heads;
		sum.tails += g[t].r.tails;
		sum.wrong_tails += g[t].r.wrong_tails;
	}
	return send(sock, &sum, sizeof(sum), 0) != sizeof(sum);
}

static uint64_t run(enum thaw_background policy, const struct thaw_range *r, int fd,
		    const struct thaw_memfile_range *at, struct result *sum)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, policy);
	struct thaw_source *s = thaw_source_memfile(fd, at, THREADS);
	struct thaw_stats st;
	struct result one;
	struct live l;

	LIVE_OK(thaw_set_read_around(h, 0));
	live_start(&l, r, THREADS, work, NULL);
	live_add(h, &l, s, r, THREADS);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	if (recv(l.sock, &one, sizeof(one), MSG_WAITALL) != sizeof(one))
		LIVE_DIE("the worker has died");
	LIVE_CHECK(live_end(&l) == 0);
	st = live_stats(h, 0);
	thaw_close(h);
	sum->moves += one.moves;
	sum->unmaps += one.unmaps;
	sum->heads += one.heads;
	sum->wrong_heads += one.wrong_heads;
	sum->tails += one.tails;
	sum->wrong_tails += one.wrong_tails;
	return st.events_remap;
}

int main(int argc, char **argv)
{
	struct thaw_range r[THREADS];
	struct thaw_memfile_range at[THREADS];
	struct timespec t0, t1;
	long ms = argc > 1 ? atol(argv[1]) : thorough(5000, 2500);
	struct result sum = { 0 };
	uint64_t remaps = 0;
	unsigned rounds = 0;
	int fd;

	for (unsigned t = 0; t < THREADS; t++)
		r[t] = (struct thaw_range){ HOME(t), BUFFERS * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	fd = live_file(false, SEED, r, THREADS, at);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	do {
		alarm(patience(60));
		remaps += run(rounds % 4 == 3 ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY, r, fd, at, &sum);
		rounds++;
		clock_gettime(CLOCK_MONOTONIC, &t1);
	} while ((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 < ms);
	printf("%s, %u rounds: %lu moves (%lu told), %lu unmaps; wrong: %lu of %lu heads, %lu of %lu tail pages\n",
	       live_numbers() ? "numbered" : "gate", rounds, sum.moves, remaps, sum.unmaps, sum.wrong_heads, sum.heads, sum.wrong_tails, sum.tails);
	if (!sum.moves || !sum.heads || remaps < sum.moves / 2)
		return 1;
	/* An emulated machine preempts a thread between its move and the message far more often (17 in 3,335). */
	return sum.wrong_heads + sum.wrong_tails > (live_numbers() ? 0 : sum.moves / (patience(1) > 1 ? 50 : 1000));
}
