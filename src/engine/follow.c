// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/follow.c - chains of pointers, and the heat of spans */
#include "config.h"
#include "engine/follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fill.h"
#include "engine/plan.h"
#include "engine/serve.h"
#include "util/err.h"
#include "util/inject.h"

/* ---- chains ------------------------------------------------------------------------------------------------------ */
#define WORDS (THAW_PAGE_SIZE / sizeof(uint64_t))
#define RECENT 4 /* pages whose words are looked at: one request of a program may wait in several places in turn */

/* How far a chain is followed. An object is a few words: an entry of a hash table has three, what it leads to a type and a pointer. */
#define FIRST_WORDS 3
#define WORDS_BEHIND 2
#define DEPTH 3
#define MOST_PAGES 5

/* After so many faults in a row that no pointer led to, only two of each so many are looked at. */
#define UNLINKED 64
#define SAMPLE 32

struct page {
	int64_t space; /* its number; 0: none */
	uint64_t words[WORDS];
};

struct thaw_follow {
	struct page recent[RECENT];
	unsigned at;                 /* where the next comes in */
	unsigned unlinked, n_faults; /* faults in a row that no pointer led to; and since */
};

int thaw_follow_new(struct thaw_follow **out)
{
	struct thaw_follow *f = THAW_INJECT("memory.follow") ? NULL : calloc(1, sizeof(*f));

	if (!f)
		return thaw_err_set(-ENOMEM, "no memory for the pages of the latest faults");
	*out = f;
	return 0;
}

void thaw_follow_free(struct thaw_follow *f)
{
	free(f);
}

struct object {
	const uint64_t *words;
	unsigned n, depth;
};

struct chase {
	struct thaw_worker *w;
	struct thaw_mm *mm;
	struct object todo[1 + 1 + MOST_PAGES]; /* the first, its neighbour, and one on each page brought in */
	unsigned n, pages, most;
	bool over;
};

/* Up to n words from there on, within the page. */
static void add(struct chase *c, const uint64_t *page, unsigned at, unsigned n, unsigned depth)
{
	c->todo[c->n++] = (struct object){ page + at, n < WORDS - at ? n : WORDS - at, depth };
}

/* Places the page, unless somebody waits; a message of the space itself may well be for the first page that is brought in. Its content,
 * in the worker's buffer; NULL: it is not placed. */
static const uint64_t *bring(struct chase *c, const struct thaw_extent *e)
{
	const struct thaw_object *o = thaw_content_object(c->mm->content, e->object);
	unsigned char *buf = c->w->buf + (size_t)(1 + c->pages) * THAW_PAGE_SIZE;
	struct thaw_window win;
	struct thaw_step s;

	c->over = thaw_serve_is_asked(c->w, c->mm, c->pages);
	if (c->over || !o || o->fd < 0 || thaw_object_read_now(o, e->off, THAW_PAGE_SIZE, buf))
		return NULL;
	win = (struct thaw_window){ c->mm->content, o->number, e->off, e->off + THAW_PAGE_SIZE, buf };
	s = thaw_fill_step(c->w, c->mm, true, e->addr, e->addr + THAW_PAGE_SIZE, 1, &win, THAW_COUNT_PAGES_AROUND);
	c->over = ++c->pages == c->most || s.kind != THAW_STEP_PLACED;
	return (const uint64_t *)buf;
}

/* Brings in what an object's words point to, and notes what lies there. Whether any of them points to content. */
static bool go_through(struct chase *c, const struct object *o)
{
	struct thaw_extent e;
	bool any = false;

	for (unsigned i = 0; i < o->n && !c->over; i++) {
		uint64_t word = o->words[i], addr = word & ~(THAW_PAGE_SIZE - 1);
		const uint64_t *page;

		if (!thaw_pagemap_lookup(c->mm->pm, addr, 1, &e))
			continue;
		any = true;
		page = thaw_pagemap_is_done(c->mm->pm, addr) ? NULL : bring(c, &e);
		if (page && o->depth + 1 < DEPTH && word % sizeof(word) == 0)
			add(c, page, word % THAW_PAGE_SIZE / sizeof(word), WORDS_BEHIND, o->depth + 1);
	}
	return any;
}

/* A word of `from` points into `here`. Where that leads to no pointer, to a name say, its neighbour is next: what has that name. */
static void chase(struct thaw_worker *w, struct thaw_mm *mm, const uint64_t *here, const struct page *from, unsigned word)
{
	struct chase c = { .w = w, .mm = mm, .most = w->m->set.around < MOST_PAGES ? w->m->set.around : MOST_PAGES };
	uint64_t target = from->words[word];
	bool any = false;
	unsigned i = 0;

	if (target % sizeof(target) == 0) {
		add(&c, here, target % THAW_PAGE_SIZE / sizeof(target), FIRST_WORDS, 0);
		any = go_through(&c, &c.todo[i++]);
	}
	if (!any && word + 1 < WORDS)
		add(&c, from->words, word + 1, 1, 0);
	while (i < c.n && !c.over)
		go_through(&c, &c.todo[i++]);
}

/* The first word that points into the page at addr; WORDS: none. Without a branch a word, since nearly always there is none. */
static unsigned points_to(const uint64_t words[WORDS], uint64_t addr)
{
	unsigned i, k, any;

	for (i = 0; i < WORDS; i += 16) {
		for (any = k = 0; k < 16; k++)
			any |= words[i + k] - addr < THAW_PAGE_SIZE;
		for (k = 0; any && k < 16; k++)
			if (words[i + k] - addr < THAW_PAGE_SIZE)
				return i + k;
	}
	return WORDS;
}

/* The latest page that led to this one, and by which word. */
static const struct page *reached_from(const struct thaw_follow *f, int64_t space, uint64_t addr, unsigned *word)
{
	for (unsigned k = 1; k <= RECENT; k++) {
		const struct page *p = &f->recent[(f->at - k) % RECENT];

		if (p->space != space)
			continue;
		*word = points_to(p->words, addr);
		if (*word < WORDS)
			return p;
	}
	return NULL;
}

void thaw_follow_chain(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr)
{
	struct thaw_follow *f = w->follow;
	const struct page *from;
	struct page *p;
	unsigned word;

	if (!f || !w->m->set.around || (f->unlinked >= UNLINKED && f->n_faults++ % SAMPLE >= 2))
		return;
	from = reached_from(f, mm->id, addr, &word);
	if (from) {
		f->unlinked = 0;
		chase(w, mm, (const uint64_t *)w->buf, from, word);
	} else {
		f->unlinked++;
	}
	p = &f->recent[f->at++ % RECENT];
	p->space = mm->id;
	memcpy(p->words, w->buf, sizeof(p->words));
}

/* ---- heat -------------------------------------------------------------------------------------------------------- */
/* A place holds one span and its count: number << 16 | count. Another span that comes there cools it down, and takes the place of one
 * that is cold. The owner and a copier may undo what the other has just written: a span stays hot, which the plan sees, or a fault
 * is not counted. */
#define COUNT 0xffffULL
#define HOT 6 /* where faults are spread evenly, four in a row come to one span now and then */

void thaw_follow_heat(struct thaw_mm *mm, uint64_t addr)
{
	uint64_t span = addr / THAW_SPAN_BYTES, now;
	_Atomic uint64_t *place = &mm->heat[(uint32_t)span * 2654435761U >> (32 - THAW_HEAT_BITS)];

	now = atomic_load_explicit(place, memory_order_relaxed);
	if (now >> 16 == span)
		now += (now & COUNT) < COUNT;
	else if ((now & COUNT) > 1)
		now--;
	else
		now = span << 16 | 1;
	atomic_store_explicit(place, now, memory_order_relaxed);
}

bool thaw_follow_hot(struct thaw_mm *mm, uint64_t *span)
{
	unsigned hottest = 0;
	uint64_t most = 0, now;

	for (unsigned i = 0; i < 1U << THAW_HEAT_BITS; i++) {
		now = atomic_load_explicit(&mm->heat[i], memory_order_relaxed);
		if ((now & COUNT) > (most & COUNT)) {
			most = now;
			hottest = i;
		}
	}
	if ((most & COUNT) < HOT)
		return false;
	atomic_store_explicit(&mm->heat[hottest], 0, memory_order_relaxed);
	*span = (most >> 16) * THAW_SPAN_BYTES;
	return true;
}
