// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/gate.c - one slot per placing thread, one flag per space: a store each, then a look at the other's */
#include "config.h"
#include "engine/gate.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "engine/futex.h"

/* An S lasts some 5 us with the short chunk (100 where short ones do not pay), an X some 2 us once the S before it have ended. But a
 * page that the host has to find first, in the copy of either, makes that 100 to 200 us, and being woken on an idle CPU costs
 * 50 us more: so both are spun for, as long as they may last. Past that the thread that is waited for has probably lost its CPU, and ours
 * is better given to it. */
#define SPIN_FOR_S_NS 250000
#define SPIN_FOR_X_NS 20000

/* The race test builds this file with one of the rules broken, to show that it would notice. */
#ifdef THAW_GATE_BREAK_ENTER
#define ENTER_LOOKS_AGAIN 0
#else
#define ENTER_LOOKS_AGAIN 1
#endif
#ifdef THAW_GATE_BREAK_CLOSE
#define CLOSE_WAITS 0
#else
#define CLOSE_WAITS 1
#endif

static inline void relax(void)
{
	__builtin_ia32_pause();
}

int thaw_gate_init(struct thaw_gate *g, unsigned slots)
{
	g->n_slots = slots;
	g->slots = aligned_alloc(64, slots * sizeof(*g->slots));
	if (!g->slots)
		return -ENOMEM;
	for (unsigned i = 0; i < slots; i++) {
		atomic_init(&g->slots[i].in, 0);
		atomic_init(&g->slots[i].waiters, 0);
	}
	return 0;
}

void thaw_gate_free(struct thaw_gate *g)
{
	free(g->slots);
	g->slots = NULL;
	g->n_slots = 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* A section that began on our own CPU belongs to a thread that we have pushed off it: spinning would only keep it from its
 * end. Relaxed: a wrong guess costs time, nothing else. */
static bool is_ours(const _Atomic int *cpu)
{
	return atomic_load_explicit(cpu, memory_order_relaxed) == sched_getcpu();
}

static void wait_for_open(struct thaw_gate_space *sp)
{
	bool ours = is_ours(&sp->cpu);
	uint64_t end = ours ? 0 : now_ns() + SPIN_FOR_X_NS;

	do {
		for (unsigned i = 0; i < 8 && !ours; i++) {
			if (!atomic_load_explicit(&sp->pending, memory_order_acquire))
				return;
			relax();
		}
	} while (!ours && now_ns() < end);
	/* Counted before the kernel compares `pending`: thaw_gate_open() clears `pending` before it looks at the count,
	 * so either it sees us, or the kernel sees 0 and does not put us to sleep. */
	atomic_fetch_add(&sp->sleepers, 1);
	while (atomic_load(&sp->pending))
		thaw_futex_wait(&sp->pending, 1, 0);
	atomic_fetch_sub(&sp->sleepers, 1);
}

void thaw_gate_enter(struct thaw_gate *g, unsigned slot, struct thaw_gate_space *sp)
{
	struct thaw_gate_slot *s = &g->slots[slot];

	atomic_store_explicit(&s->cpu, sched_getcpu(), memory_order_relaxed);
	for (;;) {
		/* Store, then load, both sequentially consistent; thaw_gate_close() does the same with the roles
		 * exchanged. In the one order of all four either our load sees its flag (we back out), or its load sees our
		 * slot (it waits for us). Anything weaker than seq_cst lets both pass: a store may sit in
		 * the store buffer while the load behind it is done. */
		atomic_store(&s->in, sp->key);
		if (!ENTER_LOOKS_AGAIN || !atomic_load(&sp->pending))
			return; /* 0 was stored by the last X's release: what it changed is visible here */
		thaw_gate_leave(g, slot);
		wait_for_open(sp);
	}
}

void thaw_gate_leave(struct thaw_gate *g, unsigned slot)
{
	struct thaw_gate_slot *s = &g->slots[slot];

	/* Releases what S recorded to the X that will see 0; and is ordered before the look at `waiters` (seq_cst, for
	 * the same reason as in enter): a closer counts itself, then lets the kernel compare `in`. */
	atomic_store(&s->in, 0);
	if (__builtin_expect(atomic_load(&s->waiters), 0))
		thaw_futex_wake(&s->in, INT_MAX);
}

static void wait_for_leave(struct thaw_gate_slot *s, uint32_t key)
{
	bool ours = is_ours(&s->cpu);
	uint64_t end = ours ? 0 : now_ns() + SPIN_FOR_S_NS;

	do {
		for (unsigned i = 0; i < 8 && !ours; i++) {
			if (atomic_load(&s->in) != key)
				return;
			relax();
		}
	} while (!ours && now_ns() < end);
	atomic_fetch_add(&s->waiters, 1);
	while (atomic_load(&s->in) == key)
		thaw_futex_wait(&s->in, key, 0);
	atomic_fetch_sub(&s->waiters, 1);
}

void thaw_gate_close(struct thaw_gate *g, struct thaw_gate_space *sp)
{
	atomic_store_explicit(&sp->cpu, sched_getcpu(), memory_order_relaxed);
	atomic_store(&sp->pending, 1); /* before the loads of the slots: see thaw_gate_enter() */
	for (unsigned i = 0; CLOSE_WAITS && i < g->n_slots; i++) {
		/* The load that sees another key acquires what the S before it recorded. */
		if (atomic_load(&g->slots[i].in) == sp->key)
			wait_for_leave(&g->slots[i], sp->key);
	}
}

void thaw_gate_open(struct thaw_gate_space *sp)
{
	atomic_fetch_add(&sp->seq, 1);
	atomic_store(&sp->pending, 0); /* releases X's changes to the next S */
	if (__builtin_expect(atomic_load(&sp->sleepers), 0))
		thaw_futex_wake(&sp->pending, INT_MAX);
	if (__builtin_expect(atomic_load(&sp->watchers), 0))
		thaw_futex_wake(&sp->seq, INT_MAX);
}

uint32_t thaw_gate_seq(const struct thaw_gate_space *sp)
{
	return atomic_load_explicit(&sp->seq, memory_order_acquire);
}

void thaw_gate_await(struct thaw_gate_space *sp, uint32_t seq, uint64_t timeout_ns)
{
	atomic_fetch_add(&sp->watchers, 1);
	if (atomic_load(&sp->seq) == seq)
		thaw_futex_wait(&sp->seq, seq, timeout_ns); /* once: the caller backs off by time as well */
	atomic_fetch_sub(&sp->watchers, 1);
}
