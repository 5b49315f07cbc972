// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/setup.c - what a round is like: drawn from its seed where the command line leaves it open; and where its memory lies */
#include "config.h"
#include "stress/stress.h"

#include <string.h>
#include <unistd.h>

const char *const thaw_stress_sources[] = { "resident", "cold", "slow", "failing", NULL };
const char *const thaw_stress_backgrounds[] = { "run", "delayed", "lazy", NULL };

#define BASE 0x100000000000ULL
#define GIB (1ULL << 30)
#define BRK_PAGES 64
#define SPARSE_SIZE (1ULL << 30) /* from here on, only a page here and there has content */
#define SPARSE_LOOK 100000       /* and about so many are looked at in the end */

static unsigned draw(uint64_t *rnd, unsigned n)
{
	return thaw_stress_random(rnd) % n;
}

bool thaw_stress_is_sparse(const struct stress_setup *u)
{
	return u->size >= SPARSE_SIZE;
}

bool thaw_stress_fits(uint64_t size, unsigned processes, unsigned threads, char *why, size_t why_size)
{
	if (size < (uint64_t)threads << 18)
		snprintf(why, why_size, "256K for each of the %u threads are needed", threads);
	else if (processes * (size / STRESS_PAGE) >= 1ULL << 31)
		snprintf(why, why_size, "%u processes of that size have more pages than can be told apart", processes);
	else
		return true;
	return false;
}

void thaw_stress_draw(struct stress_setup *u, const struct stress_options *o, uint64_t round)
{
	static const unsigned threads[] = { 1, 1, 2, 4 }, copiers[] = { 1, 2, 2, 4 };
	static const unsigned chunks[] = { 1, 4, 16, 64 };
	static const enum stress_source sources[] = { STRESS_RESIDENT, STRESS_RESIDENT, STRESS_RESIDENT, STRESS_COLD, STRESS_SLOW,
						      STRESS_SLOW, STRESS_RESIDENT, STRESS_FAILING };
	static const enum stress_background backgrounds[] = { STRESS_BG_RUN, STRESS_BG_RUN, STRESS_BG_DELAYED, STRESS_BG_LAZY };
	uint64_t rnd = thaw_stress_mix(o->seed * 1000003 + round);
	bool asked;

	memset(u, 0, sizeof(*u));
	u->seed = thaw_stress_random(&rnd) >> 1;
	u->content = o->seed;
	u->size = o->size;
	u->processes = o->processes ? o->processes : 1 + draw(&rnd, 3);
	u->threads = o->threads ? o->threads : threads[draw(&rnd, 4)];
	u->copiers = o->copiers ? o->copiers : copiers[draw(&rnd, 4)];
	u->chunk = o->chunk ? o->chunk : chunks[draw(&rnd, 4)] * STRESS_PAGE;
	u->readers = 1 + draw(&rnd, 2);
	u->around = draw(&rnd, 4) ? 16 : 0;
	u->spin = draw(&rnd, 3) ? 50 : 0;
	u->delay_ms = draw(&rnd, 30);
	u->source = o->source != STRESS_ANY_SOURCE ? o->source : sources[draw(&rnd, 8)];
	/* A function that is asked has content for every page: sparse memory would be filled to the last one. */
	if (o->source == STRESS_ANY_SOURCE && thaw_stress_is_sparse(u) && u->source != STRESS_COLD)
		u->source = STRESS_RESIDENT;
	u->background = o->background != STRESS_ANY_BACKGROUND ? o->background : backgrounds[draw(&rnd, 4)];
	u->io = draw(&rnd, 2) ? THAW_IO_AUTO : THAW_IO_POOL;
	u->by_library = draw(&rnd, 2);
	u->holder = draw(&rnd, 3) == 0;
	u->late_add = draw(&rnd, 2);
	u->sandbox = draw(&rnd, 4) != 0;
	u->gate = o->numbering == STRESS_GATE;
	u->big = o->kind[STRESS_OP_BIG_DISCARD] || o->kind[STRESS_OP_BIG_MOVE] || o->kind[STRESS_OP_BIG_READ];
	asked = u->source == STRESS_SLOW || u->source == STRESS_FAILING;
	/* Likewise the range of more than 4 GiB, where it is copied ahead: nobody expects thaw-stress to need as much memory. */
	if (asked && o->background == STRESS_ANY_BACKGROUND && u->background != STRESS_BG_LAZY)
		u->big = false;
	u->held = draw(&rnd, 2) && asked;
	if (o->kind[STRESS_OP_PLANT_UNFINISHED])
		u->held = true; /* its content never comes: the space stays open */
	memcpy(u->kind, o->kind, sizeof(u->kind));
	/* Asked for alone, it is to be had at its full height. */
	if (o->kind[STRESS_OP_SHATTER] && !o->all_kinds)
		u->shatter = u->size / STRESS_PAGE;
}

/* ---- memory ------------------------------------------------------------------------------------------------------------ */
static void add_run(struct stress_shared *s, const struct stress_range *g, uint32_t at, uint32_t pages)
{
	if (s->n_runs < STRESS_MAX_RUNS)
		s->runs[s->n_runs++] = (struct stress_run){ g->process, g->arena, g->page + at, pages, g->first + at, 0 };
}

/* Content all over, or in runs with zeros between. */
static void add_runs(struct stress_shared *s, const struct stress_range *g, uint64_t *rnd, bool sparse)
{
	unsigned way = draw(rnd, 3);

	if (!way && !sparse) {
		add_run(s, g, 0, g->pages);
		return;
	}
	for (uint32_t at = draw(rnd, 8); at < g->pages;) {
		uint32_t n = sparse ? 1 + draw(rnd, 8) : 1 + draw(rnd, way == 1 ? 256 : 24);

		if (n > g->pages - at)
			n = g->pages - at;
		add_run(s, g, at, n);
		at += n + (sparse ? 1 + draw(rnd, 2048) : 1 + draw(rnd, 16));
	}
}

static struct stress_range *add_range(struct stress_shared *s, unsigned process, unsigned arena, uint32_t page, uint32_t pages,
				      uint32_t *first)
{
	struct stress_range *g = &s->ranges[s->n_ranges++];

	*g = (struct stress_range){ process, arena, page, pages, *first, 0 };
	*first += pages;
	return g;
}

static uint32_t add_thread(const struct stress_setup *u, struct stress_shared *s, unsigned process, unsigned thread, uint32_t quota,
			   uint32_t *first, uint64_t *rnd)
{
	unsigned pieces = 1 + draw(rnd, quota > 64 ? 4 : 1);
	uint32_t page = draw(rnd, 16), share = quota / pieces;

	for (unsigned i = 0; i < pieces; i++) {
		struct stress_range *g = add_range(s, process, thread, page, share, first);
		unsigned mark = draw(rnd, 12);

		g->flags = mark == 0 ? THAW_RANGE_WIPEONFORK : mark == 1 ? THAW_RANGE_DONTFORK : 0;
		add_runs(s, g, rnd, thaw_stress_is_sparse(u));
		page += share + draw(rnd, 9);
	}
	return page;
}

/* By number, so that the file serves every layout; of sparse memory one run behind the other, since a file's holes fill when they are
 * mapped. */
static void place_in_file(const struct stress_setup *u, struct stress_shared *s)
{
	uint32_t next = 0;

	for (uint32_t i = 0; i < s->n_runs; i++) {
		struct stress_run *r = &s->runs[i];

		r->file = thaw_stress_is_sparse(u) ? next : r->process * s->initial_pages + r->first;
		next += r->pages;
	}
	s->file_pages = thaw_stress_is_sparse(u) ? next : s->processes * s->initial_pages;
}

void thaw_stress_lay_out(const struct stress_setup *u, struct stress_shared *s)
{
	uint32_t pages = u->size / STRESS_PAGE, common = pages / 16 + 1, quota = (pages - common) / u->threads;
	uint64_t rnd = thaw_stress_mix(u->seed);

	s->seed = u->content;
	s->variety = u->seed;
	s->processes = u->processes;
	s->threads = u->threads;
	s->window = 3 * quota + 256;
	s->base = BASE + draw(&rnd, 4096) * (2ULL << 20);
	s->stride = 32 * GIB + (s->window * STRESS_PAGE + GIB - 1) / GIB * GIB;
	s->by_library = u->by_library;
	s->shatter = u->shatter;
	s->look = thaw_stress_is_sparse(u) ? SPARSE_LOOK : 0;
	s->scratch = -1;
	s->planted = UINT32_MAX;
	for (unsigned p = 0; p < u->processes; p++) {
		uint32_t first = 0;

		for (unsigned t = 0; t < u->threads; t++)
			add_thread(u, s, p, t, quota, &first, &rnd);
		first = pages - common; /* the same numbers, however many threads there are */
		add_run(s, add_range(s, p, STRESS_COMMON, 0, common, &first), 0, common);
		add_runs(s, add_range(s, p, STRESS_BRK, 0, BRK_PAGES, &first), &rnd, false);
		if (u->big) {
			struct stress_range *g = &s->ranges[s->n_ranges++];

			*g = (struct stress_range){ p, STRESS_BIG, 0, STRESS_BIG_PAGES, first, 0 };
			for (unsigned i = 0; i < STRESS_BIG_SPOTS; i++)
				if (draw(&rnd, 4) && s->n_runs < STRESS_MAX_RUNS)
					s->runs[s->n_runs++] = (struct stress_run){ p, STRESS_BIG, i * STRESS_BIG_STEP, 1, first + i, 0 };
		}
		if (u->held)
			s->ranges[s->n_ranges++] = (struct stress_range){ p, STRESS_HELD, 0, 1, 0, 0 };
		s->initial_pages = pages + BRK_PAGES + STRESS_BIG_SPOTS;
	}
	place_in_file(u, s);
}
