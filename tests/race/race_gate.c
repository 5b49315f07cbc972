// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/race/race_gate.c - no S runs beside an X of its space, and a change made in X is seen by every later S.
 *
 * Built three times: as it is; with an enter that does not look again (race_gate_enter), and with a close that does not
 * wait (race_gate_close). The broken ones must be caught, else the test proves nothing. Plain (not atomic) data on
 * purpose: ThreadSanitizer then checks that the gate orders it. */
#include "engine/gate.c"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>
#include <string.h>

#include "race/broken.h"

#define COPIERS 3
#define SPACES 2

static struct thaw_gate gate;
static struct {
	struct thaw_gate_space gs;
	volatile uint64_t a, b;             /* X changes both; S must find them equal */
	volatile uint64_t seen[COPIERS];    /* written in S, summed in X */
} space[SPACES];
static _Atomic bool stop;
static _Atomic uint64_t torn, sections[COPIERS], exclusives;

static UNSEEN void *copier(void *arg)
{
	unsigned me = (uintptr_t)arg;

	for (unsigned i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		unsigned k = (i / 64) % SPACES;
		uint64_t a, b;

		thaw_gate_enter(&gate, me, &space[k].gs);
		a = space[k].a;
		for (unsigned j = 0; j < i % 32; j++)
			relax();
		b = space[k].b;
		space[k].seen[me]++;
		thaw_gate_leave(&gate, me);
		if (a != b)
			atomic_fetch_add(&torn, 1);
		atomic_fetch_add_explicit(&sections[me], 1, memory_order_relaxed);
	}
	return NULL;
}

static UNSEEN void *owner(void *arg)
{
	unsigned k = (uintptr_t)arg;
	uint64_t before, after;

	for (unsigned i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		thaw_gate_close(&gate, &space[k].gs);
		before = after = 0;
		for (unsigned c = 0; c < COPIERS; c++)
			before += space[k].seen[c];
		space[k].a++;
		for (unsigned j = 0; j < 16 + i % 64; j++)
			relax();
		space[k].b++;
		for (unsigned c = 0; c < COPIERS; c++)
			after += space[k].seen[c];
		thaw_gate_open(&space[k].gs);
		if (before != after)
			atomic_fetch_add(&torn, 1);
		atomic_fetch_add_explicit(&exclusives, 1, memory_order_relaxed);
		for (unsigned j = 0; j < i % 512; j++)
			relax();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned ms = argc > 1 ? atoi(argv[1]) : 2000;
	uint64_t deadline = thaw_sys_now_ns() + ms * 1000000ULL;
	pthread_t t[COPIERS + SPACES];

	if (thaw_gate_init(&gate, COPIERS))
		return 1;
	for (unsigned i = 0; i < SPACES; i++)
		space[i].gs.key = i + 1;
	for (unsigned i = 0; i < COPIERS; i++)
		if (pthread_create(&t[i], NULL, copier, (void *)(uintptr_t)i))
			return 1;
	for (unsigned i = 0; i < SPACES; i++)
		if (pthread_create(&t[COPIERS + i], NULL, owner, (void *)(uintptr_t)i))
			return 1;
	while (thaw_sys_now_ns() < deadline && !(MUST_BREAK && atomic_load(&torn)))
		usleep(10000);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < COPIERS + SPACES; i++)
		pthread_join(t[i], NULL);
	printf("%llu exclusive sections, %llu shared by the first copier, %llu violations\n",
	       (unsigned long long)exclusives, (unsigned long long)sections[0], (unsigned long long)torn);
	for (unsigned i = 0; i < COPIERS; i++)
		if (!sections[i] && !MUST_BREAK)
			return 1; /* starved: nothing was proved */
	thaw_gate_free(&gate);
	return MUST_BREAK ? !torn : torn || !exclusives;
}
