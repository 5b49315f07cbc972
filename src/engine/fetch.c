// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/fetch.c - the reads under way: from a fault or a copier, through the ring or a callback, to the page */
#include "config.h"
#include "engine/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/bad.h"
#include "engine/fill.h"
#include "engine/plan.h"
#include "engine/staging.h"
#include "kern/ring.h"
#include "kern/sys.h"
#include "util/err.h"

#define DEMAND_READS 32
#define DEMAND_PAGES 16
#define AHEAD_READS 24
#define POOL_THREADS 4

#define container(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

struct thaw_read {
	struct thaw_ring_req ring;
	struct thaw_request request; /* of a callback */
	struct thaw_fetch *f;
	struct thaw_mm *mm;          /* a reference while in use. Demand: changed under f->lock */
	struct thaw_extent e;        /* demand: changed under f->lock */
	struct thaw_fault fault;     /* demand only */
	bool demand, busy;           /* busy: f->lock */
	int error;
	unsigned char *buf;
	struct thaw_read *next;      /* f->lock: of the list it is on */
};

struct list {
	struct thaw_read *first, **last;
};

struct thaw_fetch {
	struct thaw *m;
	struct thaw_ring *ring;
	unsigned char *pool;
	size_t bytes;
	struct thaw_lock lock;   /* THAW_RANK_IO */
	struct thaw_read reads[DEMAND_READS + AHEAD_READS];
	struct list free_demand, free_ahead, ready, landed; /* lock */
	unsigned abroad;         /* lock: with the application's callback */
	bool closed;             /* lock: the last one from abroad frees */
	_Atomic unsigned n_ready;
};

static void push(struct list *l, struct thaw_read *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

static struct thaw_read *pop(struct list *l)
{
	struct thaw_read *r = l->first;

	if (r) {
		l->first = r->next;
		if (!l->first)
			l->last = &l->first;
	}
	return r;
}

static void destroy(struct thaw_fetch *f)
{
	thaw_ring_free(f->ring);
	thaw_staging_free(f->pool, f->bytes);
	thaw_lock_destroy(&f->lock);
	free(f);
}

int thaw_fetch_new(struct thaw_fetch **out, struct thaw *m)
{
	static const enum thaw_ring_kind kinds[] = {
		[THAW_IO_AUTO] = THAW_RING_AUTO, [THAW_IO_URING] = THAW_RING_URING, [THAW_IO_POOL] = THAW_RING_POOL,
	};
	struct thaw_fetch *f = calloc(1, sizeof(*f));
	unsigned char *p;
	int err;

	if (!f)
		return thaw_err_set(-ENOMEM, "no memory for the reads under way");
	f->m = m;
	thaw_lock_init(&f->lock, THAW_RANK_IO);
	f->free_demand.last = &f->free_demand.first;
	f->free_ahead.last = &f->free_ahead.first;
	f->ready.last = &f->ready.first;
	f->landed.last = &f->landed.first;
	f->bytes = ((size_t)DEMAND_READS * DEMAND_PAGES + (size_t)AHEAD_READS * THAW_AHEAD_PAGES) << THAW_PAGE_SHIFT;
	err = thaw_staging_new(&f->pool, f->bytes, &m->set.log);
	if (!err)
		err = thaw_ring_new(&f->ring, kinds[m->set.io], DEMAND_READS + AHEAD_READS, POOL_THREADS);
	if (err) {
		destroy(f);
		return err;
	}
	p = f->pool;
	for (unsigned i = 0; i < DEMAND_READS + AHEAD_READS; i++) {
		struct thaw_read *r = &f->reads[i];

		r->f = f;
		r->demand = i < DEMAND_READS;
		r->buf = p;
		p += (size_t)(r->demand ? DEMAND_PAGES : THAW_AHEAD_PAGES) << THAW_PAGE_SHIFT;
		push(r->demand ? &f->free_demand : &f->free_ahead, r);
	}
	*out = f;
	return 0;
}

unsigned thaw_fetch_threads(const struct thaw_fetch *f)
{
	return thaw_ring_threads(f->ring);
}

size_t thaw_fetch_bytes(const struct thaw_fetch *f)
{
	return f->bytes;
}

bool thaw_fetch_has_ready(const struct thaw_fetch *f)
{
	return atomic_load_explicit(&f->n_ready, memory_order_acquire);
}

static struct thaw_read *take(struct thaw_fetch *f, bool demand)
{
	struct thaw_read *r;
	THAW_SCOPED_LOCK(&f->lock);

	r = pop(demand ? &f->free_demand : &f->free_ahead);
	if (r)
		r->busy = true;
	return r;
}

static void give_back(struct thaw_read *r)
{
	struct thaw_fetch *f = r->f;
	struct thaw_mm *mm;

	{
		THAW_SCOPED_LOCK(&f->lock);
		mm = r->mm;
		r->mm = NULL;
		r->busy = false;
		push(r->demand ? &f->free_demand : &f->free_ahead, r);
	}
	thaw_mm_put(mm);
}

static struct thaw_window window_of(const struct thaw_read *r)
{
	return (struct thaw_window){ r->mm->content, r->e.object, r->e.off, r->e.off + (r->e.pages << THAW_PAGE_SHIFT), r->buf };
}

/* The page that was asked for: first, and with patience. Owner: once, the caller tries again after its next X. */
static enum thaw_step_kind place_fault(struct thaw_worker *w, struct thaw_read *r, bool owner,
				       const struct thaw_window *win)
{
	uint64_t addr = r->fault.addr;
	unsigned tries = 0;

	for (;;) {
		uint32_t seq = thaw_gate_seq(&r->mm->gate);
		struct thaw_step s = thaw_fill_step(w, r->mm, owner, addr, addr + THAW_PAGE_SIZE, 1, win,
						    THAW_COUNT_PAGES_FAULT);

		if (s.kind == THAW_STEP_PLACED)
			thaw_histogram_record(&r->mm->counters.latency, thaw_sys_now_ns() - r->fault.t0);
		if ((s.kind != THAW_STEP_CHANGING && s.kind != THAW_STEP_NO_MEMORY) || owner || tries > 100 ||
		    atomic_load(&w->m->stopping))
			return s.kind;
		thaw_fill_back_off(r->mm, seq, &tries);
	}
}

/* Ends the read. Other faults in its run were told that it is on its way: first it is not under way any more, then
 * all who still sleep there are woken, so that one who comes in between starts a read of its own. */
static void end_demand(struct thaw_worker *w, struct thaw_read *r, bool owner, bool wake)
{
	struct thaw_mm *mm = thaw_mm_get(r->mm);
	struct thaw_extent e = r->e;

	give_back(r);
	if (wake)
		thaw_fill_wake(w, mm, owner, e.addr, e.pages << THAW_PAGE_SHIFT);
	if (!owner && thaw_mm_is_live(mm) && atomic_load(&mm->dead))
		thaw_mm_kick(mm);
	thaw_mm_put(mm);
}

static int place_demand(struct thaw_worker *w, struct thaw_read *r, bool owner)
{
	uint64_t from = r->e.addr, end = from + (r->e.pages << THAW_PAGE_SHIFT);
	struct thaw_window win = window_of(r);
	enum thaw_step_kind kind = place_fault(w, r, owner, &win);
	struct thaw_step s = { .kind = THAW_STEP_NOTHING };

	thaw_count(&r->mm->counters, w->number, THAW_COUNT_BYTES_READ, end - from);
	for (; kind == THAW_STEP_PLACED && from < end; from = s.next) {
		s = thaw_fill_step(w, r->mm, owner, from, end, DEMAND_PAGES, &win, THAW_COUNT_PAGES_AROUND);
		if (s.kind != THAW_STEP_PLACED)
			break; /* only the fault's own page is owed */
	}
	if (!owner)
		thaw_plan_look(w, r->mm);
	end_demand(w, r, owner, kind != THAW_STEP_PLACED || s.kind != THAW_STEP_NOTHING);
	return owner && (kind == THAW_STEP_CHANGING || kind == THAW_STEP_NO_MEMORY) ? -EAGAIN : 0;
}

static int submit(struct thaw_worker *w, struct thaw_read *r);

/* A run that cannot be read may hold a page that can: the fault's own is asked for alone. */
static int fail_demand(struct thaw_worker *w, struct thaw_read *r, bool owner, int error)
{
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
		return submit(w, r);
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
	give_back(r);
}

bool thaw_fetch_place_ready(struct thaw_worker *w)
{
	struct thaw_fetch *f = w->m->fetch;
	struct thaw_read *r;

	{
		THAW_SCOPED_LOCK(&f->lock);
		r = pop(&f->ready);
		if (r)
			atomic_fetch_sub(&f->n_ready, 1);
	}
	if (r)
		place_ahead(w, r);
	return r;
}

void thaw_fetch_place_landed(struct thaw_worker *w)
{
	struct thaw_fetch *f = w->m->fetch;

	for (;;) {
		struct thaw_read *r;

		{
			THAW_SCOPED_LOCK(&f->lock);
			r = pop(&f->landed);
		}
		if (!r)
			return;
		if (r->error)
			fail_demand(w, r, false, r->error);
		else
			place_demand(w, r, false);
	}
}

static void make_ready(struct thaw_read *r)
{
	struct thaw_fetch *f = r->f;

	{
		THAW_SCOPED_LOCK(&f->lock);
		push(&f->ready, r);
		atomic_fetch_add(&f->n_ready, 1);
	}
	thaw_monitor_work(f->m);
}

/* An I/O thread (w), or whoever stopped the ring (NULL). */
static void ring_done(struct thaw_ring_req *req, int error, void *thread)
{
	struct thaw_read *r = container(req, struct thaw_read, ring);

	r->error = error;
	if (!thread || error == ECANCELED)
		give_back(r); /* its readers sleep on, as all others do after a stop */
	else if (!r->demand)
		make_ready(r);
	else if (error)
		fail_demand(thread, r, false, error);
	else
		place_demand(thread, r, false);
}

/* Any thread of the application. */
static void request_done(struct thaw_request *req, int error)
{
	struct thaw_read *r = container(req, struct thaw_read, request);
	struct thaw_fetch *f = r->f;
	bool last, demand = r->demand;

	{
		THAW_SCOPED_LOCK(&f->lock);
		f->abroad--;
		last = f->closed && !f->abroad;
		r->error = error;
		if (!f->closed) {
			push(demand ? &f->landed : &f->ready, r);
			if (!demand)
				atomic_fetch_add(&f->n_ready, 1);
			/* Within the lock: thaw_close() cannot free the monitor before it has taken it. */
			demand ? thaw_monitor_chore(f->m) : thaw_monitor_work(f->m);
		}
	}
	if (last)
		destroy(f);
}

static int ask_callback(struct thaw_worker *w, struct thaw_read *r)
{
	struct thaw_source *src = r->mm->content->source;
	struct thaw_fetch *f = r->f;
	bool demand = r->demand;
	int ret;

	r->request.done = request_done;
	{
		THAW_SCOPED_LOCK(&f->lock);
		f->abroad++;
	}
	ret = src->ops->read(src, r->e.object, r->e.off, r->e.pages << THAW_PAGE_SHIFT, r->buf, &r->request);
	if (ret == THAW_LATER)
		return 0; /* r is not ours any more, perhaps used again by now */
	{
		THAW_SCOPED_LOCK(&f->lock);
		f->abroad--;
	}
	r->error = ret < 0 ? -ret : 0;
	if (!demand) {
		make_ready(r);
		return 0;
	}
	/* At once: the owner asked (or the control thread, for one page of a run that had failed). */
	return r->error ? fail_demand(w, r, w->role == THAW_ROLE_READER, r->error) :
			  place_demand(w, r, w->role == THAW_ROLE_READER);
}

static int submit(struct thaw_worker *w, struct thaw_read *r)
{
	const struct thaw_object *o = thaw_content_object(r->mm->content, r->e.object);

	if (!o || o->fd < 0)
		return ask_callback(w, r);
	r->ring = (struct thaw_ring_req){
		.fd = o->fd,
		.off = r->e.off,
		.buf = r->buf,
		.len = r->e.pages << THAW_PAGE_SHIFT,
		.done = ring_done,
	};
	thaw_ring_submit(r->f->ring, &r->ring, r->demand);
	return 0;
}

static bool is_under_way(struct thaw_fetch *f, const struct thaw_mm *mm, uint64_t addr)
{
	THAW_SCOPED_LOCK(&f->lock);

	for (unsigned i = 0; i < DEMAND_READS; i++) {
		const struct thaw_read *r = &f->reads[i];

		if (r->busy && r->mm == mm && addr - r->e.addr < r->e.pages << THAW_PAGE_SHIFT)
			return true;
	}
	return false;
}

int thaw_fetch_fault(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *fault, const struct thaw_extent *e)
{
	struct thaw_fetch *f = w->m->fetch;
	uint64_t start = fault->addr & ~((DEMAND_PAGES << THAW_PAGE_SHIFT) - 1), back;
	struct thaw_extent run;
	struct thaw_read *r;

	if (is_under_way(f, mm, fault->addr))
		return 0;
	r = take(f, true);
	if (!r)
		return -EBUSY;
	/* What lies beside it in the same run costs a disk nothing more. */
	back = (fault->addr - start) >> THAW_PAGE_SHIFT;
	if (!w->m->set.around || !thaw_pagemap_lookup(mm->pm, start, DEMAND_PAGES, &run) || run.pages <= back ||
	    run.object != e->object || run.off + (back << THAW_PAGE_SHIFT) != e->off) {
		run = *e;
		run.pages = 1;
	}
	{
		THAW_SCOPED_LOCK(&f->lock);
		r->mm = thaw_mm_get(mm);
		r->e = run;
	}
	r->fault = *fault;
	return submit(w, r);
}

int thaw_fetch_ahead(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_extent *e)
{
	struct thaw_read *r = take(w->m->fetch, false);

	if (!r)
		return -EBUSY;
	thaw_plan_also(mm);
	{
		THAW_SCOPED_LOCK(&w->m->fetch->lock);
		r->mm = thaw_mm_get(mm);
		r->e = *e;
	}
	return submit(w, r);
}

void thaw_fetch_run(struct thaw_fetch *f, struct thaw_worker *w)
{
	thaw_ring_run(f->ring, w);
}

void thaw_fetch_stop(struct thaw_fetch *f)
{
	thaw_ring_stop(f->ring);
}

void thaw_fetch_free(struct thaw_fetch *f)
{
	bool abroad;

	if (!f)
		return;
	{
		THAW_SCOPED_LOCK(&f->lock);
		f->closed = true;
		abroad = f->abroad;
	}
	for (unsigned i = 0; i < DEMAND_READS + AHEAD_READS; i++) {
		thaw_mm_put(f->reads[i].mm);
		f->reads[i].mm = NULL;
	}
	if (!abroad)
		destroy(f);
}
