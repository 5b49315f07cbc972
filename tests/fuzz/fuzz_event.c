// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_event.c - sequences of messages against a model of the process's memory, an entry a page
 *
 * The input is a program: fills, discards, munmaps (whose messages may come late), mremaps (whose second halves may come late,
 * in any order, or never), forks, settling, messages that make no sense. Whenever nothing is late and no doubt is left, map
 * and model say the same about every page, for parent and children; the count of absent pages is right all the time. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/event.h"
#include "support/pagemodel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGES = 200, SPACES = 4, LATE = 16, STRETCH = 60, MOST_DOUBTS = 64 };

struct late {
	uint64_t start, len;
	bool plain; /* a munmap() of its own, not a second half */
};
struct space {
	struct thaw_pagemap *pm;
	struct thaw_events *ev;
	struct pagemodel *model;
	bool mapped[PAGES];
	struct late late[LATE];
	unsigned n_late, n_plain, dontunmap, stretch; /* the last two: since it was settled */
	uint64_t left;                                /* absent pages by our count */
	bool lost;                                    /* more doubts than are remembered */
};

static const uint8_t *at, *end;
static uint64_t base;

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

static bool is_exact(const struct space *s)
{
	return !s->n_plain && !thaw_events_doubts(s->ev) && !s->lost;
}

static int64_t apply(struct space *s, enum thaw_change_kind kind, uint64_t start, uint64_t len, uint64_t to)
{
	struct thaw_change c = { kind, start, len, to };
	uint64_t before = thaw_pagemap_absent(s->pm);
	bool dubious = false;
	int64_t ret;

	thaw_core_alloc_left = next(8) ? -1 : (long)next(6); /* now and then without memory: then once more, with */
	ret = thaw_events_apply(s->ev, s->pm, &c, &dubious);
	thaw_core_alloc_left = -1;
	if (ret == -ENOMEM) {
		check(thaw_pagemap_is_sound(s->pm), "not sound after a failed allocation");
		s->left -= before - thaw_pagemap_absent(s->pm); /* a part may have gone */
		ret = thaw_events_apply(s->ev, s->pm, &c, &dubious);
	}
	if (ret > 0)
		s->left -= (uint64_t)ret;
	s->lost |= thaw_events_doubts(s->ev) == MOST_DOUBTS;
	s->stretch++;
	return ret;
}

static bool all_mapped(const struct space *s, unsigned first, unsigned n, bool is)
{
	for (unsigned i = first; i < first + n; i++)
		if (s->mapped[i] != is)
			return false;
	return true;
}

static void map_pages(struct space *s, unsigned first, unsigned n, bool is)
{
	for (unsigned i = first; i < first + n; i++)
		s->mapped[i] = is;
}

static void add(struct space *s)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES - first);
	struct thaw_extent e = {
		.addr = page(first), .pages = n, .object = next(3), .flags = next(4), .off = (uint64_t)next(400) << THAW_PAGE_SHIFT,
	};
	int ret;

	/* the monitor adds before the process runs: not while messages are under way */
	if (!is_exact(s) || s->n_late || s->dontunmap || !all_mapped(s, first, n, true))
		return;
	ret = thaw_pagemap_add(s->pm, &e);
	check(ret == pagemodel_add(s->model, &e), "add");
	s->left += ret ? 0 : n;
}

static void discard(struct space *s)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES - first);
	uint64_t start = page(first), len = (uint64_t)n << THAW_PAGE_SHIFT;
	bool exact = is_exact(s);
	int64_t gone = apply(s, THAW_CHANGE_REMOVE, start, len, 0), want = pagemodel_remove(s->model, start, len);

	check(gone >= 0 && (!exact || gone == want), "discarded pages");
}

static void munmap_now(struct space *s, unsigned first, unsigned n)
{
	uint64_t start = page(first), len = (uint64_t)n << THAW_PAGE_SHIFT;

	pagemodel_remove(s->model, start, len);
	map_pages(s, first, n, false);
	check(apply(s, THAW_CHANGE_UNMAP, start, len, 0) >= 0, "an unmap that fails");
}

static void take_away(struct space *s)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES - first), late = next(2);
	uint64_t start = page(first), len = (uint64_t)n << THAW_PAGE_SHIFT;

	if (!late || s->n_late == LATE) {
		munmap_now(s, first, n);
		return;
	}
	pagemodel_remove(s->model, start, len);
	map_pages(s, first, n, false);
	s->late[s->n_late++] = (struct late){ start, len, true };
	s->n_plain++;
}

static void remap(struct space *s)
{
	unsigned from = next(PAGES), to = next(PAGES), n = 1 + next(PAGES), kind = next(4);
	unsigned gap = from < to ? to - from : from - to, room = PAGES - (from < to ? to : from);
	uint64_t len;
	int64_t gone, want;
	bool exact;

	n = n < gap ? n : gap;
	n = n < room ? n : room;
	if (!n || s->n_late == LATE || s->stretch > STRETCH || !all_mapped(s, from, n, true))
		return;
	len = (uint64_t)n << THAW_PAGE_SHIFT;
	if (!all_mapped(s, to, n, false))
		munmap_now(s, to, n); /* MREMAP_FIXED: that comes first */
	exact = is_exact(s);
	gone = apply(s, THAW_CHANGE_REMAP, page(from), len, page(to));
	want = pagemodel_move(s->model, page(from), page(to), len);
	check(gone >= 0 && (!exact || gone == want), "discarded at the destination");
	map_pages(s, to, n, true);
	if (kind == 2) {
		s->dontunmap++;
	} else {
		map_pages(s, from, n, false);
		s->late[s->n_late++] = (struct late){ page(from), len, false };
	}
}

static void deliver(struct space *s)
{
	struct late l;
	unsigned i;

	if (!s->n_late)
		return;
	i = next(s->n_late);
	l = s->late[i];
	s->late[i] = s->late[--s->n_late];
	s->n_plain -= l.plain;
	check(apply(s, THAW_CHANGE_UNMAP, l.start, l.len, 0) >= 0, "a late unmap that fails");
}

static void settle(struct space *s)
{
	struct thaw_mapped m[PAGES];
	size_t n = 0;
	int64_t gone;

	if (s->n_late)
		return; /* a fill would be answered with EAGAIN */
	for (unsigned i = 0; i < PAGES; i++) {
		if (!s->mapped[i])
			continue;
		if (n && m[n - 1].end == page(i))
			m[n - 1].end += THAW_PAGE_SIZE;
		else
			m[n++] = (struct thaw_mapped){ page(i), page(i) + THAW_PAGE_SIZE };
	}
	thaw_events_settled(s->ev);
	gone = thaw_events_resolve(s->ev, s->pm, m, n);
	check(gone >= 0 && !thaw_events_doubts(s->ev), "doubts that stay");
	s->left -= (uint64_t)gone;
	s->dontunmap = s->stretch = 0;
}

static void mark(struct space *s)
{
	unsigned first = next(PAGES), n = 1 + next(PAGES);
	uint64_t fresh;

	if (!is_exact(s))
		return; /* refused with EAGAIN */
	fresh = thaw_pagemap_mark_done(s->pm, page(first), n);
	check(fresh == pagemodel_mark(s->model, page(first), n), "marked pages");
	s->left -= fresh;
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
	s->n_late = s->n_plain = s->dontunmap = s->stretch = 0;
	s->lost = false;
	s->left = thaw_pagemap_absent(s->pm);
}

static unsigned fork_it(struct space *s, struct space *child, unsigned n)
{
	unsigned drop = next(4);

	if (n == SPACES || !is_exact(s))
		return n;
	child->pm = thaw_pagemap_clone(s->pm, drop);
	child->model = pagemodel_clone(s->model, drop);
	for (unsigned i = 0; i < PAGES; i++)
		child->mapped[i] = s->mapped[i];
	begin(child);
	pagemodel_verify(child->model, child->pm);
	return n + 1;
}

static void compare(struct space *s)
{
	check(thaw_pagemap_is_sound(s->pm), "not sound");
	check(thaw_pagemap_absent(s->pm) == s->left, "a wrong count of absent pages");
	if (is_exact(s))
		pagemodel_verify(s->model, s->pm);
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
	base = next(2) ? 0x7f0000000000 : -(uint64_t)((uint64_t)(PAGES + 1) << THAW_PAGE_SHIFT);
	space[0].pm = thaw_pagemap_new();
	space[0].model = pagemodel_new(base, PAGES);
	map_pages(&space[0], 0, PAGES, true);
	begin(&space[0]);
	while (at < end) {
		struct space *s = &space[next(n)];

		switch (next(10)) {
		case 0: add(s); break;
		case 1: discard(s); break;
		case 2: take_away(s); break;
		case 3: case 4: remap(s); break;
		case 5: deliver(s); break;
		case 6: settle(s); break;
		case 7: mark(s); break;
		case 8: n = fork_it(s, &space[n < SPACES ? n : 0], n); break;
		case 9: nonsense(s); break;
		}
		if (++step % every == 0)
			compare(s);
	}
	while (n) {
		struct space *s = &space[--n];

		while (s->n_late)
			deliver(s);
		settle(s);
		compare(s);
		drop(s);
	}
	return 0;
}
