// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_pace.c - copies beside faults stay short where their pages are what they cost, and only there */
#include "config.h"

#include <criterion/criterion.h>

#include "engine/pace.h"

#define MOST 64

/* `n` copies as the copier makes them, of what it is told, on a machine where a copy costs `every` and each page `each`; and now and then
 * what is left of a run. How many of them were short. */
static unsigned copies(struct thaw_pace *p, unsigned n, uint64_t every, uint64_t each)
{
	unsigned few = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t pages = thaw_pace_pages(p, i % 4 ? 8 : 2, MOST);

		few += pages <= 8;
		if (i % 5 == 0)
			pages = 1 + i % 7;
		thaw_pace_saw(p, pages, every + pages * each + i % 3 * 100);
	}
	return few;
}

Test(pace, says_nothing_before_it_has_seen_some)
{
	struct thaw_pace p = { 0 };

	cr_expect_eq(thaw_pace_pages(&p, 2, MOST), 2);
	thaw_pace_saw(&p, 2, 90000);
	thaw_pace_saw(&p, 8, 90000);
	cr_expect_eq(thaw_pace_pages(&p, 2, MOST), 2);
	cr_expect_eq(thaw_pace_pages(&p, 8, MOST), 8);
	cr_expect_eq(thaw_pace_pages(&p, 8, 4), 4, "never more than is allowed");
}

Test(pace, short_where_a_copy_is_cheap)
{
	struct thaw_pace p = { 0 };

	cr_expect_eq(copies(&p, 1000, 1500, 500), 1000);
	cr_expect_eq(p.pages, 0);
}

/* Emulated, or with a sanitizer: a copy is dear, and its pages are as well. */
Test(pace, short_where_all_is_slow)
{
	struct thaw_pace p = { 0 };

	cr_expect_eq(copies(&p, 1000, 20000, 6000), 1000);
}

Test(pace, long_where_a_copy_traps)
{
	struct thaw_pace p = { 0 };
	unsigned few;

	copies(&p, 100, 15000, 1200);
	cr_expect(p.pages >= 40 && p.pages <= MOST, "%u", p.pages);
	few = copies(&p, 1600, 15000, 1200);
	cr_expect(few >= 90 && few <= 110, "one in sixteen is short still, not %u in 1600", few);
	cr_expect_eq(thaw_pace_pages(&p, 8, 16), 16, "never more than is allowed");
}

Test(pace, forgets)
{
	struct thaw_pace p = { 0 };

	copies(&p, 200, 15000, 1200);
	cr_expect(p.pages);
	copies(&p, 1500, 1500, 500);
	cr_expect_eq(p.pages, 0);
	copies(&p, 200, 15000, 1200);
	cr_expect(p.pages);
}

/* Where longer copies have been the faster ones, by chance, each page seems to cost nothing. */
Test(pace, any_figures)
{
	struct thaw_pace p = { 0 };

	for (unsigned i = 0; i < 100; i++) {
		thaw_pace_saw(&p, 2, 30000);
		thaw_pace_saw(&p, 30, 20000);
		cr_expect(p.pages <= MOST);
	}
	cr_expect_eq(p.pages, MOST);
	for (unsigned i = 0; i < 100; i++) {
		thaw_pace_saw(&p, 2, 0);
		thaw_pace_saw(&p, 30, 0);
	}
	cr_expect_eq(p.pages, 0);
}

Test(pace, what_lost_its_cpu_does_not_count)
{
	struct thaw_pace p = { 0 };

	copies(&p, 100, 1500, 500);
	for (unsigned i = 0; i < 100; i++)
		thaw_pace_saw(&p, 2, 4000000);
	cr_expect_eq(p.pages, 0);
}
