// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/mprotect_splits.c - mappings that the process splits by mprotect, of which no message tells, made the background copy
 * fail and try again for ever; now it ends, with every page in */
#include "config.h"
#include "lazy/restorer.h"

#include <sys/mman.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define SPLITS 511
#define PAGES ((SPLITS + 1) * 8)

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

static int split(const struct rest_task *t)
{
	for (uint64_t i = 0; i < SPLITS; i++)
		if (mprotect((void *)(uintptr_t)(A + i * 8 * P + (i % 3) * P), 3 * P, i % 2 ? PROT_READ : PROT_NONE))
			return 2;
	if (!rest_await(0, 1)) /* it touches nothing: all of it is to come by itself */
		return 3;
	for (uint64_t i = 0; i < SPLITS; i++)
		if (mprotect((void *)(uintptr_t)(A + i * 8 * P + (i % 3) * P), 3 * P, PROT_READ | PROT_WRITE))
			return 4;
	return rest_whole(t);
}

int main(void)
{
	const struct rest_task task = { .pid = 72, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = split };
	struct rest r;

	if (thaw_probe() < 0) {
		printf("mprotect_splits: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < 3; i++) {
		rest_begin(&r, &task, 1, true);
		/* At once, and when all is split already. */
		LIVE_CHECK(rest_daemon(&r, "--stats", "stats", i ? "--background-delay" : NULL, i > 1 ? "200" : "5", NULL));
		rest_connect(&r);
		rest_spawn(&r);
		rest_gather(&r);
		rest_release(&r);
		rest_ended(&r, 0, "16.0 MiB of 16.0 MiB in, 0 bytes discarded");
		LIVE_CHECK(rest_number(&r, "stats", "enoent") < 20 * SPLITS); /* halved down, not tried for ever */
		rest_words[0] = 1;
		LIVE_CHECK(rest_wait(&r) == 0);
		rest_end(&r);
	}
	return 0;
}
