// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_order.c - numbered messages come out in the order of their numbers, whatever order they were queued in */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "core/order.h"

static int put(struct thaw_order *o, uint32_t number)
{
	unsigned char m[THAW_ORDER_MESSAGE] = { 0 };

	memcpy(m + 4, &number, sizeof(number));
	m[31] = number * 7;
	return thaw_order_put(o, number, m);
}

/* The number taken, or `none`. */
static uint32_t take(struct thaw_order *o, uint32_t none)
{
	unsigned char m[THAW_ORDER_MESSAGE];
	uint32_t number;

	if (!thaw_order_take(o, m))
		return none;
	memcpy(&number, m + 4, sizeof(number));
	cr_expect_eq(m[31], (unsigned char)(number * 7));
	return number;
}

#define NONE 0xdeadbeef

Test(order, held_back_until_it_is_next)
{
	struct thaw_order o;

	thaw_order_init(&o);
	cr_expect_eq(take(&o, NONE), NONE);
	cr_assert_eq(put(&o, 3), 0);
	cr_assert_eq(put(&o, 2), 0);
	cr_expect_eq(take(&o, NONE), NONE);
	cr_expect(thaw_order_has_gap(&o));
	cr_assert_eq(put(&o, 1), 0);
	for (uint32_t i = 1; i <= 3; i++)
		cr_expect_eq(take(&o, NONE), i);
	cr_expect_eq(take(&o, NONE), NONE);
	cr_expect_not(thaw_order_has_gap(&o));
	cr_expect_eq(o.done, 3);
	thaw_order_free(&o);
}

/* The process is gone: what was held back behind numbers that never come is taken all the same, in order; a fork is among it. */
Test(order, the_end_of_it)
{
	struct thaw_order o;

	thaw_order_init(&o);
	o.done = UINT32_MAX - 2;
	cr_expect_eq(thaw_order_give_up_gap(&o), 0);
	cr_assert_eq(put(&o, 7), 0);
	cr_assert_eq(put(&o, 0), 0);
	cr_assert_eq(put(&o, 3), 0);
	cr_assert_eq(put(&o, 4), 0);
	cr_expect_eq(take(&o, NONE), NONE);
	cr_expect_eq(thaw_order_give_up_gap(&o), 2);
	cr_expect_eq(take(&o, NONE), 0);
	cr_expect_eq(take(&o, NONE), NONE);
	cr_expect_eq(thaw_order_give_up_gap(&o), 2);
	cr_expect_eq(take(&o, NONE), 3);
	cr_expect_eq(take(&o, NONE), 4);
	cr_expect_eq(thaw_order_give_up_gap(&o), 2);
	cr_expect_eq(take(&o, NONE), 7);
	cr_expect_not(thaw_order_has_gap(&o));
	cr_expect_eq(thaw_order_give_up_gap(&o), 0);
	thaw_order_free(&o);
}

/* Blocks of numbers shuffled, across the wrap; held back at most as far as they are apart. */
Test(order, any_order_and_the_wrap)
{
	uint32_t start = UINT32_MAX - 5000, next = start + 1, rnd = 12345;
	struct thaw_order o;

	thaw_order_init(&o);
	o.done = start;
	for (unsigned block = 0; block < 50; block++) {
		uint32_t v[200], got;

		for (uint32_t i = 0; i < 200; i++)
			v[i] = start + 1 + block * 200 + i;
		for (uint32_t i = 199; i; i--) {
			uint32_t k = (rnd = rnd * 1664525 + 1013904223) % (i + 1), x = v[i];

			v[i] = v[k];
			v[k] = x;
		}
		for (unsigned i = 0; i < 200; i++) {
			cr_assert_eq(put(&o, v[i]), 0);
			while ((got = take(&o, NONE)) != NONE)
				cr_assert_eq(got, next++);
		}
	}
	cr_expect_eq(next, start + 1 + 10000);
	cr_expect_not(thaw_order_has_gap(&o));
	thaw_order_free(&o);
}

Test(order, lost_numbers_are_passed_over)
{
	struct thaw_order o;

	thaw_order_init(&o);
	cr_assert_eq(put(&o, 3), 0);
	cr_assert_eq(put(&o, 6), 0);
	cr_expect_eq(thaw_order_give_up(&o, 8), 2); /* 1 and 2 */
	cr_expect_eq(take(&o, NONE), 3);
	cr_expect_eq(take(&o, NONE), NONE);
	cr_expect_eq(thaw_order_give_up(&o, 8), 2); /* 4 and 5 */
	cr_expect_eq(take(&o, NONE), 6);
	cr_expect_eq(thaw_order_give_up(&o, 8), 2); /* 7 and 8 */
	cr_expect_eq(thaw_order_give_up(&o, 8), 0);
	cr_expect_eq(o.done, 8);
	cr_assert_eq(put(&o, 9), 0);
	cr_expect_eq(thaw_order_give_up(&o, 7), 0, "it is known already that these are over");
	cr_expect_eq(take(&o, NONE), 9);
	thaw_order_free(&o);
}

Test(order, one_that_was_given_up_comes_after_all)
{
	struct thaw_order o;

	thaw_order_init(&o);
	cr_assert_eq(put(&o, 2), 0);
	cr_expect_eq(thaw_order_give_up(&o, 2), 1);
	cr_expect_eq(take(&o, NONE), 2);
	cr_assert_eq(put(&o, 1), 0);
	cr_expect_eq(take(&o, NONE), 1);
	cr_expect_eq(o.done, 2);
	thaw_order_free(&o);
}

Test(order, no_memory)
{
	struct thaw_order o;

	thaw_order_init(&o);
	thaw_core_alloc_left = 0;
	cr_expect_eq(put(&o, 1), -ENOMEM);
	thaw_core_alloc_left = -1;
	cr_assert_eq(put(&o, 1), 0);
	cr_expect_eq(take(&o, NONE), 1);
	thaw_order_free(&o);
}
