// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/plan.c - passes, spans and turns */
#include "config.h"
#include "engine/plan.h"

#include "engine/bad.h"
#include "engine/fill.h"
#include "engine/follow.h"
#include "kern/sys.h"

#define FIRST_BACKOFF_NS 1000000ULL
#define LAST_BACKOFF_NS 500000000ULL

/* Absent pages, and the first of them from `from` on; 0 when the space is not live. */
static uint64_t look(struct thaw_worker *w, struct thaw_mm *mm, uint64_t from, bool *found, uint64_t *first)
{
	struct thaw_extent e;
	uint64_t absent = 0;

	thaw_gate_enter(&w->m->gate, w->number, &mm->gate);
	if (thaw_mm_is_live(mm)) {
		/* What is displaced comes back: a pass that has nothing else to do is not the last. */
		absent = thaw_pagemap_absent(mm->pm) + thaw_events_waiting(mm->ev);
		if (found && thaw_pagemap_next_absent(mm->pm, from, 1, &e)) {
			*found = true;
			*first = e.addr;
		}
	}
	thaw_gate_leave(&w->m->gate, w->number);
	return absent;
}

void thaw_plan_look(struct thaw_worker *w, struct thaw_mm *mm)
{
	if (thaw_mm_is_live(mm) && (atomic_load(&mm->dead) || !look(w, mm, 0, NULL, NULL)))
		thaw_mm_kick(mm);
}

static uint64_t span_of(uint64_t addr)
{
	return addr & ~(THAW_SPAN_BYTES - 1);
}

/* plan_lock held. Has this pass handed the span out before its turn? */
static bool was_hot(const struct thaw_mm *mm, uint64_t span)
{
	for (unsigned i = 0; i < mm->n_hot; i++)
		if (mm->hot[i] == span)
			return true;
	return false;
}

/* plan_lock held. */
static bool may_be_handed_out(const struct thaw_mm *mm, uint64_t span)
{
	return !mm->exhausted && span >= mm->cursor && mm->n_hot < THAW_MAX_HOT && !was_hot(mm, span);
}

/* A span in which threads wait again and again, before its turn. What has been handed out is in or under way: two copiers would be in each
 * other's way there, and what is being read would be read again. */
static bool claim_hot(struct thaw_worker *w, struct thaw_mm *mm, uint64_t *from, uint64_t *to)
{
	uint64_t span, first = 0;
	bool found = false;

	if (!thaw_follow_hot(mm, &span))
		return false;
	{
		THAW_SCOPED_LOCK(&mm->plan_lock);
		if (!may_be_handed_out(mm, span)) /* asked first, as it is most often behind the cursor: looking takes an S */
			return false;
	}
	look(w, mm, span, &found, &first);
	if (!found || span_of(first) != span)
		return false;
	{
		THAW_SCOPED_LOCK(&mm->plan_lock);
		if (!may_be_handed_out(mm, span))
			return false;
		mm->hot[mm->n_hot++] = span;
		mm->active++;
	}
	*from = first;
	*to = span + THAW_SPAN_BYTES;
	return true;
}

/* The next span of this space. */
static bool claim_span(struct thaw_worker *w, struct thaw_mm *mm, uint64_t *from, uint64_t *to)
{
	for (;;) {
		uint64_t cursor, first = 0;
		bool found = false;

		{
			THAW_SCOPED_LOCK(&mm->plan_lock);
			if (mm->exhausted)
				return false;
			cursor = mm->cursor;
		}
		look(w, mm, cursor, &found, &first);
		{
			THAW_SCOPED_LOCK(&mm->plan_lock);
			if (mm->exhausted || mm->cursor != cursor)
				continue; /* another copier was here */
			if (!found) {
				mm->exhausted = true;
				/* Whatever is active ends the pass; if nothing is, this did. */
				mm->active++;
			} else {
				mm->cursor = span_of(first) + THAW_SPAN_BYTES;
				if (was_hot(mm, span_of(first)))
					continue;
				*from = first;
				*to = mm->cursor;
				mm->active++;
				return true;
			}
		}
		thaw_plan_done(w, mm);
		return false;
	}
}

void thaw_plan_also(struct thaw_mm *mm)
{
	THAW_SCOPED_LOCK(&mm->plan_lock);
	mm->active++;
}

void thaw_plan_done(struct thaw_worker *w, struct thaw_mm *mm)
{
	uint64_t absent;
	bool over;

	{
		THAW_SCOPED_LOCK(&mm->plan_lock);
		over = --mm->active == 0 && mm->exhausted;
	}
	if (!over)
		return;
	absent = look(w, mm, 0, NULL, NULL);
	if (!absent || atomic_load(&mm->dead)) {
		if (thaw_mm_is_live(mm))
			thaw_mm_kick(mm);
		return;
	}
	{
		THAW_SCOPED_LOCK(&mm->plan_lock);
		mm->exhausted = false;
		mm->cursor = 0;
		mm->n_hot = 0;
		if (absent < mm->pass_absent || !mm->pass_absent)
			mm->pass_backoff_ns = 0;
		else
			mm->pass_backoff_ns = mm->pass_backoff_ns ? mm->pass_backoff_ns * 2 : FIRST_BACKOFF_NS;
		if (mm->pass_backoff_ns > LAST_BACKOFF_NS)
			mm->pass_backoff_ns = LAST_BACKOFF_NS;
		mm->pass_absent = absent;
		mm->next_pass_ns = mm->pass_backoff_ns ? thaw_sys_now_ns() + mm->pass_backoff_ns : 0;
	}
	thaw_monitor_work(w->m);
}

/* Copying ahead may go on here; *when: the earliest time it may, if that is all that is missing. */
static bool is_due(struct thaw_mm *mm, uint64_t now, uint64_t *when)
{
	if (!thaw_mm_is_live(mm) || atomic_load(&mm->held) || atomic_load(&mm->dead) || thaw_mm_is_registering(mm) ||
	    thaw_bad_is_too_much(mm, now, when))
		return false;
	{
		THAW_SCOPED_LOCK(&mm->plan_lock);
		if (mm->exhausted)
			return false;
		if (mm->next_pass_ns > now) {
			*when = mm->next_pass_ns < *when ? mm->next_pass_ns : *when;
			return false;
		}
		return true;
	}
}

/* The first due space behind the one served last, then from the start of the list. */
static struct thaw_mm *next_space(struct thaw *m, int64_t last, uint64_t now, uint64_t *when)
{
	struct thaw_mm *before = NULL;
	THAW_SCOPED_LOCK(&m->lock);

	for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next) {
		if (mm->id <= last && before)
			continue;
		if (!is_due(mm, now, when))
			continue;
		if (mm->id > last)
			return thaw_mm_get(mm);
		before = mm;
	}
	return before ? thaw_mm_get(before) : NULL;
}

struct thaw_mm *thaw_plan_claim(struct thaw_worker *w, int64_t *last, uint64_t *from, uint64_t *to, uint64_t *wait_ns)
{
	struct thaw *m = w->m;
	uint64_t now = thaw_sys_now_ns(), when = now + 1000000000ULL;

	*wait_ns = when - now;
	if (!atomic_load_explicit(&m->background_on, memory_order_acquire))
		return NULL;
	for (unsigned round = 0; round < 1000; round++) {
		struct thaw_mm *mm = next_space(m, *last, now, &when);

		if (!mm)
			break;
		*last = mm->id;
		if (w->beside.mm != mm)
			thaw_beside_leave(w); /* to look there may have to wait for its X */
		if (claim_hot(w, mm, from, to) || claim_span(w, mm, from, to))
			return mm;
		thaw_mm_put(mm);
	}
	*wait_ns = when > now ? when - now : 1;
	return NULL;
}
