// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/event.c - remap, remove and unmap applied to a page map; the halves of one mremap paired */
#include "config.h"
#include "core/event.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "util/sabotage.h"

/* How much of an unsettled stretch is remembered. More than that is unheard of (each open pair is a thread inside
 * mremap(), or a MREMAP_DONTUNMAP since the last fill); then every further change counts as dubious, so that its
 * result is taken from the process and not from us. */
enum { PAIRS = 128, RANGES = 256 };

struct range {
	uint64_t start, end; /* end is the last byte + 1; 0: the end of the address space */
	bool moved;          /* one end of a REMAP */
};

struct thaw_events {
	bool settled; /* atomic: set in the shared section, consumed by the next change */
	bool overflow;
	bool exact;
	unsigned pairs, ranges;
	struct { uint64_t start, len; } pair[PAIRS];
	struct range range[RANGES];
};

struct thaw_events *thaw_events_new(void)
{
	struct thaw_events *ev = thaw_core_alloc(sizeof(*ev));

	if (!ev)
		return NULL;
	ev->settled = ev->overflow = ev->exact = false;
	ev->pairs = ev->ranges = 0;
	return ev;
}

void thaw_events_free(struct thaw_events *ev)
{
	free(ev);
}

void thaw_events_set_exact(struct thaw_events *ev)
{
	ev->exact = true;
}

size_t thaw_events_memory(const struct thaw_events *ev)
{
	return sizeof(*ev);
}

void thaw_events_settled(struct thaw_events *ev)
{
	/* Read first: placing threads say this after every fill, and a line that nobody writes stays shared. */
	if (!__atomic_load_n(&ev->settled, __ATOMIC_RELAXED))
		__atomic_store_n(&ev->settled, true, __ATOMIC_RELAXED);
}

bool thaw_events_unsettled(const struct thaw_events *ev)
{
	return !__atomic_load_n(&ev->settled, __ATOMIC_RELAXED) && (ev->pairs || ev->ranges || ev->overflow);
}

/* The gate orders this against thaw_events_settled(): whoever set the flag has left the shared section. */
static void begin(struct thaw_events *ev)
{
	if (!__atomic_load_n(&ev->settled, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&ev->settled, false, __ATOMIC_RELAXED);
	ev->pairs = ev->ranges = 0;
	ev->overflow = false;
}

/* ---- overlap with other calls -------------------------------------------------------------------------------- */
/* Two changes that only take away commute; so only what a REMAP was part of can come out differently. */
static bool is_dubious(const struct thaw_events *ev, uint64_t start, uint64_t len, bool moved)
{
	if (ev->overflow)
		return true;
	for (unsigned i = 0; i < ev->ranges; i++) {
		const struct range *r = &ev->range[i];

		if ((moved || r->moved) && start <= r->end - 1 && r->start <= start + (len - 1))
			return true;
	}
	return false;
}

static void remember(struct thaw_events *ev, uint64_t start, uint64_t len, bool moved)
{
	if (ev->exact)
		return;
	if (ev->ranges == RANGES)
		ev->overflow = true;
	else
		ev->range[ev->ranges++] = (struct range){ start, start + len, moved };
}

/* ---- pairs ------------------------------------------------------------------------------------------------- */
static void open_pair(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	if (ev->exact)
		return;
	if (ev->pairs == PAIRS) {
		/* The oldest is most likely a MREMAP_DONTUNMAP, whose UNMAP never comes. */
		memmove(&ev->pair[0], &ev->pair[1], (PAIRS - 1) * sizeof(ev->pair[0]));
		ev->pairs--;
		ev->overflow = true;
	}
	ev->pair[ev->pairs].start = start;
	ev->pair[ev->pairs++].len = len;
}

static bool close_pair(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	for (unsigned i = 0; i < ev->pairs; i++) {
		if (ev->pair[i].start == start && ev->pair[i].len == len) {
			ev->pair[i] = ev->pair[--ev->pairs];
			return true;
		}
	}
	return false;
}

/* ---- changes ----------------------------------------------------------------------------------------------- */
static bool is_range(uint64_t start, uint64_t len)
{
	return len && !((start | len) & (THAW_PAGE_SIZE - 1)) && start + (len - 1) >= start;
}

/* What a monitor has left at the old place that takes a REMAP for a copy. */
struct left {
	unsigned n;
	struct thaw_extent e[32];
};

static void leave_behind(struct left *l, const struct thaw_pagemap *pm, const struct thaw_change *c)
{
	uint64_t at = c->start, end = c->start + c->len;

	while (THAW_SABOTAGE(REMAP_COPIES) && l->n < sizeof(l->e) / sizeof(l->e[0]) && at < end &&
	       thaw_pagemap_next_absent(pm, at, (end - at) >> THAW_PAGE_SHIFT, &l->e[l->n]) && l->e[l->n].addr < end) {
		struct thaw_extent *e = &l->e[l->n++];

		if (e->pages > (end - e->addr) >> THAW_PAGE_SHIFT)
			e->pages = (end - e->addr) >> THAW_PAGE_SHIFT;
		at = e->addr + (e->pages << THAW_PAGE_SHIFT);
	}
}

static int64_t apply_remap(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c, bool *dubious)
{
	struct left left = { 0 };
	bool overlaps;
	int64_t gone;

	if (!is_range(c->to, c->len))
		return -EINVAL;
	overlaps = is_dubious(ev, c->start, c->len, true) || is_dubious(ev, c->to, c->len, true);
	leave_behind(&left, pm, c);
	gone = thaw_pagemap_move(pm, c->start, c->to, c->len);
	if (gone < 0)
		return gone;
	for (unsigned i = 0; i < left.n; i++)
		(void)thaw_pagemap_add(pm, &left.e[i]);
	*dubious |= overlaps;
	open_pair(ev, c->start, c->len);
	remember(ev, c->start, c->len, true);
	remember(ev, c->to, c->len, true);
	return gone;
}

static int64_t apply_drop(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c, bool *dubious)
{
	int64_t gone;

	/* The second half of a mremap: the move has emptied the range; what is in it now came later, from another
	 * call. */
	if (c->kind == THAW_CHANGE_UNMAP && !THAW_SABOTAGE(UNMAP_NOT_PAIRED) && close_pair(ev, c->start, c->len))
		return 0;
	gone = thaw_pagemap_remove(pm, c->start, c->len);
	if (gone < 0)
		return gone;
	*dubious |= is_dubious(ev, c->start, c->len, false);
	remember(ev, c->start, c->len, false);
	return gone;
}

int64_t thaw_events_apply(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c, bool *dubious)
{
	if (!is_range(c->start, c->len))
		return -EINVAL;
	begin(ev);
	if (c->kind == THAW_CHANGE_REMAP)
		return apply_remap(ev, pm, c, dubious);
	return apply_drop(ev, pm, c, dubious);
}
