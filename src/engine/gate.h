/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/gate.h - the shared section S and the exclusive section X of a space.
 *
 *	S = { look up, one establishing ioctl of at most a chunk, record }       by a thread with a slot
 *	X = { non-blocking read(uffd), apply every event of the batch in order } by the owner of the space
 *
 * Rule      every S is wholly before or wholly after every X of its space. Within S nothing waits; within X nothing
 *           but S is waited for. A thread is in at most one S, and never in S and X at once. The owner of a
 *           space may fill without S between two of its own X: nobody else can consume an event then
 * Threads   one slot a thread (its own cache line); X: one at a time per space, the ownership of the space sees to that
 * Errors    none */
#ifndef THAW_ENGINE_GATE_H
#define THAW_ENGINE_GATE_H

#include <stdatomic.h>
#include <stdint.h>

struct thaw_gate_slot {
	_Alignas(64) _Atomic uint32_t in; /* key of the space whose S the thread is in; 0: none. A futex */
	_Atomic uint32_t waiters;         /* X sections asleep on `in` */
	_Atomic int cpu;                  /* where S began; a hint */
};

struct thaw_gate {
	unsigned n_slots;
	struct thaw_gate_slot *slots; /* immutable after thaw_gate_init() */
};

/* The gate's part of a space. */
struct thaw_gate_space {
	uint32_t key;              /* not 0; no two living spaces share one */
	_Atomic uint32_t pending;  /* an X wants in, or is in. A futex */
	_Atomic uint32_t sleepers; /* threads asleep on `pending` */
	_Atomic uint32_t seq;      /* X sections that have ended. A futex */
	_Atomic uint32_t watchers; /* threads asleep on `seq` */
	_Atomic int cpu;           /* where X began; a hint */
};

int thaw_gate_init(struct thaw_gate *g, unsigned slots); /* 0 or -ENOMEM */
void thaw_gate_free(struct thaw_gate *g);

void thaw_gate_enter(struct thaw_gate *g, unsigned slot, struct thaw_gate_space *sp); /* S begins */
void thaw_gate_leave(struct thaw_gate *g, unsigned slot);                              /* S ends */

void thaw_gate_close(struct thaw_gate *g, struct thaw_gate_space *sp); /* X begins: no S of sp is left */
void thaw_gate_open(struct thaw_gate_space *sp);                       /* X ends */

/* Sleeps until an X of the space has ended since `seq` was read, at most timeout_ns. Outside S and X. */
uint32_t thaw_gate_seq(const struct thaw_gate_space *sp);
void thaw_gate_await(struct thaw_gate_space *sp, uint32_t seq, uint64_t timeout_ns);

#endif
