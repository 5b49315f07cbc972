// SPDX-License-Identifier: LGPL-2.1-or-later
/* unit/test_pagemap.c - the page map against an array of pages that does the same the slow way */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/pagemap.h"
#include "support/pagemodel.h"

static int64_t either(struct pagemodel *m, struct thaw_pagemap *pm, int64_t got, int64_t want)
{
	cr_assert_eq(got, want, "returned %ld, the model says %ld", (long)got, (long)want);
	cr_assert(thaw_pagemap_is_sound(pm));
	pagemodel_verify(m, pm);
	return got;
}

/* Random changes in a window of `pages` pages that begins at `base`; extents of up to `longest` pages. */
static void play(uint64_t base, unsigned pages, unsigned longest, unsigned steps, uint64_t seed)
{
	struct pagemodel *m = pagemodel_new(base, pages);
	struct thaw_pagemap *pm = thaw_pagemap_new();

	srand48(seed);
	for (unsigned i = 0; i < steps; i++) {
		unsigned n = 1 + lrand48() % longest, at = lrand48() % pages, to = lrand48() % pages;
		unsigned op = lrand48() % 16;
		uint64_t addr = base + ((uint64_t)at << THAW_PAGE_SHIFT);

		if (seed % 2 && i % 3 == 0) {
			thaw_pagemap_compact(pm, i % 2 ? addr : 0, i % 4 != 3);
			either(m, pm, 0, 0);
		}
		if (n > pages - at)
			n = pages - at;
		if (op < 8) {
			struct thaw_extent e = {
				.addr = addr, .pages = n, .object = lrand48() % 3, .flags = lrand48() % 16 ? 0 : 1,
				.off = lrand48() % 3 ? addr & 0xffffffff000 : (uint64_t)lrand48() << THAW_PAGE_SHIFT,
			};
			either(m, pm, thaw_pagemap_add(pm, &e), pagemodel_add(m, &e));
		} else if (op < 12) {
			either(m, pm, thaw_pagemap_mark_done(pm, addr, n), pagemodel_mark(m, addr, n));
		} else if (op < 14) {
			uint64_t len = (uint64_t)n << THAW_PAGE_SHIFT;

			either(m, pm, thaw_pagemap_remove(pm, addr, len), pagemodel_remove(m, addr, len));
		} else if (op < 15) {
			uint64_t dest = base + ((uint64_t)to << THAW_PAGE_SHIFT), len;

			if (n > pages - to)
				n = pages - to;
			if (n > (at < to ? to - at : at - to))
				n = at < to ? to - at : at - to;
			len = (uint64_t)n << THAW_PAGE_SHIFT;
			either(m, pm, thaw_pagemap_move(pm, addr, dest, len), pagemodel_move(m, addr, dest, len));
		} else if (!(lrand48() % 8)) {
			unsigned drop = lrand48() % 2;
			struct thaw_pagemap *copy = thaw_pagemap_clone(pm, drop);

			thaw_pagemap_free(pm);
			pm = copy;
			pagemodel_drop(m, drop);
			if (lrand48() % 4 == 0) {
				thaw_pagemap_inherit(pm);
				pagemodel_inherit(m);
			}
			either(m, pm, 0, 0);
		}
	}
	thaw_pagemap_free(pm);
	pagemodel_free(m);
}

Test(pagemap, small_runs)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
		play(0x7f0000000000, 700, 9, 1500, seed);
}

Test(pagemap, runs_around_a_word)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
		play(0x10000000, 1500, 200, 1200, 100 + seed);
}

Test(pagemap, runs_longer_than_a_slot)
{
	for (uint64_t seed = 1; seed <= 4; seed++)
		play(0x7fff00001000, 9000, 5000, 300, 200 + seed);
}

Test(pagemap, end_of_the_address_space)
{
	play(-(uint64_t)(1000UL << THAW_PAGE_SHIFT), 1000, 300, 1500, 5);
	play(0, 1000, 300, 1500, 6);
}

Test(pagemap, many_leaves)
{
	play(0x550000000000, 20000, 3, 2500, 7);
}

/* Every other page is an extent of its own; ranges over thousands of them are moved and removed. */
Test(pagemap, wide_changes_over_many_extents)
{
	const unsigned pages = 60000;
	const uint64_t base = 0x7f1200000000;
	struct pagemodel *m = pagemodel_new(base, pages);
	struct thaw_pagemap *pm = thaw_pagemap_new();

	for (unsigned i = 0; i < pages / 2; i += 2) {
		struct thaw_extent e = { .addr = base + i * THAW_PAGE_SIZE, .pages = 1, .off = (uint64_t)i << 20 };

		cr_assert_eq(thaw_pagemap_add(pm, &e), pagemodel_add(m, &e));
	}
	srand48(11);
	for (unsigned i = 0; i < 120; i++) {
		unsigned at = lrand48() % (pages / 2), to = pages / 2 + lrand48() % (pages / 2);
		unsigned n = lrand48() % (to - at < pages - to ? to - at : pages - to) / 3;
		uint64_t from = base + at * THAW_PAGE_SIZE, dest = base + to * THAW_PAGE_SIZE, len = n * THAW_PAGE_SIZE;

		if (i % 2) {
			uint64_t swap = from;

			from = dest;
			dest = swap;
		}
		if (i % 7 == 6)
			either(m, pm, thaw_pagemap_remove(pm, from, len / 8 & ~4095UL),
			       pagemodel_remove(m, from, len / 8 & ~4095UL));
		else
			either(m, pm, thaw_pagemap_move(pm, from, dest, len), pagemodel_move(m, from, dest, len));
		thaw_pagemap_mark_done(pm, from, 40);
		pagemodel_mark(m, from, 40);
	}
	thaw_pagemap_free(pm);
	pagemodel_free(m);
}

Test(pagemap, neighbours_that_continue_are_one_extent)
{
	struct thaw_pagemap *pm = thaw_pagemap_new();
	struct thaw_extent out;

	for (unsigned i = 0; i < 512; i++) {
		struct thaw_extent e = {
			.addr = 0x10000000 + i * 0x100000UL, .pages = 256, .off = i * 0x100000UL, .object = 7
		};

		cr_assert_eq(thaw_pagemap_add(pm, &e), 0);
	}
	cr_assert_leq(thaw_pagemap_extents(pm), 128);
	cr_assert(thaw_pagemap_lookup(pm, 0x10003000, UINT64_MAX, &out));
	cr_assert_eq(out.pages, 512 * 256 - 3);
	cr_assert_eq(out.off, 0x3000);
	cr_assert_eq(out.object, 7);
	cr_assert(thaw_pagemap_next_absent(pm, 0, UINT64_MAX, &out));
	cr_assert_eq(out.pages, 512 * 256);
	/* 512 MiB: far less than 1 MiB a GiB */
	cr_assert_lt(thaw_pagemap_memory(pm), 64 * 1024);
	thaw_pagemap_free(pm);
}

Test(pagemap, lengths_beyond_4_gib)
{
	struct thaw_pagemap *pm = thaw_pagemap_new();
	struct thaw_extent e = { .addr = 0x100000000000, .pages = 3UL << 20, .off = 5UL << 32, .object = 65535 }, out;

	cr_assert_eq(thaw_pagemap_add(pm, &e), 0); /* 12 GiB */
	cr_assert_eq(thaw_pagemap_absent(pm), 3UL << 20);
	cr_assert_eq(thaw_pagemap_mark_done(pm, e.addr + (9UL << 30), 1UL << 18), 1UL << 18);
	cr_assert_eq(thaw_pagemap_move(pm, e.addr, 0x300000000000, 12UL << 30), 0);
	cr_assert_not(thaw_pagemap_lookup(pm, e.addr + (11UL << 30), 1, &out));
	cr_assert(thaw_pagemap_is_done(pm, 0x300000000000 + (9UL << 30)));
	cr_assert_not(thaw_pagemap_is_done(pm, 0x300000000000 + (10UL << 30)));
	cr_assert(thaw_pagemap_lookup(pm, 0x300000000000 + (11UL << 30), 1, &out));
	cr_assert_eq(out.off, e.off + (11UL << 30));
	cr_assert_eq(thaw_pagemap_remove(pm, 0x300000000000 + (1UL << 30), UINT64_MAX & ~4095UL),
		     (3UL << 20) - (2UL << 18));
	cr_assert_eq(thaw_pagemap_pages(pm), 1UL << 18);
	cr_assert(thaw_pagemap_is_sound(pm));
	thaw_pagemap_free(pm);
}

Test(pagemap, refuses_what_it_cannot_hold)
{
	struct thaw_pagemap *pm = thaw_pagemap_new();
	const struct thaw_extent good = { .addr = 0x10000, .pages = 16 };
	static const struct {
		struct thaw_extent e;
		int error;
	} bad[] = {
		{ { .addr = 0x10000, .pages = 16 }, -EEXIST },
		{ { .addr = 0x1f000, .pages = 1 }, -EEXIST },
		{ { .addr = 0xf000, .pages = 2 }, -EEXIST },
		{ { .addr = 0x1000, .pages = 100 }, -EEXIST },
		{ { .addr = 0x100010, .pages = 1 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 0 }, -EINVAL },
		{ { .addr = 0x100000, .pages = UINT64_MAX }, -EINVAL },
		{ { .addr = -4096UL, .pages = 2 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 1, .off = 1 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 1, .off = 1UL << 60 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 1, .off = (1UL << 60) - 4096, .object = 65535 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 2, .off = (1UL << 60) - 8192 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 1, .object = 65536 }, -EINVAL },
		{ { .addr = 0x100000, .pages = 1, .flags = 4 }, -EINVAL },
	};

	cr_assert_eq(thaw_pagemap_add(pm, &good), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(thaw_pagemap_add(pm, &bad[i].e), bad[i].error, "extent %u", i);
	cr_assert_eq(thaw_pagemap_move(pm, 0x10000, 0x18000, 0x10000), -EINVAL);
	cr_assert_eq(thaw_pagemap_move(pm, 0x10000, -0x1000UL, 0x10000), -EINVAL);
	cr_assert_eq(thaw_pagemap_move(pm, 0x10000, 0x40001, 0x10000), -EINVAL);
	cr_assert_eq(thaw_pagemap_remove(pm, 0x10000, 0x1001), -EINVAL);
	cr_assert_eq(thaw_pagemap_pages(pm), 16);
	cr_assert_eq(thaw_pagemap_absent(pm), 16);
	thaw_pagemap_free(pm);
}

/* Each call is tried with 0, 1, 2 ... allocations left: it fails and has changed nothing, or succeeds as the model
 * does. */
static void with_little_memory(struct pagemodel *m, struct thaw_pagemap *pm, unsigned op, uint64_t a, uint64_t b,
			       uint64_t n)
{
	struct thaw_extent e = { .addr = a, .pages = n, .off = b, .object = 3 };
	uint64_t len = n << THAW_PAGE_SHIFT;

	for (long left = 0;; left++) {
		int64_t ret;

		if (left % 4 == 1)
			thaw_pagemap_compact(pm, 0, true);
		thaw_core_alloc_left = left;
		ret = op == 0 ? thaw_pagemap_add(pm, &e) :
		      op == 1 ? thaw_pagemap_remove(pm, a, len) : thaw_pagemap_move(pm, a, b, len);
		thaw_core_alloc_left = -1;
		if (ret != -ENOMEM) {
			either(m, pm, ret, op == 0 ? pagemodel_add(m, &e) :
			       op == 1 ? pagemodel_remove(m, a, len) : pagemodel_move(m, a, b, len));
			return;
		}
		cr_assert(thaw_pagemap_is_sound(pm));
		pagemodel_verify(m, pm);
		cr_assert_lt(left, 10000);
	}
}

Test(pagemap, no_memory_changes_nothing)
{
	const uint64_t base = 0x7f0000000000;
	const unsigned pages = 6000;
	struct pagemodel *m = pagemodel_new(base, pages);
	struct thaw_pagemap *pm = thaw_pagemap_new(), *copy;
	long left = 0;

	srand48(3);
	for (unsigned i = 0; i < 250; i++) {
		unsigned at = lrand48() % pages, to = lrand48() % pages, op = lrand48() % 3;
		unsigned n = 1 + lrand48() % (i % 5 ? 30 : 3000), room = op == 2 && to > at ? pages - to : pages - at;
		unsigned gap = at < to ? to - at : at - to;
		uint64_t a = base + at * THAW_PAGE_SIZE, b = base + to * THAW_PAGE_SIZE;

		n = n < room ? n : room;
		if (op == 2)
			n = n < gap ? n : gap;
		if (n)
			with_little_memory(m, pm, op, a, b, n);
		thaw_pagemap_mark_done(pm, b, 3);
		pagemodel_mark(m, b, 3);
	}
	do {
		thaw_core_alloc_left = left++;
		copy = thaw_pagemap_clone(pm, 0);
		thaw_core_alloc_left = -1;
	} while (!copy);
	cr_assert_gt(left, 1);
	pagemodel_verify(m, copy);
	thaw_pagemap_free(copy);
	thaw_pagemap_free(pm);
	pagemodel_free(m);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* A map of n extents that cannot be joined. Returns the time of 20,000 random lookups, marks and removals of one
 * page. */
static double time_with(uint64_t n)
{
	struct thaw_pagemap *pm = thaw_pagemap_new();
	struct thaw_extent out;
	double start;

	for (uint64_t i = 0; i < n; i++) {
		struct thaw_extent e = { .addr = i << 13, .pages = 1, .off = i << 13 };

		cr_assert_eq(thaw_pagemap_add(pm, &e), 0);
	}
	cr_assert_eq(thaw_pagemap_extents(pm), n);
	cr_assert_lt(thaw_pagemap_memory(pm), n * 32 + 8192);
	srand48(9);
	start = seconds();
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t addr = (uint64_t)lrand48() % n << 13;

		if (thaw_pagemap_lookup(pm, addr, 16, &out))
			cr_assert_eq(out.off, addr);
		thaw_pagemap_mark_done(pm, addr, 1);
		if (i % 4 == 0)
			thaw_pagemap_remove(pm, addr, THAW_PAGE_SIZE);
	}
	start = seconds() - start;
	cr_assert(thaw_pagemap_is_sound(pm));
	thaw_pagemap_free(pm);
	return start;
}

/* Short runs cost no more than 1 MiB for a GiB of content, wherever that lies: in one image without holes, in a memory file as far
 * apart as in memory, in a chain of images. And that stays so when pages are discarded everywhere. */
Test(pagemap, short_runs_are_compact)
{
	enum { DENSE, APART, CHAIN, WAYS };
	const uint64_t n = 1 << 18;

	for (unsigned way = DENSE; way < WAYS; way++) {
		struct thaw_pagemap *pm = thaw_pagemap_new();
		struct thaw_extent out;
		uint64_t next[3] = { 0 };

		for (uint64_t i = 0; i < n; i++) {
			unsigned object = way == CHAIN ? i * 7 % 11 % 3 : 0, gap = way == CHAIN ? 1 : 2;
			struct thaw_extent e = { .addr = i * gap << 12, .pages = 1, .object = object,
						 .off = way == APART ? i * gap << 12 : next[object]++ << 12 };

			cr_assert_eq(thaw_pagemap_add(pm, &e), 0);
			if (i % 4096 == 4095)
				thaw_pagemap_compact(pm, i > 8192 ? (i - 8192) * gap << 12 : 0, false);
			cr_assert_lt(thaw_pagemap_memory(pm), 1 << 20);
		}
		cr_assert_eq(thaw_pagemap_pages(pm), n);
		cr_assert(thaw_pagemap_is_sound(pm));
		memset(next, 0, sizeof(next));
		for (uint64_t i = 0; i < n; i++) {
			unsigned object = way == CHAIN ? i * 7 % 11 % 3 : 0, gap = way == CHAIN ? 1 : 2;

			cr_assert(thaw_pagemap_lookup(pm, i * gap << 12, 1, &out));
			cr_assert_eq(out.object, object);
			cr_assert_eq(out.off, way == APART ? i * gap << 12 : next[object]++ << 12);
			cr_assert_eq(thaw_pagemap_lookup(pm, ((i * gap) << 12) + 4096, 1, &out), way == CHAIN && i + 1 < n);
		}
		for (uint64_t at = 50; at < n; at += 30) {
			uint64_t gap = way == CHAIN ? 1 : 2, pages = 1 + at % 3;

			cr_assert_geq(thaw_pagemap_remove(pm, at * gap << 12, pages << 12), 0);
			cr_assert_lt(thaw_pagemap_memory(pm), 1 << 20, "way %u: %zu bytes after %lu discards", way,
				     thaw_pagemap_memory(pm), at / 30);
			cr_assert_not(thaw_pagemap_lookup(pm, at * gap << 12, 1, &out));
			if (thaw_pagemap_lookup(pm, (at - 2) * gap << 12, 1, &out) && way == APART)
				cr_assert_eq(out.off, (at - 2) * gap << 12);
		}
		cr_assert(thaw_pagemap_is_sound(pm));
		cr_assert_geq(thaw_pagemap_remove(pm, 0, 1UL << 40), 0);
		cr_assert_eq(thaw_pagemap_pages(pm) + thaw_pagemap_absent(pm) + thaw_pagemap_extents(pm), 0);
		cr_assert(thaw_pagemap_is_sound(pm));
		thaw_pagemap_free(pm);
	}
}

/* From a thousand to a million extents the work may grow with the depth (2 to 4 levels) and the cache misses, not with
 * n. */
Test(pagemap, a_million_extents)
{
	double few = time_with(1000), many = time_with(1000000);

	cr_assert_lt(many, few * 60 + 0.05, "20,000 calls: %.4f s with 1,000 extents, %.4f s with 1,000,000", few,
		     many);
}

/* All of a million extents done but a few: each of them is found without reading the others. */
Test(pagemap, nearly_finished_map_is_skipped_through)
{
	const uint64_t n = 1000000;
	struct thaw_pagemap *pm = thaw_pagemap_new();
	struct thaw_extent out;
	uint64_t from = 0;
	double fill, search;

	fill = seconds();
	for (uint64_t i = 0; i < n; i++) {
		struct thaw_extent e = { .addr = i << 13, .pages = 1, .off = i << 13 };

		thaw_pagemap_add(pm, &e);
		if (i % 100000 != 99999)
			thaw_pagemap_mark_done(pm, e.addr, 1);
	}
	search = seconds();
	fill = search - fill;
	cr_assert_eq(thaw_pagemap_absent(pm), 10);
	for (unsigned round = 0; round < 100; round++, from = 0) {
		for (uint64_t k = 0; k < 10; k++) {
			cr_assert(thaw_pagemap_next_absent(pm, from, 16, &out));
			cr_assert_eq(out.addr, (k * 100000 + 99999) << 13);
			cr_assert_eq(out.pages, 1);
			from = out.addr + THAW_PAGE_SIZE;
		}
		cr_assert_not(thaw_pagemap_next_absent(pm, from, 16, &out));
	}
	search = seconds() - search;
	/* 1100 searches; reading every extent each time would be 100 million slots, a hundred times the fill. */
	cr_assert_lt(search, fill, "filling took %.3f s, 1100 searches %.3f s", fill, search);
	thaw_pagemap_free(pm);
}

struct placer {
	struct thaw_pagemap *pm;
	unsigned seed;
	uint64_t fresh;
};

static void *place(void *arg)
{
	struct placer *p = arg;
	struct thaw_extent e;
	uint64_t from = 0;

	for (unsigned i = 0; i < 3000; i++)
		p->fresh += thaw_pagemap_mark_done(p->pm, (uint64_t)rand_r(&p->seed) % 40000 << THAW_PAGE_SHIFT,
						   1 + i % 70);
	while (thaw_pagemap_next_absent(p->pm, from, 16, &e)) {
		p->fresh += thaw_pagemap_mark_done(p->pm, e.addr, e.pages);
		from = e.addr + e.pages * THAW_PAGE_SIZE;
	}
	return NULL;
}

/* Threads that mark overlapping runs at the same time: every page is counted once, and all counters end at zero. */
Test(pagemap, marking_is_counted_once)
{
	struct thaw_pagemap *pm = thaw_pagemap_new();
	struct placer p[4];
	pthread_t t[4];
	uint64_t pages, fresh = 0;

	for (uint64_t i = 0; i < 40000; i += i % 5 ? 7 : 130) {
		struct thaw_extent e = { .addr = i << THAW_PAGE_SHIFT, .pages = i % 5 ? 6 : 129, .object = i & 1 };

		cr_assert_eq(thaw_pagemap_add(pm, &e), 0);
	}
	pages = thaw_pagemap_pages(pm);
	for (unsigned i = 0; i < 4; i++) {
		p[i] = (struct placer){ pm, i + 1, 0 };
		pthread_create(&t[i], NULL, place, &p[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		fresh += p[i].fresh;
	}
	cr_assert_eq(fresh, pages);
	cr_assert_eq(thaw_pagemap_absent(pm), 0);
	cr_assert(thaw_pagemap_is_sound(pm));
	thaw_pagemap_free(pm);
}
