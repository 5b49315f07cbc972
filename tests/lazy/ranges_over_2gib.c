// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/ranges_over_2gib.c - a discard, an unmap or a move of more than 2 GiB was not followed; now what is taken away
 * is zero, what is moved is there, and the daemon ends */
#include "config.h"
#include "lazy/restorer.h"

#include <sys/mman.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define GIB (1ULL << 30)
#define SIZE (5 * GIB)
#define ELSEWHERE (LIVE_BASE + 16 * GIB)

static const struct rest_vma vmas[] = { { .addr = A, .pages = SIZE / P } };
static const struct rest_run runs[] = {
	{ A, 40, REST_LAZY },
	{ A + 2 * GIB - 20 * P, 40, REST_LAZY },
	{ A + 3 * GIB + 5 * P, 40, REST_LAZY },
	{ A + 4 * GIB - 10 * P, 40, REST_LAZY },
	{ A + SIZE - 40 * P, 40, REST_LAZY },
};
#define N_RUNS (sizeof(runs) / sizeof(*runs))

static bool all_zero(void)
{
	for (unsigned i = 0; i < N_RUNS; i++)
		if (!live_is_zero(runs[i].addr, runs[i].pages))
			return false;
	return true;
}

static int unmap(const struct rest_task *t)
{
	if (munmap((void *)(uintptr_t)A, SIZE) ||
	    mmap((void *)(uintptr_t)A, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		return 2;
	return rest_await(0, 1) && all_zero() ? 0 : 1;
}

static int discard(const struct rest_task *t)
{
	if (madvise((void *)(uintptr_t)A, SIZE, MADV_DONTNEED))
		return 2;
	return rest_await(0, 1) && all_zero() ? 0 : 1;
}

/* All but the first and last pages: what is left is the images'. */
static int discard_inner(const struct rest_task *t)
{
	if (madvise((void *)(uintptr_t)(A + 10 * P), SIZE - 20 * P, MADV_DONTNEED))
		return 2;
	return live_is_zero(A + 10 * P, 30) && live_is_zero(A + SIZE - 40 * P, 30) && live_is(A, 10, t->pid, 0) &&
	       live_is(A + SIZE - 10 * P, 10, t->pid, 0) && live_is_zero(runs[2].addr, 40) ? 0 : 1;
}

static int move(const struct rest_task *t)
{
	if (mremap((void *)(uintptr_t)A, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)ELSEWHERE) == MAP_FAILED)
		return 2;
	for (unsigned i = 0; i < N_RUNS; i++)
		if (!live_moved_is(ELSEWHERE + (runs[i].addr - A), runs[i].addr, runs[i].pages, t->pid, 0))
			return 1;
	return 0;
}

#define TASK(number, what) { .pid = number, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = N_RUNS, .body = what }

int main(void)
{
	static const struct rest_task task[] = { TASK(1, unmap), TASK(2, discard), TASK(3, discard_inner), TASK(4, move) };
	struct rest r;

	if (thaw_probe() < 0) {
		printf("ranges_over_2gib: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < 2; i++) {
		rest_begin(&r, task, 4, true);
		LIVE_CHECK(rest_daemon(&r, i ? "--background-delay" : NULL, "100", NULL));
		rest_connect(&r);
		rest_spawn(&r);
		rest_gather(&r);
		rest_release(&r);
		rest_ended(&r, 0, NULL); /* although two tasks live on and touch nothing */
		rest_words[0] = 1;
		LIVE_CHECK(rest_wait(&r) == 0);
		rest_end(&r);
	}
	return 0;
}
