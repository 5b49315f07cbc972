// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/pagemap.c - content and done bits of one space: extents added, looked up, marked, removed, moved, copied */
#include "config.h"
#include "core/pagemap.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "core/tree.h"

#define LAST_PAGE (UINT64_C(1) << (64 - THAW_PAGE_SHIFT)) /* the first one that does not exist */
#define LAST_OFFSET (UINT64_C(1) << 48)                  /* the same of an object, in pages */

/* absent, pages, extents and memory are read by threads that have neither S nor X (statistics): atomic, and only
 * ever right to within the change under way. */
struct thaw_pagemap {
	struct thaw_tree tree;
	uint64_t absent; /* lowered in the shared section */
	uint64_t pages;
	uint64_t extents;
	size_t memory;
};

static void publish(struct thaw_pagemap *pm, int64_t absent, int64_t pages)
{
	thaw_tree_trim(&pm->tree);
	__atomic_store_n(&pm->absent, pm->absent + absent, __ATOMIC_RELEASE);
	__atomic_store_n(&pm->pages, pm->pages + pages, __ATOMIC_RELAXED);
	__atomic_store_n(&pm->extents, pm->tree.slots, __ATOMIC_RELAXED);
	__atomic_store_n(&pm->memory, sizeof(*pm) + pm->tree.memory, __ATOMIC_RELAXED);
}

struct thaw_pagemap *thaw_pagemap_new(void)
{
	struct thaw_pagemap *pm = thaw_core_alloc(sizeof(*pm));

	if (!pm)
		return NULL;
	memset(pm, 0, sizeof(*pm));
	pm->memory = sizeof(*pm);
	return pm;
}

void thaw_pagemap_free(struct thaw_pagemap *pm)
{
	if (!pm)
		return;
	thaw_tree_clear(&pm->tree);
	free(pm);
}

/* Pages [first, end) of an address range; cut at the end of the address space. */
static void range_pages(uint64_t addr, uint64_t pages, uint64_t *first, uint64_t *end)
{
	*first = addr >> THAW_PAGE_SHIFT;
	*end = pages > LAST_PAGE - *first ? LAST_PAGE : *first + pages;
}

static void fill_extent(struct thaw_extent *e, const struct thaw_slot *s, unsigned from, uint64_t pages)
{
	*e = (struct thaw_extent){
		.addr = (thaw_slot_start(s) + from) << THAW_PAGE_SHIFT,
		.pages = pages,
		.off = ((s->where >> 16) + from) << THAW_PAGE_SHIFT,
		.object = s->where & 0xffff,
		.flags = thaw_slot_flags(s),
	};
}

/* ---- structure: cut, join, delete ---------------------------------------------------------------------------- */
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

/* Takes out the slots in [first, end), which are boundaries: into `kept` in order, or away. Returns the absent pages. */
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
			*pages += thaw_slot_pages(&run[i]);
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
	    at >= LAST_OFFSET || e->pages > LAST_OFFSET - at)
		return -EINVAL;
	return 0;
}

static int add_pieces(struct thaw_pagemap *pm, const struct thaw_extent *e)
{
	uint64_t first = e->addr >> THAW_PAGE_SHIFT, where = (e->off >> THAW_PAGE_SHIFT) << 16 | e->object;

	if (thaw_tree_reserve(&pm->tree, (e->pages + THAW_SLOT_PAGES - 1) / THAW_SLOT_PAGES))
		return -ENOMEM;
	for (uint64_t at = 0; at < e->pages; at += THAW_SLOT_PAGES) {
		unsigned n = e->pages - at < THAW_SLOT_PAGES ? e->pages - at : THAW_SLOT_PAGES;
		struct thaw_slot s;

		if (thaw_slot_init(&s, first + at, n, where + (at << 16), e->flags, &pm->tree.memory))
			return -ENOMEM;
		thaw_tree_insert(&pm->tree, &s);
	}
	return 0;
}

int thaw_pagemap_add(struct thaw_pagemap *pm, const struct thaw_extent *e)
{
	uint64_t first = e->addr >> THAW_PAGE_SHIFT, gone;
	struct thaw_path p;
	int ret = check_extent(e);

	if (ret)
		return ret;
	if (thaw_tree_seek(&pm->tree, first, &p) && thaw_slot_start(thaw_path_slot(&p)) < first + e->pages)
		return -EEXIST;
	ret = add_pieces(pm, e);
	if (ret) {
		take_out(pm, first, first + e->pages, NULL, &gone);
		publish(pm, 0, 0);
		return ret;
	}
	join_at(pm, first + e->pages);
	join_at(pm, first);
	publish(pm, e->pages, e->pages);
	return 0;
}

/* ---- shared section ---------------------------------------------------------------------------------------- */
bool thaw_pagemap_lookup(const struct thaw_pagemap *pm, uint64_t addr, uint64_t max_pages, struct thaw_extent *out)
{
	uint64_t page = addr >> THAW_PAGE_SHIFT;
	struct thaw_path p;
	const struct thaw_slot *s;
	unsigned from;

	if (!thaw_tree_seek(&pm->tree, page, &p))
		return false;
	s = thaw_path_slot(&p);
	if (thaw_slot_start(s) > page)
		return false;
	from = page - thaw_slot_start(s);
	fill_extent(out, s, from, thaw_slot_pages(s) - from);
	while (out->pages < max_pages && thaw_tree_step(&p) && thaw_slot_continues(s, thaw_path_slot(&p))) {
		s = thaw_path_slot(&p);
		out->pages += thaw_slot_pages(s);
	}
	if (out->pages > max_pages)
		out->pages = max_pages ? max_pages : 1;
	return true;
}

bool thaw_pagemap_is_done(const struct thaw_pagemap *pm, uint64_t addr)
{
	uint64_t page = addr >> THAW_PAGE_SHIFT;
	struct thaw_path p;

	return thaw_tree_seek(&pm->tree, page, &p) && thaw_slot_start(thaw_path_slot(&p)) <= page &&
	       thaw_slot_is_done(thaw_path_slot(&p), page - thaw_slot_start(thaw_path_slot(&p)));
}

/* An absent run that reaches the end of its slot goes on in the next one, if that is the same extent. */
static void extend_run(struct thaw_path *p, uint64_t max_pages, struct thaw_extent *out)
{
	const struct thaw_slot *s = thaw_path_slot(p);
	unsigned n;

	while (out->pages < max_pages && out->addr + (out->pages << THAW_PAGE_SHIFT) ==
	       thaw_slot_end(s) << THAW_PAGE_SHIFT) {
		if (!thaw_tree_step(p) || !thaw_slot_continues(s, thaw_path_slot(p)))
			break;
		s = thaw_path_slot(p);
		if (thaw_slot_next_absent(s, 0, &n))
			break;
		out->pages += n;
	}
	if (out->pages > max_pages)
		out->pages = max_pages ? max_pages : 1;
}

bool thaw_pagemap_next_absent(const struct thaw_pagemap *pm, uint64_t from, uint64_t max_pages, struct thaw_extent *out)
{
	uint64_t page = from >> THAW_PAGE_SHIFT;
	struct thaw_path p;

	if (!thaw_tree_seek(&pm->tree, page, &p))
		return false;
	do {
		/* The rest of this leaf; then straight to the next leaf that has something. */
		for (; p.idx[0] < p.node[0]->n; p.idx[0]++) {
			const struct thaw_slot *s = thaw_path_slot(&p);
			unsigned n, at = page > thaw_slot_start(s) ? page - thaw_slot_start(s) : 0;

			at = thaw_slot_next_absent(s, at, &n);
			if (!n)
				continue;
			fill_extent(out, s, at, n);
			extend_run(&p, max_pages, out);
			return true;
		}
	} while (thaw_tree_step_absent(&p));
	return false;
}

uint64_t thaw_pagemap_mark_done(struct thaw_pagemap *pm, uint64_t addr, uint64_t pages)
{
	uint64_t first, end, total = 0;
	struct thaw_path p;

	range_pages(addr, pages, &first, &end);
	for (bool more = thaw_tree_seek(&pm->tree, first, &p); more; more = thaw_tree_step(&p)) {
		struct thaw_slot *s = thaw_path_slot(&p);
		uint64_t start = thaw_slot_start(s);
		unsigned from = first > start ? first - start : 0, fresh;

		if (start >= end)
			break;
		fresh = thaw_slot_mark(s, from, (end < thaw_slot_end(s) ? end : thaw_slot_end(s)) - start - from);
		thaw_tree_marked(&p, fresh);
		total += fresh;
	}
	/* Who reads zero from thaw_pagemap_absent() closes the userfaultfd: every ioctl that placed a page came before. */
	if (total)
		__atomic_fetch_sub(&pm->absent, total, __ATOMIC_RELEASE);
	return total;
}

/* ---- exclusive section ------------------------------------------------------------------------------------- */
static bool is_page_range(uint64_t addr, uint64_t len)
{
	return !((addr | len) & (THAW_PAGE_SIZE - 1));
}

int64_t thaw_pagemap_remove(struct thaw_pagemap *pm, uint64_t addr, uint64_t len)
{
	uint64_t first, end, gone = 0, absent = 0;
	int ret;

	if (!is_page_range(addr, len))
		return -EINVAL;
	range_pages(addr, len >> THAW_PAGE_SHIFT, &first, &end);
	ret = cut_at(pm, first);
	if (!ret)
		ret = cut_at(pm, end);
	if (!ret)
		absent = take_out(pm, first, end, NULL, &gone);
	publish(pm, -(int64_t)absent, -(int64_t)gone);
	return ret ? ret : (int64_t)absent;
}

/* All boundaries and all memory that a move needs, so that nothing can fail once it has begun. */
static struct thaw_slot *prepare_move(struct thaw_pagemap *pm, uint64_t from, uint64_t to, uint64_t n, uint64_t *slots)
{
	struct thaw_slot *kept;

	if (cut_at(pm, from) || cut_at(pm, from + n) || cut_at(pm, to) || cut_at(pm, to + n))
		return NULL;
	*slots = count_slots(pm, from, from + n);
	if (thaw_tree_reserve(&pm->tree, *slots))
		return NULL;
	kept = thaw_core_alloc((*slots ? *slots : 1) * sizeof(*kept));
	return kept;
}

int64_t thaw_pagemap_move(struct thaw_pagemap *pm, uint64_t from, uint64_t to, uint64_t len)
{
	uint64_t first = from >> THAW_PAGE_SHIFT, at = to >> THAW_PAGE_SHIFT, n = len >> THAW_PAGE_SHIFT;
	uint64_t slots, gone, moved, absent;
	struct thaw_slot *kept;

	if (!is_page_range(from | to, len) || n > LAST_PAGE - first || n > LAST_PAGE - at ||
	    (first < at ? at - first : first - at) < n)
		return -EINVAL;
	kept = prepare_move(pm, first, at, n, &slots);
	if (!kept) {
		publish(pm, 0, 0);
		return -ENOMEM;
	}
	absent = take_out(pm, at, at + n, NULL, &gone);
	take_out(pm, first, first + n, kept, &moved);
	for (uint64_t i = 0; i < slots; i++) {
		thaw_slot_shift(&kept[i], thaw_slot_start(&kept[i]) - first + at);
		thaw_tree_insert(&pm->tree, &kept[i]);
	}
	free(kept);
	thaw_tree_trim(&pm->tree);
	join_at(pm, at + n);
	join_at(pm, at);
	publish(pm, -(int64_t)absent, -(int64_t)gone);
	return absent;
}

static void count_pages(const struct thaw_tree *t, uint64_t *pages, uint64_t *absent)
{
	struct thaw_path p;

	*pages = *absent = 0;
	for (bool more = thaw_tree_seek(t, 0, &p); more; more = thaw_tree_step(&p)) {
		*pages += thaw_slot_pages(thaw_path_slot(&p));
		*absent += thaw_slot_absent(thaw_path_slot(&p));
	}
}

struct thaw_pagemap *thaw_pagemap_clone(const struct thaw_pagemap *pm, uint32_t drop_flags)
{
	struct thaw_pagemap *copy = thaw_pagemap_new();
	uint64_t pages, absent;

	if (!copy)
		return NULL;
	if (thaw_tree_copy(&copy->tree, &pm->tree, drop_flags)) {
		free(copy);
		return NULL;
	}
	count_pages(&copy->tree, &pages, &absent);
	publish(copy, absent, pages);
	return copy;
}

/* ---- figures ----------------------------------------------------------------------------------------------- */
uint64_t thaw_pagemap_absent(const struct thaw_pagemap *pm)
{
	return __atomic_load_n(&pm->absent, __ATOMIC_ACQUIRE);
}

uint64_t thaw_pagemap_pages(const struct thaw_pagemap *pm)
{
	return __atomic_load_n(&pm->pages, __ATOMIC_RELAXED);
}

uint64_t thaw_pagemap_extents(const struct thaw_pagemap *pm)
{
	return __atomic_load_n(&pm->extents, __ATOMIC_RELAXED);
}

size_t thaw_pagemap_memory(const struct thaw_pagemap *pm)
{
	return __atomic_load_n(&pm->memory, __ATOMIC_RELAXED);
}

bool thaw_pagemap_is_sound(const struct thaw_pagemap *pm)
{
	uint64_t pages, absent;

	count_pages(&pm->tree, &pages, &absent);
	return thaw_tree_is_sound(&pm->tree) && pages == pm->pages && absent == pm->absent &&
	       pm->extents == pm->tree.slots;
}
