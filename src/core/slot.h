/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/slot.h - one entry of the page map: a run of up to 1024 pages and their done bits, in 24 bytes.
 *
 * A longer extent is several slots in a row. So cutting, joining and searching one slot is bounded work, and a
 * finished part of a large extent is skipped by the counters of the tree, not by reading its bits. Many short runs may be one slot, a
 * mosaic; such a slot is neither cut nor joined.
 *
 * Rule      done bits are written with atomic operations by several threads at once; everything else only by a
 *           thread that has the map for itself
 * Threads   caller excludes, but for thaw_slot_mark, which runs beside itself and beside the readers
 * Errors    -ENOMEM leaves the slots as they were */
#ifndef THAW_CORE_SLOT_H
#define THAW_CORE_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THAW_SLOT_PAGES 1024u /* most pages of one slot: 10 bits of `head` */
#define THAW_SLOT_MOSAIC UINT64_MAX /* `where` of a slot that is many runs, and of no other: core/mosaic.h */

struct thaw_slot {
	uint64_t head;  /* first page << 12 | (pages - 1) << 2 | flags */
	uint64_t where; /* page of the object << 16 | object */
	union {
		uint64_t bits;   /* up to 64 pages */
		uint64_t *words; /* more */
	} done;
};

static inline uint64_t thaw_slot_start(const struct thaw_slot *s)
{
	return s->head >> 12;
}

static inline unsigned thaw_slot_pages(const struct thaw_slot *s)
{
	return ((s->head >> 2) & (THAW_SLOT_PAGES - 1)) + 1;
}

static inline uint64_t thaw_slot_end(const struct thaw_slot *s)
{
	return thaw_slot_start(s) + thaw_slot_pages(s);
}

static inline unsigned thaw_slot_flags(const struct thaw_slot *s)
{
	return s->head & 3;
}

static inline void thaw_slot_set_flags(struct thaw_slot *s, unsigned flags)
{
	s->head = (s->head & ~3ULL) | flags;
}

static inline uint64_t *thaw_slot_words(struct thaw_slot *s)
{
	return thaw_slot_pages(s) <= 64 ? &s->done.bits : s->done.words;
}

static inline const uint64_t *thaw_slot_bits(const struct thaw_slot *s)
{
	return thaw_slot_pages(s) <= 64 ? &s->done.bits : s->done.words;
}

static inline void thaw_slot_set_pages(struct thaw_slot *s, unsigned pages)
{
	s->head = (s->head & ~((THAW_SLOT_PAGES - 1ULL) << 2)) | (uint64_t)(pages - 1) << 2;
}

/* Bytes that a slot holds outside itself. */
size_t thaw_slot_block(const struct thaw_slot *s);

/* `memory` is the map's count of bytes held: each function that takes or gives back a block keeps it right. */
int thaw_slot_init(struct thaw_slot *s, uint64_t start, unsigned pages, uint64_t where, unsigned flags, size_t *memory);
void thaw_slot_drop(struct thaw_slot *s, size_t *memory);
int thaw_slot_copy(struct thaw_slot *to, const struct thaw_slot *from, size_t *memory);

/* Cuts s before its page `at` (0 < at < pages): s keeps the front, *tail gets the rest. */
int thaw_slot_cut(struct thaw_slot *s, unsigned at, struct thaw_slot *tail, size_t *memory);
/* Is b, which lies behind a, the continuation of a in addresses, content and flags? */
bool thaw_slot_continues(const struct thaw_slot *a, const struct thaw_slot *b);
/* Makes one slot of two that continue each other and fit into one; a and b stay as they are. */
int thaw_slot_join(struct thaw_slot *both, const struct thaw_slot *a, const struct thaw_slot *b, size_t *memory);
/* Pages [first, first + n) of `from` are done in s, from page `at` on, where they are there. Nobody else has s. */
void thaw_slot_put_done(struct thaw_slot *s, unsigned at, const struct thaw_slot *from, unsigned first, unsigned n);
/* The same run at another address. */
void thaw_slot_shift(struct thaw_slot *s, uint64_t start);

/* Pages [from, from + n) of the slot are done; returns how many were not before. Atomic. */
unsigned thaw_slot_mark(struct thaw_slot *s, unsigned from, unsigned n);
bool thaw_slot_is_done(const struct thaw_slot *s, unsigned page);
/* The first run of absent pages at or behind `from`: its first page, and its length in *n. `pages` when there is
 * none. */
unsigned thaw_slot_next_absent(const struct thaw_slot *s, unsigned from, unsigned *n);
unsigned thaw_slot_absent(const struct thaw_slot *s);
unsigned thaw_slot_content(const struct thaw_slot *s); /* pages with content, done or not */

#endif
