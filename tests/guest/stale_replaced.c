// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/stale_replaced.c - a UFFDIO_COPY in flight while another mapping takes the place of its target.
 *
 * Range A is moved away and range B, registered and empty, is moved to where A was. A copy that was meant for A and has dropped its locks
 * to wait for a source page finds a mapping at its address that looks as it should, and puts A's content into B. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static void *place(char *at, size_t len)
{
	void *p = mmap(at, len, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	madvise(p, len, MADV_NOHUGEPAGE);
	return p;
}

int main(int argc, char **argv)
{
	static const char *const sources[] = { "resident", "cold", "slow" };
	static const char *const rules[] = { "none", "gate", "number" };
	unsigned long rounds = 0, bad_rounds = 0, foreign = 0, full = 0;
	char *base, *a, *b, *away, *s;
	size_t len;
	int uffd;

	hole.pages = 1024;
	hole.seconds = 5;
	hole.source = HOLE_SLOW;
	hole_options(argc, argv, "Counts the pages of one mapping that a copy in flight puts into the one that has taken its place.", "rpsu");
	len = hole.pages * hole.page;
	uffd = hole_uffd(UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE |
			 (hole.rule == HOLE_NUMBER ? HOLE_FEATURE_EVENT_SEQ : 0));
	s = hole_source_make();
	/* four places with gaps, so that neighbours do not become one mapping */
	base = mmap(NULL, 8 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	a = base + len;
	b = base + 3 * len;
	away = base + 5 * len;
	hole_monitor_start(uffd);
	for (; !hole_over(rounds); rounds++) {
		unsigned long n;

		hole_register(uffd, place(a, len), len);
		hole_register(uffd, place(b, len), len);
		hole_source_reset(s);
		hole_copy_start(a, s);
		if (mremap(a, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, away) == MAP_FAILED ||
		    mremap(b, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, a) == MAP_FAILED)
			HOLE_DIE("mremap: %s", strerror(errno));
		hole_source_release();
		full += hole_copy_wait(NULL) == 0;
		n = hole_count_present(a, hole.pages);
		foreign += n;
		bad_rounds += n != 0;
		if (mmap(a, 5 * len, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
			HOLE_DIE("mmap: %s", strerror(errno));
	}
	hole_monitor_stop();
	hole_text("source", sources[hole.source]);
	hole_text("rule", rules[hole.rule]);
	hole_count("pages", hole.pages);
	hole_count("copies_complete", full);
	return hole_report(rounds, bad_rounds, "foreign_pages", foreign);
}
