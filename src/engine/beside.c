// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/beside.c - copy, look, serve, copy: one thread, where two are slower */
#include "config.h"
#include "engine/beside.h"

#include <poll.h>

#include "engine/serve.h"
#include "kern/sys.h"
#include "util/inject.h"

#define WAIT_NS 5000000ULL
/* A copy lasts a tenth of a millisecond. If this long has gone by from one to the next, and not in our own work, the CPU was somebody
 * else's: a copier is nice, and who faults would wait for its turn. A reader is not. */
#define LOST_NS 2000000ULL
#define FIRST_ASIDE_NS 20000000ULL
#define LAST_ASIDE_NS 1280000000ULL
#define SERVE_NS 300000ULL /* then there is a copy again */

static bool pays(const struct thaw_worker *w)
{
	return w->pace.beside && (thaw_pace_is_dear(&w->pace) || THAW_INJECT("pace.dear")) &&
	       !atomic_load_explicit(&w->m->n_subscribers, memory_order_relaxed);
}

void thaw_beside_leave(struct thaw_worker *w)
{
	struct thaw_beside *b = &w->beside;
	struct thaw_mm *mm = b->mm;
	bool own = b->own;

	if (!mm || w->served) /* the latter: it is serving it */
		return;
	b->mm = NULL;
	b->own = false;
	atomic_store(&mm->beside, false); /* first: a reader that takes it behind us may linger */
	if (own && thaw_serve_let_go(w, mm))
		thaw_mm_kick(mm);
	thaw_mm_put(mm);
}

void thaw_beside_leave_to_wait(struct thaw_worker *w)
{
	struct thaw_beside *b = &w->beside;

	b->looked_ns = 0;
	if (!b->mm)
		return;
	b->not_before_ns = thaw_sys_now_ns() + WAIT_NS;
	thaw_beside_leave(w);
}

/* Longer each time, unless it has gone well for as long as it had stood aside. */
static void stand_aside(struct thaw_worker *w)
{
	struct thaw_beside *b = &w->beside;
	uint64_t now = thaw_sys_now_ns();

	b->aside_ns = now < b->aside_until_ns + b->aside_ns ? b->aside_ns * 2 : FIRST_ASIDE_NS;
	if (b->aside_ns > LAST_ASIDE_NS)
		b->aside_ns = LAST_ASIDE_NS;
	b->aside_until_ns = now + b->aside_ns;
	thaw_beside_leave(w);
}

/* A window that is mapped may have to be read from the disk again; and what a window's way costs is not what serving costs. */
static void prepare(struct thaw_worker *w)
{
	if (w->window.mapped)
		thaw_window_drop(&w->window);
	w->ways.began_ns = 0;
}

/* A reader that has it sees the mark, or the note, and lets go: then it is ours at a later look. One note is enough. */
static bool take(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct thaw_beside *b = &w->beside;
	uint64_t now = thaw_sys_now_ns();

	if (b->mm) {
		b->own = thaw_owner_try(&mm->owner);
	} else {
		if (now < b->not_before_ns || now < b->aside_until_ns || atomic_exchange(&mm->beside, true))
			return false;
		b->mm = thaw_mm_get(mm);
		b->own = thaw_monitor_own(w->m, mm);
	}
	if (b->own)
		prepare(w);
	return b->own;
}

static bool is_asked(struct thaw_mm *mm)
{
	struct pollfd p = { .fd = mm->uffd, .events = POLLIN };

	return poll(&p, 1, 0) > 0 || thaw_owner_is_noted(&mm->owner);
}

static void serve(struct thaw_worker *w, struct thaw_mm *mm)
{
	uint64_t until = 0;

	while (w->beside.own && is_asked(mm) && (!until || thaw_sys_now_ns() < until)) {
		if (!until)
			until = thaw_sys_now_ns() + SERVE_NS;
		if (thaw_serve_again(w, mm)) { /* only time helps: the control thread has it */
			thaw_beside_leave_to_wait(w);
			thaw_mm_kick(mm);
		} else if (!thaw_mm_is_live(mm)) {
			thaw_beside_leave(w);
		}
	}
}

/* Between two looks, unless it was our own work that took so long. */
static bool has_lost_cpu(const struct thaw_beside *b, uint64_t now, uint64_t cpu)
{
	uint64_t took = b->looked_ns ? now - b->looked_ns : 0;

	return took > LOST_NS && cpu - b->looked_cpu_ns < took / 2;
}

void thaw_beside_look(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct thaw_beside *b = &w->beside;
	uint64_t now, cpu;

	if (b->mm && b->mm != mm)
		thaw_beside_leave(w);
	if (!pays(w)) {
		b->looked_ns = 0;
		thaw_beside_leave(w);
		return;
	}
	now = thaw_sys_now_ns();
	cpu = thaw_sys_thread_cpu_ns();
	if (has_lost_cpu(b, now, cpu))
		stand_aside(w);
	b->looked_ns = now; /* serving counts: he who is woken by it may take the CPU from us */
	b->looked_cpu_ns = cpu;
	if (b->own || take(w, mm))
		serve(w, mm);
}
