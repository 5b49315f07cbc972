// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/event.c - remap, remove and unmap applied to a page map; halves of one mremap paired, overtaken messages told, holes kept in mind */
#include "config.h"
#include "core/event.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "util/sabotage.h"

/* How much of an unsettled stretch is remembered; beyond it the oldest is forgotten. More than that is unheard of: each open
 * pair is a thread inside mremap(), or a MREMAP_DONTUNMAP since the last fill. */
enum { PAIRS = 128, ARRIVALS = 256, DISCARDS = 256 };

struct pair {
	uint64_t start, len, to;
	uint64_t end;  /* of the range that was said to move, which may be longer */
	uint64_t turn; /* when its REMAP happened, as far as is known */
	uint64_t told; /* when it was read */
};

/* Where a REMAP went to in this stretch, in the order in which they were read. */
struct arrival {
	uint64_t start, len;
	uint64_t turn;
	bool displaced; /* it met content that nobody had been said to take away */
};

struct discard {
	uint64_t start, len;
};

struct thaw_events {
	bool settled; /* atomic: set in the shared section, consumed by the next change */
	bool exact;
	bool long_remaps;
	bool guessed; /* the map may be wrong */
	unsigned pairs, arrivals;
	uint64_t turn; /* counts changes */
	struct {
		uint64_t start, len, turn;
	} unmapped; /* the last UNMAP */
	struct pair pair[PAIRS];
	struct arrival arrival[ARRIVALS];
	unsigned discards;
	struct discard discard[DISCARDS]; /* the last ones, the oldest first, some of which may still be carried out */
	struct thaw_pagemap *doubtful;  /* where a page that is done may not be there */
	struct thaw_pagemap *displaced; /* at the addresses that it has left already, by a message that is to come */
};

struct thaw_events *thaw_events_new(void)
{
	struct thaw_events *ev = thaw_core_alloc(sizeof(*ev));

	if (!ev)
		return NULL;
	ev->displaced = thaw_pagemap_new();
	ev->doubtful = thaw_pagemap_new();
	if (!ev->displaced || !ev->doubtful) {
		thaw_pagemap_free(ev->displaced);
		thaw_pagemap_free(ev->doubtful);
		free(ev);
		return NULL;
	}
	ev->settled = ev->exact = ev->long_remaps = ev->guessed = false;
	ev->pairs = ev->arrivals = ev->discards = 0;
	ev->turn = 0;
	ev->unmapped.turn = ev->unmapped.start = ev->unmapped.len = 0;
	return ev;
}

void thaw_events_free(struct thaw_events *ev)
{
	if (!ev)
		return;
	thaw_pagemap_free(ev->displaced);
	thaw_pagemap_free(ev->doubtful);
	free(ev);
}

void thaw_events_set_exact(struct thaw_events *ev)
{
	ev->exact = true;
}

void thaw_events_set_long_remaps(struct thaw_events *ev)
{
	ev->long_remaps = true;
}

size_t thaw_events_memory(const struct thaw_events *ev)
{
	return sizeof(*ev) + thaw_pagemap_memory(ev->displaced) + thaw_pagemap_memory(ev->doubtful);
}

void thaw_events_settled(struct thaw_events *ev)
{
	/* Read first: placing threads say this after every fill, and a line that nobody writes stays shared. */
	if (!__atomic_load_n(&ev->settled, __ATOMIC_RELAXED))
		__atomic_store_n(&ev->settled, true, __ATOMIC_RELAXED);
}

bool thaw_events_unsettled(const struct thaw_events *ev)
{
	return !__atomic_load_n(&ev->settled, __ATOMIC_RELAXED) && ev->turn;
}

bool thaw_events_has_displaced(const struct thaw_events *ev)
{
	return !__atomic_load_n(&ev->settled, __ATOMIC_RELAXED) && thaw_pagemap_pages(ev->displaced);
}

uint64_t thaw_events_absent(const struct thaw_events *ev)
{
	return thaw_pagemap_absent(ev->displaced);
}

uint64_t thaw_events_waiting(const struct thaw_events *ev)
{
	return thaw_events_has_displaced(ev) ? thaw_events_absent(ev) : 0;
}

/* The absent pages that were in it. Nothing has to be cut, and it cannot fail: no run lies across the middle of the address space. */
static int64_t empty(struct thaw_pagemap *pm)
{
	const uint64_t half = UINT64_C(1) << 63;
	int64_t low = thaw_pagemap_remove(pm, 0, half), high = thaw_pagemap_remove(pm, half, half);

	return low < 0 ? low : high < 0 ? high : low + high;
}

/* The gate orders this against thaw_events_settled(): whoever set the flag has left the shared section. Returns the absent pages
 * whose message never came (its thread was killed before it was read). */
static int64_t begin(struct thaw_events *ev)
{
	int64_t gone = 0;

	ev->turn++;
	if (!__atomic_load_n(&ev->settled, __ATOMIC_RELAXED))
		return 0;
	__atomic_store_n(&ev->settled, false, __ATOMIC_RELAXED);
	ev->pairs = ev->arrivals = 0;
	if (!thaw_pagemap_pages(ev->displaced))
		return 0;
	gone = empty(ev->displaced);
	if (gone >= 0)
		thaw_events_guessed(ev);
	return gone;
}

static bool meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a <= b + (b_len - 1) && b <= a + (a_len - 1);
}

/* ---- pages that may have been zapped -------------------------------------------------------------------------------- */
/* Without memory it is forgotten which they are: their readers wait then. */
static void sure_of_all(struct thaw_events *ev)
{
	(void)empty(ev->doubtful);
}

void thaw_events_guessed(struct thaw_events *ev)
{
	ev->guessed = true;
	sure_of_all(ev);
}

static void sure_of(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	if (thaw_pagemap_pages(ev->doubtful) && thaw_pagemap_remove(ev->doubtful, start, len) < 0)
		sure_of_all(ev);
}

static void doubt(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	struct thaw_extent e = { .addr = start, .pages = len >> THAW_PAGE_SHIFT, .off = start & (UINT64_MAX >> 8) };

	if (ev->guessed)
		return;
	sure_of(ev, start, len);
	if (thaw_pagemap_add(ev->doubtful, &e))
		sure_of_all(ev);
}

static void note_discard(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	struct discard *newest = ev->discards ? &ev->discard[ev->discards - 1] : NULL;

	if (newest && newest->start + newest->len == start && start) { /* page by page */
		newest->len += len;
		return;
	}
	if (ev->discards == DISCARDS)
		memmove(&ev->discard[0], &ev->discard[1], --ev->discards * sizeof(ev->discard[0]));
	ev->discard[ev->discards++] = (struct discard){ start, len };
}

/* A child's page that may have been wiped is that elsewhere, too. */
static void doubt_inherited(struct thaw_events *ev, const struct thaw_pagemap *pm, const struct thaw_change *c)
{
	uint64_t end = c->start + c->len, at = c->start, first;

	while (at != end && thaw_pagemap_next_inherited(pm, at, end - at, &first, &at))
		doubt(ev, first, at - first);
}

/* What was moved, as its message says: holes go along, and a discard of the new place may still be carried out. */
static void doubt_moved(struct thaw_events *ev, const struct thaw_change *c)
{
	uint64_t c_last = c->to + (c->len - 1);

	if (thaw_pagemap_pages(ev->doubtful) && thaw_pagemap_move(ev->doubtful, c->start, c->to, c->len) < 0)
		sure_of_all(ev);
	for (unsigned i = 0; i < ev->discards; i++) {
		const struct discard *d = &ev->discard[i];
		uint64_t last = d->start + (d->len - 1), start = d->start > c->to ? d->start : c->to;

		if (meet(d->start, d->len, c->to, c->len))
			doubt(ev, start, (last < c_last ? last : c_last) - start + 1);
	}
}

bool thaw_events_may_be_zapped(const struct thaw_events *ev, uint64_t addr)
{
	struct thaw_extent e;

	return thaw_pagemap_lookup(ev->doubtful, addr, 1, &e);
}

int thaw_events_inherit(struct thaw_events *ev, const struct thaw_events *parent)
{
	struct thaw_pagemap *doubtful = thaw_pagemap_clone(parent->doubtful, 0);

	if (!doubtful)
		return -ENOMEM;
	thaw_pagemap_free(ev->doubtful);
	ev->doubtful = doubtful;
	ev->guessed = parent->guessed;
	return 0;
}

/* ---- pairs ------------------------------------------------------------------------------------------------- */
static void open_pair(struct thaw_events *ev, const struct thaw_change *c, uint64_t end, uint64_t turn)
{
	if (ev->exact)
		return;
	if (ev->pairs == PAIRS) {
		/* The oldest is most likely a MREMAP_DONTUNMAP, whose UNMAP never comes. */
		memmove(&ev->pair[0], &ev->pair[1], (PAIRS - 1) * sizeof(ev->pair[0]));
		ev->pairs--;
	}
	ev->pair[ev->pairs++] = (struct pair){ c->start, c->len, c->to, end, turn, ev->turn };
}

static bool close_pair(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	for (unsigned i = 0; i < ev->pairs; i++) {
		if (ev->pair[i].start != start || ev->pair[i].len != len)
			continue;
		ev->pair[i] = ev->pair[--ev->pairs];
		return true;
	}
	return false;
}

static bool has_come(const struct thaw_events *ev, const struct pair *p)
{
	for (unsigned i = 0; i < ev->arrivals; i++)
		if (ev->arrival[i].turn > p->turn && meet(ev->arrival[i].start, ev->arrival[i].len, p->start, p->len))
			return true;
	return false;
}

/* A range that a REMAP has left is discarded, and nothing has come there since: so it is mapped still, and the REMAP was a
 * MREMAP_DONTUNMAP, whose UNMAP never comes. Else an UNMAP of just that range, much later, would pass for it and be passed
 * over. (That it is moved from or unmapped in part does not say as much: another mapping may have grown into the hole, which
 * no message tells.) */
static void doubt_pairs(struct thaw_events *ev, const struct thaw_change *c)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < ev->pairs; i++) {
		const struct pair *p = &ev->pair[i];

		if (!meet(p->start, p->len, c->start, c->len) || has_come(ev, p))
			ev->pair[kept++] = *p;
	}
	ev->pairs = kept;
}

/* What is displaced in the range is in the map again, at `to`. Returns what had to go there, or an error. */
static int64_t put_back(struct thaw_events *ev, struct thaw_pagemap *pm, uint64_t start, uint64_t len, uint64_t to)
{
	struct thaw_extent e;
	int64_t gone = 0, ret;

	while (thaw_pagemap_next(ev->displaced, start, len, &e)) {
		ret = thaw_pagemap_transfer(ev->displaced, e.addr, pm, e.addr - start + to, e.pages << THAW_PAGE_SHIFT);
		if (ret < 0)
			return ret;
		gone += ret;
	}
	return gone;
}

/* The pair whose end the range is; it may be an UNMAP of what a mremap() that moved did not take with it. */
static struct pair *ends(struct thaw_events *ev, const struct thaw_change *c)
{
	if (!ev->long_remaps)
		return NULL;
	for (unsigned i = ev->pairs; i-- > 0;) {
		struct pair *p = &ev->pair[i];

		if (p->start < c->start && c->start - p->start <= p->len && c->start + c->len == p->end && !has_come(ev, p))
			return p;
	}
	return NULL;
}

/* A mremap() that shrinks while it moves was told with the old length (6.1 and 6.12 do so, 6.18 does not): only now it is known
 * how much has moved. The rest of what it was said to have brought is gone, and what lies at those addresses has never left. */
static int64_t cut_short(struct thaw_events *ev, struct thaw_pagemap *pm, struct pair *p, const struct thaw_change *c)
{
	uint64_t moved = c->start - p->start, tail = p->to + moved, rest = p->len - moved;
	int64_t gone = rest ? thaw_pagemap_remove(pm, tail, rest) : 0, ret;
	struct thaw_extent e;

	if (gone < 0)
		return gone;
	ret = rest ? put_back(ev, pm, tail, rest, tail) : 0;
	if (ret < 0)
		return ret;
	if (rest)
		sure_of(ev, tail, rest);
	p->len = moved;
	p->end = c->start;
	for (unsigned i = 0; i < ev->arrivals; i++) {
		struct arrival *a = &ev->arrival[i];

		if (a->turn != p->told || a->start != p->to)
			continue;
		a->len = moved;
		a->displaced = thaw_pagemap_next(ev->displaced, a->start, a->len, &e);
	}
	return gone;
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

/* ---- messages that were overtaken ---------------------------------------------------------------------------------------- */
/* A mremap() cannot go to where something is (MREMAP_FIXED unmaps it first, and says so first). So a REMAP onto content tells that the
 * message which takes that content away was overtaken: the thread was preempted between its call and the queue. */
static void arrive(struct thaw_events *ev, uint64_t start, uint64_t len, bool displaced)
{
	unsigned i = 0;

	if (ev->exact)
		return;
	if (ev->arrivals == ARRIVALS) { /* the oldest that nobody has to be found by */
		while (i + 1 < ARRIVALS && ev->arrival[i].displaced)
			i++;
		memmove(&ev->arrival[i], &ev->arrival[i + 1], (--ev->arrivals - i) * sizeof(ev->arrival[0]));
	}
	ev->arrival[ev->arrivals++] = (struct arrival){ start, len, ev->turn, displaced };
}

/* What came into the range and was there as a whole has left with it. */
static void depart(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < ev->arrivals; i++) {
		const struct arrival *a = &ev->arrival[i];

		if (a->start < start || a->start + (a->len - 1) > start + (len - 1))
			ev->arrival[kept++] = *a;
	}
	ev->arrivals = kept;
}

/* Is a message about this range one that was overtaken? It takes away the whole of a mapping, so all that any arrival has
 * displaced in it; who came since and gives up a part of what it has does not. (Who gives up all of it looks the same.) */
static bool is_late(const struct thaw_events *ev, uint64_t start, uint64_t len)
{
	uint64_t last = start + (len - 1);
	struct thaw_extent e;

	if (!thaw_pagemap_next(ev->displaced, start, len, &e))
		return false;
	for (unsigned i = 0; i < ev->arrivals; i++) {
		const struct arrival *a = &ev->arrival[i];

		if (!a->displaced || !meet(a->start, a->len, start, len))
			continue;
		if (a->start < start && thaw_pagemap_next(ev->displaced, a->start, start - a->start, &e))
			return false;
		if (a->start + (a->len - 1) > last &&
		    thaw_pagemap_next(ev->displaced, last + 1, a->start + (a->len - 1) - last, &e))
			return false;
	}
	return true;
}

/* The next stretch from *at on, within [start, start + len), of what a late message about that range means in the map: not the
 * first arrival that displaced something there, nor those behind it, which came when its memory had left. False: none. */
static bool next_old(const struct thaw_events *ev, uint64_t start, uint64_t len, uint64_t *at, uint64_t *n)
{
	uint64_t last = start + (len - 1), from = *at;
	unsigned first = 0;

	for (const struct arrival *a = ev->arrival; first < ev->arrivals; first++, a++)
		if (a->displaced && meet(a->start, a->len, start, len))
			break;
again:
	if (from - 1 == last)
		return false;
	*n = last - from + 1;
	for (unsigned i = first; i < ev->arrivals; i++) {
		const struct arrival *a = &ev->arrival[i];

		if (!meet(a->start, a->len, from, *n))
			continue;
		if (a->start > from) {
			*n = a->start - from;
			continue;
		}
		if (a->start + (a->len - 1) >= last)
			return false;
		from = a->start + a->len;
		goto again;
	}
	*at = from;
	return true;
}

/* Whoever took the place of something that a late message has found has displaced nothing any more. */
static void found(struct thaw_events *ev, uint64_t start, uint64_t len)
{
	struct thaw_extent e;

	for (unsigned i = 0; i < ev->arrivals; i++) {
		struct arrival *a = &ev->arrival[i];

		if (a->displaced && meet(a->start, a->len, start, len))
			a->displaced = thaw_pagemap_next(ev->displaced, a->start, a->len, &e);
	}
}

static int64_t late_remap(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c)
{
	uint64_t at, n;
	int64_t gone = 0, ret;

	for (at = c->start; next_old(ev, c->start, c->len, &at, &n); at += n) {
		ret = thaw_pagemap_transfer(pm, at, pm, at - c->start + c->to, n);
		if (ret < 0)
			return ret;
		gone += ret;
	}
	ret = put_back(ev, pm, c->start, c->len, c->to);
	if (ret < 0)
		return ret;
	found(ev, c->start, c->len);
	return gone + ret;
}

static int64_t late_drop(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c)
{
	int64_t gone = thaw_pagemap_remove(ev->displaced, c->start, c->len), ret;
	uint64_t at, n;

	for (at = c->start; gone >= 0 && next_old(ev, c->start, c->len, &at, &n); at += n) {
		ret = thaw_pagemap_remove(pm, at, n);
		gone = ret < 0 ? ret : gone + ret;
	}
	found(ev, c->start, c->len);
	if (gone >= 0)
		thaw_events_guessed(ev);
	return gone;
}

static bool overlap(const struct thaw_change *c)
{
	return (c->start < c->to ? c->to - c->start : c->start - c->to) < c->len;
}

/* end: of the range that was said to move */
static int64_t apply_remap(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c, uint64_t end)
{
	struct left left = { 0 };
	struct thaw_extent e;
	int64_t gone, lost = 0; /* lost: displaced for a second time; of the first nobody knows any more */
	bool displaces, late;

	displaces = !ev->exact && !THAW_SABOTAGE(UNMAP_NOT_PAIRED) && thaw_pagemap_next(pm, c->to, c->len, &e);
	if (displaces)
		lost = thaw_pagemap_transfer(pm, c->to, ev->displaced, c->to, c->len);
	if (lost < 0)
		return lost;
	leave_behind(&left, pm, c);
	late = is_late(ev, c->start, c->len);
	if (!late)
		doubt_inherited(ev, pm, c);
	gone = late ? late_remap(ev, pm, c) : thaw_pagemap_move(pm, c->start, c->to, c->len);
	if (gone < 0)
		return gone;
	if (late) {
		thaw_events_guessed(ev);
	} else {
		depart(ev, c->start, c->len);
		doubt_moved(ev, c);
	}
	for (unsigned i = 0; i < left.n; i++)
		(void)thaw_pagemap_add(pm, &left.e[i]);
	open_pair(ev, c, end, late ? 0 : ev->turn); /* late: before whatever has come there */
	arrive(ev, c->to, c->len, displaces);
	return gone + lost;
}

/* Nothing is moved onto itself: what was moved down by less than the length that is told has shrunk, to no more than the way it went. */
static int64_t apply_short(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c)
{
	uint64_t most = c->start - c->to;
	struct thaw_change moved = { THAW_CHANGE_REMAP, c->start, most, c->to };
	int64_t gone = thaw_pagemap_remove(pm, c->start + most, c->len - most), ret;

	if (gone < 0)
		return gone;
	depart(ev, c->start + most, c->len - most);
	ret = apply_remap(ev, pm, &moved, c->start + c->len);
	return ret < 0 ? ret : ret + gone;
}

static int64_t apply_drop(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c)
{
	struct pair *p;
	int64_t gone;

	/* A discard is told before it happens, by a thread that waits for that: it is never late. */
	if (c->kind == THAW_CHANGE_REMOVE) {
		doubt_pairs(ev, c);
		gone = thaw_pagemap_remove(pm, c->start, c->len);
		if (gone >= 0) {
			note_discard(ev, c->start, c->len);
			sure_of(ev, c->start, c->len);
		}
		return gone;
	}
	/* The second half of a mremap: the move has emptied the range; what is in it now came later, from another
	 * call. */
	if (!THAW_SABOTAGE(UNMAP_NOT_PAIRED) && close_pair(ev, c->start, c->len))
		return 0;
	p = ends(ev, c);
	if (p)
		return cut_short(ev, pm, p, c);
	if (is_late(ev, c->start, c->len))
		return late_drop(ev, pm, c);
	gone = thaw_pagemap_remove(pm, c->start, c->len);
	if (gone >= 0) {
		depart(ev, c->start, c->len);
		sure_of(ev, c->start, c->len);
	}
	return gone;
}

/* A mremap() that shrinks while it moves unmaps the end first, and moves the rest under the same lock. So in the order in which changes
 * happened the UNMAP of its end stands right before a REMAP that is told with the old length, and says how much has moved. (If that end
 * has been mapped again since, and moves along, it had no content.) */
static uint64_t length_moved(const struct thaw_events *ev, const struct thaw_change *c)
{
	bool shrinks = ev->exact && ev->long_remaps && ev->unmapped.turn && ev->unmapped.turn == ev->turn &&
		       ev->unmapped.start > c->start && ev->unmapped.start + ev->unmapped.len == c->start + c->len;

	return shrinks ? ev->unmapped.start - c->start : c->len;
}

int64_t thaw_events_apply(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c)
{
	struct thaw_change moved = *c;
	int64_t lost, gone;

	if (!is_range(c->start, c->len))
		return -EINVAL;
	if (c->kind == THAW_CHANGE_REMAP)
		moved.len = length_moved(ev, c);
	if (c->kind == THAW_CHANGE_REMAP && (!is_range(c->to, moved.len) ||
					     (overlap(&moved) && (ev->exact || !ev->long_remaps || c->to > c->start))))
		return -EINVAL;
	lost = begin(ev);
	if (lost < 0)
		return lost;
	if (c->kind == THAW_CHANGE_UNMAP) {
		ev->unmapped.start = c->start;
		ev->unmapped.len = c->len;
		ev->unmapped.turn = ev->turn;
	}
	if (c->kind != THAW_CHANGE_REMAP)
		gone = apply_drop(ev, pm, c);
	else
		gone = overlap(&moved) ? apply_short(ev, pm, &moved) : apply_remap(ev, pm, &moved, c->start + c->len);
	if (gone < 0 && moved.len != c->len)
		ev->unmapped.turn = ev->turn; /* the same again, with more memory, finds it still */
	return gone < 0 ? gone : gone + lost;
}
