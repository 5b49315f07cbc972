// SPDX-License-Identifier: LGPL-2.1-or-later
/* unit/test_event.c - messages as changes: pairs, DONTUNMAP, messages that were overtaken, limits */
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

static void set_up(void)
{
	pm = thaw_pagemap_new();
	ev = thaw_events_new();
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

	return thaw_events_apply(ev, pm, &c);
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
}

Test(event, mremap_moves_and_its_unmap_takes_nothing)
{
	content(0, 10, 1);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(object_at(0), -1);
	cr_assert_eq(object_at(105), 1);
	cr_assert_eq(unmap(0, 10), 0);
	cr_assert_eq(thaw_pagemap_absent(pm), 10);
}

/* Thread A: mremap 0 -> 100; its UNMAP(0) is late. Thread B has moved 200 -> 0 meanwhile: that must stay. */
Test(event, late_unmap_spares_what_was_moved_in)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(0, 100, 10);
	remap(200, 0, 10);
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
}

Test(event, dontunmap_is_forgotten_when_its_range_is_discarded)
{
	content(0, 4, 1);
	remap(0, 100, 4);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(1), LEN(1), 0), 0);
	content(0, 4, 2);
	cr_assert_eq(unmap(0, 4), 4);
}

/* A's second half is late. B has come to the place, discards, unmaps and moves parts of what it has: all of that is B's. */
Test(event, a_pair_stays_open_for_what_others_do_to_its_range)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(0, 100, 10);
	remap(200, 0, 10);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(1), LEN(1), 0), 1);
	cr_assert_eq(unmap(8, 2), 2);
	remap(6, 300, 2);
	cr_assert_eq(unmap(0, 10), 0, "A's");
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(object_at(300), 2);
}

/* The same, and A's REMAP was overtaken by B's. */
Test(event, the_pair_of_a_late_remap_stays_open_for_what_others_do)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(200, 0, 10);
	remap(0, 100, 10);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(1), LEN(1), 0), 1);
	cr_assert_eq(unmap(0, 10), 0, "A's");
	cr_assert_eq(object_at(0), 2);
}

Test(event, unmap_of_another_length_is_no_second_half)
{
	content(0, 10, 1);
	content(200, 20, 2);
	remap(0, 100, 10);
	remap(200, 0, 20);
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

/* A: mremap 0 -> 100, preempted before its message. B: mremap 200 -> 0, read first. */
Test(event, overtaken_remap_takes_what_was_there_before)
{
	content(0, 10, 1);
	content(200, 10, 2);
	thaw_pagemap_mark_done(pm, AT(3), 1);
	cr_assert_eq(remap(200, 0, 10), 0);
	cr_assert(thaw_events_has_displaced(ev));
	cr_assert_eq(thaw_events_absent(ev), 9);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_not(thaw_events_has_displaced(ev));
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(object_at(109), 1);
	cr_assert(thaw_pagemap_is_done(pm, AT(103)));
	cr_assert_not(thaw_pagemap_is_done(pm, AT(3)));
	cr_assert_eq(unmap(0, 10), 0, "A's second half");
	cr_assert_eq(unmap(200, 10), 0, "B's");
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(unmap(0, 10), 10, "a call of its own");
}

/* The same with munmap(0), and B's is longer: it covers what was free as well. */
Test(event, overtaken_unmap_spares_what_came_since)
{
	content(0, 10, 1);
	content(200, 20, 2);
	cr_assert_eq(remap(200, 0, 20), 0);
	cr_assert_eq(unmap(0, 10), 10);
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(object_at(19), 2);
	cr_assert_eq(unmap(0, 10), 10, "B gives up half of it");
	cr_assert_eq(object_at(0), -1);
	cr_assert_eq(object_at(10), 2);
}

/* A has left 0 to 30; B and C have come to parts of it, C where A had nothing. All of A's goes, nothing of theirs. */
Test(event, overtaken_remap_of_more_than_what_came)
{
	content(0, 20, 1);
	content(25, 5, 1);
	content(200, 10, 2);
	content(300, 3, 3);
	cr_assert_eq(remap(200, 5, 10), 0);
	cr_assert_eq(remap(300, 21, 3), 0);
	cr_assert_eq(remap(0, 100, 30), 0);
	for (unsigned i = 0; i < 30; i++) {
		cr_assert_eq(object_at(100 + i), i < 20 || i >= 25 ? 1 : -1, "page %u", i);
		cr_assert_eq(object_at(i), i >= 5 && i < 15 ? 2 : i >= 21 && i < 24 ? 3 : -1, "page %u", i);
	}
	cr_assert_eq(thaw_pagemap_pages(pm), 25 + 10 + 3);
}

/* A part of A's had come back before A left: it is A's, though it came in this stretch. */
Test(event, what_came_before_the_one_that_overtakes_leaves_with_the_rest)
{
	content(0, 20, 1);
	content(200, 1, 2);
	remap(5, 50, 5);
	unmap(5, 5);
	remap(50, 5, 5);
	unmap(50, 5);
	remap(200, 0, 1);
	remap(0, 100, 20);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(object_at(100 + i), 1, "page %u", i);
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(thaw_pagemap_pages(pm), 21);
}

/* 0 -> 100, then 200 -> 0, then 300 -> 200, told the other way round. */
Test(event, overtaken_in_a_row)
{
	content(0, 10, 1);
	content(200, 10, 2);
	content(300, 10, 3);
	cr_assert_eq(remap(300, 200, 10), 0);
	cr_assert_eq(remap(200, 0, 10), 0);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(object_at(200), 3);
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(object_at(100), 1);
	cr_assert_not(thaw_events_has_displaced(ev));
	cr_assert_eq(thaw_pagemap_absent(pm), 30);
}

/* Whoever came leaves again: that is no late message. */
Test(event, who_came_and_left_is_not_mistaken_for_late)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(200, 0, 10);
	remap(0, 100, 10); /* A's */
	cr_assert_eq(remap(0, 400, 10), 0);
	cr_assert_eq(object_at(400), 2);
	cr_assert_eq(object_at(100), 1);
	cr_assert_eq(object_at(0), -1);
}

/* B has come over A's place and gives up a part, then the other: A's message, of all of it, is still to come. */
Test(event, who_came_gives_up_a_part)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(200, 0, 10);
	cr_assert_eq(unmap(8, 2), 2);
	cr_assert_eq(remap(0, 300, 3), 0);
	cr_assert_eq(object_at(300), 2);
	cr_assert_eq(thaw_events_absent(ev), 10);
	cr_assert_eq(remap(0, 100, 10), 0);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(object_at(100 + i), 1, "page %u", i);
	cr_assert_eq(object_at(5), 2);
	cr_assert_eq(object_at(8), -1);
}

/* B grows into the hole that A's second half is still to tell of, and shrinks again: no message tells the one, and the other is no half. */
Test(event, what_grows_into_a_hole_and_shrinks_leaves_the_pair_open)
{
	content(10, 2, 1);
	content(200, 2, 3);
	remap(10, 100, 2);
	cr_assert_eq(unmap(10, 1), 0);
	remap(200, 10, 2);
	cr_assert_eq(unmap(10, 2), 0, "A's");
	cr_assert_eq(object_at(10), 3);
}

/* mremap(0, 10 pages, 4, FIXED, 100) on a kernel that tells it with 10 pages; what is at 104 is another mapping's. */
static void shrinking_move(bool exact)
{
	content(0, 10, 1);
	content(100, 20, 2);
	thaw_events_set_long_remaps(ev);
	if (exact)
		thaw_events_set_exact(ev);
	thaw_pagemap_mark_done(pm, AT(105), 1);
	cr_assert_eq(unmap(100, 4), 4);
	if (exact) /* the end goes first; told it is behind the move */
		cr_assert_eq(unmap(4, 6), 6);
	cr_assert_eq(remap(0, 100, 10), 0);
	if (!exact)
		cr_assert_eq(unmap(4, 6), 6);
	cr_assert_eq(unmap(0, 4), 0);
	for (unsigned i = 100; i < 120; i++)
		cr_assert_eq(object_at(i), i < 104 ? 1 : 2, "page %u", i);
	cr_assert(thaw_pagemap_is_done(pm, AT(105)));
	cr_assert_eq(thaw_pagemap_absent(pm), 19);
	cr_assert_not(thaw_events_has_displaced(ev));
}

Test(event, a_move_that_shrinks_is_told_with_its_old_length)
{
	shrinking_move(false);
}

Test(event, the_same_in_the_exact_order)
{
	shrinking_move(true);
}

/* The same, onto nothing, and a move of its own behind it: the pair has the new length. */
Test(event, a_move_that_shrinks_keeps_its_second_half)
{
	content(0, 10, 1);
	content(200, 4, 3);
	thaw_events_set_long_remaps(ev);
	remap(0, 100, 10);
	cr_assert_eq(unmap(4, 6), 6);
	remap(200, 0, 4);
	cr_assert_eq(unmap(0, 4), 0, "the second half");
	cr_assert_eq(object_at(0), 3);
	cr_assert_eq(object_at(104), -1);
	cr_assert_eq(thaw_pagemap_absent(pm), 8);
}

/* Down by 6 pages, told with 10: at most 6 have moved. */
static void move_down(unsigned moved, bool exact)
{
	content(10, 10, 1);
	content(4, 6, 2); /* others' mappings, of which the first pages make way */
	thaw_events_set_long_remaps(ev);
	if (exact)
		thaw_events_set_exact(ev);
	cr_assert_eq(unmap(4, moved), moved);
	if (exact)
		cr_assert_eq(unmap(10 + moved, 10 - moved), 10 - moved);
	cr_assert_eq(remap(10, 4, 10), exact ? 0 : 4);
	if (!exact)
		cr_assert_eq(unmap(10 + moved, 10 - moved), 6 - moved);
	cr_assert_eq(unmap(10, moved), 0);
	for (unsigned i = 0; i < 24; i++)
		cr_assert_eq(object_at(i), i < 4 || i >= 10 ? -1 : i < 4 + moved ? 1 : 2, "page %u", i);
	cr_assert_eq(thaw_pagemap_absent(pm), 6);
	cr_assert_not(thaw_events_has_displaced(ev));
}

/* Bug: ranges that overlap were refused, and the space was frozen. */
Test(event, a_move_down_by_less_than_its_old_length)
{
	move_down(3, false);
}

Test(event, the_same_by_all_of_the_way)
{
	move_down(6, false);
}

Test(event, the_same_down_in_the_exact_order)
{
	move_down(3, true);
}

/* Where the kernel tells the new length ranges cannot overlap. */
Test(event, a_move_onto_itself_is_refused)
{
	content(10, 10, 1);
	cr_assert_eq(remap(10, 4, 10), -EINVAL);
	thaw_events_set_long_remaps(ev);
	cr_assert_eq(remap(10, 14, 10), -EINVAL);
	cr_assert_eq(thaw_pagemap_absent(pm), 10);
}

/* More arrivals than are remembered: those that have displaced something stay. */
Test(event, the_arrival_that_displaced_is_not_forgotten)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(200, 0, 10);
	for (unsigned i = 0; i < 1000; i++)
		remap(1000 + i * 2, 5000 + i * 2, 1);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(object_at(0), 2);
	cr_assert_eq(object_at(100), 1);
}

/* A's thread is killed before its message is read: it is gone with it. */
Test(event, displaced_content_is_dropped_when_settled)
{
	content(0, 10, 1);
	content(200, 10, 2);
	thaw_pagemap_mark_done(pm, AT(0), 4);
	remap(200, 0, 10);
	cr_assert_eq(thaw_events_absent(ev), 6);
	thaw_events_settled(ev);
	cr_assert_not(thaw_events_has_displaced(ev));
	cr_assert_eq(unmap(0, 5), 5 + 6);
	cr_assert_eq(thaw_events_absent(ev), 0);
	cr_assert_eq(object_at(5), 2);
}

/* A discard is told before it happens and waits for that: it is about what is there. */
Test(event, a_discard_is_never_late)
{
	content(0, 10, 1);
	content(200, 10, 2);
	remap(200, 0, 10);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(0), LEN(5), 0), 5);
	cr_assert_eq(object_at(0), -1);
	cr_assert_eq(object_at(5), 2);
	remap(0, 100, 10);
	cr_assert_eq(object_at(100), 1);
}

Test(event, nothing_is_displaced_when_the_order_is_exact)
{
	content(0, 10, 1);
	content(200, 10, 2);
	thaw_events_set_exact(ev);
	cr_assert_eq(remap(200, 0, 10), 10);
	cr_assert_not(thaw_events_has_displaced(ev));
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
	cr_assert_eq(change(THAW_CHANGE_UNMAP, 0, -4096UL, 0), 0);
}

Test(event, endless_dontunmap_takes_no_memory)
{
	size_t before = thaw_events_memory(ev);

	for (unsigned i = 0; i < 5000; i++)
		cr_assert_eq(change(THAW_CHANGE_REMAP, AT(i * 4), LEN(1), AT(1000000 + i * 4)), 0);
	cr_assert_eq(thaw_events_memory(ev), before);
	content(0, 1, 1);
	cr_assert_eq(unmap(0, 1), 1, "the oldest are forgotten");
}

struct late {
	unsigned from, n;
	bool taken; /* something has come there */
};

/* Nobody changes what is a hole: whoever does comes behind the second half. */
static unsigned touch(struct late *late, unsigned waiting, unsigned from, unsigned n)
{
	for (unsigned i = waiting; i-- > 0;) {
		if (late[i].from >= from + n || from >= late[i].from + late[i].n)
			continue;
		if (!late[i].taken) {
			cr_assert_eq(unmap(late[i].from, late[i].n), 0);
			late[i] = late[--waiting];
		} else {
			late[i].taken = false;
		}
	}
	return waiting;
}

/* Threads in mremap() at the same time: each REMAP is read in its order, the UNMAPs come at any time after. The map is
 * that of the model all the while. */
Test(event, any_order_of_second_halves)
{
	enum { PAGES = 400, LATE = 12 };

	for (unsigned seed = 1; seed <= 20; seed++) {
		struct pagemodel *m = pagemodel_new(BASE, PAGES);
		struct late late[LATE];
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
				waiting = touch(late, waiting, from, n);
				if (pagemodel_has(m, AT(to), LEN(n))) {
					bool half = false;

					for (unsigned i = 0; i < waiting; i++)
						half |= late[i].from == to && late[i].n == n;
					if (half) /* cannot be told from it */
						continue;
					waiting = touch(late, waiting, to, n);
					cr_assert_eq(unmap(to, n), pagemodel_remove(m, AT(to), LEN(n)));
				}
				cr_assert_eq(remap(from, to, n), pagemodel_move(m, AT(from), AT(to), LEN(n)));
				for (unsigned i = 0; i < waiting; i++)
					late[i].taken |= late[i].from < to + n && to < late[i].from + late[i].n;
				late[waiting].from = from;
				late[waiting].taken = false;
				late[waiting++].n = n;
			}
			pagemodel_verify(m, pm);
		}
		pagemodel_free(m);
	}
}

static bool zapped(unsigned page)
{
	return thaw_events_may_be_zapped(ev, AT(page));
}

Test(event, what_comes_into_a_discard_may_have_been_zapped)
{
	content(0, 20, 1);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(104), LEN(2), 0), 0);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(106), LEN(2), 0), 0);
	thaw_events_settled(ev); /* the thread that discards need not have run yet */
	for (unsigned i = 0; i < 120; i++)
		cr_assert(!zapped(i)); /* what was there has left the map */
	cr_assert_eq(remap(0, 100, 10), 0);
	for (unsigned i = 0; i < 120; i++)
		cr_assert_eq(zapped(i), i >= 104 && i < 108, "%u", i);
	cr_assert_eq(remap(106, 200, 10), 0); /* wherever it is */
	for (unsigned i = 100; i < 220; i++)
		cr_assert_eq(zapped(i), i == 104 || i == 105 || i == 200 || i == 201, "%u", i);
	cr_assert_eq(unmap(104, 1), 1);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(200), LEN(1), 0), 1);
	cr_assert(!zapped(104) && zapped(105) && !zapped(200) && zapped(201));
}

/* Two courses fit: which content is where is concluded. So what is not there is waited for, in this space and in its children. */
Test(event, nothing_is_doubtful_where_a_message_was_overtaken)
{
	struct thaw_events *child = thaw_events_new();

	content(0, 10, 1);
	content(20, 10, 2);
	content(60, 2, 3);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(50), LEN(10), 0), 0);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(70), LEN(2), 0), 0);
	cr_assert_eq(remap(60, 70, 2), 0);
	cr_assert(zapped(70));
	cr_assert_eq(remap(0, 20, 10), 0); /* overtakes */
	cr_assert(zapped(70));
	cr_assert_eq(remap(20, 50, 10), 0); /* was overtaken; or it takes what came, and the next one was */
	cr_assert_eq(object_at(50), 2);
	cr_assert(!zapped(70) && !zapped(55));
	cr_assert_eq(remap(20, 50, 10), 0);
	cr_assert_eq(remap(50, 70, 10), 0);
	for (unsigned i = 0; i < 90; i++)
		cr_assert(!zapped(i), "%u", i);
	cr_assert_eq(thaw_events_inherit(child, ev), 0);
	thaw_events_free(ev);
	ev = child;
	cr_assert_geq(change(THAW_CHANGE_REMOVE, AT(150), LEN(10), 0), 0);
	cr_assert_eq(remap(70, 150, 10), 0);
	cr_assert(object_at(150) >= 0 && !zapped(150));
}

Test(event, nothing_is_doubtful_where_a_message_never_came)
{
	content(0, 10, 1);
	content(20, 10, 2);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(20), LEN(1), 0), 1);
	cr_assert_eq(remap(0, 20, 10), 0);
	cr_assert(zapped(20) && thaw_events_has_displaced(ev));
	thaw_events_settled(ev);
	cr_assert_eq(remap(60, 70, 1), 9);
	cr_assert(!zapped(20));
}

Test(event, a_move_that_shrinks_takes_the_holes_of_what_it_moves)
{
	thaw_events_set_exact(ev);
	thaw_events_set_long_remaps(ev);
	content(0, 10, 1);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(103), LEN(4), 0), 0);
	cr_assert_eq(unmap(5, 5), 5);
	cr_assert_eq(remap(0, 100, 10), 0);
	for (unsigned i = 100; i < 110; i++)
		cr_assert_eq(zapped(i), i == 103 || i == 104, "%u", i);
}

Test(event, the_end_of_a_move_that_shrinks_is_not_doubtful)
{
	thaw_events_set_long_remaps(ev);
	content(0, 10, 1);
	content(105, 5, 2);
	thaw_events_settled(ev);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(103), LEN(1), 0), 0);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(108), LEN(1), 0), 1);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(unmap(5, 5), 5);
	cr_assert_eq(object_at(107), 2);
	cr_assert(zapped(103) && !zapped(108));
}

Test(event, the_last_discards_are_remembered)
{
	content(0, 1, 1);
	content(2, 1, 1);
	content(4, 1, 1);
	for (unsigned i = 0; i < 257; i++)
		cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(1000 + 2 * i), LEN(1), 0), 0);
	cr_assert_eq(remap(0, 1000, 1), 0);
	cr_assert_eq(remap(2, 1002, 1), 0);
	cr_assert_eq(remap(4, 1512, 1), 0);
	cr_assert(!zapped(1000) && zapped(1002) && zapped(1512));
}

Test(event, a_child_has_its_parents_holes_and_moves_what_it_inherited)
{
	struct thaw_events *child = thaw_events_new(), *parent = ev;
	struct thaw_pagemap *of_parent = pm;

	content(0, 4, 1);
	content(10, 4, 2);
	cr_assert_eq(change(THAW_CHANGE_REMOVE, AT(100), LEN(2), 0), 0);
	cr_assert_eq(remap(0, 100, 4), 0);
	cr_assert_eq(thaw_events_inherit(child, ev), 0);
	pm = thaw_pagemap_clone(of_parent, 0);
	thaw_pagemap_inherit(pm);
	content(20, 4, 3);
	ev = child;
	cr_assert(zapped(101) && !zapped(102));
	content(14, 2, 3); /* not inherited, as what has come by a move */
	cr_assert_eq(remap(8, 30, 12), 0);
	cr_assert_eq(remap(20, 50, 4), 0);
	for (unsigned i = 30; i < 60; i++)
		cr_assert_eq(zapped(i), i >= 32 && i < 36, "%u", i);
	thaw_pagemap_free(of_parent);
	thaw_events_free(parent);
}

Test(event, what_a_move_that_shrinks_has_not_met_stays_inherited)
{
	struct thaw_extent e;

	thaw_events_set_long_remaps(ev);
	content(0, 10, 1);
	content(105, 5, 2);
	thaw_pagemap_inherit(pm);
	cr_assert_eq(remap(0, 100, 10), 0);
	cr_assert_eq(unmap(5, 5), 5);
	cr_assert(thaw_pagemap_lookup(pm, AT(107), 1, &e) && e.object == 2 && e.flags == THAW_EXTENT_INHERITED);
	cr_assert(thaw_pagemap_lookup(pm, AT(103), 1, &e) && e.object == 1 && !e.flags && zapped(103));
}
