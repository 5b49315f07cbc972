/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/pagemap_impl.h - what the two halves of the page map share: pagemap.c (reading) and pagemap_change.c.
 * Rule      included by these two only */
#ifndef THAW_CORE_PAGEMAP_IMPL_H
#define THAW_CORE_PAGEMAP_IMPL_H

#include "core/pagemap.h"
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
	uint64_t compact_at; /* compacted again when it has so many slots; 0: never */
	bool always;         /* as it was compacted last */
};

/* Ends a change: the figures say what the tree says now. */
void thaw_pagemap_publish(struct thaw_pagemap *pm, int64_t absent, int64_t pages);

/* Pages [first, end) of an address range; cut at the end of the address space. */
static inline void thaw_pagemap_range(uint64_t addr, uint64_t pages, uint64_t *first, uint64_t *end)
{
	*first = addr >> THAW_PAGE_SHIFT;
	*end = pages > LAST_PAGE - *first ? LAST_PAGE : *first + pages;
}

#endif
