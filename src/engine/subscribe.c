// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/subscribe.c - begin and end around every change, counted, with a sequence; and when a change is really over */
#include "config.h"
#include "engine/subscribe.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "engine/monitor.h"
#include "kern/procfs.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/sabotage.h"

#define USER_BYTES (1ULL << 47)
#define SETTLE_NS 200000000ULL /* a discard that is not seen to begin by then was a MADV_FREE */
#define STUCK_NS 2000000000ULL /* one that was is waited for as long as it gets on */
#define SETTLE_PAGE_NS 10000ULL /* more than a page takes: the longest in all */
#define BLIND_NS 5000000ULL
#define BLIND_PAGE_NS 1000ULL
#define AWAKE_NS 1000000ULL
#define ALL UINT32_MAX
#define NEVER UINT64_MAX /* no sequence */
#define LOOK_PAGES 512UL /* what a page table's last level holds */

struct thaw_subscriber {
	struct thaw *m;
	struct thaw_subscription *place;
	int64_t space; /* 0: all */
	struct thaw_subscriber_ops ops;
	void *opaque;
	_Atomic uint32_t active; /* invalidations in progress */
	_Atomic uint64_t seq;    /* those that are over */
	uint64_t young_ns;       /* immutable: until then nothing that is sampled holds */
};

/* ---- the owner's side ---------------------------------------------------------------------------------------- */
/* Who has place i and follows this space is counted from here on. NULL: nobody. */
static struct thaw_subscriber *enter(struct thaw_mm *mm, unsigned i)
{
	struct thaw_subscription *p = &mm->m->subscriptions[i];
	struct thaw_subscriber *s;

	if (!atomic_load(&p->who))
		return NULL;
	/* Counted, then looked at again: thaw_subscribers_remove() empties the place, then looks at the count (both
	 * sequentially consistent). So either it waits for us, or we see the place empty. */
	atomic_fetch_add(&p->users, 1);
	s = atomic_load(&p->who);
	if (!s || (s->space && s->space != mm->id)) {
		atomic_fetch_sub(&p->users, 1);
		return NULL;
	}
	atomic_fetch_add(&s->active, 1);
	return s;
}

/* Who has not been entered yet: their places, as bits. */
static uint32_t enter_all(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct thaw_invalidations *v = &w->inv;
	uint32_t entered = 0;

	for (unsigned i = 0; i < THAW_MAX_SUBSCRIBERS && atomic_load(&mm->m->n_subscribers); i++) {
		if (v->who[i])
			continue;
		v->who[i] = enter(mm, i);
		if (v->who[i])
			entered |= 1u << i;
	}
	v->any |= entered;
	return entered;
}

void thaw_subscribers_open(struct thaw_worker *w, struct thaw_mm *mm)
{
	w->inv.any = false;
	w->inv.n = 0;
	(void)enter_all(w, mm); /* before read() lets the process go on */
}

static bool as_change(const struct uffd_msg *m, struct thaw_change_info *c)
{
	switch (m->event) {
	case UFFD_EVENT_FORK:
		c->change = THAW_CHANGED_FORK;
		c->length = USER_BYTES;
		return true;
	case UFFD_EVENT_REMAP:
		c->change = THAW_CHANGED_MOVED;
		c->address = m->arg.remap.from;
		c->length = m->arg.remap.len;
		c->to = m->arg.remap.to;
		return true;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		c->change = m->event == UFFD_EVENT_REMOVE ? THAW_CHANGED_DISCARDED : THAW_CHANGED_UNMAPPED;
		c->address = m->arg.remove.start;
		c->length = m->arg.remove.end - m->arg.remove.start;
		return true;
	default:
		return false;
	}
}

static void tell(struct thaw_worker *w, bool begin, size_t from, uint32_t places)
{
	struct thaw_invalidations *v = &w->inv;

	for (unsigned i = 0; i < THAW_MAX_SUBSCRIBERS && from < v->n; i++) {
		struct thaw_subscriber *s = places & 1u << i ? v->who[i] : NULL;

		if (s && begin)
			s->ops.begin(s->opaque, v->change + from, v->n - from);
		else if (s && s->ops.end)
			s->ops.end(s->opaque, v->change + from, v->n - from);
	}
}

/* Whoever has come between open and here may have kept what was there before the change: it is told, and drops it. */
void thaw_subscribers_begin(struct thaw_worker *w, struct thaw_mm *mm, const struct uffd_msg *msgs, int n)
{
	struct thaw_invalidations *v = &w->inv;

	if (!atomic_load(&mm->m->n_subscribers) && !v->any)
		return;
	for (int i = 0; i < n; i++) {
		struct thaw_change_info c = { .size = sizeof(c), .space = mm->id };

		if (!as_change(&msgs[i], &c))
			continue;
		v->ufd[v->n] = msgs[i].arg.fork.ufd;
		v->change[v->n++] = c;
	}
	if (v->n)
		(void)enter_all(w, mm);
	tell(w, true, 0, ALL);
}

void thaw_subscribers_ending(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct thaw_invalidations *v = &w->inv;

	v->change[v->n++] = (struct thaw_change_info){
		.size = sizeof(v->change[0]), .space = mm->id, .change = THAW_CHANGED_ENDED, .length = USER_BYTES,
	};
	tell(w, true, v->n - 1, ALL);
}

void thaw_subscribers_child(struct thaw_worker *w, const struct uffd_msg *fork, int64_t child)
{
	struct thaw_invalidations *v = &w->inv;

	for (size_t i = 0; i < v->n; i++) {
		if (v->change[i].change == THAW_CHANGED_FORK && v->ufd[i] == fork->arg.fork.ufd) {
			v->change[i].child = child;
			return;
		}
	}
}

static uint64_t end_of(const struct thaw_change_info *c)
{
	return (c->address + c->length) >> THAW_PAGE_SHIFT;
}

/* The pages from *at on have left the process's page table: seen, or not to be known. Upwards, as the kernel takes them away; and what
 * was seen empty is not looked at again, so that all of a range is seen once, whatever its length. False: no more than before. */
static bool look_on(const struct thaw_mm *mm, const struct thaw_change_info *c, uint64_t *at)
{
	uint64_t from = *at, end = end_of(c);

	while (*at < end && !atomic_load(&mm->m->stopping)) {
		uint64_t n = end - *at < LOOK_PAGES ? end - *at : LOOK_PAGES;
		int got = thaw_procfs_any_page(mm->pagemap_fd, *at, n);

		if (got > 0)
			break;
		*at = got < 0 ? end : *at + n; /* the former: the process is gone */
	}
	return *at != from;
}

static void rest(uint64_t waited_ns)
{
	struct timespec nap = { .tv_nsec = 100000 };

	if (waited_ns < AWAKE_NS)
		sched_yield();
	else
		nanosleep(&nap, NULL);
}

/* Children: nothing of them can be looked at. */
static void settle_blind(const struct thaw_mm *mm, uint64_t pages)
{
	uint64_t most = BLIND_NS + pages * BLIND_PAGE_NS, began = thaw_sys_now_ns(), waited;

	if (most > SETTLE_NS)
		most = SETTLE_NS;
	while ((waited = thaw_sys_now_ns() - began) < most && !atomic_load(&mm->m->stopping))
		rest(waited);
}

/* A thread that discards memory goes on when its message has been read, and takes the pages away only then. Somebody who
 * looks a page up in the process in between finds the old one. Until the pages are gone nothing is over: nobody else can
 * bring one in meanwhile, since in a discarded range only the owner places pages, and the owner is here. */
static void settle(const struct thaw_mm *mm, const struct thaw_invalidations *v)
{
	uint64_t at[THAW_MAX_CHANGES], pages = 0, began = thaw_sys_now_ns(), moved = began, patience = SETTLE_NS, now;
	bool more, again = false;

	for (size_t i = 0; i < v->n; i++) {
		const struct thaw_change_info *c = &v->change[i];

		at[i] = c->change == THAW_CHANGED_DISCARDED ? c->address >> THAW_PAGE_SHIFT : end_of(c);
		pages += end_of(c) - at[i];
	}
	if (pages && mm->pagemap_fd < 0) {
		settle_blind(mm, pages);
		return;
	}
	do {
		more = false;
		for (size_t i = 0; i < v->n; i++) {
			if (look_on(mm, &v->change[i], &at[i])) {
				moved = thaw_sys_now_ns();
				patience = again ? STUCK_NS : SETTLE_NS;
			}
			more |= at[i] < end_of(&v->change[i]);
		}
		again = true;
		now = thaw_sys_now_ns();
		if (more)
			rest(now - moved);
	} while (more && !atomic_load(&mm->m->stopping) && now - moved < patience &&
		 now - began < SETTLE_NS + pages * SETTLE_PAGE_NS);
}

void thaw_subscribers_end(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct thaw_invalidations *v = &w->inv;

	if (!v->any && !v->n)
		return;
	/* Who has come since does not know what is about to be over, and may have kept a page that a discard had not come to yet:
	 * before the wait, so that it is made for them, and behind it. */
	if (v->n)
		tell(w, true, 0, enter_all(w, mm));
	if (v->any)
		settle(mm, v);
	if (v->n)
		tell(w, true, 0, enter_all(w, mm));
	tell(w, false, 0, ALL);
	for (unsigned i = 0; i < THAW_MAX_SUBSCRIBERS; i++) {
		struct thaw_subscriber *s = v->who[i];

		if (!s)
			continue;
		/* In this order: who sees that nothing is in progress sees the sequence that has moved. */
		if (v->n)
			atomic_fetch_add(&s->seq, 1);
		atomic_fetch_sub(&s->active, 1);
		v->who[i] = NULL;
		atomic_fetch_sub(&mm->m->subscriptions[i].users, 1);
	}
	v->any = false;
	v->n = 0;
}

/* ---- the subscriber's side ------------------------------------------------------------------------------------- */
uint64_t thaw_subscribers_sample(const struct thaw_subscriber *s)
{
	return s->young_ns && thaw_sys_now_ns() < s->young_ns ? NEVER : atomic_load(&s->seq);
}

bool thaw_subscribers_retry(const struct thaw_subscriber *s, uint64_t sample)
{
	return atomic_load(&s->active) || atomic_load(&s->seq) != sample;
}

int thaw_subscribers_add(struct thaw *m, int64_t space, const struct thaw_subscriber_ops *ops, void *opaque,
			 struct thaw_subscriber **out)
{
	struct thaw_subscriber *s;
	THAW_SCOPED_LOCK(&m->lock);

	if (space) {
		struct thaw_mm *mm = m->spaces;

		while (mm && mm->id != space)
			mm = mm->next;
		if (!mm || mm->over)
			return thaw_err_set(-ENOENT, "there is no space %lld, or it has ended", (long long)space);
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return thaw_err_set(-ENOMEM, "no memory for a subscriber");
	*s = (struct thaw_subscriber){ .m = m, .space = space, .ops = *ops, .opaque = opaque };
	for (unsigned i = 0; i < THAW_MAX_SUBSCRIBERS; i++) {
		struct thaw_subscription *p = &m->subscriptions[i];

		if (p->taken)
			continue;
		p->taken = true;
		s->place = p;
		atomic_store(&p->who, s);
		atomic_fetch_add(&m->n_subscribers, 1);
		/* Who reads from here on counts us. What others had read by now may have been counted for nobody, and if it is a discard
		 * the process may be about to carry it out. */
		if (atomic_load(&m->started_ns))
			s->young_ns = thaw_sys_now_ns() + BLIND_NS;
		*out = s;
		return 0;
	}
	free(s);
	return thaw_err_set(-EBUSY, "there are %d subscribers already", THAW_MAX_SUBSCRIBERS);
}

void thaw_subscribers_remove(struct thaw_subscriber *s)
{
	struct timespec pause = { .tv_nsec = 50000 };
	struct thaw_subscription *p = s->place;

	atomic_fetch_sub(&s->m->n_subscribers, 1);
	atomic_store(&p->who, NULL);
	while (atomic_load(&p->users)) /* they may still speak to us */
		nanosleep(&pause, NULL);
	{
		THAW_SCOPED_LOCK(&s->m->lock);
		p->taken = false; /* only now: the users of who comes next would be waited for, too */
	}
	free(s);
}

void thaw_subscribers_free(struct thaw *m)
{
	for (unsigned i = 0; i < THAW_MAX_SUBSCRIBERS; i++)
		free(atomic_exchange(&m->subscriptions[i].who, NULL));
}
