// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/register.c - a space whose mappings somebody else registers: when that is said to be done, and whether it was */
#include "config.h"
#include "engine/mm.h"

#include <errno.h>
#include <stdlib.h>

#include "core/stats.h"
#include "engine/gone.h"
#include "engine/monitor.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"

static struct thaw_mm *parent_locked(struct thaw *m, const struct thaw_mm *mm)
{
	struct thaw_mm *p = m->spaces;

	while (p && p->id != mm->parent)
		p = p->next;
	return p;
}

/* Is it the space, or a descendant? A child whose parent has left the list counts as anybody's: nothing registers a child. */
static bool belongs_locked(struct thaw *m, const struct thaw_mm *mm, int64_t id)
{
	while (mm && mm->id != id && mm->child)
		mm = parent_locked(m, mm);
	return !mm || mm->id == id;
}

int thaw_mm_registered(struct thaw *m, int64_t id)
{
	bool found = !id;
	{
		THAW_SCOPED_LOCK(&m->lock);

		for (struct thaw_mm *mm = m->spaces; mm; mm = mm->next) {
			int registering = THAW_REGISTERING;

			found |= mm->id == id;
			if ((!id || belongs_locked(m, mm, id)) &&
			    atomic_compare_exchange_strong(&mm->registration, &registering, THAW_REGISTRATION_SAID))
				thaw_mm_kick(mm);
		}
		found |= id > 0 && id <= m->last_id; /* a child's that has ended */
	}
	return found ? 0 : thaw_err_set(-ENOENT, "there is no space %lld", (long long)id);
}

enum registered { YES, NO, CHANGING, NOTHING };

/* One S. The first absent page of [from, end), and whether its mapping is registered. That it is not is believed when nothing
 * is changing behind the question: a move or an unmap that our look-up does not know keeps mmap_changing up until its message
 * is read, which takes an X, which waits for this S; or, with numbers, which are read outside X, it has raised the number that our
 * look-up goes by. So the process has not taken the memory away itself. */
static enum registered ask(struct thaw_worker *w, struct thaw_mm *mm, uint64_t from, uint64_t end, uint64_t *page)
{
	enum registered answer = NOTHING;
	enum thaw_outcome out;
	struct thaw_extent e;

	thaw_gate_enter(&w->m->gate, w->number, &mm->gate);
	if (thaw_mm_is_live(mm) && thaw_pagemap_next_absent(mm->pm, from, 1, &e) && e.addr < end) {
		*page = e.addr;
		out = thaw_uffd_is_registered(mm->uffd, e.addr);
		if (out == THAW_NO_VMA)
			out = thaw_uffd_probe_match(mm->uffd, thaw_mm_match(mm));
		answer = out == THAW_PRESENT ? YES : out == THAW_NO_VMA ? NO : out == THAW_CHANGING ? CHANGING : NOTHING;
		if (answer == NO)
			thaw_gone_mark(w, mm, e.addr, 1);
		if (out == THAW_DEAD)
			atomic_store(&mm->dead, true);
	}
	thaw_gate_leave(&w->m->gate, w->number);
	return answer;
}

static void tell(struct thaw_mm *mm, uint64_t start, uint64_t end, uint64_t pages)
{
	struct thaw_event_info info = {
		.size = sizeof(info),
		.event = THAW_EVENT_UNREGISTERED,
		.space = mm->id,
		.address = start,
		.length = end - start,
	};

	thaw_log_error(&mm->m->set.log, "space %lld: the mapping at %#llx+%#llx was never registered with the userfaultfd: %llu"
		       " pages of content cannot be placed there, its process reads them as zero", (long long)mm->id,
		       (unsigned long long)start, (unsigned long long)info.length, (unsigned long long)pages);
	thaw_monitor_event(mm->m, &info);
}

/* False: something is changing. */
static bool look_at(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_span *v)
{
	uint64_t page = v->start, first = 0, last = 0, lost = 0;
	enum registered answer;

	/* A registered page speaks for its mapping. One that is not could have been replaced in parts: each page is asked. */
	while ((answer = ask(w, mm, lost ? page + THAW_PAGE_SIZE : page, v->end, &page)) == NO) {
		first = lost++ ? first : page;
		last = page + THAW_PAGE_SIZE;
		if (atomic_load(&w->m->stopping))
			break;
	}
	if (lost)
		tell(mm, first, last, lost);
	return answer != CHANGING;
}

bool thaw_mm_check_registration(struct thaw_worker *w, struct thaw_mm *mm)
{
	for (; mm->at_mapping < mm->n_mappings; mm->at_mapping++)
		if (!look_at(w, mm, &mm->mappings[mm->at_mapping]) || atomic_load(&w->m->stopping))
			return false;
	free(mm->mappings);
	mm->mappings = NULL;
	mm->n_mappings = 0;
	if (w->m->set.background == THAW_BACKGROUND_DELAYED) {
		THAW_SCOPED_LOCK(&mm->plan_lock);
		mm->next_pass_ns = thaw_sys_now_ns() + w->m->set.delay_ms * 1000000ULL;
	}
	atomic_store_explicit(&mm->registration, THAW_REGISTERED, memory_order_release);
	thaw_monitor_work(w->m);
	return true;
}
