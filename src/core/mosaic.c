// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/mosaic.c - short runs sorted into parts, and found again */
#include "config.h"
#include "core/mosaic.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"

#define MOST_PARTS 15u /* a field has four bits at most */

/* ---- fields ------------------------------------------------------------------------------------------------- */
static unsigned field_words(unsigned pages, unsigned width)
{
	return (pages * width + 63) / 64;
}

static uint64_t *fields(const struct thaw_mosaic *m)
{
	return (uint64_t *)&m->words[2 * m->parts];
}

static unsigned field(const struct thaw_mosaic *m, unsigned page)
{
	unsigned bit = page * m->width;

	return fields(m)[bit / 64] >> bit % 64 & ((1u << m->width) - 1);
}

/* The lowest bit of each field is set. */
static uint64_t ones(unsigned width)
{
	return ~UINT64_C(0) / ((1u << width) - 1);
}

/* How many of the pages before `page` have this field. */
static unsigned count_before(const struct thaw_mosaic *m, unsigned page, unsigned value)
{
	unsigned end = page * m->width, count = 0;

	for (unsigned bit = 0; bit < end; bit += 64) {
		uint64_t differs = fields(m)[bit / 64] ^ ones(m->width) * value, same;

		for (unsigned i = 1; i < m->width; i *= 2) /* into the lowest bit of each */
			differs |= differs >> i;
		same = ~differs & ones(m->width);
		if (end - bit < 64)
			same &= (UINT64_C(1) << (end - bit)) - 1;
		count += __builtin_popcountll(same);
	}
	return count;
}

/* ---- parts -------------------------------------------------------------------------------------------------- */
/* A part while it is being made: what its next run would have to look like. */
struct draft {
	uint64_t first, apart, next; /* where its first page is, where page 0 would be, what lies behind its last page */
	bool is_apart, is_dense;     /* what it still may be */
};

/* The part that goes on with a run; a new one where none does, MOST_PARTS where there may be no more. */
static unsigned part_of(struct draft *d, unsigned *parts, unsigned at, uint64_t where, unsigned pages)
{
	uint64_t apart = where - ((uint64_t)at << 16), next = where + ((uint64_t)pages << 16);
	unsigned i;

	for (i = 0; i < *parts; i++) {
		bool is_apart = d[i].is_apart && d[i].apart == apart, is_dense = d[i].is_dense && d[i].next == where;

		if (!is_apart && !is_dense)
			continue;
		d[i].is_apart = is_apart;
		d[i].is_dense = is_dense;
		d[i].next = next;
		return i;
	}
	if (i < MOST_PARTS) {
		d[i] = (struct draft){ where, apart, next, true, true };
		++*parts;
	}
	return i;
}

static unsigned first_of(const struct thaw_slot *runs, unsigned i)
{
	return thaw_slot_start(&runs[i]) - thaw_slot_start(runs);
}

/* The part of each run, and all parts. 0 or -E2BIG. */
static int sort_runs(const struct thaw_slot *runs, unsigned n, uint8_t *part, struct draft *d, unsigned *parts)
{
	*parts = 0;
	for (unsigned i = 0; i < n; i++) {
		part[i] = part_of(d, parts, first_of(runs, i), runs[i].where, thaw_slot_pages(&runs[i]));
		if (part[i] == MOST_PARTS)
			return -E2BIG;
	}
	return 0;
}

static size_t size_of(unsigned pages, unsigned parts, unsigned width)
{
	return sizeof(struct thaw_mosaic) + (2 * parts + field_words(pages, width)) * sizeof(uint64_t);
}

size_t thaw_mosaic_size(const struct thaw_mosaic *m)
{
	return size_of(m->pages, m->parts, m->width);
}

static size_t size_of_slots(const struct thaw_slot *runs, unsigned n)
{
	size_t bytes = n * sizeof(*runs);

	for (unsigned i = 0; i < n; i++)
		bytes += thaw_slot_block(&runs[i]);
	return bytes;
}

static void fill(struct thaw_mosaic *m, const struct thaw_slot *runs, unsigned n, const uint8_t *part, const struct draft *d)
{
	for (unsigned i = 0; i < m->parts; i++) {
		m->words[2 * i] = d[i].is_apart ? d[i].apart : d[i].first;
		m->words[2 * i + 1] = d[i].is_apart;
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned at = first_of(runs, i), pages = thaw_slot_pages(&runs[i]);

		m->content += pages;
		for (unsigned bit = at * m->width; bit < (at + pages) * m->width; bit += m->width)
			fields(m)[bit / 64] |= (uint64_t)(part[i] + 1) << bit % 64;
	}
	for (unsigned i = 0; i < m->pages; i++)
		*(field(m, i) ? &m->there[i / 64] : &m->done[i / 64]) |= UINT64_C(1) << i % 64;
}

int thaw_mosaic_make(struct thaw_slot *s, const struct thaw_slot *runs, unsigned n, bool pays, size_t *memory)
{
	unsigned pages = n ? first_of(runs, n - 1) + thaw_slot_pages(&runs[n - 1]) : 0, parts, width;
	uint8_t part[THAW_SLOT_PAGES];
	struct draft d[MOST_PARTS];
	struct thaw_mosaic *m;
	size_t size;

	if (n < 2 || pages <= 64 || sort_runs(runs, n, part, d, &parts))
		return -E2BIG;
	width = parts == 1 ? 1 : parts <= 3 ? 2 : 4;
	size = size_of(pages, parts, width);
	if (pays && size + sizeof(*s) >= size_of_slots(runs, n))
		return -E2BIG;
	m = thaw_core_alloc(size);
	if (!m)
		return -ENOMEM;
	memset(m, 0, size);
	m->pages = pages;
	m->parts = parts;
	m->width = width;
	fill(m, runs, n, part, d);
	*s = runs[0];
	thaw_slot_set_pages(s, pages);
	s->where = THAW_SLOT_MOSAIC;
	s->done.words = m->done;
	for (unsigned i = 0; i < n; i++)
		thaw_slot_put_done(s, first_of(runs, i), &runs[i], 0, thaw_slot_pages(&runs[i]));
	*memory += thaw_core_alloc_cost(size);
	return 0;
}

/* ---- finding ------------------------------------------------------------------------------------------------ */
bool thaw_mosaic_has(const struct thaw_mosaic *m, unsigned page)
{
	return m->there[page / 64] >> page % 64 & 1;
}

static unsigned run_from(const struct thaw_mosaic *m, unsigned at)
{
	unsigned end = at + 1, value = field(m, at);

	while (end < m->pages && thaw_mosaic_has(m, end) && field(m, end) == value)
		end++;
	return end - at;
}

unsigned thaw_mosaic_next(const struct thaw_mosaic *m, unsigned from, unsigned *n, uint64_t *where)
{
	unsigned at = from, value;
	const uint64_t *part;

	while (at < m->pages && !thaw_mosaic_has(m, at))
		at++;
	*n = 0;
	if (at == m->pages)
		return at;
	value = field(m, at);
	part = &m->words[2 * (value - 1)];
	*n = run_from(m, at);
	*where = part[0] + ((uint64_t)(part[1] ? at : count_before(m, at, value)) << 16);
	return at;
}

unsigned thaw_mosaic_runs(const struct thaw_mosaic *m)
{
	unsigned runs = 0;

	for (unsigned at = 0; at < m->pages; at += thaw_mosaic_has(m, at) ? run_from(m, at) : 1)
		runs += thaw_mosaic_has(m, at);
	return runs;
}

/* ---- changing ----------------------------------------------------------------------------------------------- */
unsigned thaw_mosaic_remove(struct thaw_slot *s, unsigned from, unsigned n)
{
	struct thaw_mosaic *m = (struct thaw_mosaic *)s->done.words;
	unsigned absent = thaw_slot_mark(s, from, n);

	for (unsigned i = from; i < from + n; i++) {
		m->content -= thaw_mosaic_has(m, i);
		m->there[i / 64] &= ~(UINT64_C(1) << i % 64);
	}
	return absent;
}
