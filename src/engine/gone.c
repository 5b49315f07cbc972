// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/gone.c - pages in no mapping: marked in S without a lock, taken out of the map in X */
#include "config.h"
#include "engine/gone.h"

#include "engine/monitor.h"

/* Does the page continue what this thread marked last, since the last change? A mapping that was never registered goes page by page. */
static struct thaw_span *last_of(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr)
{
	struct thaw_span *last = &mm->gone[w->gone.entry];

	return w->gone.space == mm->id && w->gone.epoch == mm->gone_epoch && last->end == addr ? last : NULL;
}

void thaw_gone_mark(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr, uint64_t pages)
{
	uint64_t end = addr + (pages << THAW_PAGE_SHIFT);
	struct thaw_span *last = last_of(w, mm, addr);
	unsigned i;

	atomic_fetch_add_explicit(&mm->tally.gone, thaw_pagemap_mark_done(mm->pm, addr, pages), memory_order_relaxed);
	thaw_count(&mm->counters, w->number, THAW_COUNT_PAGES_GONE, pages);
	if (last) {
		last->end = end;
		return;
	}
	i = atomic_load_explicit(&mm->n_gone, memory_order_relaxed);
	while (i < THAW_MAX_GONE && !atomic_compare_exchange_weak(&mm->n_gone, &i, i + 1))
		;
	if (i == THAW_MAX_GONE)
		return;
	mm->gone[i] = (struct thaw_span){ addr, end };
	w->gone = (struct thaw_last_gone){ mm->id, mm->gone_epoch, i };
}

void thaw_gone_forget(struct thaw_mm *mm)
{
	unsigned n = atomic_load_explicit(&mm->n_gone, memory_order_relaxed), kept = 0;

	if (!n)
		return;
	for (unsigned i = 0; i < n; i++)
		if (thaw_pagemap_remove(mm->pm, mm->gone[i].start, mm->gone[i].end - mm->gone[i].start) < 0)
			mm->gone[kept++] = mm->gone[i];
	mm->gone_epoch++;
	atomic_store_explicit(&mm->n_gone, kept, memory_order_relaxed);
}
