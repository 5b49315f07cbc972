// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/control.c - what happens by time: ends that nobody announced, late retries, rates, the delayed start of copying */
#include "config.h"
#include "engine/monitor.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/bad.h"
#include "engine/fetch.h"
#include "engine/futex.h"
#include "engine/holder.h"
#include "engine/report.h"
#include "engine/serve.h"
#include "kern/procfs.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/sabotage.h"

#define TICK_NS 250000000ULL

struct raised {
	struct thaw_mm *child;
	uint64_t upto; /* the parent's mappings are known as far as that */
};

static int drop(struct thaw_mm *child, uint64_t start, uint64_t len)
{
	int64_t gone = THAW_SABOTAGE(WIPEONFORK_IGNORED) ? 0 : thaw_pagemap_remove(child->pm, start, len);

	if (gone > 0)
		atomic_fetch_add(&child->tally.gone, gone);
	return gone < 0 ? (int)gone : 0;
}

/* What the parent has unmapped or moved since the fork: the marks of its restore are all that is known. */
static int drop_departed(struct raised *r, uint64_t end)
{
	struct thaw_extent e;
	int err = 0;

	while (!err && r->upto < end && thaw_pagemap_next(r->child->pm, r->upto, end - r->upto, &e)) {
		r->upto = e.addr + (e.pages << THAW_PAGE_SHIFT);
		if (e.flags)
			err = drop(r->child, e.addr, e.pages << THAW_PAGE_SHIFT);
	}
	return err;
}

/* What the parent has marked: the kernel empties the one and leaves out the other, and tells nobody. A mapping that is not registered is
 * not the one that was there. */
static int drop_unforked(void *opaque, const struct thaw_vma *v)
{
	struct raised *r = opaque;
	int err;

	if (!(v->flags & THAW_VM_UFFD_MISSING))
		return 0;
	err = drop_departed(r, v->start);
	r->upto = v->end;
	if (err || !(v->flags & (THAW_VM_WIPEONFORK | THAW_VM_DONTCOPY)))
		return err;
	return drop(r->child, v->start, v->end - v->start);
}

static int drop_marked(struct thaw_mm *child)
{
	struct thaw_pagemap *rest = thaw_pagemap_clone(child->pm, THAW_EXTENT_WIPEONFORK | THAW_EXTENT_DONTFORK), *all = child->pm;
	struct thaw *m = child->m;

	if (!rest)
		return -ENOMEM;
	atomic_fetch_add(&child->tally.gone, thaw_pagemap_absent(all) - thaw_pagemap_absent(rest));
	{
		THAW_SCOPED_LOCK(&m->lock); /* for those who look at the map's figures */
		child->pm = rest;
	}
	thaw_pagemap_free(all);
	return 0;
}

/* The mappings of a process that ends, or calls exec, while they are read just come to their end, and nothing says so. */
static bool has_memory(const struct thaw_mm *mm)
{
	uint64_t word;

	return pread(mm->pagemap_fd >= 0 ? mm->pagemap_fd : mm->smaps_fd, &word, sizeof(word), 0) == (ssize_t)sizeof(word);
}

/* The child is ours alone until it is released: no S, no X, no epoll. */
static void raise_child(struct thaw_worker *w, struct thaw_mm *child)
{
	struct thaw_mm *parent = child->raise_from;
	struct raised r = { child, 0 };
	int err = thaw_procfs_maps_fd(parent->smaps_fd, true, drop_unforked, &r);

	if (!err && !has_memory(parent))
		err = -ESRCH;
	if (!err)
		err = drop_departed(&r, UINT64_MAX & ~(THAW_PAGE_SIZE - 1));
	/* Without it a child could be given what its parent has marked to be wiped. It waits as long as that lasts. */
	if (err && err != -ESRCH) {
		if (!child->raise_told)
			thaw_log_warning(&w->m->set.log, "space %lld: the mappings of pid %d cannot be read (%s), so what it has"
					 " marked MADV_WIPEONFORK since its restore is not known: its child waits until they can",
					 (long long)child->id, (int)parent->pid, strerror(-err));
		child->raise_told = true;
		atomic_store(&child->kicked, true); /* again soon */
		return;
	}
	/* Of a parent that is gone, the marks that the map had at its restore are all that is known. */
	if (err && drop_marked(child)) {
		atomic_store(&child->kicked, true);
		return;
	}
	thaw_pagemap_inherit(child->pm); /* what is left has no marks, whatever it had once */
	child->raise_from = NULL;
	atomic_fetch_sub(&parent->raising, 1);
	thaw_mm_kick(parent); /* its last page may have come meanwhile */
	thaw_mm_put(parent);
	thaw_mm_release(child);
}

/* The next space on the list behind `from` (NULL: the first), with a reference; the one on `from` is given back. */
static struct thaw_mm *next_live(struct thaw *m, struct thaw_mm *from)
{
	struct thaw_mm *mm;

	{
		THAW_SCOPED_LOCK(&m->lock);
		/* What has left the list is on another one. */
		for (mm = from && from->linked ? from->next : m->spaces; mm; mm = mm->next)
			if (!mm->over && (!from || mm->id > from->id))
				break;
		if (mm)
			thaw_mm_get(mm);
	}
	thaw_mm_put(from);
	return mm;
}

/* A frozen space is read no more, but its process ends like any other: by itself, or because the log said so. */
static void visit_frozen(struct thaw_worker *w, struct thaw_mm *mm)
{
	bool gone = false;

	if (!thaw_monitor_own(w->m, mm))
		return; /* whoever froze it is about to let go: at the next tick */
	if (atomic_load(&mm->state) == THAW_MM_FROZEN && thaw_uffd_probe(mm->uffd) == THAW_DEAD) {
		thaw_gate_close(&w->m->gate, &mm->gate);
		thaw_mm_end(mm, THAW_MM_GONE);
		thaw_gate_open(&mm->gate);
		gone = true;
	}
	while (!thaw_owner_drop(&mm->owner))
		; /* notes of readers: nothing is left to do for them */
	if (gone)
		thaw_mm_ended(mm, THAW_MM_GONE);
}

static void visit(struct thaw_worker *w, struct thaw_mm *mm, bool tick, uint64_t now)
{
	bool kicked = atomic_exchange(&mm->kicked, false) || atomic_load(&mm->unwatched);

	if (atomic_load(&mm->held)) {
		if (kicked && mm->raise_from)
			raise_child(w, mm);
		return;
	}
	if (tick && atomic_load(&mm->state) == THAW_MM_FROZEN)
		visit_frozen(w, mm);
	if (!thaw_mm_is_live(mm))
		return;
	if (atomic_load(&mm->registration) == THAW_REGISTRATION_SAID) {
		bool done = thaw_mm_check_registration(w, mm);

		kicked = true; /* it may have nothing left, or something is changing and has to be read */
		if (!done)
			atomic_store(&mm->kicked, true);
	}
	if (tick) {
		atomic_store(&mm->check, true); /* exec and exit send no message */
		thaw_bad_tick(w, mm, now);
	}
	if ((kicked || tick) && thaw_serve(w, mm))
		atomic_store(&mm->kicked, true); /* late: again soon */
}

void thaw_monitor_reclaim(struct thaw *m)
{
	struct thaw_mm *these = NULL, **p, *mm;

	{
		THAW_SCOPED_LOCK(&m->lock);
		for (p = &m->retired; (mm = *p);) {
			bool passed = true;

			/* A reader counts a round when it holds nothing that epoll gave it. The space had left epoll before: so
			 * one round later no address of it is left anywhere. */
			for (unsigned i = 0; i < m->set.readers; i++)
				passed = passed && atomic_load(&m->workers[i].rounds) != mm->retire_rounds[i];
			if (!passed) {
				p = &mm->next;
				continue;
			}
			*p = mm->next;
			mm->next = these;
			these = mm;
		}
	}
	while ((mm = these)) {
		these = mm->next;
		thaw_mm_put(mm);
	}
}

/* It cannot be made again from here, under a filter and beside threads; but it is not to be relied on in silence. */
static void look_after_holder(struct thaw *m)
{
	if (!m->holder || m->holder_told || thaw_holder_is_alive(m->holder))
		return;
	m->holder_told = true;
	thaw_log_error(&m->set.log,
		       "the holder (pid %d) has been killed: if this process is killed too, memory that is not in yet reads"
		       " as zero in the processes restored", (int)thaw_holder_pid(m->holder));
}

static uint64_t time_left(const struct thaw *m, uint64_t next_tick, uint64_t start_at, bool late)
{
	uint64_t now = thaw_sys_now_ns(), wait = next_tick > now ? next_tick - now : 1;

	if (m->set.background == THAW_BACKGROUND_DELAYED && !atomic_load(&m->background_on))
		wait = start_at <= now ? 1 : start_at - now < wait ? start_at - now : wait;
	return late && wait > 1000000 ? 1000000 : wait;
}

void thaw_control_run(struct thaw_worker *w)
{
	struct thaw *m = w->m;
	uint64_t next_tick = thaw_sys_now_ns() + TICK_NS;
	uint64_t start_at = atomic_load(&m->started_ns) + m->set.delay_ms * 1000000ULL;

	while (!atomic_load(&m->stopping)) {
		uint32_t seen = atomic_load(&m->chores);
		uint64_t now = thaw_sys_now_ns();
		bool tick = now >= next_tick, late = false;
		struct thaw_mm *mm;

		if (m->set.background == THAW_BACKGROUND_DELAYED && now >= start_at &&
		    !atomic_exchange(&m->background_on, true))
			thaw_monitor_work(m);
		thaw_fetch_place_landed(w);
		for (mm = next_live(m, NULL); mm; mm = next_live(m, mm)) {
			visit(w, mm, tick, now);
			thaw_fetch_place_landed(w); /* they wait for one visit at most */
			late = late || atomic_load(&mm->kicked) || (atomic_load(&mm->unwatched) && thaw_mm_is_live(mm));
		}
		if (tick) {
			look_after_holder(m);
			thaw_report_sample(m, now);
			thaw_monitor_reclaim(m);
			next_tick = now + TICK_NS;
		}
		if (!atomic_load(&m->stopping))
			thaw_futex_wait(&m->chores, seen, time_left(m, next_tick, start_at, late));
	}
}
