// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/lost_faults_on_eagain.c - a fault answered with EAGAIN, because another thread was unmapping, was forgotten, and its thread
 * slept until the daemon ended; now every one is served, also when nothing is copied ahead */
#include "config.h"
#include "lazy/restorer.h"

#include <pthread.h>
#include <sys/mman.h>

#define A LIVE_BASE                  /* content */
#define Z (LIVE_BASE + (1ULL << 32)) /* never had any */
#define U (LIVE_BASE + (2ULL << 32)) /* is unmapped bit by bit */
#define P LIVE_PAGE
#define PAGES 3000
#define ROUNDS 700

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES }, { .addr = Z, .pages = PAGES }, { .addr = U, .pages = ROUNDS } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY }, { U, ROUNDS / 2, REST_LAZY } };

static const struct rest_task *self;
static _Atomic int wrong, unmapping;

static void *touch(void *arg)
{
	unsigned me = (uintptr_t)arg;

	for (uint64_t i = me / 2; i < PAGES; i += 2) {
		bool right = me % 2 ? live_is_zero(Z + i * P, 1) : live_is(A + i * P, 1, self->pid, 0);

		if (!right)
			wrong = 1;
	}
	return NULL;
}

static void *unmap(void *arg)
{
	while (unmapping < ROUNDS)
		if (munmap((void *)(uintptr_t)(U + unmapping++ * P), P))
			wrong = 2;
	return NULL;
}

static int body(const struct rest_task *t)
{
	pthread_t thread[5];

	self = t;
	for (unsigned i = 0; i < 5; i++)
		if (pthread_create(&thread[i], NULL, i < 4 ? touch : unmap, (void *)(uintptr_t)i))
			return 3;
	for (unsigned i = 0; i < 5; i++)
		pthread_join(thread[i], NULL);
	return wrong;
}

int main(void)
{
	const struct rest_task task = { .pid = 73, .vma = vmas, .n_vmas = 3, .run = runs, .n_runs = 2, .body = body };
	struct rest r;

	if (thaw_probe() < 0) {
		printf("lost_faults_on_eagain: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < 4; i++) {
		rest_begin(&r, &task, 1, true);
		LIVE_CHECK(rest_daemon(&r, i % 2 ? "--stay-lazy" : NULL, NULL)); /* then nothing else would bring a page */
		rest_restore(&r);
		rest_ended(&r, 0, NULL);
		rest_end(&r);
	}
	return 0;
}
