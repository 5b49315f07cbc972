// SPDX-License-Identifier: LGPL-2.1-or-later
/* race/race_pagemap.c - placing threads in the shared section against changes in the exclusive one
 *
 * A lock stands for the gate. Every page ends up counted exactly once: newly marked by one thread, or taken away while
 * it was absent; the counters agree with the bits all the time that nobody is inside. */
#include "config.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/event.h"

#define PAGES 60000u
#define AT(page) ((uint64_t)(page) << THAW_PAGE_SHIFT)

/* as with the real gate, who waits for the exclusive section is not overtaken for ever */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static struct thaw_pagemap *pm;
static struct thaw_events *ev;
static bool over; /* atomic */

struct placer {
	pthread_t thread;
	unsigned seed;
	uint64_t marked;
};

static void place_some(struct placer *p)
{
	uint64_t from = AT(rand_r(&p->seed) % (2 * PAGES));
	struct thaw_extent e;

	pthread_rwlock_rdlock(&gate);
	for (unsigned i = 0; i < 4 && thaw_pagemap_next_absent(pm, from, 16, &e); i++) {
		if (!thaw_pagemap_lookup(pm, e.addr, 1, &e))
			abort(); /* nobody changes the structure here */
		p->marked += thaw_pagemap_mark_done(pm, e.addr, 1 + rand_r(&p->seed) % 20);
		from = e.addr + AT(7);
	}
	thaw_events_settled(ev);
	pthread_rwlock_unlock(&gate);
}

static void *place(void *arg)
{
	struct placer *p = arg;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
		place_some(p);
	return NULL;
}

static void *watch(void *arg)
{
	uint64_t *seen = arg;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		*seen += thaw_pagemap_absent(pm) + thaw_pagemap_pages(pm) + thaw_pagemap_extents(pm) +
			 thaw_pagemap_memory(pm);
		usleep(200);
	}
	return NULL;
}

/* New content, so that the placing threads never run out. Returns the pages. */
static uint64_t add_some(unsigned *seed)
{
	uint64_t pages = 0;

	pthread_rwlock_wrlock(&gate);
	for (unsigned i = 0; i < 20; i++) {
		struct thaw_extent e = {
			.addr = AT(rand_r(seed) % PAGES), .pages = 1 + rand_r(seed) % 100, .object = rand_r(seed) % 5,
		};

		if (!thaw_pagemap_add(pm, &e))
			pages += e.pages;
	}
	pthread_rwlock_unlock(&gate);
	return pages;
}

static uint64_t change_some(unsigned *seed)
{
	unsigned n = 1 + rand_r(seed) % 2000, from = rand_r(seed) % (PAGES - n),
		 to = PAGES + rand_r(seed) % (PAGES - n);
	struct thaw_change c = { rand_r(seed) % 3, AT(from), AT(n), AT(to) };
	int64_t gone;

	if (rand_r(seed) % 2) {
		c.start = AT(to);
		c.to = AT(from);
	}
	pthread_rwlock_wrlock(&gate);
	gone = thaw_events_apply(ev, pm, &c);
	if (rand_r(seed) % 512 == 0)
		thaw_pagemap_compact(pm, 0, true);
	if (rand_r(seed) % 64 == 0) {
		struct thaw_pagemap *child = thaw_pagemap_clone(pm, 0);

		if (!child || thaw_pagemap_absent(child) != thaw_pagemap_absent(pm) || !thaw_pagemap_is_sound(pm))
			abort();
		thaw_pagemap_free(child);
	}
	pthread_rwlock_unlock(&gate);
	if (gone < 0)
		abort();
	return (uint64_t)gone;
}

int main(void)
{
	struct placer p[3] = { { .seed = 1 }, { .seed = 2 }, { .seed = 3 } };
	uint64_t gone = 0, marked = 0, pages, seen = 0, absent;
	pthread_t watcher;
	unsigned seed = 4;

	pm = thaw_pagemap_new();
	ev = thaw_events_new();
	for (unsigned i = 0; i < PAGES; i += 100) {
		struct thaw_extent e = { .addr = AT(i), .pages = 1 + rand_r(&seed) % 100, .object = i / 100 };

		if (thaw_pagemap_add(pm, &e))
			return 1;
	}
	pages = thaw_pagemap_pages(pm);
	pthread_create(&watcher, NULL, watch, &seen);
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&p[i].thread, NULL, place, &p[i]);
	for (unsigned i = 0; i < 20000; i++) {
		gone += change_some(&seed);
		if (i % 4 == 0)
			pages += add_some(&seed);
		if (i % 64 == 0)
			usleep(500); /* lets the placing threads go ahead */
	}
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(p[i].thread, NULL);
		marked += p[i].marked;
	}
	pthread_join(watcher, NULL);
	absent = thaw_pagemap_absent(pm) + thaw_events_absent(ev);
	printf("%lu pages: %lu marked, %lu gone, %lu left\n", pages, marked, gone, absent);
	if (marked + gone + absent != pages || !thaw_pagemap_is_sound(pm) || !marked || !gone || !seen)
		return 1;
	thaw_pagemap_free(pm);
	thaw_events_free(ev);
	return 0;
}
