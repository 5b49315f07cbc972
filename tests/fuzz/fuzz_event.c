// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_event.c - sequences of messages against a model of the process's memory, an entry a page
 *
 * The input is a program: fills, discards, unmaps, mremaps (whose second halves come later, in any order, or never),
 * forks, settling, messages that make no sense. After each step map and model say the same about every page, for parent
 * and children, and the counts of what was discarded agree. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/event.h"
#include "support/pagemodel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGES = 200, SPACES = 4, LATE = 16 };

struct half {
	uint64_t start, len;
	bool taken; /* something has come to the place, and has not been touched since */
};
struct space {
	struct thaw_pagemap *pm;
	struct thaw_events *ev;
	struct pagemodel *model;
	struct half late[LATE];
	unsigned n_late, forgotten; /* forgotten: DONTUNMAP since it was settled */
	unsigned moves;             /* since then */
	bool long_remaps, exact;
	struct half dontunmap[LATE];
	struct half unmapped; /* by the last message */
	struct half discarded; /* the last */
	bool guessed;         /* something was displaced once */
	bool inherited;       /* all of it was, once */
	bool zapped[PAGES];   /* ever */
	bool holes[PAGES];    /* where something may be that was moved to such a place */
};

static const uint8_t *at, *end;
static uint64_t base;
static bool plenty; /* of memory */

static unsigned next(unsigned limit)
{
	unsigned v = at < end ? *at++ : 0;

	if (limit > 256)
		v |= (at < end ? *at++ : 0u) << 8;
	return v % limit;
}

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static uint64_t page(unsigned n)
{
	return base + ((uint64_t)n << THAW_PAGE_SHIFT);
}

static bool meets(const struct half *h, uint64_t start, uint64_t len)
{
	return h->start <= start + (len - 1) && start <= h->start + (h->len - 1); /* the last page may be the last of all */
}

/* What is moved to where something was discarded is doubtful, also where it moves to from there; nothing else is. Only the last discard
 * is sure to be remembered. all: false where something was displaced, memory is short, or a move may shrink. */
static void follow_holes(struct space *s, const struct thaw_change *c, const bool *before, const bool *inherits,
			 bool all)
{
	uint64_t n = c->len >> THAW_PAGE_SHIFT, from = (c->start - base) >> THAW_PAGE_SHIFT;
	uint64_t to = (c->to - base) >> THAW_PAGE_SHIFT;
	bool came[PAGES] = { 0 };

	for (uint64_t i = 0; c->kind == THAW_CHANGE_REMOVE && i < n && from + i < PAGES; i++) {
		s->zapped[from + i] = true;
		check(!thaw_events_may_be_zapped(s->ev, page(from + i)), "what was discarded is doubtful");
	}
	if (c->kind == THAW_CHANGE_REMOVE)
		s->discarded = (struct half){ c->start, c->len, false };
	for (uint64_t i = 0; c->kind == THAW_CHANGE_REMAP && i < n && from + i < PAGES && to + i < PAGES; i++) {
		bool hit = before[from + i] || inherits[from + i] ||
			   (s->discarded.len && meets(&s->discarded, page(to + i), THAW_PAGE_SIZE));

		came[to + i] = s->zapped[to + i] || s->holes[from + i];
		check(!all || !hit || thaw_events_may_be_zapped(s->ev, page(to + i)), "what was moved into a discard is not doubtful");
	}
	for (unsigned i = 0; i < PAGES; i++) {
		s->holes[i] |= came[i];
		check(s->holes[i] || s->inherited || !thaw_events_may_be_zapped(s->ev, page(i)), "nothing was moved into a discard there");
	}
}

static int64_t apply(struct space *s, enum thaw_change_kind kind, uint64_t start, uint64_t len, uint64_t to)
{
	struct thaw_change c = { kind, start, len, to };
	bool before[PAGES], inherits[PAGES], all;
	struct thaw_extent e;
	int64_t ret;

	for (unsigned i = 0; i < PAGES; i++) {
		before[i] = thaw_events_may_be_zapped(s->ev, page(i));
		inherits[i] = thaw_pagemap_lookup(s->pm, page(i), 1, &e) && e.flags == THAW_EXTENT_INHERITED;
	}
	thaw_core_alloc_left = next(8) ? -1 : (long)next(6); /* now and then without memory: then once more, with */
	if (plenty)
		thaw_core_alloc_left = -1;
	s->guessed |= thaw_events_has_displaced(s->ev);
	all = thaw_core_alloc_left < 0 && !s->guessed && !s->long_remaps;
	ret = thaw_events_apply(s->ev, s->pm, &c);
	thaw_core_alloc_left = -1;
	if (ret == -ENOMEM) {
		check(thaw_pagemap_is_sound(s->pm), "not sound after a failed allocation");
		pagemodel_verify(s->model, s->pm);
		ret = thaw_events_apply(s->ev, s->pm, &c);
	}
	if (ret >= 0) {
		follow_holes(s, &c, before, inherits, all);
		s->unmapped = (struct half){ start, kind == THAW_CHANGE_UNMAP ? len : 0, false };
	}
	return ret;
}

static void deliver(struct space *s, unsigned i)
{
	struct half h = s->late[i];

	s->late[i] = s->late[--s->n_late];
	check(apply(s, THAW_CHANGE_UNMAP, h.start, h.len, 0) == 0, "a second half took something away");
}

static bool any_meets(const struct half *h, unsigned n, uint64_t start, uint64_t len)
{
	for (unsigned i = 0; i < n; i++)
		if (meets(&h[i], start, len))
			return true;
	return false;
}

static void settle(struct space *s)
{
	if (s->n_late)
		return; /* a fill would be answered with EAGAIN */
	thaw_events_settled(s->ev);
	s->forgotten = 0;
	s->moves = 0;
}

/* A range is about to be changed, or discarded. What a mremap has left is nobody's, but for what has come there since; what
 * a MREMAP_DONTUNMAP has left shows by that what it is. */
static void touch(struct space *s, enum thaw_change_kind kind, uint64_t start, uint64_t len)
{
	for (unsigned i = s->n_late; i-- > 0;) {
		if (!meets(&s->late[i], start, len))
			continue;
		if (kind == THAW_CHANGE_REMOVE && !s->late[i].taken)
			deliver(s, i);
		else
			s->late[i].taken = false; /* it may have left again */
	}
	if (kind != THAW_CHANGE_REMOVE)
		return;
	for (unsigned i = s->forgotten; i-- > 0;) {
		struct half *h = &s->dontunmap[i];

		if (!meets(h, start, len) || h->taken)
			continue;
		*h = s->dontunmap[--s->forgotten];
	}
}

static void take(struct space *s, uint64_t start, uint64_t len)
{
	for (unsigned i = 0; i < s->n_late; i++)
		s->late[i].taken |= meets(&s->late[i], start, len);
	for (unsigned i = 0; i < s->forgotten; i++)
		s->dontunmap[i].taken |= meets(&s->dontunmap[i], start, len);
	if (++s->moves < 100) /* of which so many are remembered, and some more */
		return;
	while (s->n_late)
		deliver(s, s->n_late - 1);
	settle(s);
}

static void add(struct space *s)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES - first);
	struct thaw_extent e = {
		.addr = page(first),
		.pages = n,
		.object = next(3),
		.flags = next(4),
		.off = (uint64_t)next(400) << THAW_PAGE_SHIFT,
	};

	if (any_meets(s->late, s->n_late, e.addr, e.pages << THAW_PAGE_SHIFT) ||
	    any_meets(s->dontunmap, s->forgotten, e.addr, e.pages << THAW_PAGE_SHIFT) ||
	    (s->unmapped.len && meets(&s->unmapped, e.addr, e.pages << THAW_PAGE_SHIFT)))
		return; /* nothing comes there but by a REMAP */
	check(thaw_pagemap_add(s->pm, &e) == pagemodel_add(s->model, &e), "add");
}

static bool is_half(const struct half *h, unsigned n, uint64_t start, uint64_t len)
{
	for (unsigned i = 0; i < n; i++)
		if (h[i].start == start && h[i].len == len)
			return true;
	return false;
}

static bool is_end(const struct half *h, unsigned n, uint64_t start, uint64_t len)
{
	for (unsigned i = 0; i < n; i++)
		if (h[i].start < start && start + len == h[i].start + h[i].len)
			return true;
	return false;
}

static void take_away(struct space *s, enum thaw_change_kind kind)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES - first);
	uint64_t start = page(first), len = (uint64_t)n << THAW_PAGE_SHIFT;

	/* munmap() of exactly what a mremap has left cannot be told from that mremap's own message */
	if (kind == THAW_CHANGE_UNMAP && (is_half(s->late, s->n_late, start, len) ||
					  is_half(s->dontunmap, s->forgotten, start, len)))
		return;
	/* nor, on some kernels, what looks like the end that a move has left behind */
	if (kind == THAW_CHANGE_UNMAP && s->long_remaps && (is_end(s->late, s->n_late, start, len) ||
							    is_end(s->dontunmap, s->forgotten, start, len)))
		return;
	touch(s, kind, start, len);
	check(apply(s, kind, start, len, 0) == pagemodel_remove(s->model, start, len), "discarded pages");
}

static void remap(struct space *s)
{
	unsigned from = next(PAGES), to = next(PAGES), n = 1 + next(PAGES), kind = next(4);
	unsigned gap = from < to ? to - from : from - to, room = PAGES - (from < to ? to : from);
	uint64_t len;

	n = n < gap ? n : gap;
	n = n < room ? n : room;
	if (!n || s->n_late == LATE || s->forgotten == LATE)
		return;
	len = (uint64_t)n << THAW_PAGE_SHIFT;
	if (kind == 1 || pagemodel_has(s->model, page(to), len)) { /* onto something: its UNMAP comes first */
		if (is_half(s->late, s->n_late, page(to), len) || is_half(s->dontunmap, s->forgotten, page(to), len) ||
		    is_end(s->late, s->n_late, page(to), len) || is_end(s->dontunmap, s->forgotten, page(to), len))
			return;
		touch(s, THAW_CHANGE_UNMAP, page(to), len);
		check(apply(s, THAW_CHANGE_UNMAP, page(to), len, 0) ==
			      pagemodel_remove(s->model, page(to), len),
		      "discarded at a fixed destination");
	}
	touch(s, THAW_CHANGE_REMAP, page(from), len);
	take(s, page(to), len);
	check(apply(s, THAW_CHANGE_REMAP, page(from), len, page(to)) ==
		      pagemodel_move(s->model, page(from), page(to), len),
	      "discarded at the destination");
	if (s->exact) {
		if (kind != 2)
			check(apply(s, THAW_CHANGE_UNMAP, page(from), len, 0) == 0, "a second half in its place took something away");
	} else if (kind == 2)
		s->dontunmap[s->forgotten++] = (struct half){ page(from), len, false };
	else
		s->late[s->n_late++] = (struct half){ page(from), len, false };
}

/* A mremap() that shrinks while it moves, as older kernels tell it: with the old length, then the end that did not move. In the order of
 * the changes the end goes first. */
static void shrink(struct space *s)
{
	unsigned from = next(PAGES), to = next(PAGES), n = 2 + next(PAGES / 4), k = 1 + next(n - 1);
	unsigned gap = from < to ? to - from : from - to;
	uint64_t len = (uint64_t)n << THAW_PAGE_SHIFT, moved = (uint64_t)k << THAW_PAGE_SHIFT;

	if (!s->long_remaps || (from < to ? n : k) > gap || from + n > PAGES || to + n > PAGES || s->n_late == LATE ||
	    any_meets(s->late, s->n_late, page(from), len) || any_meets(s->dontunmap, s->forgotten, page(from), len) ||
	    any_meets(s->late, s->n_late, page(to), len) || any_meets(s->dontunmap, s->forgotten, page(to), len))
		return;
	if (pagemodel_has(s->model, page(to), moved))
		check(apply(s, THAW_CHANGE_UNMAP, page(to), moved, 0) == pagemodel_remove(s->model, page(to), moved),
		      "discarded at the new place");
	take(s, page(to), moved);
	if (s->exact) {
		check(apply(s, THAW_CHANGE_UNMAP, page(from + k), len - moved, 0) ==
			      pagemodel_remove(s->model, page(from + k), len - moved),
		      "the end of a move that shrinks");
		check(apply(s, THAW_CHANGE_REMAP, page(from), len, page(to)) == pagemodel_move(s->model, page(from), page(to), moved),
		      "a move that shrinks, behind its end");
		check(apply(s, THAW_CHANGE_UNMAP, page(from), moved, 0) == 0, "its second half took something away");
		return;
	}
	pagemodel_move(s->model, page(from), page(to), moved);
	pagemodel_remove(s->model, page(from + k), len - moved);
	plenty = true;
	check(apply(s, THAW_CHANGE_REMAP, page(from), len, page(to)) >= 0, "a move that shrinks");
	check(apply(s, THAW_CHANGE_UNMAP, page(from + k), len - moved, 0) >= 0, "its end");
	check(!thaw_events_has_displaced(s->ev), "what lies behind is displaced still");
	plenty = false;
	s->late[s->n_late++] = (struct half){ page(from), moved, false };
}

/* Something leaves a place, another comes to it (or to a part of it), and the message of the second is read first. */
static void overtake(struct space *s)
{
	unsigned was = next(40), n = 1 + next(20), part = next(n), came = 1 + next(n - part), from = 80 + next(20), to = 130 + next(40);
	uint64_t left = (uint64_t)n << THAW_PAGE_SHIFT, len = (uint64_t)came << THAW_PAGE_SHIFT;
	bool unmaps = next(2);

	if (s->exact || s->n_late + 2 > LATE || s->forgotten == LATE || !pagemodel_has(s->model, page(was + part), len) ||
	    pagemodel_has(s->model, page(to), left) || is_half(s->late, s->n_late, page(was), left) ||
	    is_half(s->dontunmap, s->forgotten, page(was), left))
		return;
	touch(s, THAW_CHANGE_REMAP, page(from), len);
	touch(s, THAW_CHANGE_REMAP, page(was), left);
	take(s, page(was + part), len);
	if (!unmaps)
		take(s, page(to), left);
	if (unmaps)
		pagemodel_remove(s->model, page(was), left);
	else
		pagemodel_move(s->model, page(was), page(to), left);
	pagemodel_move(s->model, page(from), page(was + part), len);
	plenty = true; /* what meets others is not undone, and the model is two steps ahead */
	check(apply(s, THAW_CHANGE_REMAP, page(from), len, page(was + part)) >= 0, "the one that overtakes");
	check(thaw_events_has_displaced(s->ev), "nothing is displaced");
	s->late[s->n_late++] = (struct half){ page(from), len, false };
	check(apply(s, unmaps ? THAW_CHANGE_UNMAP : THAW_CHANGE_REMAP, page(was), left, page(to)) >= 0, "the one that was overtaken");
	check(!thaw_events_has_displaced(s->ev), "something is displaced still");
	plenty = false;
	if (!unmaps)
		s->late[s->n_late++] = (struct half){ page(was), left, true };
}

static void second_half(struct space *s)
{
	unsigned i;

	if (!s->n_late)
		return;
	i = next(s->n_late);
	deliver(s, i);
}

static void mark(struct space *s)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES);

	check(thaw_pagemap_mark_done(s->pm, page(first), n) == pagemodel_mark(s->model, page(first), n),
	      "marked pages");
}

static void nonsense(struct space *s)
{
	uint64_t start = 0, len = 0, to = 0;
	unsigned kind = next(3);
	bool whole;

	for (unsigned i = 0; i < 8; i++) {
		start = start << 8 | next(256);
		len = len << 8 | next(256);
		to = to << 8 | next(256);
	}
	whole = len && !((start | len) & (THAW_PAGE_SIZE - 1)) && start + (len - 1) >= start;
	if (kind == THAW_CHANGE_REMAP)
		whole = false, to |= 1;
	if (!whole)
		check(apply(s, kind, start, len, to) == -EINVAL, "a message that names no pages");
}

static void begin(struct space *s)
{
	s->ev = thaw_events_new();
	s->n_late = s->forgotten = s->moves = 0;
	s->unmapped.len = s->discarded.len = 0;
	s->guessed = s->inherited = false;
	memset(s->zapped, 0, sizeof(s->zapped));
	memset(s->holes, 0, sizeof(s->holes));
	s->long_remaps = next(2);
	if (s->long_remaps)
		thaw_events_set_long_remaps(s->ev);
	s->exact = next(2);
	if (s->exact)
		thaw_events_set_exact(s->ev);
}

static unsigned fork_it(struct space *s, struct space *child, unsigned n)
{
	unsigned drop = next(4);

	if (n == SPACES)
		return n;
	child->pm = thaw_pagemap_clone(s->pm, drop);
	child->model = pagemodel_clone(s->model, drop);
	begin(child);
	child->guessed = s->guessed;
	child->inherited = s->inherited || next(2);
	if (child->inherited) {
		thaw_pagemap_inherit(child->pm);
		pagemodel_inherit(child->model);
	}
	check(!thaw_events_inherit(child->ev, s->ev), "a child's holes");
	memcpy(child->holes, s->holes, sizeof(s->holes));
	pagemodel_verify(child->model, child->pm);
	return n + 1;
}

static void drop(struct space *s)
{
	thaw_pagemap_free(s->pm);
	thaw_events_free(s->ev);
	pagemodel_free(s->model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct space space[SPACES];
	unsigned n = 1, every = size < 100 ? 1 : 16, step = 0; /* a long program is compared now and then */

	at = data;
	end = data + size;
	base = next(2) ? 0x7f0000000000 : -(uint64_t)((uint64_t)PAGES << THAW_PAGE_SHIFT);
	space[0].pm = thaw_pagemap_new();
	space[0].model = pagemodel_new(base, PAGES);
	begin(&space[0]);
	while (at < end) {
		struct space *s = &space[next(n)];

		if (size % 2 && step % 4 == 0) { /* as mosaics, whatever they cost; and with little memory some of them */
			thaw_core_alloc_left = step % 3 ? -1 : (long)(step % 5);
			thaw_pagemap_compact(s->pm, 0, true);
			thaw_core_alloc_left = -1;
		}
		switch (next(12)) {
		case 0: add(s); break;
		case 1: take_away(s, THAW_CHANGE_REMOVE); break;
		case 2: take_away(s, THAW_CHANGE_UNMAP); break;
		case 3: case 4: remap(s); break;
		case 5: second_half(s); break;
		case 6: settle(s); break;
		case 7: mark(s); break;
		case 8: n = fork_it(s, &space[n < SPACES ? n : 0], n); break;
		case 9: nonsense(s); break;
		case 10: overtake(s); break;
		case 11: shrink(s); break;
		}
		check(thaw_pagemap_is_sound(s->pm), "not sound");
		if (++step % every == 0)
			pagemodel_verify(s->model, s->pm);
	}
	while (n) {
		pagemodel_verify(space[n - 1].model, space[n - 1].pm);
		drop(&space[--n]);
	}
	return 0;
}
