// SPDX-License-Identifier: LGPL-2.1-or-later
/* unit/test_event.c - messages as changes: pairs, DONTUNMAP, order, doubt, limits */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "core/event.h"
#include "support/pagemodel.h"

#define BASE UINT64_C(0x7f0000000000)
#define AT(page) (BASE + ((uint64_t)(page) << THAW_PAGE_SHIFT))
#define LEN(pages) ((uint64_t)(pages) << THAW_PAGE_SHIFT)

static struct thaw_pagemap *pm;
static struct thaw_events *ev;
static bool dubious;

static void set_up(void)
{
	pm = thaw_pagemap_new();
	ev = thaw_events_new();
	dubious = false;
}

static void tear_down(void)
{
	thaw_pagemap_free(pm);
	thaw_events_free(ev);
}

TestSuite(event, .init = set_up, .fini = tear_down);

static void content(unsigned page, unsigned pages, unsigned object)
{
	struct thaw_extent e = { .addr = AT(page), .pages = pages, .object = object };

	cr_assert_eq(thaw_pagemap_add(pm, &e), 0);
}

/* Which object's content is at the page; -1: none. */
static int object_at(unsigned page)
{
	struct thaw_extent e;

	return thaw_pagemap_lookup(pm, AT(page), 1, &e) ? (int)e.object : -1;
}

static int64_t change(enum thaw_change_kind kind, uint64_t start, uint64_t len, uint64_t to)
{
	struct thaw_change c = { kind, start, len, to };

	return thaw_events_apply(ev, pm, &c, &dubious);
}

static int64_t remap(unsigned from, unsigned to, unsigned n)
{
	return change(THAW_CHANGE_REMAP, AT(from), LEN(n), AT(to));
}

static int64_t unmap(unsigned from, unsigned n)
{
	return change(THAW_CHANGE_UNMAP, AT(from), LEN(n), 0);
}

Test(event, remove_and_unmap_take_away)
{
	content(0, 100, 1);
	thaw_pagemap_mark_done(pm, AT(10), 5);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(8), LEN(10), 0), 5);
	cr_assert_eq(unmap(90, 1000), 10);
	cr_assert_eq(object_at(7), 1);
	cr_assert_eq(object_at(8), -1);
	cr_assert_eq(object_at(18), 1);
	cr_assert_eq(object_at(90), -1);
	cr_assert_not(dubious);
}

Test(event, mremap_moves_and_its_unmap_takes_nothing)
{
	content(0, 10, 1);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(object_at(0), -1);
	cr_assert_eq(object_at(105), 1);
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(thaw_pagemap_absent(pm), 10);
	cr_assert_not(dubious);
}

/* Thread A: mremap 0 -> 100; its UNMAP(0) is late. Thread B has moved 200 -> 0 meanwhile: that must stay. */
Test(event, late_unmap_spares_what_was_moved_in)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(0, 100, 10);
	remap(200, 0, 10);
	cr_assert(dubious, "two calls with a common range in one unsettled stretch");
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(unmap(200, 10), 0);
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(object_at(100), 1);
}

/* The same range is the old one of two mremaps: each has an UNMAP to come, a third one is real. */
Test(event, two_open_pairs_of_one_range)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(0, 100, 10);
	remap(200, 0, 10);
	remap(0, 300, 10);
	content(0, 10, 3);
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(object_at(0), 3);
	cr_assert_eq(unmap(0, 10), 10);
	cr_assert_eq(object_at(0), -1);
}

/* MREMAP_DONTUNMAP sends no UNMAP. Once settled, an UNMAP of the old range is a call of its own. */
Test(event, dontunmap_is_forgotten_when_settled)
{
	content(0, 10, 1);
	remap(0, 100, 10);
	cr_assert(thaw_events_unsettled(ev));
	thaw_events_settled(ev);
	cr_assert_not(thaw_events_unsettled(ev));
	content(0, 10, 2);
	cr_assert_eq(unmap(0, 10), 10);
	cr_assert_eq(object_at(0), -1);
	cr_assert_not(dubious);
}

Test(event, unmap_of_another_length_is_no_second_half)
{
	content(0, 10, 1);
	remap(0, 100, 10);
	content(0, 20, 2);
	cr_assert_eq(unmap(0, 9), 9);
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(object_at(9), 2);
}

/* mremap() onto something: UNMAP(new), REMAP, UNMAP(old), of one call. */
Test(event, fixed_destination)
{
	content(0, 10, 1);
	content(100, 12, 2);
	cr_assert_eq(unmap(100, 12), 12);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(object_at(100), 1);
	cr_assert_eq(object_at(110), -1);
}

Test(event, removals_do_not_raise_doubt_but_a_move_among_them_does)
{
	content(0, 100, 1);
	change(THAW_CHANGE_REMOVE, AT(0), LEN(10), 0);
	unmap(5, 10);
	change(THAW_CHANGE_REMOVE, AT(0), LEN(20), 0);
	cr_assert_not(dubious);
	remap(50, 200, 10);
	cr_assert_not(dubious, "no common range");
	change(THAW_CHANGE_REMOVE, AT(205), LEN(1), 0);
	cr_assert(dubious, "the destination of the move");
	dubious = false;
	thaw_events_settled(ev);
	change(THAW_CHANGE_REMOVE, AT(206), LEN(1), 0);
	cr_assert_not(dubious, "settled in between");
	remap(206, 300, 2);
	cr_assert(dubious, "removed and moved in one stretch");
}

Test(event, ranges_beside_each_other_do_not_overlap)
{
	content(0, 100, 1);
	remap(0, 200, 10);
	unmap(10, 10);
	unmap(210, 10);
	unmap(190, 10);
	cr_assert_not(dubious);
}

Test(event, messages_that_name_no_pages_are_refused)
{
	content(0, 10, 1);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(0) + 1, LEN(1), 0), -EINVAL);
	cr_assert_eq(change(THAW_CHANGE_UNMAP, AT(0), 100, 0), -EINVAL);
	cr_assert_eq(change(THAW_CHANGE_UNMAP, AT(0), 0, 0), -EINVAL);
	cr_assert_eq(change(THAW_CHANGE_UNMAP, AT(0), -4096UL, 0), -EINVAL);
	cr_assert_eq(change(THAW_CHANGE_REMAP, AT(0), LEN(4), AT(2)), -EINVAL);
	cr_assert_eq(change(THAW_CHANGE_REMAP, AT(0), LEN(4), 7), -EINVAL);
	cr_assert_eq(change(THAW_CHANGE_REMAP, AT(0), LEN(4), -4096UL), -EINVAL);
	cr_assert_eq(thaw_pagemap_absent(pm), 10);
	cr_assert_not(thaw_events_unsettled(ev));
}

Test(event, the_last_page_of_the_address_space)
{
	cr_assert_eq(change(THAW_CHANGE_UNMAP, -4096UL, 4096, 0), 0);
	cr_assert_eq(change(THAW_CHANGE_REMAP, -8192UL, 4096, 0), 0);
	cr_assert_not(dubious);
	cr_assert_eq(change(THAW_CHANGE_UNMAP, 0, -4096UL, 0), 0);
	cr_assert(dubious);
}

/* Memory for the open pairs is bounded; what is beyond is called dubious instead of being trusted. */
Test(event, endless_dontunmap_is_bounded_and_dubious)
{
	size_t before = thaw_events_memory(ev);

	for (unsigned i = 0; i < 5000; i++)
		cr_assert_eq(change(THAW_CHANGE_REMAP, AT(i * 4), LEN(1), AT(1000000 + i * 4)), 0);
	cr_assert_eq(thaw_events_memory(ev), before);
	cr_assert(dubious);
	dubious = false;
	unmap(3000000, 1);
	cr_assert(dubious);
	thaw_events_settled(ev);
	dubious = false;
	unmap(3000000, 1);
	cr_assert_not(dubious);
}

/* Threads in mremap() at the same time: each REMAP is read in its order, the UNMAPs come at any time after. The map is
 * that of the model all the while. */
Test(event, any_order_of_second_halves)
{
	enum { PAGES = 400, LATE = 12 };

	for (unsigned seed = 1; seed <= 20; seed++) {
		struct pagemodel *m = pagemodel_new(BASE, PAGES);
		struct { unsigned from, n; } late[LATE];
		unsigned waiting = 0;

		tear_down();
		set_up();
		srand48(seed);
		for (unsigned i = 0; i < PAGES / 2; i++) {
			struct thaw_extent e = {
				.addr = AT(i), .pages = 1, .object = i % 7, .off = LEN(lrand48() % 50)
			};

			cr_assert_eq(thaw_pagemap_add(pm, &e), pagemodel_add(m, &e));
		}
		for (unsigned step = 0; step < 1500; step++) {
			unsigned from = lrand48() % PAGES, to = lrand48() % PAGES, n = 1 + lrand48() % 20;
			unsigned gap = from < to ? to - from : from - to, top = from < to ? to : from;

			if (lrand48() % 2 && waiting) {
				unsigned i = lrand48() % waiting;

				cr_assert_eq(unmap(late[i].from, late[i].n), 0);
				late[i] = late[--waiting];
				if (!waiting)
					thaw_events_settled(ev);
			} else if (waiting < LATE && gap) {
				n = n < gap ? n : gap;
				n = n < PAGES - top ? n : PAGES - top;
				cr_assert_eq(remap(from, to, n), pagemodel_move(m, AT(from), AT(to), LEN(n)));
				late[waiting].from = from;
				late[waiting++].n = n;
			}
			pagemodel_verify(m, pm);
		}
		pagemodel_free(m);
	}
}
