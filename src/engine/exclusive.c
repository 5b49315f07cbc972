// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/exclusive.c - the section X: one non-blocking read, every event of it applied in order */
#include "config.h"
#include "engine/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/areas.h"
#include "engine/gone.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/inject.h"
#include "util/sabotage.h"

/* Nothing more can be placed rightly: what the map says and what the process has may differ. */
static void freeze(struct thaw_mm *mm, const char *what, int err)
{
	atomic_store_explicit(&mm->state, THAW_MM_FROZEN, memory_order_release);
	thaw_log_error(&mm->m->set.log, "space %lld: %s could not be followed (%s): nothing more is placed in it, its"
		       " process waits at the next absent page; end it", (long long)mm->id, what, strerror(-err));
}

/* The change as a broken monitor would see it. False: not at all. */
static bool sabotage(struct thaw_mm *mm, struct thaw_change *c)
{
	if (THAW_SABOTAGE(UNREGISTER_PART) && c->kind == THAW_CHANGE_REMOVE)
		thaw_uffd_unregister(mm->uffd, c->start, c->len);
	if (THAW_SABOTAGE(LENGTH_32))
		c->len = (uint32_t)c->len;
	return c->len && !(THAW_SABOTAGE(REMOVE_IGNORED) && c->kind == THAW_CHANGE_REMOVE) &&
	       !(THAW_SABOTAGE(UNMAP_IGNORED) && c->kind == THAW_CHANGE_UNMAP) &&
	       !(THAW_SABOTAGE(REMAP_IGNORED) && c->kind == THAW_CHANGE_REMAP);
}

static void change(struct thaw_mm *mm, struct thaw_change *c, const char *what)
{
	int64_t gone = THAW_INJECT("engine.apply");

	mm->changed = true;
	mm->fork_overtaken |= mm->fork_stuck;
	if (!sabotage(mm, c))
		return;
	thaw_gone_forget(mm);
	thaw_areas_change(mm, c);
	if (!gone)
		gone = thaw_events_apply(mm->ev, mm->pm, c);

	if (gone < 0) {
		freeze(mm, what, gone);
		return;
	}
	atomic_fetch_add_explicit(&mm->tally.gone, gone, memory_order_relaxed);
	thaw_count(&mm->counters, 0, THAW_COUNT_PAGES_GONE, gone);
}

/* Which of the parent's changes came before the fork is not known: what its memory holds is not, either. */
static void freeze_child(const struct thaw_mm *mm, struct thaw_mm *child)
{
	const char *why = mm->fork_overtaken ? "no descriptor was free for its userfaultfd, and changes of its parent have overtaken the fork" :
					       "its parent was moving memory while it forked";

	atomic_store_explicit(&child->state, THAW_MM_FROZEN, memory_order_release);
	thaw_log_error(&mm->m->set.log, "space %lld: a forked child of space %lld: %s: what its memory held is not known, so nothing is placed"
		       " in it, its process waits at the next absent page; end it", (long long)child->id, (long long)mm->id, why);
}

static void fork_child(struct thaw_worker *w, struct thaw_mm *mm, const struct uffd_msg *msg, struct thaw_mm **born, unsigned *n_born)
{
	struct thaw_mm *child = thaw_mm_fork(mm, msg->arg.fork.ufd);

	/* What is displaced lies in the child too, somewhere: its map does not have it. */
	if (child && (mm->fork_overtaken || thaw_events_has_displaced(mm->ev)))
		freeze_child(mm, child);

	thaw_subscribers_child(w, msg, child ? child->id : -1);
	if (child) {
		born[(*n_born)++] = child;
		return;
	}
	thaw_monitor_orphan(mm->m, (int)msg->arg.fork.ufd);
	/* Its userfaultfd stays open: the child waits at its first absent page instead of reading a zero. */
	thaw_log_error(&mm->m->set.log, "space %lld: no memory for the space of a forked child: the child waits for ever at"
		       " its next absent page", (long long)mm->id);
}

/* A fault for the owner's list, unless it is on it already. */
static void park(struct thaw_mm *mm, const struct thaw_fault *f)
{
	for (unsigned i = 0; i < mm->n_parked; i++)
		if (mm->parked[i].addr == f->addr)
			return;
	if (mm->n_parked == mm->room_parked) {
		unsigned room = mm->room_parked ? mm->room_parked * 2 : THAW_BATCH;
		struct thaw_fault *more = THAW_INJECT("memory.parked") ? NULL : realloc(mm->parked, room * sizeof(*more));

		if (!more) { /* woken, it faults again, and its message takes the place of our memory */
			thaw_uffd_wake(mm->uffd, f->addr, THAW_PAGE_SIZE);
			return;
		}
		mm->parked = more;
		mm->room_parked = room;
	}
	mm->parked[mm->n_parked++] = *f;
}

/* Ends X and begins another: copiers run between. */
static void reopen(struct thaw_worker *w, struct thaw_mm *mm)
{
	thaw_gate_open(&mm->gate);
	thaw_sabotage_pause(5000);
	thaw_gate_close(&w->m->gate, &mm->gate);
}

static void note_fault(struct thaw_mm *mm, uint64_t now)
{
	uint64_t *at = &mm->fault_ns[mm->n_faults++ % THAW_DENSE];

	atomic_store_explicit(&mm->last_fault_ns, now, memory_order_relaxed);
	atomic_store_explicit(&mm->dense, now - *at < THAW_DENSE_NS, memory_order_relaxed);
	*at = now;
}

/* In the order in which they are applied: what led to a wrong page can be read from it. */
static void tell(struct thaw_mm *mm, const struct uffd_msg *msg)
{
	const struct thaw_log *log = &mm->m->set.log;
	long long id = mm->id;

	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		thaw_log_debug(log, "space %lld: fault at 0x%llx%s", id, msg->arg.pagefault.address,
			       msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE ? ", to write" : "");
		break;
	case UFFD_EVENT_FORK:
		thaw_log_debug(log, "space %lld: fork, the child's userfaultfd is %u", id, msg->arg.fork.ufd);
		break;
	case UFFD_EVENT_REMAP:
		thaw_log_debug(log, "space %lld: remap of 0x%llx + 0x%llx to 0x%llx", id, msg->arg.remap.from, msg->arg.remap.len,
			       msg->arg.remap.to);
		break;
	default:
		thaw_log_debug(log, "space %lld: %s of 0x%llx + 0x%llx", id,
			       msg->event == UFFD_EVENT_REMOVE ? "remove" : msg->event == UFFD_EVENT_UNMAP ? "unmap" : "unknown message",
			       msg->arg.remove.start, msg->arg.remove.end - msg->arg.remove.start);
		break;
	}
}

static void apply(struct thaw_worker *w, struct thaw_mm *mm, const struct uffd_msg *msg, uint64_t now,
		  struct thaw_mm **born, unsigned *n_born)
{
	struct thaw_counters *c = &mm->counters;

	if (thaw_log_wants(&mm->m->set.log, THAW_LOG_DEBUG))
		tell(mm, msg);
	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		thaw_count(c, w->number, THAW_COUNT_FAULTS, 1);
		note_fault(mm, now);
		park(mm, &(struct thaw_fault){
			.addr = msg->arg.pagefault.address & ~(THAW_PAGE_SIZE - 1),
			.t0 = now,
		});
		break;
	case UFFD_EVENT_FORK:
		thaw_count(c, w->number, THAW_COUNT_FORK, 1);
		if (THAW_SABOTAGE(FORK_DROPPED)) {
			close(msg->arg.fork.ufd);
			break;
		}
		if (THAW_SABOTAGE(FORK_LATE))
			reopen(w, mm);
		fork_child(w, mm, msg, born, n_born);
		break;
	case UFFD_EVENT_REMAP:
		thaw_count(c, w->number, THAW_COUNT_REMAP, 1);
		change(mm, &(struct thaw_change){ .kind = THAW_CHANGE_REMAP, .start = msg->arg.remap.from,
						  .len = msg->arg.remap.len, .to = msg->arg.remap.to }, "an mremap");
		break;
	case UFFD_EVENT_REMOVE:
		thaw_count(c, w->number, THAW_COUNT_REMOVE, 1);
		change(mm, &(struct thaw_change){ .kind = THAW_CHANGE_REMOVE, .start = msg->arg.remove.start,
						  .len = msg->arg.remove.end - msg->arg.remove.start }, "a discard");
		break;
	case UFFD_EVENT_UNMAP:
		thaw_count(c, w->number, THAW_COUNT_UNMAP, 1);
		change(mm, &(struct thaw_change){ .kind = THAW_CHANGE_UNMAP, .start = msg->arg.remove.start,
						  .len = msg->arg.remove.end - msg->arg.remove.start }, "an unmap");
		break;
	default:
		freeze(mm, "a message of an unknown kind", -EPROTO);
		break;
	}
}

static bool has_event(const struct uffd_msg *msgs, int n)
{
	for (int i = 0; i < n; i++)
		if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
			return true;
	return false;
}

/* A FORK that finds no descriptor goes back to the queue, but to its end: all that came since overtakes it (fs/userfaultfd.c,
 * userfaultfd_ctx_read()). In the middle of a batch that is no error. So whatever has changed since the queue was last empty may have
 * come behind a FORK that is still in it. In the order of numbers nothing is overtaken. */
static void look_for_stuck_fork(struct thaw_mm *mm, int n)
{
	if (n == 0)
		mm->fork_stuck = mm->fork_overtaken = mm->changed = false;
	if (n >= 0 || n == -EINTR || n == -EIO || mm->numbered) /* -EIO: the kernel never says that, but a test does */
		return;
	mm->fork_stuck = true;
	mm->fork_overtaken |= mm->changed;
}

/* Behind a batch: is a descriptor free? If not, a FORK may have been put back; if something had changed before, for the second time. Not
 * behind faults alone, of which there are many, before it has happened once. */
static void look_for_descriptor(struct thaw_mm *mm, const struct uffd_msg *msgs, int n, bool changed)
{
	int fd;

	if (n <= 0 || n == THAW_BATCH || mm->numbered || mm->fork_stuck || (!has_event(msgs, n) && !atomic_load(&mm->m->emfile_told)))
		return;
	fd = fcntl(mm->uffd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0) {
		close(fd);
		return;
	}
	mm->fork_stuck = true;
	mm->fork_overtaken |= changed;
}

/* X begins, with what there is to read. Messages, or < 0. */
static int read_in(struct thaw_worker *w, struct thaw_mm *mm)
{
	int n;

	/* With numbers it needs no exclusion: a fill that it overtakes is refused. X is for the map then. */
	if (mm->numbered || THAW_SABOTAGE(READ_OUTSIDE_X)) {
		n = thaw_uffd_read(mm->uffd, w->msgs, THAW_BATCH);
		if (THAW_SABOTAGE(READ_OUTSIDE_X) && has_event(w->msgs, n / (int)sizeof(w->msgs[0])))
			thaw_sabotage_pause(1000);
		thaw_gate_close(&w->m->gate, &mm->gate);
	} else {
		/* two calls that depend on each other get the time to meet in one batch */
		if (THAW_SABOTAGE(EVENTS_REVERSED) || THAW_SABOTAGE(UNMAP_NOT_PAIRED))
			thaw_sabotage_pause(2000);
		thaw_gate_close(&w->m->gate, &mm->gate);
		n = thaw_uffd_read(mm->uffd, w->msgs, THAW_BATCH);
	}
	if (n > 0)
		n /= (int)sizeof(w->msgs[0]);
	if (THAW_SABOTAGE(UPDATE_AFTER_X) && has_event(w->msgs, n))
		reopen(w, mm);
	return n;
}

/* A numbered message waits for those before it. */
static void hold(struct thaw_mm *mm, const struct uffd_msg *msg)
{
	_Static_assert(sizeof(*msg) == THAW_ORDER_MESSAGE, "a message is 32 bytes");
	if (thaw_order_put(&mm->order, thaw_uffd_number(msg), msg))
		freeze(mm, "a change", -ENOMEM);
	if (mm->lost_after)
		mm->lost_after--;
}

/* Those whose turn it is. False: there are more than one X takes. dead: nobody is left who could tell what is missing between them; but a
 * FORK among them has made a child that lives, and waits. */
static bool apply_in_order(struct thaw_worker *w, struct thaw_mm *mm, uint64_t now, bool dead, struct thaw_mm **born, unsigned *n_born)
{
	struct uffd_msg msg;
	uint32_t lost;

	do {
		while (thaw_mm_is_live(mm) && *n_born < THAW_BATCH && thaw_order_take(&mm->order, &msg))
			apply(w, mm, &msg, now, born, n_born);
		lost = 0;
		if (mm->losing && !mm->lost_after && *n_born < THAW_BATCH) {
			lost = thaw_order_give_up(&mm->order, mm->lost_upto);
			mm->losing = lost;
		}
		if (!lost && dead && thaw_mm_is_live(mm) && *n_born < THAW_BATCH)
			lost = thaw_order_give_up_gap(&mm->order);
		if (lost) {
			thaw_events_guessed(mm->ev);
			thaw_log_warning(&mm->m->set.log, "space %lld: %u changes were announced and never told (a thread was killed in one, or"
					 " a fork failed)", (long long)mm->id, lost);
		}
	} while (lost);
	/* Release, and within X: who looks up in an S that follows sees map and number together. */
	atomic_store_explicit(&mm->number, mm->order.done, memory_order_release);
	return *n_born < THAW_BATCH;
}

/* Nothing of this space is followed any more: whoever was forked then has a userfaultfd, but no space. */
static void lose_child(struct thaw_mm *mm, const struct uffd_msg *msg)
{
	if (msg->event != UFFD_EVENT_FORK)
		return;
	thaw_monitor_orphan(mm->m, (int)msg->arg.fork.ufd);
	thaw_log_error(&mm->m->set.log, "space %lld: what its forked child has is not known: the child waits for ever at its next absent page;"
		       " end it", (long long)mm->id);
}

static void lose_children(struct thaw_mm *mm, const struct uffd_msg *msgs, int n)
{
	struct uffd_msg held;

	for (int i = 0; i < n; i++)
		lose_child(mm, &msgs[i]);
	do
		while (mm->numbered && thaw_order_take(&mm->order, &held))
			lose_child(mm, &held);
	while (mm->numbered && thaw_order_give_up_gap(&mm->order));
}

/* False: more is waiting, for another X. */
static bool apply_all(struct thaw_worker *w, struct thaw_mm *mm, int n, bool dead, struct thaw_mm **born, unsigned *n_born)
{
	uint64_t now = n > 0 ? thaw_sys_now_ns() : 0;
	bool all = true;
	int i;

	/* All of them, in order, before a fault is looked at: a fault can be queued in front of an event that had
	 * come to its end before. Faults are only noted here. */
	for (i = 0; i < n && thaw_mm_is_live(mm); i++) {
		const struct uffd_msg *msg = &w->msgs[THAW_SABOTAGE(EVENTS_REVERSED) ? n - 1 - i : i];

		if (mm->numbered && msg->event != UFFD_EVENT_PAGEFAULT)
			hold(mm, msg);
		else
			apply(w, mm, msg, now, born, n_born);
		if (THAW_SABOTAGE(FAULTS_BEFORE_EVENTS) && mm->n_parked && has_event(w->msgs + i, n - i)) {
			thaw_sabotage_pause(300);
			thaw_serve_faults(w, mm);
		}
	}
	if (mm->numbered)
		all = apply_in_order(w, mm, now, dead, born, n_born);
	if (!thaw_mm_is_live(mm))
		lose_children(mm, w->msgs + i, n - i);
	return all;
}

bool thaw_serve_is_complete(struct thaw_mm *mm)
{
	return !thaw_mm_is_registering(mm) && !atomic_load(&mm->raising) && !thaw_order_has_gap(&mm->order) &&
	       !thaw_events_has_displaced(mm->ev) && thaw_pagemap_absent(mm->pm) <= (THAW_SABOTAGE(FINISH_EARLY) ? 16 : 0);
}

int thaw_serve_exclusive(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_mm **born, unsigned *n_born,
			 enum thaw_mm_state *ended)
{
	bool dead = atomic_load(&mm->dead), changed, all; /* dead: before reading, what comes behind that was withdrawn */
	int n;

	*ended = THAW_MM_LIVE;
	*n_born = 0;
	thaw_subscribers_open(w, mm);
	n = read_in(w, mm);
	w->spin.got = n > 0;
	look_for_stuck_fork(mm, n);
	if (n == 0) /* what was announced to be there to read has been withdrawn */
		mm->lost_after = 0;
	if (n < 0) /* a FORK has gone to the end of the queue: what was counted there came behind it or will */
		mm->losing = false;
	thaw_subscribers_begin(w, mm, w->msgs, n);
	changed = mm->changed;
	all = apply_all(w, mm, n, dead, born, n_born);
	look_for_descriptor(mm, w->msgs, n, changed); /* behind it: what was read before the FORK has not overtaken it */
	if (!all)
		n = THAW_BATCH; /* the caller comes again at once */
	if (thaw_mm_is_live(mm) && dead && !thaw_order_has_gap(&mm->order))
		*ended = THAW_MM_GONE;
	else if (thaw_mm_is_live(mm) && n == 0 && thaw_serve_is_complete(mm) && thaw_areas_unregister(mm))
		/* A FORK may be on its way still: the child has every page then, as each was placed before the fork
		 * began (else the placing had been answered EAGAIN), and the kernel takes back its registration. */
		*ended = THAW_MM_FINISHED;
	if (*ended != THAW_MM_LIVE || (n > 0 && !thaw_mm_is_live(mm))) /* the latter: frozen just now */
		thaw_subscribers_ending(w, mm);
	if (*ended != THAW_MM_LIVE)
		thaw_mm_end(mm, *ended);
	thaw_gate_open(&mm->gate);
	thaw_subscribers_end(w, mm);
	return n;
}
