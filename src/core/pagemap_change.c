// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/pagemap_change.c - the structure of the page map: extents cut, joined, added, removed, moved */
#include "config.h"
#include "core/pagemap_impl.h"

#include <errno.h>

#include "core/alloc.h"
#include "core/mosaic.h"

/* ---- structure: cut, join, delete ---------------------------------------------------------------------------- */
static void drop_all(struct thaw_pagemap *pm, struct thaw_slot *s, unsigned n)
{
	while (n)
		thaw_slot_drop(&s[--n], &pm->tree.memory);
	free(s);
}

/* The runs of a mosaic as slots; *n of them. NULL: no memory. */
static struct thaw_slot *runs_of(struct thaw_pagemap *pm, const struct thaw_slot *s, unsigned *n)
{
	const struct thaw_mosaic *m = thaw_slot_mosaic(s);
	struct thaw_slot *runs = thaw_core_alloc(thaw_mosaic_runs(m) * sizeof(*runs));
	unsigned at = 0, pages;
	uint64_t where;

	*n = 0;
	while (runs && (at = thaw_mosaic_next(m, at, &pages, &where), pages)) {
		if (thaw_slot_init(&runs[*n], thaw_slot_start(s) + at, pages, where, thaw_slot_flags(s), &pm->tree.memory)) {
			drop_all(pm, runs, *n);
			return NULL;
		}
		thaw_slot_put_done(&runs[*n], 0, s, at, pages);
		++*n;
		at += pages;
	}
	return runs;
}

/* Puts in slots for which room is reserved: as a mosaic where that is smaller (or always), else as they are. They are the tree's then. */
static void put_runs(struct thaw_pagemap *pm, struct thaw_slot *runs, unsigned n)
{
	struct thaw_slot mosaic;

	if (!thaw_mosaic_make(&mosaic, runs, n, !pm->always, &pm->tree.memory)) {
		thaw_tree_insert(&pm->tree, &mosaic);
		while (n)
			thaw_slot_drop(&runs[--n], &pm->tree.memory);
	}
	for (unsigned i = 0; i < n; i++)
		thaw_tree_insert(&pm->tree, &runs[i]);
}

/* A mosaic at p becomes what lies before `page`, the run that `page` lies in, and what lies behind; p is void. What the map says stays the
 * same, also on -ENOMEM. */
static int take_apart(struct thaw_pagemap *pm, struct thaw_path *p, uint64_t page)
{
	struct thaw_slot mosaic = *thaw_path_slot(p);
	unsigned n, before = 0, behind;
	struct thaw_slot *runs = runs_of(pm, &mosaic, &n);

	if (!runs)
		return -ENOMEM;
	if (thaw_tree_reserve(&pm->tree, n)) {
		drop_all(pm, runs, n);
		return -ENOMEM;
	}
	thaw_tree_delete(&pm->tree, p, 1);
	while (before < n && thaw_slot_end(&runs[before]) <= page)
		before++;
	behind = before + (before < n && thaw_slot_start(&runs[before]) < page);
	put_runs(pm, runs, before);
	if (behind > before)
		thaw_tree_insert(&pm->tree, &runs[before]);
	put_runs(pm, runs + behind, n - behind);
	free(runs);
	thaw_slot_drop(&mosaic, &pm->tree.memory);
	return 0;
}

/* Makes a boundary between slots at `page`. What the map says stays the same, also on -ENOMEM. */
static int cut_at(struct thaw_pagemap *pm, uint64_t page)
{
	struct thaw_path p;
	struct thaw_slot *s, tail;

	if (!thaw_tree_seek(&pm->tree, page, &p))
		return 0;
	s = thaw_path_slot(&p);
	if (thaw_slot_start(s) >= page)
		return 0;
	if (thaw_slot_mosaic(s))
		return take_apart(pm, &p, page) ? -ENOMEM : cut_at(pm, page);
	if (thaw_tree_reserve(&pm->tree, 1) ||
	    thaw_slot_cut(s, page - thaw_slot_start(s), &tail, &pm->tree.memory))
		return -ENOMEM;
	thaw_tree_recount(&p, -(int64_t)thaw_slot_absent(&tail));
	thaw_tree_insert(&pm->tree, &tail);
	return 0;
}

/* Joins the slots on both sides of `page` if they are one run. Without memory they stay two. */
static void join_at(struct thaw_pagemap *pm, uint64_t page)
{
	struct thaw_tree *t = &pm->tree;
	struct thaw_path p;
	struct thaw_slot a, b, both;

	if (!page || !thaw_tree_seek(t, page - 1, &p))
		return;
	a = *thaw_path_slot(&p);
	if (thaw_slot_end(&a) != page || !thaw_tree_step(&p))
		return;
	b = *thaw_path_slot(&p);
	if (!thaw_slot_continues(&a, &b) || thaw_slot_pages(&a) + thaw_slot_pages(&b) > THAW_SLOT_PAGES ||
	    thaw_slot_join(&both, &a, &b, &t->memory))
		return;
	thaw_tree_delete(t, &p, 1);
	thaw_tree_seek(t, page - 1, &p);
	*thaw_path_slot(&p) = both;
	thaw_tree_recount(&p, thaw_slot_absent(&b));
	thaw_slot_drop(&a, &t->memory);
	thaw_slot_drop(&b, &t->memory);
}

/* Takes out the slots in [first, end), which are boundaries: into `kept` in order, or away. Returns the absent
 * pages. */
static uint64_t take_out(struct thaw_pagemap *pm, uint64_t first, uint64_t end, struct thaw_slot *kept, uint64_t *pages)
{
	struct thaw_path p;
	uint64_t absent = 0;

	*pages = 0;
	while (thaw_tree_seek(&pm->tree, first, &p)) {
		struct thaw_slot run[THAW_TREE_FANOUT];
		unsigned n = 0;

		for (struct thaw_slot *s = thaw_path_slot(&p); p.idx[0] + n < p.node[0]->n; n++) {
			if (thaw_slot_start(&s[n]) >= end)
				break;
			run[n] = s[n];
		}
		if (!n)
			break;
		absent += thaw_tree_delete(&pm->tree, &p, n);
		for (unsigned i = 0; i < n; i++) {
			*pages += thaw_slot_content(&run[i]);
			if (kept)
				*kept++ = run[i];
			else
				thaw_slot_drop(&run[i], &pm->tree.memory);
		}
	}
	return absent;
}

static uint64_t count_slots(struct thaw_pagemap *pm, uint64_t first, uint64_t end)
{
	struct thaw_path p;
	uint64_t n = 0;

	for (bool more = thaw_tree_seek(&pm->tree, first, &p); more && thaw_slot_start(thaw_path_slot(&p)) < end;
	     more = thaw_tree_step(&p))
		n++;
	return n;
}

/* ---- add --------------------------------------------------------------------------------------------------- */
static int check_extent(const struct thaw_extent *e)
{
	uint64_t first = e->addr >> THAW_PAGE_SHIFT, at = e->off >> THAW_PAGE_SHIFT;

	if ((e->addr | e->off) & (THAW_PAGE_SIZE - 1) || !e->pages || e->object > 0xffff ||
	    e->flags > (THAW_EXTENT_WIPEONFORK | THAW_EXTENT_DONTFORK) || e->pages > LAST_PAGE - first ||
	    at >= LAST_OFFSET || e->pages >= LAST_OFFSET - at) /* its last page is no place: what lies behind it would be the first */
		return -EINVAL;
	return 0;
}

static int add_pieces(struct thaw_pagemap *pm, const struct thaw_extent *e)
{
	uint64_t first = e->addr >> THAW_PAGE_SHIFT, where = (e->off >> THAW_PAGE_SHIFT) << 16 | e->object;
	uint32_t flags = e->flags & THAW_EXTENT_DONTFORK ? THAW_EXTENT_DONTFORK : e->flags;

	if (thaw_tree_reserve(&pm->tree, (e->pages + THAW_SLOT_PAGES - 1) / THAW_SLOT_PAGES))
		return -ENOMEM;
	for (uint64_t at = 0; at < e->pages; at += THAW_SLOT_PAGES) {
		unsigned n = e->pages - at < THAW_SLOT_PAGES ? e->pages - at : THAW_SLOT_PAGES;
		struct thaw_slot s;

		if (thaw_slot_init(&s, first + at, n, where + (at << 16), flags, &pm->tree.memory))
			return -ENOMEM;
		thaw_tree_insert(&pm->tree, &s);
	}
	return 0;
}

int thaw_pagemap_add(struct thaw_pagemap *pm, const struct thaw_extent *e)
{
	uint64_t first = e->addr >> THAW_PAGE_SHIFT, gone;
	struct thaw_extent there;
	int ret = check_extent(e);

	if (ret)
		return ret;
	if (thaw_pagemap_next(pm, e->addr, e->pages << THAW_PAGE_SHIFT, &there))
		return -EEXIST;
	ret = cut_at(pm, first); /* it may lie where a mosaic has nothing */
	if (!ret)
		ret = cut_at(pm, first + e->pages);
	if (ret) {
		thaw_pagemap_publish(pm, 0, 0);
		return ret;
	}
	ret = add_pieces(pm, e);
	if (ret) {
		take_out(pm, first, first + e->pages, NULL, &gone);
		thaw_pagemap_publish(pm, 0, 0);
		return ret;
	}
	join_at(pm, first + e->pages);
	join_at(pm, first);
	thaw_pagemap_publish(pm, e->pages, e->pages);
	return 0;
}

/* ---- compact ------------------------------------------------------------------------------------------------ */
#define GROWTH 4096 /* slots, some 100 KiB */
#define GROWTH_ALWAYS 16

/* The slots at p and behind it that fit into one mosaic; n of them, *end the last one's end. */
static unsigned gather(struct thaw_path *p, struct thaw_slot *runs, uint64_t *end)
{
	unsigned n = 0;

	do {
		const struct thaw_slot *s = thaw_path_slot(p);

		if (n && (thaw_slot_flags(s) != thaw_slot_flags(runs) || thaw_slot_end(s) - thaw_slot_start(runs) > THAW_SLOT_PAGES ||
			  thaw_slot_mosaic(s)))
			break;
		runs[n++] = *s;
		*end = thaw_slot_end(s);
	} while (!thaw_slot_mosaic(runs) && thaw_tree_step(p));
	return n;
}

void thaw_pagemap_compact(struct thaw_pagemap *pm, uint64_t from, bool always)
{
	struct thaw_slot *runs = thaw_core_alloc(THAW_SLOT_PAGES * sizeof(*runs)), mosaic;
	uint64_t at = from >> THAW_PAGE_SHIFT, end, pages;
	struct thaw_path p;

	while (runs && thaw_tree_seek(&pm->tree, at, &p)) {
		unsigned n = gather(&p, runs, &end);

		at = end;
		if (thaw_tree_reserve(&pm->tree, 1) || thaw_mosaic_make(&mosaic, runs, n, !always, &pm->tree.memory))
			continue;
		take_out(pm, thaw_slot_start(runs), end, NULL, &pages);
		thaw_tree_insert(&pm->tree, &mosaic);
	}
	free(runs);
	pm->always = always;
	pm->compact_at = 2 * pm->tree.slots + (always ? GROWTH_ALWAYS : GROWTH);
	thaw_pagemap_publish(pm, 0, 0);
}

/* What was taken apart is put together again, when it has come to so much that looking at all of the map is little beside it. */
static void compact_again(struct thaw_pagemap *pm)
{
	if (pm->compact_at && pm->tree.slots > pm->compact_at)
		thaw_pagemap_compact(pm, 0, pm->always);
}

/* ---- exclusive section ------------------------------------------------------------------------------------- */
static bool is_page_range(uint64_t addr, uint64_t len)
{
	return !((addr | len) & (THAW_PAGE_SIZE - 1));
}

/* The mosaic that lies on both sides of a boundary at `page`; it need not be cut for a removal. */
static struct thaw_slot *mosaic_across(struct thaw_pagemap *pm, uint64_t page, struct thaw_path *p)
{
	struct thaw_slot *s = thaw_tree_seek(&pm->tree, page, p) ? thaw_path_slot(p) : NULL;

	return s && thaw_slot_mosaic(s) && thaw_slot_start(s) < page ? s : NULL;
}

/* Pages [first, end) go from the mosaic at p, and the mosaic with the last of them. Returns the absent ones. */
static uint64_t punch(struct thaw_pagemap *pm, struct thaw_path *p, uint64_t first, uint64_t end, uint64_t *gone)
{
	struct thaw_slot *s = thaw_path_slot(p), empty;
	unsigned before = thaw_slot_content(s);
	uint64_t absent = thaw_mosaic_remove(s, first - thaw_slot_start(s), end - first);

	*gone += before - thaw_slot_content(s);
	thaw_tree_recount(p, -(int64_t)absent);
	if (!thaw_slot_content(s)) {
		empty = *s;
		thaw_tree_delete(&pm->tree, p, 1);
		thaw_slot_drop(&empty, &pm->tree.memory);
	}
	return absent;
}

/* What of [*first, *end) lies in a mosaic that goes on outside; the range is the rest then. */
static uint64_t punch_ends(struct thaw_pagemap *pm, uint64_t *first, uint64_t *end, uint64_t *gone)
{
	struct thaw_path p;
	struct thaw_slot *s = mosaic_across(pm, *first, &p);
	uint64_t absent = 0, at;

	if (s) {
		at = *end < thaw_slot_end(s) ? *end : thaw_slot_end(s);
		absent = punch(pm, &p, *first, at, gone);
		*first = at;
	}
	s = *first < *end ? mosaic_across(pm, *end, &p) : NULL;
	if (s) {
		at = *first > thaw_slot_start(s) ? *first : thaw_slot_start(s);
		absent += punch(pm, &p, at, *end, gone);
		*end = at;
	}
	return absent;
}

int64_t thaw_pagemap_remove(struct thaw_pagemap *pm, uint64_t addr, uint64_t len)
{
	uint64_t first, end, pages = 0, gone = 0, absent = 0;
	struct thaw_path p;
	int ret = 0;

	if (!is_page_range(addr, len))
		return -EINVAL;
	thaw_pagemap_range(addr, len >> THAW_PAGE_SHIFT, &first, &end);
	if (!mosaic_across(pm, first, &p))
		ret = cut_at(pm, first);
	if (!ret && !mosaic_across(pm, end, &p))
		ret = cut_at(pm, end);
	if (!ret && first < end) { /* nothing fails any more */
		absent = punch_ends(pm, &first, &end, &gone);
		if (first < end)
			absent += take_out(pm, first, end, NULL, &pages);
	}
	thaw_pagemap_publish(pm, -(int64_t)absent, -(int64_t)(gone + pages));
	return ret ? ret : (int64_t)absent;
}

/* All boundaries and all memory that a move needs, so that nothing can fail once it has begun. */
static struct thaw_slot *prepare_move(struct thaw_pagemap *src, uint64_t from, struct thaw_pagemap *dst, uint64_t to, uint64_t n,
				      uint64_t *slots)
{
	struct thaw_slot *kept;

	if (cut_at(src, from) || cut_at(src, from + n) || cut_at(dst, to) || cut_at(dst, to + n))
		return NULL;
	*slots = count_slots(src, from, from + n);
	if (thaw_tree_reserve(&dst->tree, *slots))
		return NULL;
	kept = thaw_core_alloc((*slots ? *slots : 1) * sizeof(*kept));
	return kept;
}

int64_t thaw_pagemap_transfer(struct thaw_pagemap *src, uint64_t from, struct thaw_pagemap *dst, uint64_t to, uint64_t len)
{
	uint64_t first = from >> THAW_PAGE_SHIFT, at = to >> THAW_PAGE_SHIFT, n = len >> THAW_PAGE_SHIFT;
	uint64_t slots, gone, moved, dropped, absent;
	struct thaw_slot *kept;

	if (!is_page_range(from | to, len) || n > LAST_PAGE - first || n > LAST_PAGE - at ||
	    (src == dst && (first < at ? at - first : first - at) < n))
		return -EINVAL;
	kept = prepare_move(src, first, dst, at, n, &slots);
	if (!kept) {
		thaw_pagemap_publish(src, 0, 0);
		if (dst != src)
			thaw_pagemap_publish(dst, 0, 0);
		return -ENOMEM;
	}
	dropped = take_out(dst, at, at + n, NULL, &gone);
	absent = take_out(src, first, first + n, kept, &moved);
	for (uint64_t i = 0; i < slots; i++) {
		size_t block = thaw_slot_block(&kept[i]);

		if (block) {
			src->tree.memory -= thaw_core_alloc_cost(block);
			dst->tree.memory += thaw_core_alloc_cost(block);
		}
		thaw_slot_shift(&kept[i], thaw_slot_start(&kept[i]) - first + at);
		if (first != at && thaw_slot_flags(&kept[i]) == THAW_EXTENT_INHERITED)
			thaw_slot_set_flags(&kept[i], 0);
		thaw_tree_insert(&dst->tree, &kept[i]);
	}
	free(kept);
	join_at(dst, at + n);
	join_at(dst, at);
	if (src != dst) { /* what has left one is in the other */
		thaw_pagemap_publish(src, -(int64_t)absent, -(int64_t)moved);
		thaw_pagemap_publish(dst, (int64_t)(absent - dropped), (int64_t)(moved - gone));
	} else {
		thaw_pagemap_publish(dst, -(int64_t)dropped, -(int64_t)gone);
	}
	compact_again(src);
	if (dst != src)
		compact_again(dst);
	return dropped;
}

int64_t thaw_pagemap_move(struct thaw_pagemap *pm, uint64_t from, uint64_t to, uint64_t len)
{
	return thaw_pagemap_transfer(pm, from, pm, to, len);
}
