// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_bad.c - runs of content that could not be read: who is within one that is tried again goes to its end
 *
 * Bug: such a one was told that the next bad run began before it, and read a run of 2^52 pages into 64 pages of buffer, or one of none
 * without end. */
#include "config.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/bad.h"
#include "engine/mm.h"

#define AT(page) (0x10000000ULL + (page) * 4096ULL)

static struct thaw_mm *with_runs(uint64_t retry_ns)
{
	struct thaw_mm *mm = calloc(1, sizeof(*mm));

	thaw_lock_init(&mm->bad_lock, THAW_RANK_SPACE);
	mm->bad = calloc(THAW_MAX_BAD, sizeof(*mm->bad));
	mm->bad[0] = (struct thaw_bad){ AT(10), AT(200) };
	mm->bad[1] = (struct thaw_bad){ AT(300), AT(301) };
	mm->n_bad = 2;
	mm->has_bad = true;
	mm->bad_retry_ns = retry_ns;
	return mm;
}

static void drop(struct thaw_mm *mm)
{
	free(mm->bad);
	free(mm);
}

Test(bad, a_run_is_skipped_until_it_is_due)
{
	struct thaw_mm *mm = with_runs(UINT64_MAX);

	cr_assert_eq(thaw_bad_skip(mm, AT(9)), 0);
	cr_assert_eq(thaw_bad_skip(mm, AT(10)), AT(200));
	cr_assert_eq(thaw_bad_skip(mm, AT(199)), AT(200));
	cr_assert_eq(thaw_bad_skip(mm, AT(200)), 0);
	drop(mm);
}

Test(bad, the_next_run_is_never_behind_who_asks)
{
	struct thaw_mm *mm = with_runs(0); /* due */

	for (unsigned page = 0; page < 310; page++) {
		uint64_t want = page <= 10 ? AT(10) : page <= 300 ? AT(300) : UINT64_MAX;

		cr_assert_eq(thaw_bad_skip(mm, AT(page)), 0);
		cr_assert_eq(thaw_bad_next(mm, AT(page)), want, "page %u", page);
	}
	drop(mm);
}

Test(bad, too_many_runs_are_forgotten_when_they_are_due)
{
	struct thaw_mm *mm = with_runs(1000);
	uint64_t when = 5000;

	mm->bad_overflow = true;
	cr_assert(thaw_bad_is_too_much(mm, 999, &when));
	cr_assert_eq(when, 1000);
	cr_assert(!thaw_bad_is_too_much(mm, 1000, &when));
	cr_assert(!mm->has_bad && !mm->bad_overflow && !mm->n_bad);
	cr_assert_eq(thaw_bad_skip(mm, AT(10)), 0);
	drop(mm);
}
