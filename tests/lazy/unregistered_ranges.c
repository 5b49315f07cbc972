// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/unregistered_ranges.c - a mapping that the restorer never registered was tried for ever; now it is named, the daemon ends, and
 * says in its exit status that not all is in. What a process takes away itself is something else, however soon it does so */
#include "config.h"
#include "lazy/restorer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define A LIVE_BASE
#define B (LIVE_BASE + (1ULL << 32))
#define P LIVE_PAGE

static const struct rest_run runs[] = { { A, 800, REST_LAZY }, { B, 800, REST_LAZY } };

/* It lives until its mappings have been looked at: of a process that has ended nobody says what was not registered. */
static int half(const struct rest_task *t)
{
	return live_is(A, 800, t->pid, 0) && live_is_zero(B, 800) && rest_await(0, 1) ? 0 : 1;
}

static void forgotten(void)
{
	static const struct rest_vma vmas[] = { { .addr = A, .pages = 800 }, { .addr = B, .pages = 800, .unregistered = true } };
	const struct rest_task task[] = {
		{ .pid = 78, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = half },
		{ .pid = 79, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1 },
	};
	char want[128];
	struct rest r;

	rest_begin(&r, task, 2, true);
	LIVE_CHECK(rest_daemon(&r, "--stats", "stats", NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	snprintf(want, sizeof(want), "the mapping at %#llx+0x320000 was never registered", (unsigned long long)B);
	rest_await_said(&r, want);
	atomic_store(&rest_words[0], 1);
	LIVE_CHECK(!rest_wait(&r));
	rest_ended(&r, 1, "pid 78: 3276800 bytes were not placed: the restorer did not register their mappings");
	LIVE_CHECK(strstr(r.said, "pid 79: ") && !strstr(r.said, "pid 79: the mapping"));
	LIVE_CHECK(rest_task_number(&r, "stats", 78, "bytes_unregistered") == 3276800);
	LIVE_CHECK(rest_task_number(&r, "stats", 79, "bytes_unregistered") == 0);
	rest_end(&r);
}

/* Right after the word: unmapped, replaced by another mapping, moved away, moved in, split. */
static int change(const struct rest_task *t)
{
	char *a = (char *)(uintptr_t)A, *b = (char *)(uintptr_t)B;

	if (munmap(a, 200 * P) || mremap(b, 400 * P, 400 * P, MREMAP_MAYMOVE | MREMAP_FIXED, a) != (void *)a ||
	    mmap(b, 400 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mprotect(b + 500 * P, 10 * P, PROT_READ) || munmap(b + 700 * P, 100 * P))
		return 2;
	return live_moved_is(A, B, 400, t->pid, 0) && live_is(A + 400 * P, 400, t->pid, 0) && live_is_zero(B, 400) &&
	       live_is(B + 400 * P, 300, t->pid, 0) ? 0 : 1;
}

static int vanish(const struct rest_task *t)
{
	return munmap((void *)(uintptr_t)A, 800 * P) || munmap((void *)(uintptr_t)B, 800 * P);
}

static void changed(unsigned rounds)
{
	static const struct rest_vma vmas[] = { { .addr = A, .pages = 800 }, { .addr = B, .pages = 800 } };
	const struct rest_task task[] = {
		{ .pid = 1, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = change },
		{ .pid = 2, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = vanish },
		{ .pid = 3, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 2, .body = change },
	};

	for (unsigned i = 0; i < rounds; i++) {
		struct rest r;

		rest_begin(&r, task, 3, true);
		LIVE_CHECK(rest_daemon(&r, NULL));
		rest_restore(&r);
		rest_ended(&r, 0, NULL);
		rest_end(&r);
	}
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("unregistered_ranges: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	forgotten();
	changed(8);
	return 0;
}
