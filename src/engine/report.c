// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/report.c - sums over spaces, for whoever asks */
#include "config.h"
#include "engine/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fetch.h"
#include "kern/sys.h"
#include "util/err.h"

/* What a question is about: one space or all. m->lock held. */
struct sum {
	struct thaw_counters *counters;
	uint64_t total, gone, found, absent, state_bytes, complete_ns;
	uint64_t spaces, done;
	bool runs; /* or did: what a start makes is there for good. One that fails takes it away again */
};

static void add_space_locked(struct sum *s, const struct thaw_mm *mm)
{
	thaw_counters_merge(s->counters, &mm->counters);
	s->total += atomic_load(&mm->tally.total);
	s->gone += atomic_load(&mm->tally.gone);
	s->found += atomic_load(&mm->tally.found);
	if (mm->pm)
		s->absent += thaw_pagemap_absent(mm->pm) + thaw_events_absent(mm->ev);
	s->state_bytes += thaw_mm_memory(mm);
	s->complete_ns = atomic_load(&mm->complete_ns);
}

static struct thaw_mm *find_locked(struct thaw *m, int64_t id)
{
	for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next)
		if (mm->id == id)
			return mm;
	return NULL;
}

static int no_such(const struct thaw *m, int64_t id)
{
	if (id > 0 && id <= m->last_id)
		return thaw_err_set(-ENOENT, "space %lld was a child's and has ended: it counts in the sum of all",
				    (long long)id);
	return thaw_err_set(-ENOENT, "there is no space %lld", (long long)id);
}

static int sum_locked(struct thaw *m, int64_t id, struct sum *s)
{
	struct thaw_mm *one;

	if (id) {
		one = find_locked(m, id);
		if (!one)
			return no_such(m, id);
		add_space_locked(s, one);
		s->spaces = 1;
		s->done = one->over;
		return 0;
	}
	thaw_counters_merge(s->counters, m->past);
	s->total = atomic_load(&m->past_tally.total);
	s->gone = atomic_load(&m->past_tally.gone);
	s->found = atomic_load(&m->past_tally.found);
	for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next)
		add_space_locked(s, mm);
	s->complete_ns = m->n_live ? 0 : atomic_load(&m->complete_ns);
	s->state_bytes += sizeof(*m) + (s->runs ? m->n_workers * sizeof(*m->workers) : 0);
	s->spaces = m->n_all;
	s->done = m->n_done;
	return 0;
}

static int sum_up(struct thaw *m, int64_t id, struct sum *s)
{
	int err;

	memset(s, 0, sizeof(*s));
	s->counters = aligned_alloc(64, (sizeof(*s->counters) + 63) & ~63UL);
	if (!s->counters)
		return thaw_err_set(-ENOMEM, "no memory for a snapshot of the statistics");
	memset(s->counters, 0, sizeof(*s->counters));
	{
		THAW_SCOPED_LOCK(&m->lock);
		s->runs = m->phase >= THAW_PHASE_RUNNING;
		err = sum_locked(m, id, s);
	}
	if (err)
		free(s->counters);
	return err;
}

static uint64_t since_start(const struct thaw *m, uint64_t ns)
{
	uint64_t start = atomic_load(&m->started_ns);

	return start && ns > start ? ns - start : 0;
}

/* Bytes per second between the oldest sample of the last second or so and now. */
static uint64_t rate_now(struct thaw *m, uint64_t now, uint64_t bytes)
{
	uint64_t ns = 0, then = 0;
	THAW_SCOPED_LOCK(&m->lock);

	for (unsigned i = m->n_rate > 4 ? m->n_rate - 4 : 0; i < m->n_rate; i++) {
		if (ns && m->rate[i % THAW_RATE_SAMPLES].ns >= ns)
			continue;
		ns = m->rate[i % THAW_RATE_SAMPLES].ns;
		then = m->rate[i % THAW_RATE_SAMPLES].bytes;
	}
	if (!ns)
		ns = atomic_load(&m->started_ns);
	if (!ns || now <= ns || bytes < then)
		return 0;
	return (bytes - then) * 1e9 / (now - ns);
}

static uint64_t placed_pages(const struct thaw_counters *c)
{
	return thaw_count_get(c, THAW_COUNT_PAGES_FAULT) + thaw_count_get(c, THAW_COUNT_PAGES_AROUND) +
	       thaw_count_get(c, THAW_COUNT_PAGES_BACKGROUND);
}

/* Pages of content that are in, whoever has put them there. */
static uint64_t present_pages(const struct sum *s)
{
	return placed_pages(s->counters) + s->found;
}

void thaw_report_sample(struct thaw *m, uint64_t now)
{
	uint64_t pages;
	THAW_SCOPED_LOCK(&m->lock);

	pages = placed_pages(m->past);
	for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next)
		pages += placed_pages(&mm->counters);
	m->rate[m->n_rate % THAW_RATE_SAMPLES].ns = now;
	m->rate[m->n_rate++ % THAW_RATE_SAMPLES].bytes = pages << THAW_PAGE_SHIFT;
}

int thaw_report_progress(struct thaw *m, int64_t space, struct thaw_progress *p)
{
	struct thaw_progress out = { .size = sizeof(out) };
	uint64_t now = thaw_sys_now_ns();
	struct sum s;
	int err = sum_up(m, space, &s);

	if (err)
		return err;
	out.bytes_total = s.total << THAW_PAGE_SHIFT;
	out.bytes_placed = present_pages(&s) << THAW_PAGE_SHIFT;
	out.bytes_gone = s.gone << THAW_PAGE_SHIFT;
	out.spaces = s.spaces;
	out.spaces_done = s.done;
	out.faults = thaw_count_get(s.counters, THAW_COUNT_FAULTS);
	out.elapsed_ns = since_start(m, s.complete_ns ? s.complete_ns : now);
	if (!s.complete_ns && atomic_load(&m->started_ns))
		out.rate = rate_now(m, now, placed_pages(s.counters) << THAW_PAGE_SHIFT);
	/* Lazily it is up to the processes. */
	out.left_ns = !s.absent ? 0 : UINT64_MAX;
	if (s.absent && out.rate && atomic_load(&m->background_on))
		out.left_ns = (s.absent << THAW_PAGE_SHIFT) * 1e9 / out.rate;
	free(s.counters);
	*p = out;
	return 0;
}

static void fill_counts(struct thaw_stats *out, const struct thaw_counters *c)
{
	const struct thaw_histogram *h = &c->latency;

	out->faults = thaw_count_get(c, THAW_COUNT_FAULTS);
	out->latency_count = thaw_histogram_count(h);
	out->latency_p50 = thaw_histogram_percentile(h, 500);
	out->latency_p90 = thaw_histogram_percentile(h, 900);
	out->latency_p99 = thaw_histogram_percentile(h, 990);
	out->latency_p999 = thaw_histogram_percentile(h, 999);
	out->latency_max = atomic_load(&h->max);
	out->pages_fault = thaw_count_get(c, THAW_COUNT_PAGES_FAULT);
	out->pages_around = thaw_count_get(c, THAW_COUNT_PAGES_AROUND);
	out->pages_background = thaw_count_get(c, THAW_COUNT_PAGES_BACKGROUND);
	out->pages_zero = thaw_count_get(c, THAW_COUNT_PAGES_ZERO);
	out->eagain = thaw_count_get(c, THAW_COUNT_EAGAIN);
	out->eexist = thaw_count_get(c, THAW_COUNT_EEXIST);
	out->enoent = thaw_count_get(c, THAW_COUNT_ENOENT);
	out->partial = thaw_count_get(c, THAW_COUNT_PARTIAL);
	out->esrch = thaw_count_get(c, THAW_COUNT_ESRCH);
	out->events_fork = thaw_count_get(c, THAW_COUNT_FORK);
	out->events_remap = thaw_count_get(c, THAW_COUNT_REMAP);
	out->events_remove = thaw_count_get(c, THAW_COUNT_REMOVE);
	out->events_unmap = thaw_count_get(c, THAW_COUNT_UNMAP);
	out->bytes_read = thaw_count_get(c, THAW_COUNT_BYTES_READ);
	out->io_errors = thaw_count_get(c, THAW_COUNT_IO_ERRORS);
}

uint64_t thaw_report_orphans(struct thaw *m)
{
	return thaw_monitor_orphans(m);
}

int thaw_report_stats(struct thaw *m, int64_t space, struct thaw_stats *st)
{
	struct thaw_stats out = { .size = sizeof(out) };
	uint64_t drain_ns;
	struct sum s;
	int err = sum_up(m, space, &s);

	if (err)
		return err;
	fill_counts(&out, s.counters);
	out.pages_gone = s.gone;
	out.pages_found = s.found;
	out.bytes_placed = present_pages(&s) << THAW_PAGE_SHIFT;
	out.first_ns = since_start(m, atomic_load(&m->first_ns));
	out.complete_ns = s.complete_ns ? since_start(m, s.complete_ns) : 0;
	drain_ns = atomic_load(&m->drain_last_ns) - atomic_load(&m->drain_first_ns);
	if ((int64_t)drain_ns > 0)
		out.rate_drain = (thaw_count_get(s.counters, THAW_COUNT_PAGES_BACKGROUND) << THAW_PAGE_SHIFT) * 1e9 / drain_ns;
	out.state_bytes = s.state_bytes;
	out.staging_bytes = s.runs ? m->staging_bytes + thaw_fetch_bytes(m->fetch) : 0;
	free(s.counters);
	*st = out;
	return 0;
}

/* m->lock held. 1: ended; 0: not yet; < 0: never. */
static int has_ended_locked(struct thaw *m, int64_t space)
{
	struct thaw_mm *mm;

	if (!space)
		return m->n_live == 0;
	mm = find_locked(m, space);
	if (mm)
		return mm->over;
	return space > 0 && space <= m->last_id ? 1 : no_such(m, space);
}

int thaw_report_wait(struct thaw *m, int64_t space, int timeout_ms)
{
	uint64_t deadline = thaw_sys_now_ns() + (timeout_ms < 0 ? 0 : timeout_ms) * 1000000ULL;
	bool in_time = true;
	THAW_SCOPED_LOCK(&m->lock);

	for (;;) {
		int ended = has_ended_locked(m, space);

		if (ended)
			return ended < 0 ? ended : 0;
		if (m->phase == THAW_PHASE_STOPPED)
			return thaw_err_set(-ECANCELED, "the monitor has been stopped");
		if (!in_time)
			return thaw_err_set(-ETIMEDOUT, "not finished after %d ms", timeout_ms);
		if (timeout_ms < 0)
			thaw_cond_wait(&m->changed, &m->lock);
		else
			in_time = thaw_cond_wait_until(&m->changed, &m->lock, deadline);
	}
}
