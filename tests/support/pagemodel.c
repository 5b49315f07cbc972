// SPDX-License-Identifier: LGPL-2.1-or-later
/* support/pagemodel.c - the page map the slow way, and the comparison of the two */
#include "config.h"
#include "support/pagemodel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page {
	uint64_t off;
	uint32_t object;
	uint16_t flags;
	bool content, done;
};

struct pagemodel {
	uint64_t base, pages;
	struct page page[];
};

static void differs(const char *what, uint64_t addr, uint64_t got, uint64_t want)
{
	fprintf(stderr, "%s at %#lx: the map says %#lx, the model %#lx\n", what, addr, got, want);
	abort();
}

struct pagemodel *pagemodel_new(uint64_t base, uint64_t pages)
{
	struct pagemodel *m = calloc(1, sizeof(*m) + pages * sizeof(m->page[0]));

	if (!m)
		abort();
	m->base = base;
	m->pages = pages;
	return m;
}

void pagemodel_free(struct pagemodel *m)
{
	free(m);
}

struct pagemodel *pagemodel_clone(const struct pagemodel *m, unsigned drop_flags)
{
	struct pagemodel *copy = pagemodel_new(m->base, m->pages);

	memcpy(copy->page, m->page, m->pages * sizeof(m->page[0]));
	pagemodel_drop(copy, drop_flags);
	return copy;
}

/* Clips [addr, addr + n pages) to the window: first index, and the number of pages. */
static uint64_t clip(const struct pagemodel *m, uint64_t addr, uint64_t n, uint64_t *first)
{
	uint64_t page = addr >> THAW_PAGE_SHIFT, base = m->base >> THAW_PAGE_SHIFT;
	uint64_t end = page + n, limit = base + m->pages;

	if (end > limit)
		end = limit;
	if (page < base)
		page = base;
	*first = page - base;
	return page < end ? end - page : 0;
}

int pagemodel_add(struct pagemodel *m, const struct thaw_extent *e)
{
	uint64_t first, n = clip(m, e->addr, e->pages, &first);

	for (uint64_t i = first; i < first + n; i++)
		if (m->page[i].content)
			return -EEXIST;
	for (uint64_t i = 0; i < n; i++)
		m->page[first + i] = (struct page){ e->off + (i << THAW_PAGE_SHIFT), e->object,
						    e->flags & THAW_EXTENT_DONTFORK ? THAW_EXTENT_DONTFORK : e->flags, true, false };
	return 0;
}

uint64_t pagemodel_mark(struct pagemodel *m, uint64_t addr, uint64_t pages)
{
	uint64_t first, n = clip(m, addr, pages, &first), fresh = 0;

	for (uint64_t i = first; i < first + n; i++) {
		fresh += m->page[i].content && !m->page[i].done;
		m->page[i].done = m->page[i].content;
	}
	return fresh;
}

int64_t pagemodel_remove(struct pagemodel *m, uint64_t addr, uint64_t len)
{
	uint64_t first, n = clip(m, addr, len >> THAW_PAGE_SHIFT, &first), absent = 0;

	for (uint64_t i = first; i < first + n; i++) {
		absent += m->page[i].content && !m->page[i].done;
		m->page[i] = (struct page){ 0 };
	}
	return absent;
}

int64_t pagemodel_move(struct pagemodel *m, uint64_t from, uint64_t to, uint64_t len)
{
	uint64_t n = len >> THAW_PAGE_SHIFT, src = (from - m->base) >> THAW_PAGE_SHIFT,
		 dst = (to - m->base) >> THAW_PAGE_SHIFT;
	int64_t absent = pagemodel_remove(m, to, len);

	memcpy(&m->page[dst], &m->page[src], n * sizeof(m->page[0]));
	memset(&m->page[src], 0, n * sizeof(m->page[0]));
	for (uint64_t i = dst; i < dst + n; i++)
		if (m->page[i].flags == THAW_EXTENT_INHERITED)
			m->page[i].flags = 0;
	return absent;
}

bool pagemodel_has(const struct pagemodel *m, uint64_t addr, uint64_t len)
{
	uint64_t first, n = clip(m, addr, len >> THAW_PAGE_SHIFT, &first);

	for (uint64_t i = first; i < first + n; i++)
		if (m->page[i].content)
			return true;
	return false;
}

void pagemodel_drop(struct pagemodel *m, unsigned flags)
{
	for (uint64_t i = 0; i < m->pages; i++)
		if (m->page[i].flags != THAW_EXTENT_INHERITED && m->page[i].flags & flags)
			m->page[i] = (struct page){ 0 };
}

void pagemodel_inherit(struct pagemodel *m)
{
	for (uint64_t i = 0; i < m->pages; i++)
		m->page[i].flags = m->page[i].content ? THAW_EXTENT_INHERITED : 0;
}

/* ---- comparison -------------------------------------------------------------------------------------------- */
static bool continues(const struct page *a, const struct page *b)
{
	return b->content && b->object == a->object && b->flags == a->flags && b->off == a->off + THAW_PAGE_SIZE;
}

/* The run of content pages from i on that are one extent; with `absent` set, only as long as they are not done. */
static uint64_t run(const struct pagemodel *m, uint64_t i, bool absent)
{
	uint64_t n = 1;

	while (i + n < m->pages && continues(&m->page[i + n - 1], &m->page[i + n]) && !(absent && m->page[i + n].done))
		n++;
	return n;
}

static void same_extent(const struct pagemodel *m, uint64_t i, const struct thaw_extent *e, uint64_t pages)
{
	uint64_t addr = m->base + (i << THAW_PAGE_SHIFT);

	if (e->addr != addr)
		differs("address", addr, e->addr, addr);
	if (e->pages != pages)
		differs("length", addr, e->pages, pages);
	if (e->off != m->page[i].off)
		differs("offset", addr, e->off, m->page[i].off);
	if (e->object != m->page[i].object || e->flags != m->page[i].flags)
		differs("object and flags", addr, (uint64_t)e->object << 8 | e->flags,
			(uint64_t)m->page[i].object << 8 | m->page[i].flags);
}

static void verify_lookup(const struct pagemodel *m, const struct thaw_pagemap *pm)
{
	uint64_t left = 0;

	for (uint64_t i = 0; i < m->pages; i++) {
		uint64_t addr = m->base + (i << THAW_PAGE_SHIFT), max = i % 3 ? i % 90 + 1 : UINT64_MAX;
		struct thaw_extent e;

		if (!left && m->page[i].content)
			left = run(m, i, false);
		if (thaw_pagemap_is_done(pm, addr) != m->page[i].done)
			differs("done", addr, !m->page[i].done, m->page[i].done);
		if (thaw_pagemap_lookup(pm, addr + 0xabc, max, &e) != m->page[i].content)
			differs("content", addr, !m->page[i].content, m->page[i].content);
		if (m->page[i].content)
			same_extent(m, i, &e, left < max ? left : max);
		left -= left ? 1 : 0;
	}
}

static void verify_absent(const struct pagemodel *m, const struct thaw_pagemap *pm)
{
	uint64_t content = 0, absent = 0, i = 0;

	while (i < m->pages) {
		uint64_t addr = m->base + (i << THAW_PAGE_SHIFT), max = i % 2 ? 16 : UINT64_MAX, n;
		struct thaw_extent e;
		bool found = thaw_pagemap_next_absent(pm, addr, max, &e);

		for (; i < m->pages && !(m->page[i].content && !m->page[i].done); i++)
			;
		if (found != (i < m->pages))
			differs("next absent", addr, found, i < m->pages);
		if (!found)
			break;
		n = run(m, i, true);
		n = n < max ? n : max;
		same_extent(m, i, &e, n);
		i += n;
	}
	for (i = 0; i < m->pages; i++) {
		content += m->page[i].content;
		absent += m->page[i].content && !m->page[i].done;
	}
	if (thaw_pagemap_pages(pm) != content)
		differs("pages", m->base, thaw_pagemap_pages(pm), content);
	if (thaw_pagemap_absent(pm) != absent)
		differs("absent pages", m->base, thaw_pagemap_absent(pm), absent);
}

void pagemodel_verify(const struct pagemodel *m, const struct thaw_pagemap *pm)
{
	verify_lookup(m, pm);
	verify_absent(m, pm);
}
