// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/pagemap.c - content and done bits of one space: looked up, searched, marked, copied */
#include "config.h"
#include "core/pagemap_impl.h"

#include <string.h>

#include "core/alloc.h"
#include "core/mosaic.h"

void thaw_pagemap_publish(struct thaw_pagemap *pm, int64_t absent, int64_t pages)
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

/* The run of content at page `from` of the slot, or behind it (in a mosaic, which may have none there); cut to `pages`. False: none. */
static bool fill_extent(struct thaw_extent *e, const struct thaw_slot *s, unsigned from, uint64_t pages)
{
	const struct thaw_mosaic *m = thaw_slot_mosaic(s);
	uint64_t where = s->where + ((uint64_t)from << 16);
	unsigned n = thaw_slot_pages(s) - from;

	if (m)
		from = thaw_mosaic_next(m, from, &n, &where);
	*e = (struct thaw_extent){
		.addr = (thaw_slot_start(s) + from) << THAW_PAGE_SHIFT,
		.pages = n < pages ? n : pages,
		.off = (where >> 16) << THAW_PAGE_SHIFT,
		.object = where & 0xffff,
		.flags = thaw_slot_flags(s),
	};
	return n;
}

/* The run that continues e, which ends in the slot at p, in addresses, content and flags; p goes on to its slot. */
static bool goes_on(struct thaw_path *p, const struct thaw_extent *e, struct thaw_extent *more)
{
	uint64_t end = (e->addr >> THAW_PAGE_SHIFT) + e->pages;

	if (end == thaw_slot_end(thaw_path_slot(p)) && !thaw_tree_step(p))
		return false;
	return thaw_slot_start(thaw_path_slot(p)) <= end &&
	       fill_extent(more, thaw_path_slot(p), end - thaw_slot_start(thaw_path_slot(p)), THAW_SLOT_PAGES) &&
	       more->addr >> THAW_PAGE_SHIFT == end && more->off == e->off + (e->pages << THAW_PAGE_SHIFT) &&
	       more->object == e->object && more->flags == e->flags;
}

/* ---- shared section ---------------------------------------------------------------------------------------- */
bool thaw_pagemap_lookup(const struct thaw_pagemap *pm, uint64_t addr, uint64_t max_pages, struct thaw_extent *out)
{
	uint64_t page = addr >> THAW_PAGE_SHIFT;
	struct thaw_extent more;
	struct thaw_path p;

	if (!thaw_tree_seek(&pm->tree, page, &p) || thaw_slot_start(thaw_path_slot(&p)) > page ||
	    !fill_extent(out, thaw_path_slot(&p), page - thaw_slot_start(thaw_path_slot(&p)), THAW_SLOT_PAGES) ||
	    out->addr >> THAW_PAGE_SHIFT != page)
		return false;
	while (out->pages < max_pages && goes_on(&p, out, &more))
		out->pages += more.pages;
	if (out->pages > max_pages)
		out->pages = max_pages ? max_pages : 1;
	return true;
}

bool thaw_pagemap_next(const struct thaw_pagemap *pm, uint64_t from, uint64_t len, struct thaw_extent *out)
{
	uint64_t page, end;
	struct thaw_path p;

	thaw_pagemap_range(from, len >> THAW_PAGE_SHIFT, &page, &end);
	for (bool more = thaw_tree_seek(&pm->tree, page, &p); more; more = thaw_tree_step(&p)) {
		const struct thaw_slot *s = thaw_path_slot(&p);

		if (thaw_slot_start(s) >= end)
			break;
		if (!fill_extent(out, s, page > thaw_slot_start(s) ? page - thaw_slot_start(s) : 0, THAW_SLOT_PAGES))
			continue;
		if (out->addr >> THAW_PAGE_SHIFT >= end)
			break;
		if (out->pages > end - (out->addr >> THAW_PAGE_SHIFT))
			out->pages = end - (out->addr >> THAW_PAGE_SHIFT);
		return true;
	}
	return false;
}

bool thaw_pagemap_next_inherited(const struct thaw_pagemap *pm, uint64_t from, uint64_t len, uint64_t *start, uint64_t *end)
{
	uint64_t first, last;
	struct thaw_path p;
	bool found = false;

	thaw_pagemap_range(from, len >> THAW_PAGE_SHIFT, &first, &last);
	for (bool more = thaw_tree_seek(&pm->tree, first, &p); more; more = thaw_tree_step(&p)) {
		const struct thaw_slot *s = thaw_path_slot(&p);

		if (thaw_slot_start(s) >= last || (found && thaw_slot_flags(s) != THAW_EXTENT_INHERITED))
			break;
		if (thaw_slot_flags(s) != THAW_EXTENT_INHERITED)
			continue;
		if (!found)
			*start = (thaw_slot_start(s) > first ? thaw_slot_start(s) : first) << THAW_PAGE_SHIFT;
		*end = (thaw_slot_end(s) < last ? thaw_slot_end(s) : last) << THAW_PAGE_SHIFT;
		found = true;
	}
	return found;
}

bool thaw_pagemap_is_done(const struct thaw_pagemap *pm, uint64_t addr)
{
	uint64_t page = addr >> THAW_PAGE_SHIFT, at;
	const struct thaw_mosaic *m;
	struct thaw_path p;

	if (!thaw_tree_seek(&pm->tree, page, &p) || thaw_slot_start(thaw_path_slot(&p)) > page)
		return false;
	at = page - thaw_slot_start(thaw_path_slot(&p));
	m = thaw_slot_mosaic(thaw_path_slot(&p));
	return (!m || thaw_mosaic_has(m, at)) && thaw_slot_is_done(thaw_path_slot(&p), at);
}

/* An absent run that reaches the end of its slot, or of a run in it, goes on in the next one, if that is the same extent. */
static void extend_run(struct thaw_path *p, uint64_t max_pages, struct thaw_extent *out)
{
	struct thaw_extent more;

	while (out->pages < max_pages && goes_on(p, out, &more)) {
		const struct thaw_slot *s = thaw_path_slot(p);
		unsigned n, at = (more.addr >> THAW_PAGE_SHIFT) - thaw_slot_start(s);

		if (thaw_slot_next_absent(s, at, &n) != at)
			break;
		out->pages += n < more.pages ? n : more.pages;
		if (n < more.pages)
			break;
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
			fill_extent(out, s, at, n); /* a page that is not done has content */
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

	thaw_pagemap_range(addr, pages, &first, &end);
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
	/* Who reads zero from thaw_pagemap_absent() closes the userfaultfd: every ioctl that placed a page came
	 * before. */
	if (total)
		__atomic_fetch_sub(&pm->absent, total, __ATOMIC_RELEASE);
	return total;
}

/* ---- the whole map ------------------------------------------------------------------------------------------ */
static void count_pages(const struct thaw_tree *t, uint64_t *pages, uint64_t *absent)
{
	struct thaw_path p;

	*pages = *absent = 0;
	for (bool more = thaw_tree_seek(t, 0, &p); more; more = thaw_tree_step(&p)) {
		*pages += thaw_slot_content(thaw_path_slot(&p));
		*absent += thaw_slot_absent(thaw_path_slot(&p));
	}
}

void thaw_pagemap_inherit(struct thaw_pagemap *pm)
{
	struct thaw_path p;

	for (bool more = thaw_tree_seek(&pm->tree, 0, &p); more; more = thaw_tree_step(&p))
		thaw_slot_set_flags(thaw_path_slot(&p), THAW_EXTENT_INHERITED);
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
	copy->compact_at = pm->compact_at;
	copy->always = pm->always;
	count_pages(&copy->tree, &pages, &absent);
	thaw_pagemap_publish(copy, absent, pages);
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
