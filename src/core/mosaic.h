/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/mosaic.h - many short runs in one slot: memory whose pages lie here and there, or come from several images in turn.
 *
 * A slot costs 24 bytes, whether it has 1024 pages or one; where every other page has content that would be 3 MiB for each GiB of
 * addresses. A mosaic is a slot of more than 64 pages, some of which may have no content, with a field of one, two or four bits for
 * each page that names the part it belongs to. The pages of a part lie in one object, either as far apart as in memory (a memory
 * file) or one behind the other (the pages of an image, which has no holes). That makes 400 to 1000 bytes for 1024 pages.
 *
 * Pages without content are done: counters, searches and marks need to know nothing of mosaics. What is removed keeps its field, which the
 * places of the pages behind it are counted by, and loses its bit in `there`. What cuts a mosaic makes others of it, or slots
 * (core/pagemap_change.c).
 *
 * Rule      immutable but for the done bits, and for thaw_mosaic_remove(). `where` of its slot is THAW_SLOT_MOSAIC, which no run can
 *           have, and `done.words` points to it
 * Threads   as core/slot.h
 * Errors    -ENOMEM; -E2BIG: it would be no smaller, or take more parts than there may be. Nothing has changed then */
#ifndef THAW_CORE_MOSAIC_H
#define THAW_CORE_MOSAIC_H

#include "core/slot.h"

struct thaw_mosaic {
	uint64_t done[THAW_SLOT_PAGES / 64]; /* first: it is what thaw_slot_words() finds */
	uint64_t there[THAW_SLOT_PAGES / 64]; /* pages with content */
	uint16_t pages, content;             /* all of them, and those with content */
	uint8_t parts, width;                /* width: bits of a field */
	uint64_t words[];                    /* a pair for each part, then the fields: 0 never had content, else 1 + the part */
};

static inline const struct thaw_mosaic *thaw_slot_mosaic(const struct thaw_slot *s)
{
	return s->where == THAW_SLOT_MOSAIC ? (const struct thaw_mosaic *)s->done.words : NULL;
}

size_t thaw_mosaic_size(const struct thaw_mosaic *m);

/* Of n slots in address order, none a mosaic, all with the same flags and within THAW_SLOT_PAGES pages: one, if it is smaller than
 * they are (`pays`) or in any case. The slots stay as they are. -E2BIG: one slot, or pages that one word has room for; too many
 * kinds of content, or it does not pay; -ENOMEM. */
int thaw_mosaic_make(struct thaw_slot *s, const struct thaw_slot *runs, unsigned n, bool pays, size_t *memory);

bool thaw_mosaic_has(const struct thaw_mosaic *m, unsigned page); /* content */

/* The first run with content at or behind page `from` of the slot: its first page (`pages` when there is none), length and place. */
unsigned thaw_mosaic_next(const struct thaw_mosaic *m, unsigned from, unsigned *n, uint64_t *where);

/* The content of n pages from `from` on goes; they are done. Returns how many of them were absent. The caller has the map for itself. */
unsigned thaw_mosaic_remove(struct thaw_slot *s, unsigned from, unsigned n);

/* How many slots its runs make. */
unsigned thaw_mosaic_runs(const struct thaw_mosaic *m);

#endif
