// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/bad.c - runs that could not be read: a short sorted list per space, its readers, its retries */
#include "config.h"
#include "engine/bad.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fill.h"
#include "kern/sys.h"
#include "kern/uffd.h"

#define FIRST_RETRY_NS 1000000000ULL
#define LAST_RETRY_NS 16000000000ULL

/* The first run that ends behind addr. */
static unsigned find_locked(const struct thaw_mm *mm, uint64_t addr)
{
	unsigned lo = 0, hi = mm->n_bad;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (mm->bad[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Adds [start, end), joining what it touches. Returns whether it was not known already. */
static bool add_locked(struct thaw_mm *mm, uint64_t start, uint64_t end)
{
	unsigned i, j;

	if (!mm->bad)
		mm->bad = calloc(THAW_MAX_BAD, sizeof(*mm->bad));
	if (!mm->bad)
		return true;
	i = find_locked(mm, start);
	if (i < mm->n_bad && mm->bad[i].start <= start && mm->bad[i].end >= end)
		return false;
	if (i && mm->bad[i - 1].end == start)
		i--;
	for (j = i; j < mm->n_bad && mm->bad[j].start <= end; j++) {
		start = start < mm->bad[j].start ? start : mm->bad[j].start;
		end = end > mm->bad[j].end ? end : mm->bad[j].end;
	}
	if (i == j && mm->n_bad == THAW_MAX_BAD) {
		atomic_store(&mm->bad_overflow, true);
		return true;
	}
	memmove(&mm->bad[i + 1], &mm->bad[j], (mm->n_bad - j) * sizeof(*mm->bad));
	mm->bad[i] = (struct thaw_bad){ start, end };
	mm->n_bad += 1 - (int)(j - i);
	atomic_store(&mm->has_bad, true);
	return true;
}

/* Says of the content that it is not to be had, and not that it was not to be had just then. */
static bool is_final(int error)
{
	return error != ENOMEM && error != ENOBUFS && error != EAGAIN && error != EINTR && error != ECANCELED;
}

static const char *why(const struct thaw_object *o, int error)
{
	if (error == EBADMSG && o && o->sums)
		return "does not match its checksum: the image is corrupt or belongs to another checkpoint";
	if (error == ENODATA && o && o->fd >= 0)
		return "the file has been cut, or is being changed, while it is used";
	return strerror(error);
}

static void tell(struct thaw_mm *mm, const struct thaw_extent *e, int error, bool lost)
{
	struct thaw_source *src = mm->content->source;
	struct thaw_event_info info = {
		.size = sizeof(info),
		.event = THAW_EVENT_UNAVAILABLE,
		.space = mm->id,
		.address = e->addr,
		.length = e->pages << THAW_PAGE_SHIFT,
		.error = error,
	};
	const struct thaw_object *o = thaw_content_object(mm->content, e->object);
	char where[256] = "its source";

	if (src->ops->describe)
		src->ops->describe(src, e->object, e->off, where, sizeof(where));
	thaw_log_error(&mm->m->set.log, "space %lld: the content of %#llx+%#llx cannot be read (%s): %s; %s",
		       (long long)mm->id, (unsigned long long)info.address, (unsigned long long)info.length, where, why(o, error),
		       lost ? "its readers get SIGBUS" : "its readers wait, and it is tried again");
	thaw_monitor_event(mm->m, &info);
}

/* One page a section: poisoning is rare, and the place may have changed since the read. */
static void poison(struct thaw_worker *w, struct thaw_mm *mm, bool owner, const struct thaw_extent *e)
{
	uint64_t end = e->addr + (e->pages << THAW_PAGE_SHIFT);
	unsigned tries = 0;

	for (uint64_t addr = e->addr; addr < end && tries < 100;) {
		uint32_t seq = thaw_gate_seq(&mm->gate);
		enum thaw_outcome out = THAW_PRESENT;
		struct thaw_extent now;

		if (!owner)
			thaw_gate_enter(&w->m->gate, w->number, &mm->gate);
		if (thaw_mm_is_live(mm) && thaw_pagemap_next_absent(mm->pm, addr, 1, &now) && now.addr == addr &&
		    now.object == e->object && now.off == e->off + (addr - e->addr)) {
			out = thaw_uffd_poison(mm->uffd, addr, THAW_PAGE_SIZE).outcome;
			if (out == THAW_PLACED) {
				thaw_pagemap_mark_done(mm->pm, addr, 1);
				atomic_fetch_add(&mm->tally.gone, 1);
				thaw_count(&mm->counters, w->number, THAW_COUNT_PAGES_GONE, 1);
			}
		}
		if (!owner)
			thaw_gate_leave(&w->m->gate, w->number);
		if (out == THAW_CHANGING && !owner) {
			thaw_fill_back_off(w, mm, seq, &tries);
			continue;
		}
		addr += THAW_PAGE_SIZE;
	}
	/* Whoever sleeps where it did not work faults again, and the page is asked for again. */
	thaw_fill_wake(w, mm, owner, e->addr, end - e->addr);
}

static void keep_waiting(struct thaw_mm *mm, uint64_t start, uint64_t end)
{
	THAW_SCOPED_LOCK(&mm->bad_lock);

	if (mm->stuck_start == mm->stuck_end) {
		mm->stuck_start = start;
		mm->stuck_end = end;
		mm->stuck_backoff_ns = mm->stuck_backoff_ns ? mm->stuck_backoff_ns * 2 : FIRST_RETRY_NS;
		if (mm->stuck_backoff_ns > LAST_RETRY_NS)
			mm->stuck_backoff_ns = LAST_RETRY_NS;
		mm->stuck_due_ns = thaw_sys_now_ns() + mm->stuck_backoff_ns;
		return;
	}
	mm->stuck_start = start < mm->stuck_start ? start : mm->stuck_start;
	mm->stuck_end = end > mm->stuck_end ? end : mm->stuck_end;
}

void thaw_bad_wait(struct thaw_mm *mm, uint64_t addr)
{
	if (!mm->asked_told)
		thaw_log_error(&mm->m->set.log, "space %lld: the page at %#llx was in and is not there any more, which no message of the kernel"
			       " explains: its readers wait, since what it held is not known; end the process", (long long)mm->id,
			       (unsigned long long)addr);
	mm->asked_told = true;
	keep_waiting(mm, addr, addr + THAW_PAGE_SIZE);
}

void thaw_bad_report(struct thaw_worker *w, struct thaw_mm *mm, bool owner, const struct thaw_extent *e, int error,
		     bool reader)
{
	uint64_t end = e->addr + (e->pages << THAW_PAGE_SHIFT), now = thaw_sys_now_ns();
	bool fresh, lost = mm->m->set.failure == THAW_FAILURE_SIGBUS && is_final(error);

	thaw_count(&mm->counters, w->number, THAW_COUNT_IO_ERRORS, 1);
	{
		THAW_SCOPED_LOCK(&mm->bad_lock);
		fresh = add_locked(mm, e->addr, end);
		if (now >= mm->bad_retry_ns) /* else a reader that is woken now and then would put it off without end */
			mm->bad_retry_ns = now + (LAST_RETRY_NS << mm->n_overflows); /* each brings hundreds of lines */
	}
	if (fresh)
		tell(mm, e, error, lost);
	if (lost)
		poison(w, mm, owner, e);
	else if (reader)
		keep_waiting(mm, e->addr, end);
}

uint64_t thaw_bad_skip(struct thaw_mm *mm, uint64_t addr)
{
	if (!atomic_load_explicit(&mm->has_bad, memory_order_relaxed))
		return 0;
	{
		THAW_SCOPED_LOCK(&mm->bad_lock);
		unsigned i = find_locked(mm, addr);

		if (i == mm->n_bad || mm->bad[i].start > addr || thaw_sys_now_ns() >= mm->bad_retry_ns)
			return 0;
		return mm->bad[i].end;
	}
}

bool thaw_bad_is_too_much(struct thaw_mm *mm, uint64_t now, uint64_t *when)
{
	if (!atomic_load(&mm->bad_overflow))
		return false;
	{
		THAW_SCOPED_LOCK(&mm->bad_lock);
		if (now < mm->bad_retry_ns) {
			*when = mm->bad_retry_ns < *when ? mm->bad_retry_ns : *when;
			return true;
		}
		mm->n_bad = 0;
		mm->n_overflows += mm->n_overflows < 6;
		atomic_store(&mm->has_bad, false);
		atomic_store(&mm->bad_overflow, false);
	}
	return false;
}

uint64_t thaw_bad_next(struct thaw_mm *mm, uint64_t addr)
{
	if (!atomic_load_explicit(&mm->has_bad, memory_order_relaxed))
		return UINT64_MAX;
	{
		THAW_SCOPED_LOCK(&mm->bad_lock);
		unsigned i = find_locked(mm, addr);

		if (i < mm->n_bad && mm->bad[i].start < addr)
			i++; /* it is being tried again: whoever asks is within it */
		return i < mm->n_bad ? mm->bad[i].start : UINT64_MAX;
	}
}

void thaw_bad_tick(struct thaw_worker *w, struct thaw_mm *mm, uint64_t now)
{
	uint64_t start, end;

	{
		THAW_SCOPED_LOCK(&mm->bad_lock);
		if (mm->stuck_start == mm->stuck_end || now < mm->stuck_due_ns)
			return;
		start = mm->stuck_start;
		end = mm->stuck_end;
		mm->stuck_start = mm->stuck_end = 0;
	}
	thaw_fill_wake(w, mm, false, start, end - start);
}
