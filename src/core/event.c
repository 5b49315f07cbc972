// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/event.c - remap, remove and unmap applied to a page map; the halves of one mremap paired */
#include "config.h"
#include "core/event.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"

/* How much of an unsettled stretch is remembered. More than that is unheard of (each open pair is a thread inside
 * mremap(), or a MREMAP_DONTUNMAP since the last fill); then every further change counts as dubious, so that its
 * result is taken from the process and not from us. */
enum { PAIRS = 128, RANGES = 256, DOUBTS = 64 };

struct range {
	uint64_t start, last; /* bytes, both within */
	bool moved;           /* one end of a REMAP */
	bool filled;          /* the end that it went to */
};

struct thaw_events {
	bool settled; /* atomic: set in the shared section, consumed by the next change */
	bool overflow;
	unsigned pairs, ranges, doubts;
	struct { uint64_t start, len; } pair[PAIRS];
	struct range range[RANGES];
	struct { uint64_t start, last; } doubt[DOUBTS];
};

struct thaw_events *thaw_events_new(void)
{
	struct thaw_events *ev = thaw_core_alloc(sizeof(*ev));

	if (!ev)
		return NULL;
	ev->settled = ev->overflow = false;
	ev->pairs = ev->ranges = ev->doubts = 0;
	return ev;
}

void thaw_events_free(struct thaw_events *ev)
{
	free(ev);
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

		if ((moved || r->moved) && start <= r->last && r->start <= start + (len - 1))
			return true;
	}
	return false;
}

static void remember(struct thaw_events *ev, uint64_t start, uint64_t len, bool moved, bool filled)
{
	if (ev->ranges == RANGES)
		ev->overflow = true;
	else
		ev->range[ev->ranges++] = (struct range){ start, start + (len - 1), moved, filled };
}

/* ---- pairs ------------------------------------------------------------------------------------------------- */
static void open_pair(struct thaw_events *ev, uint64_t start, uint64_t len)
{
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

static int64_t apply_remap(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c, bool *dubious)
{
	bool overlaps;
	int64_t gone;

	if (!is_range(c->to, c->len))
		return -EINVAL;
	overlaps = is_dubious(ev, c->start, c->len, true) || is_dubious(ev, c->to, c->len, true);
	gone = thaw_pagemap_move(pm, c->start, c->to, c->len);
	if (gone < 0)
		return gone;
	*dubious |= overlaps;
	open_pair(ev, c->start, c->len);
	remember(ev, c->start, c->len, true, false);
	remember(ev, c->to, c->len, true, true);
	return gone;
}

/* What is in doubt stays in the map: kept wrongly it is not mapped, and placing it fails; dropped wrongly it would read as
 * zero. For the same reason a doubt too many may be forgotten. */
static void note_doubt(struct thaw_events *ev, uint64_t start, uint64_t last)
{
	if (ev->doubts == DOUBTS)
		return;
	ev->doubt[ev->doubts].start = start;
	ev->doubt[ev->doubts++].last = last;
}

/* Removes [start, last] but for what a REMAP of this stretch has moved in: the munmap() may have been before that, and
 * its message late. Ranges before number i have been looked at. */
static int64_t remove_spared(struct thaw_events *ev, struct thaw_pagemap *pm, uint64_t start, uint64_t last, unsigned i)
{
	for (; i < ev->ranges; i++) {
		const struct range *r = &ev->range[i];
		int64_t below = 0, above = 0;

		if (!r->filled || r->start > last || r->last < start)
			continue;
		note_doubt(ev, r->start > start ? r->start : start, r->last < last ? r->last : last);
		if (r->start > start)
			below = remove_spared(ev, pm, start, r->start - 1, i + 1);
		if (r->last < last && below >= 0)
			above = remove_spared(ev, pm, r->last + 1, last, i + 1);
		return below < 0 ? below : above < 0 ? above : below + above;
	}
	return thaw_pagemap_remove(pm, start, last - start + 1);
}

/* The second half of a mremap takes nothing: the move has emptied the range, and what is in it now came later, from another
 * call. If something came, this may as well be a munmap() of that, and the half be still to come. */
static bool is_second_half(struct thaw_events *ev, const struct thaw_change *c)
{
	uint64_t last = c->start + (c->len - 1);

	if (!close_pair(ev, c->start, c->len))
		return false;
	for (unsigned i = 0; i < ev->ranges; i++)
		if (ev->range[i].filled && ev->range[i].start <= last && ev->range[i].last >= c->start)
			note_doubt(ev, c->start, last);
	return true;
}

static int64_t apply_drop(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c, bool *dubious)
{
	int64_t gone;

	if (c->kind == THAW_CHANGE_UNMAP && is_second_half(ev, c))
		return 0;
	/* A REMOVE takes effect when its message has been read, on what is there then: nothing to spare. */
	if (c->kind == THAW_CHANGE_UNMAP)
		gone = remove_spared(ev, pm, c->start, c->start + (c->len - 1), 0);
	else
		gone = thaw_pagemap_remove(pm, c->start, c->len);
	if (gone < 0)
		return gone;
	*dubious |= is_dubious(ev, c->start, c->len, false);
	remember(ev, c->start, c->len, false, false);
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

/* ---- doubts ------------------------------------------------------------------------------------------------ */
unsigned thaw_events_doubts(const struct thaw_events *ev)
{
	return ev->doubts;
}

/* Removes what of [start, last] is in none of the n mappings. */
static int64_t remove_uncovered(struct thaw_pagemap *pm, uint64_t start, uint64_t last, const struct thaw_mapped *m, size_t n)
{
	int64_t gone = 0, ret;

	for (size_t i = 0; i < n && m[i].start <= last; i++) {
		if (m[i].end - 1 < start)
			continue;
		if (m[i].start > start) {
			ret = thaw_pagemap_remove(pm, start, m[i].start - start);
			if (ret < 0)
				return ret;
			gone += ret;
		}
		if (m[i].end - 1 >= last)
			return gone;
		start = m[i].end;
	}
	ret = thaw_pagemap_remove(pm, start, last - start + 1);
	return ret < 0 ? ret : gone + ret;
}

int64_t thaw_events_resolve(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_mapped *m, size_t n)
{
	int64_t gone = 0;

	while (m && ev->doubts) {
		unsigned i = ev->doubts - 1;
		int64_t ret = remove_uncovered(pm, ev->doubt[i].start, ev->doubt[i].last, m, n);

		if (ret < 0)
			return ret;
		gone += ret;
		ev->doubts--;
	}
	ev->doubts = 0;
	return gone;
}
