// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/monitor.c - a monitor is made, started, stopped and taken apart */
#include "config.h"
#include "engine/monitor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/areas.h"
#include "engine/fetch.h"
#include "engine/follow.h"
#include "engine/futex.h"
#include "engine/holder.h"
#include "engine/staging.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/inject.h"
#include "util/sabotage.h"

#define DEFAULT_SPIN_US 50

struct thaw *thaw_monitor_new(void)
{
	struct thaw *m = calloc(1, sizeof(*m));
	struct epoll_event stop = { .events = EPOLLIN };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	(void)THAW_SABOTAGE(NONE); /* a name that is none is refused before anything runs */
	if (!m || !(m->past = aligned_alloc(64, (sizeof(*m->past) + 63) & ~63UL))) {
		free(m);
		thaw_err_set(-ENOMEM, "no memory for a monitor");
		return NULL;
	}
	memset(m->past, 0, sizeof(*m->past));
	m->spaces_end = &m->spaces;
	m->set = (struct thaw_settings){
		.copiers = cpus > 2 ? 2 : 1, /* the process and a reader need one, too */
		.readers = 1, .around = 16, .spin_us = DEFAULT_SPIN_US,
		.chunk = THAW_MAX_CHUNK, .sandbox = true, .holder = true, .numbering = true, .holder_log_fd = -1,
	};
	thaw_lock_init(&m->lock, THAW_RANK_MONITOR);
	thaw_cond_init(&m->changed);
	m->stop_fd = thaw_sys_eventfd(true);
	errno = m->stop_fd < 0 ? -m->stop_fd : 0;
	m->epoll = m->stop_fd < 0 || THAW_INJECT_ERRNO("epoll.create") ? -1 : epoll_create1(EPOLL_CLOEXEC);
	if (m->epoll < 0 || m->stop_fd < 0 || THAW_INJECT_ERRNO("epoll.stop") ||
	    epoll_ctl(m->epoll, EPOLL_CTL_ADD, m->stop_fd, &stop)) {
		thaw_err_set(-errno, "no descriptor for a monitor: %s", strerror(errno));
		thaw_monitor_free(m);
		return NULL;
	}
	return m;
}

void thaw_monitor_work(struct thaw *m)
{
	atomic_fetch_add(&m->work, 1);
	if (atomic_load(&m->idlers)) /* they count themselves before the kernel compares `work` */
		thaw_futex_wake(&m->work, INT_MAX);
}

void thaw_monitor_chore(struct thaw *m)
{
	atomic_fetch_add(&m->chores, 1);
	thaw_futex_wake(&m->chores, 1);
}

void thaw_monitor_event(struct thaw *m, const struct thaw_event_info *info)
{
	if (m->set.event)
		m->set.event(m->set.event_opaque, info);
}

static int make_workers(struct thaw *m)
{
	unsigned n = m->set.readers + m->set.copiers + 1, with_buffer = n;
	unsigned char *ahead;
	size_t size;
	int err = thaw_fetch_new(&m->fetch, m);

	if (err)
		return err;
	n += thaw_fetch_threads(m->fetch);
	size = n * sizeof(*m->workers);
	m->workers = aligned_alloc(64, (size + 63) & ~63UL);
	if (!m->workers || thaw_gate_init(&m->gate, n))
		return thaw_err_set(-ENOMEM, "no memory for %u threads", n);
	memset(m->workers, 0, size);
	for (unsigned i = 0; i < n; i++)
		m->workers[i].nudge_fd = -1; /* before anything fails: what is open is closed then */
	m->n_workers = n;
	m->staging_bytes = with_buffer * THAW_MAX_CHUNK + m->set.copiers * THAW_WINDOW_BYTES;
	err = thaw_staging_new(&m->staging, m->staging_bytes, &m->set.log);
	if (err)
		return err;
	ahead = m->staging + with_buffer * THAW_MAX_CHUNK;
	for (unsigned i = 0; i < n; i++) {
		m->workers[i].m = m;
		m->workers[i].number = i;
		m->workers[i].role = thaw_threads_role(m, i);
		if (i < with_buffer)
			m->workers[i].buf = m->staging + i * THAW_MAX_CHUNK;
		if (m->workers[i].role == THAW_ROLE_COPIER) {
			m->workers[i].ahead = ahead;
			ahead += THAW_WINDOW_BYTES;
		}
	}
	for (unsigned i = 0; i < m->set.readers + m->set.copiers; i++) {
		err = thaw_follow_new(&m->workers[i].follow);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < m->set.readers; i++) {
		m->workers[i].nudge_fd = thaw_sys_eventfd(true);
		if (m->workers[i].nudge_fd < 0)
			return thaw_err_set(m->workers[i].nudge_fd, "no descriptor for a reader: %s; raise RLIMIT_NOFILE",
					    strerror(-m->workers[i].nudge_fd));
	}
	return 0;
}

bool thaw_monitor_own(struct thaw *m, struct thaw_mm *mm)
{
	uint32_t nudge;

	if (thaw_owner_take(&mm->owner, &nudge))
		return true;
	if (nudge) /* where that fails, it looks by itself soon */
		(void)thaw_sys_eventfd_raise(m->workers[nudge - 1].nudge_fd);
	return false;
}

/* A forked child brings a descriptor of its own: as many as may be. */
static void raise_descriptors(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r); /* running out later is said then */
	}
}

static int start_holder(struct thaw *m)
{
	struct thaw_holder *holder;
	int err = thaw_holder_start(&holder, m->set.holder_log_fd, m->set.sandbox);

	if (err)
		return err;
	/* A space that is being added is on the list by now, or finds the holder. */
	THAW_SCOPED_LOCK(&m->lock);
	m->holder = holder;
	for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next)
		thaw_mm_tell_holder_locked(mm);
	return 0;
}

/* A start has failed. */
static void end_holder(struct thaw *m)
{
	struct thaw_holder *holder;

	{
		THAW_SCOPED_LOCK(&m->lock);
		holder = m->holder;
		m->holder = NULL;
		for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next)
			mm->holder_slot = -1;
	}
	thaw_holder_finish(holder);
}

static void take_apart(struct thaw *m)
{
	thaw_fetch_free(m->fetch);
	m->fetch = NULL;
	thaw_staging_free(m->staging, m->staging_bytes);
	m->staging = NULL;
	thaw_gate_free(&m->gate);
	for (unsigned i = 0; i < m->n_workers; i++) {
		thaw_follow_free(m->workers[i].follow);
		if (m->workers[i].nudge_fd >= 0)
			close(m->workers[i].nudge_fd);
	}
	free(m->workers);
	m->workers = NULL;
	m->n_workers = 0;
}

/* Final, also when the start fails: threads may have taken messages in one way, and the rest cannot be taken in the other. */
static void settle_numbering(struct thaw *m)
{
	{
		THAW_SCOPED_LOCK(&m->lock);
		for (struct thaw_mm *mm = m->spaces; mm && !m->settled; mm = mm->next)
			thaw_mm_settle_numbering_locked(mm);
		m->settled = true;
	}
	if (m->set.numbering && m->set.failure == THAW_FAILURE_WAIT && thaw_uffd_has_numbers())
		thaw_log_info(&m->set.log, "the kernel numbers its messages: pages are placed without excluding the reader");
}

int thaw_monitor_start(struct thaw *m)
{
	int err = thaw_uffd_check_release(); /* the descriptors may have been opened by somebody else */
	uint64_t count;

	if (err)
		return err;
	settle_numbering(m);
	(void)!read(m->stop_fd, &count, sizeof(count)); /* raised where a start has failed before; most often there is nothing */
	(void)thaw_uffd_tells_old_length(); /* tried now, before there are threads and filters */
	raise_descriptors();
	if (m->set.sandbox) { /* before the holder, which inherits the handler */
		err = thaw_sandbox_attach(-1);
		m->attached = !err;
	}
	if (!err && m->set.holder)
		err = start_holder(m);
	if (!err)
		err = make_workers(m);
	if (err)
		goto fail;
	atomic_store(&m->stopping, false);
	atomic_store(&m->background_on, m->set.background == THAW_BACKGROUND_RUN);
	atomic_store(&m->started_ns, thaw_sys_now_ns());
	err = thaw_threads_start(m);
	if (!err)
		return 0;
	thaw_threads_stop(m);
fail:
	take_apart(m);
	if (m->attached)
		thaw_sandbox_detach();
	m->attached = false;
	end_holder(m);
	return err;
}

void thaw_monitor_stop(struct thaw *m)
{
	thaw_threads_stop(m);
	if (m->attached)
		thaw_sandbox_detach();
	m->attached = false;
	{
		THAW_SCOPED_LOCK(&m->lock);
		m->phase = THAW_PHASE_STOPPED;
		thaw_cond_broadcast(&m->changed);
	}
}

static uint64_t absent(const struct thaw_mm *mm)
{
	if (mm->uffd < 0 || !mm->pm)
		return 0;
	return thaw_pagemap_absent(mm->pm) + thaw_events_waiting(mm->ev);
}

void thaw_monitor_orphan(struct thaw *m, int uffd)
{
	THAW_SCOPED_LOCK(&m->lock);

	if (m->n_orphan < sizeof(m->orphan) / sizeof(m->orphan[0]))
		m->orphan[m->n_orphan++] = uffd;
	else
		m->more_orphans++;
}

uint64_t thaw_monitor_orphans(struct thaw *m)
{
	THAW_SCOPED_LOCK(&m->lock);

	for (unsigned i = 0; i < m->n_orphan;) {
		if (thaw_uffd_probe(m->orphan[i]) != THAW_DEAD) {
			i++;
			continue;
		}
		close(m->orphan[i]); /* it has ended, or runs another program */
		m->orphan[i] = m->orphan[--m->n_orphan];
	}
	return m->n_orphan + m->more_orphans;
}

#define DYING_NS 100000000ULL /* those that were just killed are given a moment to be gone: the same one, as long as any goes */

/* Is the process still there to read what is absent? */
static bool still_waits(struct thaw_mm *mm, uint64_t *until)
{
	bool slept = false;

	/* A frozen one has what its map does not know of. */
	if (!absent(mm) && atomic_load(&mm->state) != THAW_MM_FROZEN)
		return false;
	while (thaw_uffd_probe(mm->uffd) != THAW_DEAD) {
		if (thaw_sys_now_ns() >= *until)
			return true;
		usleep(1000);
		slept = true;
	}
	if (slept)
		*until = thaw_sys_now_ns() + DYING_NS;
	return false;
}

/* A userfaultfd with content absent is not closed: its process would read zeros. */
static bool close_space(struct thaw *m, struct thaw_mm *mm, uint64_t *until)
{
	bool keep = still_waits(mm, until);

	if (keep && !absent(mm)) {
		thaw_log_error(&m->set.log, "space %lld: the monitor is closed, and what its process (pid %d) has is not known: it waits at"
			       " its next absent page for ever; end it", (long long)mm->id, (int)mm->pid);
	} else if (keep) {
		thaw_log_error(&m->set.log, "space %lld: the monitor is closed while %llu pages of its process (pid %d) are absent:"
			       " it waits at the next of them for ever; end it", (long long)mm->id,
			       (unsigned long long)absent(mm), (int)mm->pid);
	} else if (mm->uffd >= 0) {
		(void)thaw_areas_unregister(mm);
		close(mm->uffd);
	}
	thaw_mm_put(mm->raise_from);
	mm->raise_from = NULL;
	thaw_mm_put(mm);
	return keep;
}

/* Holders that must outlive their monitor stay known to this process, so that nobody takes them for lost memory. */
static void remember_holder(struct thaw_holder *h)
{
	static struct kept {
		struct thaw_holder *holder;
		struct kept *next;
	} *_Atomic all;
	struct kept *k = h ? malloc(sizeof(*k)) : NULL;

	if (!k)
		return;
	k->holder = h;
	k->next = atomic_load(&all);
	while (!atomic_compare_exchange_weak(&all, &k->next, k))
		;
}

void thaw_monitor_free(struct thaw *m)
{
	struct thaw_mm *mm;
	bool kept = false;
	uint64_t until;

	if (m->phase == THAW_PHASE_RUNNING)
		thaw_monitor_stop(m);
	take_apart(m);
	until = thaw_sys_now_ns() + DYING_NS;
	while ((mm = m->spaces)) {
		m->spaces = mm->next;
		kept |= close_space(m, mm, &until);
	}
	kept |= thaw_monitor_orphans(m) > 0;
	thaw_subscribers_free(m);
	while ((mm = m->retired)) {
		m->retired = mm->next;
		thaw_mm_put(mm);
	}
	/* The holder stays where a userfaultfd must: it speaks when this process ends. */
	if (kept) {
		remember_holder(m->holder);
	} else {
		thaw_holder_finish(m->holder);
		if (m->set.holder_log_fd >= 0)
			close(m->set.holder_log_fd);
	}
	if (m->epoll >= 0)
		close(m->epoll);
	if (m->stop_fd >= 0)
		close(m->stop_fd);
	thaw_cond_destroy(&m->changed);
	thaw_lock_destroy(&m->lock);
	free(m->past);
	free(m);
}
