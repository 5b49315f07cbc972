// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/race/race_owner.c - one owner at a time, and a request that found the word taken is seen to by a round that begins
 * after it, also where the owner sleeps.
 *
 * Built three times: as it is; without the notes (race_owner_note), and with an owner that goes to sleep without looking for one
 * (race_owner_doze). The broken ones must be caught, else the test proves nothing. What the owner changes is plain on purpose:
 * ThreadSanitizer then checks that the word orders it. */
#include "engine/owner.c"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kern/sys.h"
#include "race/broken.h"

#define THREADS 4
#define OVER UINT32_MAX

static struct thaw_owner owner;
static _Atomic uint64_t requests[THREADS], torn, lost, overslept;
static volatile uint64_t seen[THREADS]; /* the owner's: requests that a round has seen to */
static volatile uint64_t inside;        /* the owner's */
static _Atomic bool nudged[THREADS];
static _Atomic uint64_t dozes, nudges, noted, handed;
static _Atomic uint32_t begin, ended;   /* rounds of the test that have begun, threads at the end of theirs */

static UNSEEN void go_round(unsigned *seed)
{
	if (inside++)
		atomic_fetch_add(&torn, 1);
	for (unsigned i = 0; i < THREADS; i++)
		seen[i] = atomic_load_explicit(&requests[i], memory_order_relaxed);
	if (!(rand_r(seed) % 4)) /* others ask behind that look */
		sched_yield();
	if (--inside)
		atomic_fetch_add(&torn, 1);
}

/* Until it is nudged; or until all others have come to their end, when there cannot be a note that nobody has nudged it for. */
static bool sleep_as_owner(unsigned me)
{
	bool was_nudged, is_noted;

	while (!atomic_load(&nudged[me]) && atomic_load(&ended) < THREADS - 1)
		sched_yield();
	was_nudged = atomic_exchange(&nudged[me], false);
	is_noted = thaw_owner_awake(&owner);
	if (is_noted && !was_nudged)
		atomic_fetch_add(&overslept, 1);
	return is_noted;
}

static void serve(unsigned me, unsigned *seed);

/* Or in any case, and then it has somebody see to what is left over, as engine/beside.c does. */
static bool let_go(unsigned me, unsigned *seed)
{
	if (rand_r(seed) % 4)
		return thaw_owner_drop(&owner);
	if (thaw_owner_hand_on(&owner)) {
		atomic_fetch_add_explicit(&handed, 1, memory_order_relaxed);
		serve(me, seed);
	}
	return true;
}

/* As engine/serve.c does: rounds, and a sleep between them now and then. */
static void serve(unsigned me, unsigned *seed)
{
	uint32_t nudge;
	bool again;

	if (!thaw_owner_take(&owner, &nudge)) {
		atomic_fetch_add_explicit(&noted, 1, memory_order_relaxed);
		if (nudge) {
			atomic_store(&nudged[nudge - 1], true);
			atomic_fetch_add_explicit(&nudges, 1, memory_order_relaxed);
		}
		return;
	}
	do {
		do {
			go_round(seed);
			again = false;
			if (rand_r(seed) % 2)
				continue;
			atomic_fetch_add_explicit(&dozes, 1, memory_order_relaxed);
			again = !thaw_owner_doze(&owner, me + 1) || sleep_as_owner(me);
		} while (again);
	} while (!let_go(me, seed));
}

/* A few requests, and an end for all threads: then every request was seen to, whoever did it. Where one went by, nobody else comes. */
static void *thread(void *arg)
{
	unsigned me = (uintptr_t)arg, seed = me + 1, begun = 0, n;

	for (;;) {
		while ((n = atomic_load(&begin)) == begun)
			sched_yield();
		if (n == OVER)
			return NULL;
		begun = n;
		for (unsigned i = 1 + rand_r(&seed) % 3; i; i--) {
			atomic_fetch_add_explicit(&requests[me], 1, memory_order_relaxed); /* the word orders it */
			serve(me, &seed);
		}
		atomic_fetch_add(&ended, 1);
	}
}

static void run_once(void)
{
	atomic_store(&ended, 0);
	atomic_fetch_add(&begin, 1);
	while (atomic_load(&ended) < THREADS)
		sched_yield();
	if (atomic_load(&owner.word) != NOBODY || atomic_load(&owner.dozer))
		atomic_fetch_add(&lost, 1);
	for (unsigned i = 0; i < THREADS; i++)
		if (seen[i] != atomic_load(&requests[i]))
			atomic_fetch_add(&lost, 1);
}

int main(int argc, char **argv)
{
	uint64_t deadline = thaw_sys_now_ns() + (argc > 1 ? atoi(argv[1]) : 2000) * 1000000ULL;
	pthread_t t[THREADS];
	uint64_t rounds = 0, bad;

	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, thread, (void *)(uintptr_t)i))
			return 1;
	do {
		run_once();
		rounds++;
		bad = atomic_load(&torn) + atomic_load(&lost) + atomic_load(&overslept);
	} while (thaw_sys_now_ns() < deadline && !bad);
	atomic_store(&begin, OVER);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	printf("%llu rounds, %llu dozes, %llu notes, %llu nudges, %llu handed on; %llu times two owners, %llu requests lost, %llu overslept\n",
	       (unsigned long long)rounds, (unsigned long long)dozes, (unsigned long long)noted, (unsigned long long)nudges,
	       (unsigned long long)handed, (unsigned long long)torn, (unsigned long long)lost, (unsigned long long)overslept);
	if (MUST_BREAK)
		return !bad;
	return bad || !dozes || !nudges || !noted || !handed;
}
