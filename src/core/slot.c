// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/slot.c - a run of pages and its done bits: cut, joined, marked and searched */
#include "config.h"
#include "core/slot.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "core/mosaic.h"

_Thread_local long thaw_core_alloc_left = -1;

/* ---- bits -------------------------------------------------------------------------------------------------- */
static uint64_t low_bits(unsigned n)
{
	return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
}

/* Done bits are hints about pages, not a lock around them: who needs the page itself has synchronised through the
 * gate, so relaxed is enough. */
static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* n (1..64) bits from bit `from` on, across a word boundary if need be. */
static uint64_t get_bits(const uint64_t *words, unsigned from, unsigned n)
{
	unsigned shift = from % 64;
	uint64_t v = words[from / 64] >> shift;

	if (shift && shift + n > 64)
		v |= words[from / 64 + 1] << (64 - shift);
	return v & low_bits(n);
}

static void put_bits(uint64_t *words, unsigned at, unsigned n, uint64_t v)
{
	unsigned shift = at % 64;

	words[at / 64] |= v << shift;
	if (shift && shift + n > 64)
		words[at / 64 + 1] |= v >> (64 - shift);
}

/* The destination's bits are zero. */
static void copy_bits(uint64_t *to, unsigned at, const uint64_t *from, unsigned first, unsigned n)
{
	while (n) {
		unsigned step = n < 64 ? n : 64;

		put_bits(to, at, step, get_bits(from, first, step));
		at += step;
		first += step;
		n -= step;
	}
}

/* ---- making and ending ------------------------------------------------------------------------------------- */
static uint64_t pack(uint64_t start, unsigned pages, unsigned flags)
{
	return start << 12 | (uint64_t)(pages - 1) << 2 | flags;
}

static size_t words_of(unsigned pages)
{
	return pages <= 64 ? 0 : (pages + 63) / 64 * sizeof(uint64_t);
}

size_t thaw_slot_block(const struct thaw_slot *s)
{
	const struct thaw_mosaic *m = thaw_slot_mosaic(s);

	return m ? thaw_mosaic_size(m) : words_of(thaw_slot_pages(s));
}

int thaw_slot_init(struct thaw_slot *s, uint64_t start, unsigned pages, uint64_t where, unsigned flags, size_t *memory)
{
	size_t block = words_of(pages);

	s->head = pack(start, pages, flags);
	s->where = where;
	s->done.bits = 0;
	if (!block)
		return 0;
	s->done.words = thaw_core_alloc(block);
	if (!s->done.words)
		return -ENOMEM;
	memset(s->done.words, 0, block);
	*memory += thaw_core_alloc_cost(block);
	return 0;
}

void thaw_slot_drop(struct thaw_slot *s, size_t *memory)
{
	size_t block = thaw_slot_block(s);

	if (!block)
		return;
	free(s->done.words);
	*memory -= thaw_core_alloc_cost(block);
}

int thaw_slot_copy(struct thaw_slot *to, const struct thaw_slot *from, size_t *memory)
{
	size_t block = thaw_slot_block(from);
	uint64_t *words = block ? thaw_core_alloc(block) : NULL;

	*to = *from;
	if (!block)
		return 0;
	if (!words)
		return -ENOMEM;
	to->done.words = memcpy(words, from->done.words, block);
	*memory += thaw_core_alloc_cost(block);
	return 0;
}

/* ---- cutting and joining ----------------------------------------------------------------------------------- */
int thaw_slot_cut(struct thaw_slot *s, unsigned at, struct thaw_slot *tail, size_t *memory)
{
	unsigned pages = thaw_slot_pages(s), flags = thaw_slot_flags(s);
	const uint64_t *words = thaw_slot_bits(s);
	struct thaw_slot front;

	if (thaw_slot_init(&front, thaw_slot_start(s), at, s->where, flags, memory))
		return -ENOMEM;
	if (thaw_slot_init(tail, thaw_slot_start(s) + at, pages - at, s->where + ((uint64_t)at << 16), flags, memory)) {
		thaw_slot_drop(&front, memory);
		return -ENOMEM;
	}
	copy_bits(thaw_slot_words(&front), 0, words, 0, at);
	copy_bits(thaw_slot_words(tail), 0, words, at, pages - at);
	thaw_slot_drop(s, memory);
	*s = front;
	return 0;
}

bool thaw_slot_continues(const struct thaw_slot *a, const struct thaw_slot *b)
{
	return thaw_slot_end(a) == thaw_slot_start(b) && thaw_slot_flags(a) == thaw_slot_flags(b) && !thaw_slot_mosaic(a) &&
	       !thaw_slot_mosaic(b) && a->where + ((uint64_t)thaw_slot_pages(a) << 16) == b->where;
}

int thaw_slot_join(struct thaw_slot *both, const struct thaw_slot *a, const struct thaw_slot *b, size_t *memory)
{
	unsigned first = thaw_slot_pages(a), second = thaw_slot_pages(b);

	if (thaw_slot_init(both, thaw_slot_start(a), first + second, a->where, thaw_slot_flags(a), memory))
		return -ENOMEM;
	copy_bits(thaw_slot_words(both), 0, thaw_slot_bits(a), 0, first);
	copy_bits(thaw_slot_words(both), first, thaw_slot_bits(b), 0, second);
	return 0;
}

void thaw_slot_put_done(struct thaw_slot *s, unsigned at, const struct thaw_slot *from, unsigned first, unsigned n)
{
	copy_bits(thaw_slot_words(s), at, thaw_slot_bits(from), first, n);
}

void thaw_slot_shift(struct thaw_slot *s, uint64_t start)
{
	s->head = pack(start, thaw_slot_pages(s), thaw_slot_flags(s));
}

/* ---- done bits --------------------------------------------------------------------------------------------- */
unsigned thaw_slot_mark(struct thaw_slot *s, unsigned from, unsigned n)
{
	uint64_t *words = thaw_slot_words(s);
	unsigned end = from + n, fresh = 0;

	while (from < end) {
		unsigned shift = from % 64, step = 64 - shift < end - from ? 64 - shift : end - from;
		uint64_t mask = low_bits(step) << shift;
		uint64_t old = __atomic_fetch_or(&words[from / 64], mask, __ATOMIC_RELAXED);

		fresh += __builtin_popcountll(mask & ~old);
		from += step;
	}
	return fresh;
}

bool thaw_slot_is_done(const struct thaw_slot *s, unsigned page)
{
	const uint64_t *words = thaw_slot_bits(s);

	return load(&words[page / 64]) >> (page % 64) & 1;
}

/* The first page at or behind `from` whose bit is `done`; `pages` when there is none. */
static unsigned find_bit(const uint64_t *words, unsigned pages, unsigned from, bool done)
{
	while (from < pages) {
		uint64_t v = load(&words[from / 64]);

		if (!done)
			v = ~v;
		v &= ~low_bits(from % 64);
		if (v) {
			unsigned at = (from & ~63u) + __builtin_ctzll(v);

			return at < pages ? at : pages;
		}
		from = (from & ~63u) + 64;
	}
	return pages;
}

unsigned thaw_slot_next_absent(const struct thaw_slot *s, unsigned from, unsigned *n)
{
	const uint64_t *words = thaw_slot_bits(s);
	unsigned pages = thaw_slot_pages(s);
	unsigned at = find_bit(words, pages, from, false);

	*n = find_bit(words, pages, at, true) - at;
	/* Marked by another thread between the two searches: an empty run would stop the caller, so go on behind. */
	if (at < pages && !*n)
		return thaw_slot_next_absent(s, at + 1, n);
	return at;
}

unsigned thaw_slot_absent(const struct thaw_slot *s)
{
	const uint64_t *words = thaw_slot_bits(s);
	unsigned pages = thaw_slot_pages(s), done = 0;

	for (unsigned i = 0; i < (pages + 63) / 64; i++)
		done += __builtin_popcountll(load(&words[i]));
	return pages - done;
}

unsigned thaw_slot_content(const struct thaw_slot *s)
{
	const struct thaw_mosaic *m = thaw_slot_mosaic(s);

	return m ? m->content : thaw_slot_pages(s);
}
