// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/stale_lookup.c - an event between a copier's lookup and its UFFDIO_COPY.
 *
 * Copiers look up what belongs to a page and fill it, a page at a time; the reader reads events and changes the map. No kernel can know
 * that a lookup is old, unless it is told the number of the event that the lookup was made under: with --rule none discarded pages come
 * back on every kernel; with gate (reading excludes {look up, fill}) and with number (no exclusion at all) they do not. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK 16UL /* pages that are discarded at once */

static int uffd;
static char *range, *content;
static atomic_uchar *map;        /* per page: 1 content, 0 zero */
static _Atomic uint32_t applied; /* the number of the last event that is in the map */
static atomic_ulong n_events, n_copies, n_again;
static atomic_uint parked;
static atomic_bool park, ends, reading;
static pthread_rwlock_t gate;

static void answer(struct uffd_msg *m)
{
	char *at = (char *)(uintptr_t)(m->arg.pagefault.address & ~(hole.page - 1));
	unsigned long i = (unsigned long)(at - range) / hole.page;
	/* the only reader: nothing can be read behind its back, so this one needs no rule */
	int ret = atomic_load(&map[i]) ? hole_copy(uffd, at, content, hole.page, 0, NULL) : hole_zero(uffd, at, hole.page, 0, NULL);

	if (ret)
		hole_wake(uffd, at, hole.page); /* it will ask again */
}

static void *reader_thread(void *arg)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg m[16];

	(void)arg;
	while (!atomic_load(&ends)) {
		ssize_t n;

		if (poll(&p, 1, 20) <= 0)
			continue;
		atomic_store(&reading, true);
		if (hole.rule == HOLE_GATE)
			pthread_rwlock_wrlock(&gate);
		n = read(uffd, m, sizeof(m)) / (ssize_t)sizeof(m[0]);
		for (ssize_t i = 0; i < n; i++) {
			if (m[i].event != UFFD_EVENT_REMOVE)
				continue;
			for (uint64_t a = m[i].arg.remove.start; a < m[i].arg.remove.end; a += hole.page)
				atomic_store(&map[(a - (uintptr_t)range) / hole.page], 0);
			/* copiers: who sees this number sees the map with it */
			atomic_store_explicit(&applied, HOLE_MSG_SEQ(&m[i]), memory_order_release);
			atomic_fetch_add(&n_events, 1);
		}
		if (hole.rule == HOLE_GATE)
			pthread_rwlock_unlock(&gate);
		for (ssize_t i = 0; i < n; i++)
			if (m[i].event == UFFD_EVENT_PAGEFAULT)
				answer(&m[i]);
		atomic_store(&reading, false);
	}
	return NULL;
}

static void *copier_thread(void *arg)
{
	uint32_t x = 12345u + 7919u * (uint32_t)(uintptr_t)arg;

	while (!atomic_load(&ends)) {
		unsigned long i;
		uint64_t mode = 0;
		int ret;

		if (atomic_load(&park)) {
			atomic_fetch_add(&parked, 1);
			while (atomic_load(&park) && !atomic_load(&ends))
				sched_yield();
			atomic_fetch_sub(&parked, 1);
			continue;
		}
		x = x * 1664525u + 1013904223u;
		i = (x >> 8) % hole.pages;
		if (hole.rule == HOLE_GATE)
			pthread_rwlock_rdlock(&gate);
		if (hole.rule == HOLE_NUMBER)
			mode = HOLE_MATCH_SEQ | HOLE_SEQ(atomic_load_explicit(&applied, memory_order_acquire));
		if (atomic_load(&map[i])) {
			for (volatile uint32_t spin = (x >> 4) % 4096; spin; spin--)
				; /* stands for the work between lookup and copy */
			ret = hole_copy(uffd, range + i * hole.page, content, hole.page, mode, NULL);
			if (ret && ret != -EAGAIN && ret != -EEXIST)
				HOLE_DIE("UFFDIO_COPY: %s", strerror(-ret));
			atomic_fetch_add(ret == -EAGAIN ? &n_again : &n_copies, ret != -EEXIST);
		}
		if (hole.rule == HOLE_GATE)
			pthread_rwlock_unlock(&gate);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static const char *const rules[] = { "none", "gate", "number" };
	unsigned long rounds = 0, bad_rounds = 0, stale = 0, reread = 0;
	pthread_t reader, copiers[64];
	pthread_rwlockattr_t a;

	hole.pages = 256;
	hole.threads = 2;
	hole.seconds = 5;
	hole_options(argc, argv, "Counts discarded pages that a copier puts back which had looked them up before the event was read.", "rptu");
	hole.pages = (hole.pages + BLOCK - 1) / BLOCK * BLOCK;
	uffd = hole_uffd(UFFD_FEATURE_EVENT_REMOVE | (hole.rule == HOLE_NUMBER ? HOLE_FEATURE_EVENT_SEQ : 0));
	map = calloc(hole.pages, sizeof(*map));
	if (!map)
		HOLE_DIE("no memory");
	range = hole_map(hole.pages * hole.page, false);
	content = hole_map(hole.page, false);
	hole_tag(content, 1);
	hole_register(uffd, range, hole.pages * hole.page);
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&gate, &a);
	atomic_store(&park, true);
	if (pthread_create(&reader, NULL, reader_thread, NULL))
		HOLE_DIE("a thread could not be started");
	for (unsigned i = 0; i < hole.threads; i++)
		if (pthread_create(&copiers[i], NULL, copier_thread, (void *)(uintptr_t)i))
			HOLE_DIE("a thread could not be started");

	for (; !hole_over(rounds); rounds++) {
		unsigned long stale_before = stale, events;

		atomic_store(&park, true);
		while (atomic_load(&parked) != hole.threads)
			sched_yield();
		events = atomic_load(&n_events);
		if (madvise(range, hole.pages * hole.page, MADV_DONTNEED))
			HOLE_DIE("madvise: %s", strerror(errno));
		while (atomic_load(&n_events) == events || atomic_load(&reading))
			sched_yield();
		for (unsigned long i = 0; i < hole.pages; i++)
			atomic_store(&map[i], 1);
		atomic_store(&park, false);
		for (unsigned long b = 0; b < hole.pages; b += BLOCK) {
			char *block = range + b * hole.page;

			if (madvise(block, BLOCK * hole.page, MADV_DONTNEED))
				HOLE_DIE("madvise: %s", strerror(errno));
			/* Reading makes each page present, so a copy that comes later still can do no harm. */
			for (unsigned long i = 0; i < BLOCK; i++, reread++)
				stale += hole_is_tagged(block + i * hole.page);
		}
		bad_rounds += stale != stale_before;
	}
	atomic_store(&ends, true);
	pthread_join(reader, NULL);
	for (unsigned i = 0; i < hole.threads; i++)
		pthread_join(copiers[i], NULL);
	hole_text("rule", rules[hole.rule]);
	hole_count("copiers", hole.threads);
	hole_count("pages", hole.pages);
	hole_count("copies", atomic_load(&n_copies));
	hole_count("eagain", atomic_load(&n_again));
	hole_count("reread_pages", reread);
	return hole_report(rounds, bad_rounds, "stale_pages", stale);
}
