// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/serve.c - the owner of a space at work: X, children, ends, and when to come again */
#include "config.h"
#include "engine/serve.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/assert.h"

#define ROUNDS 6 /* of X and faults while something is changing, before time is given to the thread that changes it */
#define FIRST_LATE_NS 50000ULL
#define LAST_LATE_NS 5000000ULL

static void tell_forked(struct thaw_mm *parent, struct thaw_mm *child)
{
	struct thaw_event_info info = {
		.size = sizeof(info),
		.event = THAW_EVENT_FORKED,
		.space = parent->id,
		.child = child->id,
	};

	thaw_log_debug(&parent->m->set.log, "space %lld: forked, the child is space %lld", (long long)parent->id,
		       (long long)child->id);
	thaw_monitor_event(parent->m, &info);
}

/* Outside X. A child of a process that /proc can be asked about waits for the control thread to do so. */
static void raise_children(struct thaw_mm *mm, struct thaw_mm **born, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		tell_forked(mm, born[i]);
		if (mm->smaps_fd >= 0 && thaw_pagemap_absent(born[i]->pm)) {
			atomic_fetch_add(&mm->raising, 1);
			born[i]->raise_from = thaw_mm_get(mm);
			thaw_mm_kick(born[i]);
		} else {
			thaw_mm_release(born[i]);
		}
	}
}

/* read() failed: the event stays queued. */
static void tell_read_error(struct thaw_mm *mm, int err)
{
	struct thaw *m = mm->m;

	if (atomic_exchange(&m->emfile_told, true))
		return;
	thaw_log_error(&m->set.log, err == -EMFILE || err == -ENFILE ?
		       "space %lld: no descriptor is left for a forked child's userfaultfd (%s): the fork waits; raise"
		       " RLIMIT_NOFILE" : "space %lld: its userfaultfd cannot be read: %s", (long long)mm->id, strerror(-err));
}

/* Has a number been given that no message will bring? Nobody reads while this is asked, since the owner is here. When no event
 * is between being raised and being queued, nor read and not yet over, all that are raised are in the queue: what is not read by
 * then never comes. The control thread asks: others may not look into /proc. */
static void look_for_lost(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct timespec pause = { .tv_nsec = 100000 };
	unsigned raised, queued;
	uint32_t last;

	if (!mm->numbered || mm->losing || w->role != THAW_ROLE_CONTROL || atomic_load(&mm->unread))
		return;
	for (unsigned i = 0; i < 100 && !atomic_load(&w->m->stopping); i++) {
		if (thaw_uffd_events(mm->uffd, &last, &raised, &queued) || last == mm->order.done)
			return;
		if (raised == queued) {
			mm->losing = true;
			mm->lost_upto = last;
			mm->lost_after = queued;
			return;
		}
		nanosleep(&pause, NULL);
	}
}

static void come_again(struct thaw_worker *w, struct thaw_mm *mm)
{
	mm->backoff_ns = mm->backoff_ns ? mm->backoff_ns * 2 : FIRST_LATE_NS;
	if (mm->backoff_ns > LAST_LATE_NS)
		mm->backoff_ns = LAST_LATE_NS;
	mm->late_due_ns = thaw_sys_now_ns() + mm->backoff_ns;
	if (mm->numbered && mm->backoff_ns == LAST_LATE_NS && w->role != THAW_ROLE_CONTROL)
		thaw_mm_kick(mm); /* a number may have been lost */
}

static bool rounds(struct thaw_worker *w, struct thaw_mm *mm)
{
	bool is_copier = w->role == THAW_ROLE_COPIER; /* it does not wait here, nor stay for long */

	if (atomic_load(&mm->held))
		return false; /* its map is not final yet, and epoll does not know it */
	for (unsigned round = 0; thaw_mm_is_live(mm) && !atomic_load(&w->m->stopping); round++) {
		struct thaw_mm *born[THAW_BATCH];
		enum thaw_mm_state ended;
		unsigned n_born;
		bool changing, complete;
		int n;

		if (atomic_exchange(&mm->check, false) && thaw_uffd_probe(mm->uffd) == THAW_DEAD)
			atomic_store(&mm->dead, true);
		look_for_lost(w, mm);
		n = thaw_serve_exclusive(w, mm, born, &n_born, &ended);
		raise_children(mm, born, n_born);
		if (ended != THAW_MM_LIVE) {
			thaw_mm_ended(mm, ended);
			return false;
		}
		if (n < 0)
			tell_read_error(mm, n);
		atomic_store(&mm->unread, n < 0);
		if (!thaw_mm_is_live(mm))
			return false;
		/* Ask whether all is quiet, when nothing that follows will: else two changes of one thread, one after the
		 * other, would pass for two at once. */
		if (!mm->n_parked && thaw_events_unsettled(mm->ev) && thaw_uffd_probe(mm->uffd) == THAW_NO_VMA)
			thaw_events_settled(mm->ev);
		changing = thaw_serve_faults(w, mm);
		complete = thaw_serve_is_complete(mm);
		changing |= thaw_order_has_gap(&mm->order) || mm->losing || thaw_events_has_displaced(mm->ev) || complete;
		if (n == THAW_BATCH && is_copier && !changing && !mm->n_parked && !atomic_load(&mm->dead))
			return false; /* there is more, and there is a copy to be made, too */
		if ((n == THAW_BATCH || (n > 0 && mm->fork_stuck)) && !is_copier &&
		    (w->role == THAW_ROLE_CONTROL || thaw_serve_is_asked(w, mm, false))) {
			mm->backoff_ns = 0; /* so many faults at once never end; others have some too */
			come_again(w, mm);
			return true;
		}
		if (n == THAW_BATCH || atomic_load(&mm->dead) || (n > 0 && (complete || mm->fork_stuck)))
			continue;
		if (!mm->n_parked && n >= 0 && !changing) {
			mm->backoff_ns = 0;
			return false;
		}
		if (!changing || n < 0 || round >= ROUNDS || is_copier) {
			come_again(w, mm);
			return true;
		}
		if (round)
			sched_yield(); /* the thread that is changing something needs a CPU to come to its end */
	}
	return false;
}

/* Until nothing is left to do now. Returns whether time is what is missing. */
static bool serve_owned(struct thaw_worker *w, struct thaw_mm *mm)
{
	bool late;

	w->served = mm;
	late = rounds(w, mm);
	w->served = NULL;
	return late;
}

/* Before letting go: a message that comes now finds epoll armed, and its reader finds the space owned and leaves its note. What
 * cannot be read would be told of without end; whoever is late with it looks again. */
static void rearm(struct thaw_mm *mm)
{
	if (thaw_mm_is_live(mm) && !atomic_load(&mm->held) && !atomic_load(&mm->unread))
		thaw_mm_rearm(mm);
}

/* False: there is a note, and the owner goes round again. */
static bool let_go(struct thaw_mm *mm)
{
	rearm(mm);
	return thaw_owner_drop(&mm->owner);
}

bool thaw_serve(struct thaw_worker *w, struct thaw_mm *mm)
{
	bool late;

	if (!thaw_monitor_own(w->m, mm))
		return false; /* its owner goes round once more for us */
	do
		do
			late = serve_owned(w, mm);
		while (!late && thaw_mm_is_live(mm) && !atomic_load(&mm->held) && !atomic_load(&w->m->stopping) &&
		       thaw_reader_linger(w, mm));
	while (!let_go(mm));
	return late;
}

bool thaw_serve_again(struct thaw_worker *w, struct thaw_mm *mm)
{
	THAW_ASSERT(w->beside.own);
	thaw_owner_awake(&mm->owner); /* notes so far are for the round that follows */
	return serve_owned(w, mm);
}

bool thaw_serve_let_go(struct thaw_worker *w, struct thaw_mm *mm)
{
	bool late;

	if (let_go(mm))
		return false;
	late = serve_owned(w, mm);
	rearm(mm);
	return thaw_owner_hand_on(&mm->owner) || late;
}
