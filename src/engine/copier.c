// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/copier.c - fills ahead, span by span: from a window where the content is in memory, through a read where not */
#include "config.h"
#include "engine/monitor.h"

#include <errno.h>

#include "engine/bad.h"
#include "engine/fetch.h"
#include "engine/fill.h"
#include "engine/futex.h"
#include "engine/plan.h"
#include "kern/sys.h"

/* Waits for a read of ours or of another copier to be ready, and places one. */
static void place_one(struct thaw_worker *w)
{
	struct thaw *m = w->m;
	uint32_t seen = atomic_load(&m->work);

	if (thaw_fetch_place_ready(w))
		return;
	atomic_fetch_add(&m->idlers, 1);
	if (!thaw_fetch_has_ready(m->fetch) && !atomic_load(&m->stopping))
		thaw_futex_wait(&m->work, seen, 50000000);
	atomic_fetch_sub(&m->idlers, 1);
}

/* A run that is not in memory, or not a file's. Returns where to go on. */
static uint64_t read_ahead(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_extent e)
{
	thaw_beside_leave_to_wait(w);
	while (!atomic_load(&w->m->stopping)) {
		if (thaw_fetch_ahead(w, mm, &e) != -EBUSY)
			break;
		place_one(w); /* every buffer is in use: one gets free */
	}
	return e.addr + (e.pages << THAW_PAGE_SHIFT);
}

/* The absent run from e on, as long as a read may be; looked up again, since e was cut to a chunk. */
static void lengthen(struct thaw_worker *w, struct thaw_mm *mm, uint64_t to, struct thaw_extent *e)
{
	uint64_t most = (to - e->addr) >> THAW_PAGE_SHIFT;
	struct thaw_extent longer;

	if (most > THAW_AHEAD_PAGES)
		most = THAW_AHEAD_PAGES;
	thaw_gate_enter(&w->m->gate, w->number, &mm->gate);
	if (thaw_mm_is_live(mm) && thaw_pagemap_next_absent(mm->pm, e->addr, most, &longer) &&
	    longer.addr == e->addr && longer.object == e->object && longer.off == e->off)
		*e = longer;
	thaw_gate_leave(&w->m->gate, w->number);
}

/* A window that was used up says what its way costs, filling included. The least of what was seen counts, and is slowly forgotten: what
 * disturbs only adds. */
static void leave_window(struct thaw_worker *w)
{
	struct thaw_window *win = &w->window;
	struct thaw_ways *ways = &w->ways;
	uint64_t *cost = &ways->cost[ways->way], seen;

	if (win->content && ways->began_ns && ways->used >= (win->end - win->start) / 4 * 3 &&
	    !win->mapped == (ways->way != THAW_WAY_MAP)) {
		thaw_window_drop(win);
		seen = (thaw_sys_thread_cpu_ns() - ways->began_ns) * 1000 / ways->used + 1;
		*cost += *cost / 32;
		if (!*cost || seen < *cost)
			*cost = seen;
	}
	thaw_window_drop(win);
}

#define TRIAL 12  /* windows that try both ways in turn: the first are slow, since all is new to them */
#define AGAIN 128 /* of so many one tries the other way */

static enum thaw_way choose(struct thaw_ways *ways)
{
	const uint64_t *cost = ways->cost;
	enum thaw_way better = cost[THAW_WAY_MAP] && cost[THAW_WAY_MAP] < cost[THAW_WAY_READ] ? THAW_WAY_MAP : THAW_WAY_READ;
	unsigned turn = ways->turn++;

	if (turn < TRIAL)
		return turn % 2 ? THAW_WAY_MAP : THAW_WAY_READ;
	return turn % AGAIN ? better : !better;
}

static bool move_window(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_object *o, const struct thaw_extent *e)
{
	struct thaw_ways *ways = &w->ways;

	leave_window(w);
	/* While it serves faults, too: mapping it may wait for the disk, and says nothing of what a way costs. */
	ways->way = w->beside.own ? THAW_WAY_READ : choose(ways);
	ways->began_ns = w->beside.own ? 0 : thaw_sys_thread_cpu_ns();
	ways->used = 0;
	return thaw_window_move(&w->window, mm->content, o, e->off, e->pages << THAW_PAGE_SHIFT, ways->way, w->ahead);
}

/* The content of e is not in the window: move the window there, or have it read. */
static uint64_t elsewhere(struct thaw_worker *w, struct thaw_mm *mm, uint64_t to, struct thaw_extent e)
{
	const struct thaw_object *o = thaw_content_object(mm->content, e.object);
	uint64_t bad = thaw_bad_skip(mm, e.addr), limit = thaw_bad_next(mm, e.addr + THAW_PAGE_SIZE);

	if (bad)
		return bad;
	if (e.addr + (e.pages << THAW_PAGE_SHIFT) > limit)
		e.pages = (limit - e.addr) >> THAW_PAGE_SHIFT;
	if (o && o->fd >= 0 && move_window(w, mm, o, &e))
		return e.addr;
	if (w->beside.own) { /* by reading only: there is another way */
		thaw_beside_leave_to_wait(w);
		return e.addr;
	}
	if (limit == UINT64_MAX)
		lengthen(w, mm, to, &e);
	if ((!o || o->fd < 0) && e.pages > atomic_load(&mm->ahead_pages))
		e.pages = atomic_load(&mm->ahead_pages);
	return read_ahead(w, mm, e);
}

/* A fork that has many page tables to copy, or waits for a descriptor; or a control group at its limit. */
#define LONGEST_NS 60000000ULL

static void run_span(struct thaw_worker *w, struct thaw_mm *mm, uint64_t from, uint64_t to)
{
	uint64_t limit = 0, refused_ns = 0;
	unsigned tries = 0;

	while (from < to && !atomic_load_explicit(&w->m->stopping, memory_order_relaxed)) {
		uint64_t chunk = thaw_fill_chunk(w, mm);
		struct thaw_step s;
		uint32_t seq;

		thaw_beside_look(w, mm);
		seq = thaw_gate_seq(&mm->gate);
		s = thaw_fill_step(w, mm, false, from, to, limit && limit < chunk ? limit : chunk, &w->window, THAW_COUNT_PAGES_BACKGROUND);
		switch (s.kind) {
		case THAW_STEP_PLACED:
			from = s.next;
			w->ways.used += s.next - s.e.addr;
			limit = tries = 0;
			break;
		case THAW_STEP_NOT_YET:
			from = s.next;
			break;
		case THAW_STEP_SMALLER:
			limit = s.e.pages / 2;
			break;
		case THAW_STEP_ELSEWHERE:
			from = elsewhere(w, mm, to, s.e);
			break;
		case THAW_STEP_CHANGING:
		case THAW_STEP_NO_MEMORY:
			if (!tries)
				refused_ns = thaw_sys_now_ns();
			else if (thaw_sys_now_ns() - refused_ns > LONGEST_NS)
				return; /* others want to be copied too; the next pass comes by here again */
			thaw_fill_back_off(w, mm, seq, &tries);
			break;
		case THAW_STEP_BROKEN: /* the window: its file was cut short, or the disk failed. The read will tell */
			thaw_window_drop(&w->window);
			from = read_ahead(w, mm, s.e);
			break;
		case THAW_STEP_NOTHING:
		case THAW_STEP_ENDED:
			return;
		}
		while (thaw_fetch_place_ready(w))
			;
	}
}

static void note_begin(struct thaw *m)
{
	uint64_t none = 0;

	if (!atomic_load_explicit(&m->drain_first_ns, memory_order_relaxed))
		atomic_compare_exchange_strong(&m->drain_first_ns, &none, thaw_sys_now_ns());
}

void thaw_copier_run(struct thaw_worker *w)
{
	struct thaw *m = w->m;
	int64_t last = 0;

	while (!atomic_load(&m->stopping)) {
		uint32_t seen = atomic_load(&m->work);
		uint64_t from, to, wait;
		struct thaw_mm *mm;

		if (thaw_fetch_place_ready(w))
			continue;
		mm = thaw_plan_claim(w, &last, &from, &to, &wait);
		if (mm) {
			note_begin(m);
			run_span(w, mm, from, to);
			atomic_store_explicit(&m->drain_last_ns, thaw_sys_now_ns(), memory_order_relaxed);
			thaw_plan_done(w, mm);
			if (atomic_load(&mm->dead) && thaw_mm_is_live(mm))
				thaw_mm_kick(mm);
			leave_window(w); /* the space's content may be freed, and another be made at its address */
			thaw_mm_put(mm);
			continue;
		}
		thaw_beside_leave_to_wait(w);
		/* Counted before the kernel compares: who changes `work` looks at the count behind. */
		atomic_fetch_add(&m->idlers, 1);
		if (!atomic_load(&m->stopping))
			thaw_futex_wait(&m->work, seen, wait);
		atomic_fetch_sub(&m->idlers, 1);
	}
	thaw_beside_leave(w);
}
