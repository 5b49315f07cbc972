// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/resolve.c - doubts about the order of messages, settled by a look at the process's mappings */
#include "config.h"
#include "engine/resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kern/procfs.h"
#include "kern/uffd.h"

struct mappings {
	struct thaw_mapped *m;
	size_t n, room;
};

static int collect(void *opaque, const struct thaw_vma *v)
{
	struct mappings *l = opaque;

	if (!(v->flags & THAW_VM_UFFD_MISSING))
		return 0;
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 256;
		struct thaw_mapped *more = realloc(l->m, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->m = more;
		l->room = room;
	}
	l->m[l->n++] = (struct thaw_mapped){ v->start, v->end };
	return 0;
}

/* Every change of the mappings that has a message keeps the probe at CHANGING until we have read it. So if it says NO_VMA
 * before the mappings were read and says so again here, they did not change in between. */
static bool resolve_in_x(struct thaw_worker *w, struct thaw_mm *mm, const struct mappings *l)
{
	static const struct thaw_mapped none;
	int64_t gone = -EAGAIN;

	thaw_gate_close(&w->m->gate, &mm->gate);
	if (thaw_uffd_probe(mm->uffd) == THAW_NO_VMA)
		gone = thaw_events_resolve(mm->ev, mm->pm, l->n ? l->m : &none, l->n);
	thaw_gate_open(&mm->gate);
	if (gone > 0) {
		atomic_fetch_add_explicit(&mm->tally.gone, gone, memory_order_relaxed);
		thaw_count(&mm->counters, w->number, THAW_COUNT_PAGES_GONE, gone);
	}
	return gone >= 0;
}

/* The mappings cannot be had: the content stays, which is harmless where nothing is mapped. */
static void give_up(struct thaw_worker *w, struct thaw_mm *mm)
{
	thaw_gate_close(&w->m->gate, &mm->gate);
	thaw_events_resolve(mm->ev, mm->pm, NULL, 0);
	thaw_gate_open(&mm->gate);
}

bool thaw_resolve(struct thaw_worker *w, struct thaw_mm *mm)
{
	bool doubts = thaw_events_doubts(mm->ev);
	struct mappings l = { 0 };
	bool done;
	int err;

	/* Ask whether all is quiet when there are doubts, or when nothing that follows will tell: else two changes of one
	 * thread, one after the other, would pass for two at once. */
	if ((doubts || !mm->n_parked) && thaw_events_unsettled(mm->ev)) {
		enum thaw_outcome is = thaw_uffd_probe(mm->uffd);

		if (is == THAW_NO_VMA)
			thaw_events_settled(mm->ev);
		if (is == THAW_DEAD)
			atomic_store(&mm->dead, true);
	}
	if (!doubts || atomic_load(&mm->dead))
		return false;
	if (thaw_events_unsettled(mm->ev))
		return true;
	err = mm->smaps_fd < 0 ? -ENOENT : thaw_procfs_maps_fd(mm->smaps_fd, true, collect, &l);
	if (err && err != -ENOMEM) {
		give_up(w, mm);
		done = true;
	} else {
		done = !err && resolve_in_x(w, mm, &l);
	}
	free(l.m);
	return !done;
}
