// SPDX-License-Identifier: LGPL-2.1-or-later
/* race_ring.c - every read through the ring brings the right bytes exactly once, in both kinds; ends are told */
#include "config.h"
#include "kern/ring.h"
#include "util/err.h"
#include "util/inject.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 2048
#define SUBMITTERS 3
#define ROUNDS 3

static int file;
static atomic_int failures;

struct job {
	struct thaw_ring_req req;
	unsigned page, calls;
	int error;
	_Atomic unsigned *left;
	unsigned char data[4096];
};

static void fail(const char *what, unsigned page)
{
	fprintf(stderr, "%s (page %u)\n", what, page);
	failures++;
}

static unsigned char byte_of(unsigned page, unsigned at)
{
	return page * 31 + at * 7 + (page >> 8);
}

static void done(struct thaw_ring_req *req, int error, void *thread)
{
	struct job *j = (struct job *)req;

	j->calls++;
	j->error = error;
	if (j->left)
		(*j->left)--;
}

static void make_file(void)
{
	unsigned char page[4096];
	unsigned i, k;

	file = memfd_create("ring", MFD_CLOEXEC);
	for (i = 0; i < PAGES; i++) {
		for (k = 0; k < sizeof(page); k++)
			page[k] = byte_of(i, k);
		if (pwrite(file, page, sizeof(page), i * 4096L) != sizeof(page))
			exit(1);
	}
}

static void check_job(struct job *j)
{
	unsigned k;

	if (j->calls != 1)
		fail("done was not called exactly once", j->page);
	if (j->error)
		fail(strerror(j->error), j->page);
	for (k = 0; k < sizeof(j->data); k++)
		if (j->data[k] != byte_of(j->page, k)) {
			fail("wrong byte", j->page);
			return;
		}
}

struct submitter {
	struct thaw_ring *ring;
	struct job *jobs;
	unsigned first, n, seed;
	_Atomic unsigned left;
	pthread_t thread;
};

static void *submit_all(void *arg)
{
	struct submitter *s = arg;
	unsigned i;

	for (i = 0; i < s->n; i++) {
		struct job *j = &s->jobs[i];

		j->page = s->first + i;
		j->left = &s->left;
		j->req = (struct thaw_ring_req){ file, j->page * 4096ULL, j->data, sizeof(j->data), done };
		thaw_ring_submit(s->ring, &j->req, rand_r(&s->seed) % 4 == 0);
		if (i >= 8 && rand_r(&s->seed) % 16 == 0)
			thaw_ring_hurry(s->ring, &s->jobs[i - rand_r(&s->seed) % 8].req);
	}
	return NULL;
}

static void *run(void *ring)
{
	thaw_ring_run(ring, NULL);
	return NULL;
}

static void wait_zero(_Atomic unsigned *left)
{
	struct timespec t = { .tv_nsec = 200000 };
	unsigned i;

	for (i = 0; *left && i < 100000; i++)
		nanosleep(&t, NULL);
	if (*left)
		fail("reads never ended", *left);
}

static void round_trip(struct thaw_ring *ring)
{
	static struct submitter s[SUBMITTERS];
	unsigned i, k;

	for (i = 0; i < SUBMITTERS; i++) {
		s[i] = (struct submitter){ .ring = ring, .first = i * 100, .n = 600, .seed = i + 1, .left = 600 };
		s[i].jobs = calloc(s[i].n, sizeof(*s[i].jobs));
		pthread_create(&s[i].thread, NULL, submit_all, &s[i]);
	}
	for (i = 0; i < SUBMITTERS; i++) {
		pthread_join(s[i].thread, NULL);
		wait_zero(&s[i].left);
		for (k = 0; k < s[i].n; k++)
			check_job(&s[i].jobs[k]);
		free(s[i].jobs);
	}
}

/* One request alone, waited for; its error. */
static int one(struct thaw_ring *ring, int fd, uint64_t off)
{
	static struct job j;
	_Atomic unsigned left = 1;

	memset(&j, 0, sizeof(j));
	j.left = &left;
	j.req = (struct thaw_ring_req){ fd, off, j.data, sizeof(j.data), done };
	thaw_ring_submit(ring, &j.req, true);
	wait_zero(&left);
	return j.error;
}

static void after_stop(struct thaw_ring *ring)
{
	struct job j = { .req = { file, 0, j.data, sizeof(j.data), done } };

	thaw_ring_submit(ring, &j.req, false);
	if (j.calls != 1 || j.error != ECANCELED)
		fail("a request after stop was not ended with ECANCELED", 0);
}

/* What waits in a ring that nobody runs is ended by free. */
static void stop_while_waiting(enum thaw_ring_kind kind)
{
	struct thaw_ring *ring;
	struct job jobs[16];
	_Atomic unsigned left = 16;
	unsigned i;

	if (thaw_ring_new(&ring, kind, 2, 2))
		return;
	memset(jobs, 0, sizeof(jobs));
	for (i = 0; i < 16; i++) {
		jobs[i].left = &left;
		jobs[i].req = (struct thaw_ring_req){ file, 0, jobs[i].data, 4096, done };
		thaw_ring_submit(ring, &jobs[i].req, i & 1);
	}
	if (thaw_ring_pending(ring) != 16)
		fail("pending is not what was submitted", thaw_ring_pending(ring));
	thaw_ring_free(ring); /* nobody ever ran it */
	for (i = 0; i < 16; i++)
		if (jobs[i].calls != 1 || jobs[i].error != ECANCELED)
			fail("a waiting request was not ended with ECANCELED", i);
}

static void test_kind(enum thaw_ring_kind kind)
{
	pthread_t threads[64];
	struct thaw_ring *ring;
	unsigned i, n;

	if (thaw_ring_new(&ring, kind, 8, 4)) {
		fail(thaw_err_text(), 0);
		return;
	}
	if (thaw_ring_kind(ring) != kind)
		fail("another kind than asked for", kind);
	n = thaw_ring_threads(ring);
	for (i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, run, ring);
	for (i = 0; i < ROUNDS; i++)
		round_trip(ring);
	if (one(ring, file, PAGES * 4096ULL) != ENODATA)
		fail("a read behind the end was not ENODATA", 0);
	if (one(ring, file, PAGES * 4096ULL - 100) != ENODATA)
		fail("a read across the end was not ENODATA", 0);
	if (one(ring, -1, 0) != EBADF)
		fail("a read of no file was not EBADF", 0);
	if (one(ring, file, 4096))
		fail("after failed reads a good one failed", 1);
	thaw_ring_stop(ring);
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	after_stop(ring);
	thaw_ring_free(ring);
	stop_while_waiting(kind);
}

/* The thread that probes and makes rings must be able to wait afterwards: no EINTR comes out of a ring's end. */
static void no_interruption(void)
{
	struct timespec t = { .tv_nsec = 30000000 };
	struct thaw_ring *ring;
	pthread_t thread;

	thaw_ring_probe(NULL);
	if (nanosleep(&t, NULL))
		fail("a sleep behind the probe was interrupted", 0);
	if (thaw_ring_new(&ring, THAW_RING_AUTO, 4, 2)) {
		fail(thaw_err_text(), 0);
		return;
	}
	if (thaw_ring_threads(ring) == 1) {
		pthread_create(&thread, NULL, run, ring);
		one(ring, file, 0);
		thaw_ring_stop(ring);
		pthread_join(thread, NULL);
	}
	thaw_ring_free(ring);
	if (nanosleep(&t, NULL))
		fail("a sleep behind a ring was interrupted", 0);
}

/* Also: a ring that cannot be made after all is served by its thread with preadv. */
static void test_uring(void)
{
	test_kind(THAW_RING_URING);
#ifdef THAW_DEBUG
	if (thaw_inject_arm("ring.make:ENOMEM:1+"))
		fail(thaw_err_text(), 0);
	test_kind(THAW_RING_URING);
	thaw_inject_arm(NULL);
#endif
}

int main(void)
{
	const char *why;

	alarm(120);
	make_file();
	no_interruption();
	test_kind(THAW_RING_POOL);
	if (thaw_ring_probe(&why) == THAW_RING_OK)
		test_uring();
	else
		fprintf(stderr, "io_uring left out: %s\n", why);
	return failures ? 1 : 0;
}
