// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/stale_discard.c - a UFFDIO_COPY in flight while the process discards the range with MADV_DONTNEED.
 *
 * The copy is known to be inside the kernel (its first page is visible) when madvise() is called. What is present with the old content
 * once both calls have returned is stale: the process was told that it is gone, and read it again. Kernels before 6.9 look at
 * mmap_changing once at the start; every kernel looks only at its present value after it has waited for a source page. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define KEPT 8 /* pages at the start that are not discarded */

int main(int argc, char **argv)
{
	static const char *const sources[] = { "resident", "cold", "slow" };
	static const char *const rules[] = { "none", "gate", "number" };
	unsigned long rounds = 0, bad_rounds = 0, stale = 0, wrong = 0, full = 0, overtaken = 0;
	char *r, *s;
	int uffd;

	hole.pages = 2048;
	hole.seconds = 5;
	hole_options(argc, argv, "Counts the pages that a copy in flight puts back after MADV_DONTNEED has returned.", "rpsmu");
	if (hole.pages < 4 * KEPT)
		hole.pages = 4 * KEPT;
	uffd = hole_uffd(UFFD_FEATURE_EVENT_REMOVE | (hole.rule == HOLE_NUMBER ? HOLE_FEATURE_EVENT_SEQ : 0));
	s = hole_source_make();
	r = hole_map(hole.pages * hole.page, hole.shared);
	hole_register(uffd, r, hole.pages * hole.page);
	hole_monitor_start(uffd);
	for (; !hole_over(rounds); rounds++) {
		int advice = hole.shared ? MADV_REMOVE : MADV_DONTNEED;
		unsigned long stale_before = stale;

		if (madvise(r, hole.pages * hole.page, advice))
			HOLE_DIE("madvise: %s", strerror(errno));
		hole_source_reset(s);
		hole_copy_start(r, s);
		if (madvise(r + KEPT * hole.page, (hole.pages - KEPT) * hole.page, advice))
			HOLE_DIE("madvise: %s", strerror(errno));
		overtaken += !hole_copy_is_over();
		hole_source_release();
		full += hole_copy_wait(NULL) == 0;
		for (unsigned long i = KEPT; i < hole.pages; i++) {
			if (!hole_is_present(r + i * hole.page))
				continue;
			if (hole_is_tagged(r + i * hole.page))
				stale++;
			else
				wrong++;
		}
		bad_rounds += stale != stale_before;
	}
	hole_monitor_stop();
	hole_text("source", sources[hole.source]);
	hole_text("memory", hole.shared ? "shared" : "private");
	hole_text("rule", rules[hole.rule]);
	hole_count("pages", hole.pages);
	hole_count("copies_complete", full);
	hole_count("copy_outlived_discard", overtaken);
	hole_count("wrong_pages", wrong);
	if (wrong)
		HOLE_DIE("%lu pages held what nobody wrote", wrong);
	return hole_report(rounds, bad_rounds, "stale_pages", stale);
}
