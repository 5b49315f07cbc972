// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/fetch.c - the reads under way: taken by a fault or a copier, given to the ring or a callback, answered */
#include "config.h"
#include "engine/fetch_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/bad.h"
#include "engine/plan.h"
#include "engine/staging.h"
#include "kern/sys.h"
#include "util/assert.h"
#include "util/err.h"
#include "util/inject.h"
#include "util/sabotage.h"

#define POOL_THREADS 4
#define AHEAD_BESIDE_FAULTS 4 /* reads of the background under way while somebody waits, or did a moment ago */
#define BESIDE_NS 10000000ULL
#define container(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static void push(struct thaw_read_list *l, struct thaw_read *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

struct thaw_read *thaw_fetch_pop(struct thaw_read_list *l)
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
	f->bytes = ((size_t)THAW_DEMAND_READS * THAW_DEMAND_PAGES + (size_t)THAW_AHEAD_READS * THAW_AHEAD_PAGES) << THAW_PAGE_SHIFT;
	err = thaw_staging_new(&f->pool, f->bytes, &m->set.log);
	if (!err)
		err = thaw_ring_new(&f->ring, kinds[m->set.io], THAW_DEMAND_READS + THAW_AHEAD_READS, POOL_THREADS);
	if (err) {
		destroy(f);
		return err;
	}
	p = f->pool;
	for (unsigned i = 0; i < THAW_DEMAND_READS + THAW_AHEAD_READS; i++) {
		struct thaw_read *r = &f->reads[i];

		r->f = f;
		r->demand = i < THAW_DEMAND_READS;
		r->buf = p;
		p += (size_t)(r->demand ? THAW_DEMAND_PAGES : THAW_AHEAD_PAGES) << THAW_PAGE_SHIFT;
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

	r = thaw_fetch_pop(demand ? &f->free_demand : &f->free_ahead);
	if (r) {
		r->busy = true;
		atomic_fetch_add(demand ? &f->n_demand : &f->n_ahead, 1);
	}
	return r;
}

void thaw_fetch_give_back(struct thaw_read *r)
{
	struct thaw_fetch *f = r->f;
	struct thaw_mm *mm;

	{
		THAW_SCOPED_LOCK(&f->lock);
		mm = r->mm;
		r->mm = NULL;
		r->busy = false;
		atomic_fetch_sub(r->demand ? &f->n_demand : &f->n_ahead, 1);
		push(r->demand ? &f->free_demand : &f->free_ahead, r);
	}
	thaw_mm_put(mm);
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

	if (!error && thread && r->demand) /* what is read ahead, the copier that places it compares */
		error = thaw_fetch_verify(r);
	r->error = error;
	if (!thread || error == ECANCELED)
		thaw_fetch_give_back(r); /* its readers sleep on, as all others do after a stop */
	else if (!r->demand)
		make_ready(r);
	else if (error)
		thaw_fetch_fail_demand(thread, r, false, error);
	else
		thaw_fetch_place_demand(thread, r, false);
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
	bool demand = r->demand, owner;
	int ret;

	r->request.done = request_done;
	r->request.urgent = demand && r->fault.t0;
	r->request.soon = demand;
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
	owner = w->served == r->mm;
	return r->error ? thaw_fetch_fail_demand(w, r, owner, r->error) : thaw_fetch_place_demand(w, r, owner);
}

int thaw_fetch_submit(struct thaw_worker *w, struct thaw_read *r)
{
	const struct thaw_object *o = thaw_content_object(r->mm->content, r->e.object);

	if (!o || o->fd < 0)
		return ask_callback(w, r);
	r->ring = (struct thaw_ring_req){
		.fd = o->fd,
		.off = r->e.off,
		.buf = r->buf,
		.len = (r->e.pages << THAW_PAGE_SHIFT) >> (THAW_SABOTAGE(SHORT_READ_WHOLE) && r->e.pages > 1),
		.done = ring_done,
	};
	thaw_ring_submit(r->f->ring, &r->ring, r->demand);
	return 0;
}

/* For a sleeper what comes beside another page, in its own time, does not count. */
static bool is_under_way(struct thaw_fetch *f, const struct thaw_mm *mm, uint64_t addr, bool sleeper)
{
	THAW_SCOPED_LOCK(&f->lock);

	for (unsigned i = 0; i < THAW_DEMAND_READS; i++) {
		const struct thaw_read *r = &f->reads[i];

		if (r->busy && r->mm == mm && (r->fault.t0 || !sleeper) && addr - r->e.addr < r->e.pages << THAW_PAGE_SHIFT)
			return true;
	}
	return false;
}

/* What the background has under way stands in the disk's queue, in front of the page somebody will wait for next. */
static bool is_enough(const struct thaw_fetch *f, const struct thaw_mm *mm, const struct thaw_extent *e)
{
	const struct thaw_object *o = thaw_content_object(mm->content, e->object);
	uint64_t last = atomic_load_explicit(&mm->last_fault_ns, memory_order_relaxed);

	if (!o || o->fd < 0 || atomic_load_explicit(&f->n_ahead, memory_order_relaxed) < AHEAD_BESIDE_FAULTS)
		return false;
	return atomic_load_explicit(&f->n_demand, memory_order_relaxed) || (last && thaw_sys_now_ns() < last + BESIDE_NS);
}

int thaw_fetch_ahead(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_extent *e)
{
	struct thaw_read *r;

	THAW_ASSERT(e->pages && e->pages <= THAW_AHEAD_PAGES);
	r = is_enough(w->m->fetch, mm, e) ? NULL : take(w->m->fetch, false);
	if (!r)
		return -EBUSY;
	thaw_plan_also(mm);
	{
		THAW_SCOPED_LOCK(&w->m->fetch->lock);
		r->mm = thaw_mm_get(mm);
		r->e = *e;
	}
	return thaw_fetch_submit(w, r);
}

/* A disk brings what lies beside the page in the same run for nothing more. */
static bool is_beside(struct thaw_mm *mm, uint64_t start, uint64_t addr, const struct thaw_extent *e, struct thaw_extent *run)
{
	uint64_t back = (addr - start) >> THAW_PAGE_SHIFT;

	return thaw_pagemap_lookup(mm->pm, start, THAW_DEMAND_PAGES, run) && run->pages > back && run->object == e->object &&
	       run->off + (back << THAW_PAGE_SHIFT) == e->off;
}

/* A demand read for this run. */
static int ask(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_read *r, const struct thaw_extent *e, const struct thaw_fault *fault)
{
	{
		THAW_SCOPED_LOCK(&w->m->fetch->lock);
		r->mm = thaw_mm_get(mm);
		r->e = *e;
		r->fault = *fault;
	}
	return thaw_fetch_submit(w, r);
}

/* A network does not: it is asked for the page alone, and for what lies beside it in a read of its own, for which nobody waits. */
static void read_beside(struct thaw_worker *w, struct thaw_mm *mm, uint64_t from, uint64_t to)
{
	struct thaw_fetch *f = w->m->fetch;
	struct thaw_extent e;
	struct thaw_read *r;

	if (from >= to || atomic_load_explicit(&f->n_demand, memory_order_relaxed) >= THAW_DEMAND_READS / 2 ||
	    !thaw_pagemap_next_absent(mm->pm, from, (to - from) >> THAW_PAGE_SHIFT, &e) || e.addr >= to ||
	    thaw_bad_skip(mm, e.addr) || is_under_way(f, mm, e.addr, false))
		return;
	if (e.pages > (to - e.addr) >> THAW_PAGE_SHIFT)
		e.pages = (to - e.addr) >> THAW_PAGE_SHIFT;
	r = take(f, true);
	if (r)
		(void)ask(w, mm, r, &e, &(struct thaw_fault){ .addr = e.addr });
}

int thaw_fetch_fault(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *fault, const struct thaw_extent *e)
{
	uint64_t start = fault->addr & ~((THAW_DEMAND_PAGES << THAW_PAGE_SHIFT) - 1), next = fault->addr + THAW_PAGE_SIZE;
	const struct thaw_object *o = thaw_content_object(mm->content, e->object);
	bool far = (!o || o->fd < 0) && mm->content->source->ops->far, around = w->m->set.around;
	struct thaw_fetch *f = w->m->fetch;
	struct thaw_extent run;
	struct thaw_read *r;
	int ret;

	if (is_under_way(f, mm, fault->addr, true))
		return 0;
	r = take(f, true);
	if (!r)
		return -EBUSY;
	if (far || !around || !is_beside(mm, start, fault->addr, e, &run)) {
		run = *e;
		run.pages = 1;
	}
	ret = ask(w, mm, r, &run, fault);
	if (!ret && far && around) {
		read_beside(w, mm, next, start + (THAW_DEMAND_PAGES << THAW_PAGE_SHIFT));
		read_beside(w, mm, start, fault->addr);
	}
	return ret;
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
	bool last;

	if (!f)
		return;
	{
		THAW_SCOPED_LOCK(&f->lock);
		f->closed = true;
		f->abroad++; /* we: an answer that comes meanwhile is not the last that needs it */
	}
	(void)THAW_INJECT("fetch.close");
	for (unsigned i = 0; i < THAW_DEMAND_READS + THAW_AHEAD_READS; i++) {
		thaw_mm_put(f->reads[i].mm);
		f->reads[i].mm = NULL;
	}
	{
		THAW_SCOPED_LOCK(&f->lock);
		last = !--f->abroad;
	}
	if (last)
		destroy(f);
}
