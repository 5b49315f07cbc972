// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/fetch_place.c - what becomes of a read that was answered: pages, or the report of what cannot be read */
#include "config.h"
#include "engine/fetch_impl.h"

#include <errno.h>

#include "engine/bad.h"
#include "engine/fill.h"
#include "engine/plan.h"
#include "kern/sys.h"

static struct thaw_window window_of(const struct thaw_read *r)
{
	return (struct thaw_window){ r->mm->content, r->e.object, r->e.off, r->e.off + (r->e.pages << THAW_PAGE_SHIFT), r->buf };
}

int thaw_fetch_verify(const struct thaw_read *r)
{
	const struct thaw_object *o = thaw_content_object(r->mm->content, r->e.object);

	return o ? -thaw_object_verify(o, r->e.off, r->e.pages << THAW_PAGE_SHIFT, r->buf) : 0;
}

#define LONGEST_NS 9000000ULL /* others' reads wait behind this one. Then it is woken, and faults again */

/* The page that was asked for: first, and with patience. Owner: once, the caller tries again after its next X. */
static enum thaw_step_kind place_fault(struct thaw_worker *w, struct thaw_read *r, bool owner,
				       const struct thaw_window *win)
{
	uint64_t addr = r->fault.addr, until = 0;
	unsigned tries = 0;

	for (;;) {
		uint32_t seq = thaw_gate_seq(&r->mm->gate);
		struct thaw_step s = thaw_fill_step(w, r->mm, owner, addr, addr + THAW_PAGE_SIZE, 1, win,
						    r->fault.t0 ? THAW_COUNT_PAGES_FAULT : THAW_COUNT_PAGES_AROUND);

		if (s.kind == THAW_STEP_PLACED && r->fault.t0)
			thaw_histogram_record(&r->mm->counters.latency, thaw_sys_now_ns() - r->fault.t0);
		if ((s.kind != THAW_STEP_CHANGING && s.kind != THAW_STEP_NO_MEMORY) || owner || atomic_load(&w->m->stopping))
			return s.kind;
		if (!until)
			until = thaw_sys_now_ns() + LONGEST_NS;
		else if (thaw_sys_now_ns() >= until)
			return s.kind;
		thaw_fill_back_off(w, r->mm, seq, &tries);
	}
}

/* Ends the read. Other faults in its run were told that it is on its way: first it is not under way any more, then
 * all who still sleep there are woken, so that one who comes in between starts a read of its own. */
static void end_demand(struct thaw_worker *w, struct thaw_read *r, bool owner, bool wake)
{
	struct thaw_mm *mm = thaw_mm_get(r->mm);
	struct thaw_extent e = r->e;

	thaw_fetch_give_back(r);
	if (wake)
		thaw_fill_wake(w, mm, owner, e.addr, e.pages << THAW_PAGE_SHIFT);
	if (!owner && thaw_mm_is_live(mm) && atomic_load(&mm->dead))
		thaw_mm_kick(mm);
	thaw_mm_put(mm);
}

int thaw_fetch_place_demand(struct thaw_worker *w, struct thaw_read *r, bool owner)
{
	uint64_t from = r->e.addr, end = from + (r->e.pages << THAW_PAGE_SHIFT);
	struct thaw_window win = window_of(r);
	enum thaw_step_kind kind = place_fault(w, r, owner, &win);
	struct thaw_step s;

	thaw_count(&r->mm->counters, w->number, THAW_COUNT_BYTES_READ, end - from);
	for (; kind == THAW_STEP_PLACED && from < end; from = s.next) {
		s = thaw_fill_step(w, r->mm, owner, from, end, THAW_DEMAND_PAGES, &win, THAW_COUNT_PAGES_AROUND);
		if (s.kind != THAW_STEP_PLACED)
			break; /* only the fault's own page is owed */
	}
	if (!owner)
		thaw_plan_look(w, r->mm);
	/* Of what was discarded or moved away meanwhile nothing is placed, and who waits there was told that it is on its way. */
	end_demand(w, r, owner, r->fault.t0);
	return owner && (kind == THAW_STEP_CHANGING || kind == THAW_STEP_NO_MEMORY) ? -EAGAIN : 0;
}

/* A run that cannot be read may hold a page that can: the fault's own is asked for alone. */
int thaw_fetch_fail_demand(struct thaw_worker *w, struct thaw_read *r, bool owner, int error)
{
	if (!r->fault.t0) { /* nobody waits for it: the background, or who comes to need a page of it, finds out */
		end_demand(w, r, owner, false);
		return 0;
	}
	if (r->e.pages > 1) {
		struct thaw_mm *mm = r->mm;
		struct thaw_extent all = r->e;

		{
			THAW_SCOPED_LOCK(&mm->m->fetch->lock); /* is_under_way() reads them */
			r->e.off += r->fault.addr - r->e.addr;
			r->e.addr = r->fault.addr;
			r->e.pages = 1;
		}
		/* Whoever else waits in the run asks again. */
		if (all.addr < r->e.addr)
			thaw_fill_wake(w, mm, owner, all.addr, r->e.addr - all.addr);
		if (all.addr + (all.pages << THAW_PAGE_SHIFT) > r->e.addr + THAW_PAGE_SIZE)
			thaw_fill_wake(w, mm, owner, r->e.addr + THAW_PAGE_SIZE,
				       all.addr + (all.pages << THAW_PAGE_SHIFT) - r->e.addr - THAW_PAGE_SIZE);
		return thaw_fetch_submit(w, r);
	}
	thaw_bad_report(w, r->mm, owner, &r->e, error, true);
	end_demand(w, r, owner, false); /* its sleepers wait, or were poisoned and woken */
	return 0;
}

/* The pages of a run that could not be read at once. Those that cannot be read alone either are reported by runs. */
static void one_by_one(struct thaw_worker *w, struct thaw_read *r, const struct thaw_object *file)
{
	struct thaw_extent bad = { 0 };
	int error = 0;

	for (uint64_t i = 0; i <= r->e.pages && !atomic_load(&w->m->stopping); i++) {
		uint64_t addr = r->e.addr + (i << THAW_PAGE_SHIFT), off = r->e.off + (i << THAW_PAGE_SHIFT);
		struct thaw_window win = { r->mm->content, r->e.object, off, off + THAW_PAGE_SIZE, r->buf };
		int err = i < r->e.pages ? thaw_object_read(file, off, THAW_PAGE_SIZE, r->buf) : 0;

		if (bad.pages && err != error) { /* the run of bad pages ends */
			thaw_bad_report(w, r->mm, false, &bad, -error, false);
			bad.pages = 0;
		}
		error = err;
		if (err && !bad.pages++)
			bad = (struct thaw_extent){ .addr = addr, .pages = 1, .off = off, .object = r->e.object };
		if (!err && i < r->e.pages)
			thaw_fill_run(w, r->mm, addr, addr + THAW_PAGE_SIZE, &win, THAW_COUNT_PAGES_BACKGROUND);
	}
}

/* A copier has it. */
static void place_ahead(struct thaw_worker *w, struct thaw_read *r)
{
	const struct thaw_object *file = thaw_content_object(r->mm->content, r->e.object);
	uint64_t end = r->e.addr + (r->e.pages << THAW_PAGE_SHIFT);
	struct thaw_window win = window_of(r);

	if (!r->error)
		r->error = thaw_fetch_verify(r);
	if (!r->error) {
		unsigned most = atomic_load(&r->mm->ahead_pages);

		thaw_count(&r->mm->counters, w->number, THAW_COUNT_BYTES_READ, end - r->e.addr);
		thaw_fill_run(w, r->mm, r->e.addr, end, &win, THAW_COUNT_PAGES_BACKGROUND);
		if (most < THAW_AHEAD_PAGES)
			atomic_store(&r->mm->ahead_pages, most * 2);
	} else if (file && file->fd >= 0) {
		one_by_one(w, r, file);
	} else if (r->e.pages == 1) {
		thaw_bad_report(w, r->mm, false, &r->e, r->error, false);
	} else { /* which of its pages it was, the next pass finds out */
		atomic_store(&r->mm->ahead_pages, 1);
	}
	thaw_plan_done(w, r->mm);
	thaw_fetch_give_back(r);
}

bool thaw_fetch_place_ready(struct thaw_worker *w)
{
	struct thaw_fetch *f = w->m->fetch;
	struct thaw_read *r;

	{
		THAW_SCOPED_LOCK(&f->lock);
		r = thaw_fetch_pop(&f->ready);
		if (r)
			atomic_fetch_sub(&f->n_ready, 1);
	}
	if (r) {
		thaw_beside_leave_to_wait(w); /* to read it again may wait for the disk */
		place_ahead(w, r);
	}
	return r;
}

struct thaw_read *thaw_fetch_borrow(struct thaw_fetch *f, const struct thaw_mm *mm, const struct thaw_extent *e, struct thaw_window *win)
{
	const struct thaw_object *o = thaw_content_object(mm->content, e->object);
	struct thaw_read *r;
	THAW_SCOPED_LOCK(&f->lock);

	for (struct thaw_read **at = &f->ready.first; (r = *at); at = &r->next) {
		const void *page;

		*win = window_of(r);
		page = r->error ? NULL : thaw_window_peek(win, mm->content, e->object, e->off, THAW_PAGE_SIZE);
		if (!page || (o && thaw_object_verify(o, e->off, THAW_PAGE_SIZE, page)))
			continue;
		*at = r->next;
		if (!r->next)
			f->ready.last = at;
		atomic_fetch_sub(&f->n_ready, 1);
		return r;
	}
	return NULL;
}

void thaw_fetch_return(struct thaw_read *r)
{
	struct thaw_fetch *f = r->f;

	{
		THAW_SCOPED_LOCK(&f->lock);
		r->next = f->ready.first;
		f->ready.first = r;
		if (!r->next)
			f->ready.last = &r->next;
		atomic_fetch_add(&f->n_ready, 1);
	}
	thaw_monitor_work(f->m);
}

void thaw_fetch_place_landed(struct thaw_worker *w)
{
	struct thaw_fetch *f = w->m->fetch;
	unsigned n = THAW_DEMAND_READS; /* those that land meanwhile come at the next call: there is other work, too */
	struct thaw_read *r;

	do {
		{
			THAW_SCOPED_LOCK(&f->lock);
			r = thaw_fetch_pop(&f->landed);
		}
		if (r && r->error)
			thaw_fetch_fail_demand(w, r, false, r->error);
		else if (r)
			thaw_fetch_place_demand(w, r, false);
	} while (r && --n);
	if (r)
		thaw_monitor_chore(w->m);
}
