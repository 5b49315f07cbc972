// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/mm.c - the life of a space: made, published, owned, ended, forgotten */
#include "config.h"
#include "engine/mm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/areas.h"
#include "engine/fetch.h"
#include "engine/gone.h"
#include "engine/holder.h"
#include "engine/monitor.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/inject.h"
#include "util/sabotage.h"

struct thaw_mm *thaw_mm_new(struct thaw *m)
{
	struct thaw_mm *mm = THAW_INJECT("memory.space") ? NULL : aligned_alloc(64, (sizeof(*mm) + 63) & ~63UL);

	if (!mm)
		return NULL;
	*mm = (struct thaw_mm){ .m = m, .uffd = -1, .pidfd = -1, .smaps_fd = -1, .maps_fd = -1, .pagemap_fd = -1, .stat_fd = -1,
			        .holder_slot = -1, .refs = 1 };
	thaw_lock_init(&mm->plan_lock, THAW_RANK_PLAN);
	thaw_lock_init(&mm->bad_lock, THAW_RANK_SPACE);
	mm->born_ns = thaw_sys_now_ns();
	mm->ahead_pages = THAW_AHEAD_PAGES;
	return mm;
}

struct thaw_mm *thaw_mm_get(struct thaw_mm *mm)
{
	atomic_fetch_add_explicit(&mm->refs, 1, memory_order_relaxed); /* the caller holds one, or m->lock */
	return mm;
}

void thaw_mm_put(struct thaw_mm *mm)
{
	if (!mm || atomic_fetch_sub_explicit(&mm->refs, 1, memory_order_acq_rel) != 1)
		return;
	thaw_pagemap_free(mm->pm);
	thaw_events_free(mm->ev);
	thaw_pagemap_free(mm->areas);
	thaw_order_free(&mm->order);
	thaw_content_put(mm->content);
	if (mm->pidfd >= 0)
		close(mm->pidfd);
	if (mm->smaps_fd >= 0)
		close(mm->smaps_fd);
	if (mm->maps_fd >= 0)
		close(mm->maps_fd);
	if (mm->pagemap_fd >= 0)
		close(mm->pagemap_fd);
	if (mm->stat_fd >= 0)
		close(mm->stat_fd);
	thaw_lock_destroy(&mm->plan_lock);
	thaw_lock_destroy(&mm->bad_lock);
	free(mm->parked);
	free(mm->bad);
	free(mm->mappings);
	free(mm);
}

/* As long as epoll does not tell of it, the control thread looks at it, and each look tries this again. */
static void arm(struct thaw_mm *mm)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = (uintptr_t)mm };
	int op = mm->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, err;

	if (!mm->in_epoll)
		atomic_fetch_add(&mm->m->published, 1); /* what was set up is seen by a reader that epoll gives the address */
	err = mm->in_epoll ? THAW_INJECT_ERRNO("epoll.arm") : THAW_INJECT_ERRNO("epoll.add");
	if (!err)
		err = epoll_ctl(mm->m->epoll, op, mm->uffd, &ev);
	if (!err) {
		mm->in_epoll = true;
		atomic_store(&mm->unwatched, false);
		return;
	}
	if (!mm->unwatched_told)
		thaw_log_error(&mm->m->set.log, "space %lld: epoll cannot watch its userfaultfd (errno %d): it is looked at"
			       " every millisecond until it can", (long long)mm->id, errno);
	mm->unwatched_told = true;
	if (!atomic_exchange(&mm->unwatched, true))
		thaw_monitor_chore(mm->m);
}

uint64_t thaw_mm_match(const struct thaw_mm *mm)
{
	return mm->numbered ? thaw_uffd_match(atomic_load_explicit(&mm->number, memory_order_relaxed)) : 0;
}

void thaw_mm_rearm(struct thaw_mm *mm)
{
	arm(mm);
}

/* Two spaces with one userfaultfd would share its messages out between them, and close it twice. */
static bool is_same_uffd(const struct thaw_mm *a, const struct thaw_mm *b)
{
	return a->uffd >= 0 && (a->uffd == b->uffd || (a->uffd_ino && a->uffd_ino == b->uffd_ino));
}

static int check_uffd_locked(const struct thaw_mm *mm)
{
	for (const struct thaw_mm *other = mm->m->spaces; other; other = other->next)
		if (is_same_uffd(other, mm))
			return thaw_err_set(-EEXIST, "userfaultfd %d is that of space %lld already", mm->uffd, (long long)other->id);
	return 0;
}

int thaw_mm_check_uffd(const struct thaw_mm *mm)
{
	THAW_SCOPED_LOCK(&mm->m->lock);

	return check_uffd_locked(mm);
}

void thaw_mm_settle_numbering_locked(struct thaw_mm *mm)
{
	const struct thaw_settings *set = &mm->m->set;

	/* UFFDIO_POISON cannot demand a number. */
	mm->numbered = mm->numbers && set->numbering && set->failure == THAW_FAILURE_WAIT;
	if (mm->numbered)
		thaw_events_set_exact(mm->ev);
}

/* Gives the space its id and a place on the list. */
static int link_space(struct thaw_mm *mm)
{
	struct thaw *m = mm->m;
	int err;
	THAW_SCOPED_LOCK(&m->lock);

	err = mm->child ? 0 : check_uffd_locked(mm); /* a child's has just been made by the kernel; and this is within X of its parent */
	if (err)
		return err;
	mm->id = ++m->last_id;
	mm->gate.key = (uint32_t)mm->id;
	if (m->settled && !mm->child) /* a child is as its parent */
		thaw_mm_settle_numbering_locked(mm);
	*m->spaces_end = mm;
	m->spaces_end = &mm->next;
	mm->linked = true;
	m->n_live++;
	m->n_all++;
	return 0;
}

/* Until then nobody serves it or copies into it, so that it cannot end under the feet of who sets it up. */
static void let_go(struct thaw_mm *mm)
{
	struct thaw *m = mm->m;

	thaw_mm_get(mm);
	arm(mm);
	atomic_store(&mm->held, false);
	/* An event that epoll told of while it was held was passed by; and it may have nothing absent at all. */
	thaw_mm_kick(mm);
	thaw_monitor_work(m);
	thaw_mm_put(mm);
}

void thaw_mm_tell_holder_locked(struct thaw_mm *mm)
{
	if (mm->m->holder && mm->pid > 0 && mm->holder_slot < 0 && !mm->over)
		mm->holder_slot = thaw_holder_add_pid(mm->m->holder, mm->pid, mm->pidfd);
}

int thaw_mm_publish(struct thaw_mm *mm)
{
	struct thaw *m = mm->m;
	int err;

	mm->held = true;
	err = link_space(mm);
	if (err)
		return err;
	{
		THAW_SCOPED_LOCK(&m->lock);
		thaw_mm_tell_holder_locked(mm);
	}
	if (mm->pidfd >= 0) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = (uintptr_t)mm | 1 };

		atomic_fetch_add(&m->published, 1); /* as in arm() */
		/* Without it the end is seen a quarter of a second later, by the probe. */
		if (!THAW_INJECT("epoll.process"))
			(void)epoll_ctl(m->epoll, EPOLL_CTL_ADD, mm->pidfd, &ev);
	}
	let_go(mm);
	return 0;
}

struct thaw_mm *thaw_mm_fork(struct thaw_mm *parent, int uffd)
{
	struct thaw_mm *mm = thaw_mm_new(parent->m);
	unsigned drop = THAW_EXTENT_DONTFORK | (THAW_SABOTAGE(WIPEONFORK_IGNORED) ? 0 : THAW_EXTENT_WIPEONFORK);

	if (!mm)
		return NULL;
	thaw_gone_forget(parent);
	/* Where the parent's smaps can be asked for the marks, they have the say: it may have taken some back. */
	mm->pm = thaw_pagemap_clone(parent->pm, parent->smaps_fd >= 0 ? 0 : drop);
	if (mm->pm && parent->smaps_fd < 0)
		thaw_pagemap_inherit(mm->pm);
	mm->ev = thaw_events_new();
	if (!mm->pm || !mm->ev || thaw_events_inherit(mm->ev, parent->ev)) {
		thaw_mm_put(mm);
		return NULL;
	}
	if (thaw_uffd_tells_old_length()) /* known since the start */
		thaw_events_set_long_remaps(mm->ev);
	thaw_areas_fork(mm, parent);
	mm->child = true;
	mm->numbers = parent->numbers;
	mm->numbered = parent->numbered; /* its count begins at 0 */
	if (mm->numbered)
		thaw_events_set_exact(mm->ev);
	mm->parent = parent->id;
	mm->registration = thaw_mm_is_registering(parent) ? THAW_REGISTERING : THAW_REGISTERED;
	mm->uffd = uffd;
	mm->held = true;
	mm->content = thaw_content_get(parent->content);
	mm->tally.total = thaw_pagemap_absent(mm->pm);
	/* The kernel gives the child's descriptor the flags the parent's was made with, not those set since. */
	fcntl(uffd, F_SETFL, O_NONBLOCK);
	(void)link_space(mm); /* never refused */
	/* What was said of the parent before the child was on the list was not said of the child. */
	if (atomic_load(&parent->registration) != THAW_REGISTERING)
		atomic_compare_exchange_strong(&mm->registration, &(int){ THAW_REGISTERING }, THAW_REGISTRATION_SAID);
	return mm;
}

void thaw_mm_release(struct thaw_mm *child)
{
	let_go(child);
}

void thaw_mm_kick(struct thaw_mm *mm)
{
	if (!atomic_exchange(&mm->kicked, true))
		thaw_monitor_chore(mm->m);
}

void thaw_mm_end(struct thaw_mm *mm, enum thaw_mm_state how)
{
	struct thaw *m = mm->m;
	struct thaw_pagemap *pm = mm->pm;
	struct thaw_events *ev = mm->ev;
	uint64_t rest = thaw_pagemap_absent(pm) + thaw_events_absent(ev); /* 0 when FINISHED */
	int uffd = mm->uffd;

	epoll_ctl(m->epoll, EPOLL_CTL_DEL, mm->uffd, NULL); /* others may hold the file: then close() would not do it */
	if (mm->pidfd >= 0)
		epoll_ctl(m->epoll, EPOLL_CTL_DEL, mm->pidfd, NULL);
	while (atomic_load(&mm->flying)) /* counted in S, of which none is left: an ioctl at most */
		sched_yield();
	{
		THAW_SCOPED_LOCK(&m->lock); /* before it is closed: then another thread may be given the number, and add it */
		mm->uffd = -1;
	}
	close(uffd);
	/* What a child inherited and never used was not there to be brought in a second time: a server may fork without end. */
	if (mm->child)
		atomic_fetch_sub(&mm->tally.total, rest);
	else
		atomic_fetch_add(&mm->tally.gone, rest);
	atomic_store_explicit(&mm->state, how, memory_order_release);
	{
		THAW_SCOPED_LOCK(&m->lock); /* for those who look at the map's figures */
		mm->pm = NULL;
		mm->ev = NULL;
	}
	thaw_pagemap_free(pm);
	thaw_events_free(ev);
	mm->n_parked = 0;
}

static void unlink_locked(struct thaw *m, struct thaw_mm *mm)
{
	struct thaw_mm **p;

	for (p = &m->spaces; *p != mm; p = &(*p)->next)
		;
	*p = mm->next;
	if (m->spaces_end == &mm->next)
		m->spaces_end = p;
	mm->linked = false;
	thaw_counters_merge(m->past, &mm->counters);
	m->past_tally.total += mm->tally.total;
	m->past_tally.gone += mm->tally.gone;
	m->past_tally.found += mm->tally.found;
	/* A reader may hold its address from epoll, unlooked at. It is freed when each has gone by. */
	for (unsigned i = 0; i < m->set.readers; i++)
		mm->retire_rounds[i] = m->workers ? atomic_load(&m->workers[i].rounds) : 0;
	mm->next = m->retired;
	m->retired = mm;
}

void thaw_mm_ended(struct thaw_mm *mm, enum thaw_mm_state how)
{
	struct thaw *m = mm->m;
	struct thaw_event_info info = {
		.size = sizeof(info),
		.event = how == THAW_MM_FINISHED ? THAW_EVENT_FINISHED : THAW_EVENT_GONE,
		.space = mm->id,
	};

	thaw_log_info(&m->set.log, "space %lld: %s", (long long)mm->id,
		      how == THAW_MM_FINISHED ? "finished" : "its process is gone");
	if (m->holder && mm->holder_slot >= 0)
		thaw_holder_remove_pid(m->holder, mm->holder_slot);
	thaw_monitor_event(m, &info);
	{
		THAW_SCOPED_LOCK(&m->lock);
		mm->complete_ns = thaw_sys_now_ns();
		m->n_live--;
		m->n_done++;
		if (!m->n_live)
			atomic_store(&m->complete_ns, mm->complete_ns);
		mm->over = true;
		if (mm->child)
			unlink_locked(m, mm);
		thaw_cond_broadcast(&m->changed);
	}
	thaw_monitor_work(m);
}

struct thaw_mm *thaw_mm_find(struct thaw *m, int64_t id)
{
	THAW_SCOPED_LOCK(&m->lock);

	for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next)
		if (mm->id == id)
			return thaw_mm_get(mm);
	return NULL;
}

size_t thaw_mm_memory(const struct thaw_mm *mm)
{
	return sizeof(*mm) + (mm->pm ? thaw_pagemap_memory(mm->pm) : 0) + (mm->areas ? thaw_pagemap_memory(mm->areas) : 0) +
	       (mm->ev ? thaw_events_memory(mm->ev) : 0) +
	       atomic_load(&mm->room_parked) * sizeof(*mm->parked) + (atomic_load(&mm->has_bad) ? THAW_MAX_BAD * sizeof(*mm->bad) : 0);
}
