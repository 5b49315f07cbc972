// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/model.c - the arena: an array with one entry a page, and what the calls do to it */
#include "config.h"
#include "stress/worker/worker.h"

#include <string.h>
#include <sys/mman.h>

#define BRK_WINDOW 512
#define VMAS 65536

uint32_t thaw_stress_pick(const struct stress_arena *r, uint32_t a, unsigned without)
{
	uint32_t start;

	if (!r->mapped)
		return STRESS_NOWHERE;
	start = a % r->pages;
	for (uint32_t i = 0; i < r->pages; i++) {
		uint32_t at = start + i < r->pages ? start + i : start + i - r->pages;

		if (r->page[at].holds != STRESS_UNMAPPED && !(r->page[at].attr & without))
			return at;
	}
	return STRESS_NOWHERE;
}

static bool same_run(const struct stress_page *a, const struct stress_page *b)
{
	return b->holds != STRESS_UNMAPPED && a->vma == b->vma && a->attr == b->attr;
}

uint32_t thaw_stress_extent(const struct stress_arena *r, uint32_t page, uint32_t most)
{
	uint32_t n = 1;

	while (n < most && page + n < r->pages && same_run(&r->page[page], &r->page[page + n]))
		n++;
	return n;
}

uint32_t thaw_stress_first_of(const struct stress_arena *r, uint32_t page)
{
	while (page && same_run(&r->page[page], &r->page[page - 1]))
		page--;
	return page;
}

uint32_t thaw_stress_free_from(const struct stress_arena *r, uint32_t page, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && page + n < r->pages && r->page[page + n].holds == STRESS_UNMAPPED)
		n++;
	return n;
}

uint32_t thaw_stress_find_free(const struct stress_arena *r, uint32_t a, uint32_t pages)
{
	uint32_t start = a % r->pages;

	for (int turn = 0; turn < 2; turn++) {
		uint32_t at = turn ? 0 : start, end = turn ? start : r->pages;

		while (at < end) {
			uint32_t n = thaw_stress_free_from(r, at, pages);

			if (n == pages)
				return at;
			at += n + 1;
		}
	}
	return STRESS_NOWHERE;
}

uint16_t thaw_stress_new_vma(struct stress_arena *r, bool split)
{
	if (r->last_vma == VMAS - 1)
		return 0; /* too many to tell apart: of 0 nothing is assumed */
	r->last_vma++;
	r->split[r->last_vma] = split;
	return r->last_vma;
}

bool thaw_stress_is_split(const struct stress_arena *r, uint32_t page)
{
	return !r->page[page].vma || r->split[r->page[page].vma];
}

void thaw_stress_map(struct stress_arena *r, uint32_t page, uint32_t pages, uint16_t vma)
{
	thaw_stress_unmap(r, page, pages);
	for (uint32_t i = page; i < page + pages; i++) {
		r->page[i].holds = STRESS_ZERO;
		r->page[i].vma = vma;
	}
	r->mapped += pages;
}

/* What was there is remembered, like what a discard takes away: it must not come back. */
static void vacate(struct stress_page *p)
{
	thaw_stress_discard(p);
	p->holds = STRESS_UNMAPPED;
	p->attr = 0;
	p->vma = 0;
}

/* What is left on both sides of a hole is no longer one mapping. */
static void cut(struct stress_arena *r, uint32_t page)
{
	uint16_t old, new;

	if (!page || page >= r->pages || r->page[page].holds == STRESS_UNMAPPED ||
	    r->page[page - 1].holds == STRESS_UNMAPPED || r->page[page].vma != r->page[page - 1].vma)
		return;
	old = r->page[page].vma;
	new = thaw_stress_new_vma(r, r->split[old]);
	for (uint32_t i = page; i < r->pages && r->page[i].holds != STRESS_UNMAPPED && r->page[i].vma == old; i++)
		r->page[i].vma = new;
}

void thaw_stress_unmap(struct stress_arena *r, uint32_t page, uint32_t pages)
{
	cut(r, page);
	cut(r, page + pages);
	for (uint32_t i = page; i < page + pages; i++) {
		r->mapped -= r->page[i].holds != STRESS_UNMAPPED;
		vacate(&r->page[i]);
	}
}

void thaw_stress_discard(struct stress_page *p)
{
	if (p->holds == STRESS_CONTENT || p->holds == STRESS_EITHER) {
		p->old = p->is;
		p->has_old = true;
	}
	p->holds = STRESS_ZERO;
}

void thaw_stress_set_content(struct stress_page *p, uint32_t from, uint32_t version)
{
	if (p->holds == STRESS_CONTENT || p->holds == STRESS_EITHER) {
		p->old = p->is;
		p->has_old = true;
	}
	p->holds = STRESS_CONTENT;
	p->is = (struct stress_content){ from, version, 0, 0, 0 };
}

/* A change of attributes splits the kernel's mapping, and it may stay split when the attributes are the same again. */
void thaw_stress_attr(struct stress_arena *r, uint32_t page, uint32_t pages, unsigned set, unsigned clear)
{
	for (uint32_t i = page; i < page + pages; i++) {
		if (r->page[i].holds == STRESS_UNMAPPED)
			continue;
		r->split[r->page[i].vma] = 1;
		r->page[i].attr = (r->page[i].attr & ~clear) | set;
	}
}

void thaw_stress_model_move(struct stress_arena *r, uint32_t from, uint32_t to, uint32_t pages, bool leaves_zero)
{
	uint16_t vma = thaw_stress_new_vma(r, thaw_stress_is_split(r, from));

	thaw_stress_unmap(r, to, pages);
	if (!leaves_zero) {
		cut(r, from);
		cut(r, from + pages);
	}
	for (uint32_t i = 0; i < pages; i++) {
		struct stress_page *p = &r->page[from + i];

		r->page[to + i] = *p;
		r->page[to + i].vma = vma;
		if (leaves_zero) {
			thaw_stress_discard(p);
			p->attr &= ~STRESS_LOCKED;
		} else {
			vacate(p);
		}
	}
	if (leaves_zero)
		r->mapped += pages;
}

static void *allocate(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint32_t window_of(const struct stress_shared *s, unsigned number, uint32_t initial)
{
	if (number < STRESS_MAX_THREADS)
		return s->window;
	return number == STRESS_BRK ? BRK_WINDOW : initial;
}

/* Every range is one mapping; what no run covers reads as zero. */
static void fill_in(struct stress_arena *r, const struct stress_shared *s, unsigned process)
{
	for (uint32_t i = 0; i < s->n_ranges; i++) {
		const struct stress_range *g = &s->ranges[i];

		if (g->process != process || g->arena != r->number)
			continue;
		thaw_stress_map(r, g->page, g->pages, thaw_stress_new_vma(r, false));
		for (uint32_t k = g->page; k < g->page + g->pages; k++)
			r->page[k].attr = (g->flags & 1 ? STRESS_WIPED : 0) | (g->flags & 2 ? STRESS_UNFORKED : 0);
	}
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct stress_run *u = &s->runs[i];

		if (u->process != process || u->arena != r->number)
			continue;
		for (uint32_t k = 0; k < u->pages; k++)
			thaw_stress_set_content(&r->page[u->page + k], process * s->initial_pages + u->first + k, 0);
	}
}

struct stress_arena *thaw_stress_arena_new(struct stress_shared *s, unsigned process, unsigned number, uint64_t base)
{
	struct stress_arena *r = allocate(sizeof(*r));
	uint32_t initial = 0;

	for (uint32_t i = 0; i < s->n_ranges; i++)
		if (s->ranges[i].process == process && s->ranges[i].arena == number &&
		    s->ranges[i].page + s->ranges[i].pages > initial)
			initial = s->ranges[i].page + s->ranges[i].pages;
	if (!r || !initial)
		return NULL;
	r->number = number;
	r->base = base;
	r->owned = true;
	r->pages = window_of(s, number, initial);
	r->end = initial;
	r->page = allocate(r->pages * sizeof(*r->page));
	r->split = allocate(VMAS);
	if (!r->page || !r->split)
		return NULL;
	fill_in(r, s, process);
	r->least = r->mapped / 4;
	return r;
}
