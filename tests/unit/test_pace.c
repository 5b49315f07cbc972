// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_pace.c - copies beside faults stay short where their pages are what they cost, and only there */
#include "config.h"

#include <criterion/criterion.h>

#include "engine/pace.h"

#define MOST 64

/* What a copier does for n copies that may have `short_enough` pages, on a machine where a copy costs `every` and each page `each`.
 * Of 64 short ones `disturbed` take 300 us more. How many were longer than short enough. */
static unsigned copies(struct thaw_pace *p, unsigned n, uint64_t short_enough, uint64_t every, uint64_t each, unsigned disturbed)
{
	unsigned longer = 0, n_short = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t pages = thaw_pace_pages(p, short_enough, MOST);

		if (i % 2) /* the copier asks, and finds nothing to copy */
			cr_assert_eq(thaw_pace_pages(p, short_enough, MOST), pages);
		cr_assert(pages && pages <= MOST);
		longer += pages > short_enough;
		thaw_pace_saw(p, pages, every + pages * each + i % 3 * 100 + (pages <= 4 && n_short++ % 64 < disturbed ? 300000 : 0));
	}
	return longer;
}

Test(pace, says_nothing_before_it_has_seen_some)
{
	struct thaw_pace p = { 0 };

	for (unsigned i = 0; i < 63; i++) {
		thaw_pace_saw(&p, 2, 30000);
		thaw_pace_saw(&p, 8, 30500);
	}
	cr_expect_eq(thaw_pace_pages(&p, 8, MOST), 8);
	cr_expect_eq(thaw_pace_pages(&p, 8, 4), 4, "never more than is allowed");
	thaw_pace_saw(&p, 2, 30000);
	thaw_pace_saw(&p, 8, 30500);
	cr_expect_gt(thaw_pace_pages(&p, 8, MOST), 8);
	cr_expect_eq(thaw_pace_pages(&p, 8, 4), 4, "never more than is allowed");
}

Test(pace, short_where_a_copy_is_cheap)
{
	struct thaw_pace p = { 0 };

	cr_expect_eq(copies(&p, 20000, 8, 1500, 500, 0), 0);
	cr_expect_eq(copies(&p, 20000, 8, 3000, 1000, 0), 0);
}

/* A page that the host had to find, a thread that lost its CPU: one short copy in thirty makes no machine one that traps. */
Test(pace, short_where_some_are_disturbed)
{
	struct thaw_pace p = { 0 };

	for (unsigned disturbed = 1; disturbed <= 2; disturbed++)
		cr_expect_eq(copies(&p, 20000, 8, 1500, 500, disturbed), 0, "%u in 64", disturbed);
	for (unsigned i = 0; i < 1024; i++) { /* all at once */
		thaw_pace_saw(&p, 2, i % 128 < 3 ? 400000 : 2500);
		cr_assert_eq(p.pages, 0, "at %u", i);
	}
}

/* Emulated, or with a sanitizer: a copy is dear, and its pages are as well. */
Test(pace, short_where_all_is_slow)
{
	struct thaw_pace p = { 0 };

	cr_expect_eq(copies(&p, 20000, 8, 20000, 6000, 0), 0);
	cr_expect_eq(copies(&p, 20000, 8, 95000, 11000, 0), 0);
}

Test(pace, long_where_a_copy_traps)
{
	struct thaw_pace p = { 0 };
	unsigned longer;

	copies(&p, 2000, 8, 15000, 1200, 0);
	cr_expect(p.pages >= 40 && p.pages <= MOST, "%u", p.pages);
	longer = copies(&p, 1600, 8, 15000, 1200, 0);
	cr_expect_eq(longer, 1500, "but for one in sixteen");
	longer = copies(&p, 1600, 2, 15000, 1200, 1);
	cr_expect_eq(longer, 1500);
}

/* A copy that a fault may have to wait for lasts 100 us at most. */
Test(pace, not_longer_than_a_fault_may_wait)
{
	struct thaw_pace p = { 0 };

	copies(&p, 4000, 8, 40000, 4000, 0);
	cr_expect(p.pages >= 10 && 40000 + p.pages * 4000 <= 101000, "%u", p.pages);
}

/* From what it makes itself alone: no run that happens to be short helps it. */
Test(pace, forgets)
{
	struct thaw_pace p = { 0 };

	copies(&p, 2000, 8, 15000, 1200, 0);
	cr_expect(p.pages);
	copies(&p, 6000, 8, 1500, 500, 0);
	cr_expect_eq(p.pages, 0);
	copies(&p, 6000, 8, 15000, 1200, 0);
	cr_expect(p.pages);
}

/* Between the limit and its half it is what it was. */
Test(pace, stays_on_its_side)
{
	struct thaw_pace p = { 0 };

	copies(&p, 6000, 8, 4000, 300, 0);
	cr_expect(!thaw_pace_is_dear(&p));
	copies(&p, 6000, 8, 15000, 1200, 0);
	copies(&p, 6000, 8, 4000, 300, 0);
	cr_expect(thaw_pace_is_dear(&p));
	copies(&p, 6000, 8, 2500, 300, 0);
	cr_expect(!thaw_pace_is_dear(&p));
}

/* Where longer copies have been the faster ones, by chance, each page seems to cost nothing. */
Test(pace, any_figures)
{
	struct thaw_pace p = { 0 };

	for (unsigned i = 0; i < 1000; i++) {
		thaw_pace_saw(&p, 2, 30000);
		thaw_pace_saw(&p, 30, 20000);
		cr_expect(p.pages <= MOST);
	}
	cr_expect_eq(p.pages, MOST);
	for (unsigned i = 0; i < 2000; i++) {
		thaw_pace_saw(&p, 2, 0);
		thaw_pace_saw(&p, 30, 0);
	}
	cr_expect_eq(p.pages, 0);
	for (unsigned i = 0; i < 2000; i++) {
		thaw_pace_saw(&p, 1, UINT64_MAX);
		thaw_pace_saw(&p, 64, UINT64_MAX);
	}
	cr_expect(p.pages <= MOST);
}
