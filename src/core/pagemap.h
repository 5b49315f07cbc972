/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/pagemap.h - where the content of each page of one space is, and whether it is in already.
 *
 * A map holds extents: runs of run-time pages whose content is a run of one source object. An address
 * that is in no extent holds no checkpointed content: it reads as zero (or is not the monitor's business).
 * Each page of an extent has one bit: done (placed, or found present, or gone).
 *
 * Extents are kept as runs of up to 1024 pages (core/slot.h) in a B+-tree (core/tree.h), many short ones together (core/mosaic.h).
 *
 * Rule      the structure changes only in the exclusive section of the space (or before it is published);
 *           in the shared section it is read, and done bits are set with atomic operations
 * Threads   caller excludes: functions marked (X) need the exclusive section, the others S or X
 * Cost      lookup, mark, remove and move of one extent: O(log n); 24 bytes a run and one bit a page or so. Short runs, once they
 *           are compacted: less than one byte for each page of their addresses
 * Errors    -ENOMEM, -EINVAL (not whole pages, outside the limits below), -EEXIST (an added extent overlaps);
 *           the map then says what it said before */
#ifndef THAW_CORE_PAGEMAP_H
#define THAW_CORE_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THAW_PAGE_SHIFT 12
#define THAW_PAGE_SIZE (1UL << THAW_PAGE_SHIFT)

#define THAW_EXTENT_WIPEONFORK (1u << 0)
#define THAW_EXTENT_DONTFORK (1u << 1)
/* A child's, since its fork, and at the place where it was then. (Both marks at once would mean no more than DONTFORK.) */
#define THAW_EXTENT_INHERITED (THAW_EXTENT_WIPEONFORK | THAW_EXTENT_DONTFORK)

struct thaw_pagemap;

struct thaw_extent {
	uint64_t addr;   /* run-time address, page aligned */
	uint64_t pages;
	uint64_t off;    /* byte offset in the object, page aligned; it ends before 2^60 - 4096 */
	uint32_t object; /* < 2^16: the source's number of a file (or other object) */
	uint32_t flags;  /* THAW_EXTENT_* */
};

struct thaw_pagemap *thaw_pagemap_new(void);
void thaw_pagemap_free(struct thaw_pagemap *pm);

/* (X) Adds an extent, joining it to neighbours that continue it. With both marks it is DONTFORK. */
int thaw_pagemap_add(struct thaw_pagemap *pm, const struct thaw_extent *e);

/* The content at addr: the rest of its extent from the page of addr on, cut to max_pages. False: no content (zero). */
bool thaw_pagemap_lookup(const struct thaw_pagemap *pm, uint64_t addr, uint64_t max_pages, struct thaw_extent *out);

/* The first run of content within [from, from + len), done or not. */
bool thaw_pagemap_next(const struct thaw_pagemap *pm, uint64_t from, uint64_t len, struct thaw_extent *out);

/* The first stretch of [from, from + len) whose content, where it has any, is INHERITED. *end is 0 where that is the end of the address
 * space. */
bool thaw_pagemap_next_inherited(const struct thaw_pagemap *pm, uint64_t from, uint64_t len, uint64_t *start, uint64_t *end);

bool thaw_pagemap_is_done(const struct thaw_pagemap *pm, uint64_t addr); /* false where there is no content */

/* The first run of pages at or behind `from` that are not done, within one extent, cut to max_pages. */
bool thaw_pagemap_next_absent(const struct thaw_pagemap *pm, uint64_t from, uint64_t max_pages,
			      struct thaw_extent *out);

/* Marks pages done; parts without content are passed over. Returns how many were newly marked. Several threads in S may
 * mark at once, the same pages too: each page is counted for one of them. */
uint64_t thaw_pagemap_mark_done(struct thaw_pagemap *pm, uint64_t addr, uint64_t pages);

/* (X) The range was discarded or unmapped: its extents go. Returns the absent pages dropped, or an error. Any length:
 * what reaches beyond the end of the address space is cut there. */
int64_t thaw_pagemap_remove(struct thaw_pagemap *pm, uint64_t addr, uint64_t len);

/* (X) The range was moved: what the destination held goes, extents and done bits move; nothing of it is INHERITED any more. Returns the
 * absent pages dropped at the destination, or an error. Source and destination may not overlap (mremap forbids it). */
int64_t thaw_pagemap_move(struct thaw_pagemap *pm, uint64_t from, uint64_t to, uint64_t len);

/* (X) The same between two maps (or within one), both the caller's. What stays at its address stays INHERITED. */
int64_t thaw_pagemap_transfer(struct thaw_pagemap *src, uint64_t from, struct thaw_pagemap *dst, uint64_t to, uint64_t len);

/* (X) A fork child's map: a copy, without the extents that are marked with one of drop_flags. NULL: no memory. */
struct thaw_pagemap *thaw_pagemap_clone(const struct thaw_pagemap *pm, uint32_t drop_flags);

/* (X) All extents are INHERITED, whatever they were. */
void thaw_pagemap_inherit(struct thaw_pagemap *pm);

/* (X) Stores short runs that lie close together in less memory, from an address on; always: also where it is no less. What the map says
 * stays the same, and where there is no memory it stays as it is. A map that has been compacted once is so again when changes have made
 * it twice as large. */
void thaw_pagemap_compact(struct thaw_pagemap *pm, uint64_t from, bool always);

uint64_t thaw_pagemap_absent(const struct thaw_pagemap *pm); /* pages with content that are not done; atomic read */
uint64_t thaw_pagemap_pages(const struct thaw_pagemap *pm);  /* pages with content, done or not */
uint64_t thaw_pagemap_extents(const struct thaw_pagemap *pm); /* runs of at most 1024 pages; compacted ones count once */
size_t thaw_pagemap_memory(const struct thaw_pagemap *pm);   /* bytes held */
/* The four figures may be read by any thread at any time while the map lives. */

bool thaw_pagemap_is_sound(const struct thaw_pagemap *pm); /* (X) tests: order, keys and counters; O(n) */

#endif
