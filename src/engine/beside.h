/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/beside.h - a copier that serves the faults of its space itself, between two copies.
 *
 * Where each copy of a process's page traps (engine/pace.h), two threads that place pages of one process at the same time hold each
 * other up: a fault that a reader serves while a copy is under way takes three times as long as one that is served
 * behind it. There a copier becomes the owner of the space that it copies in, as long as faults keep coming, and readers let it.
 *
 * Rule      who is about to wait, or to do what lasts longer than a copy, lets go first. Not where callbacks are told of changes:
 *           they may take their time
 * Threads   a copier, of its own worker; at most one of a space's copiers at a time
 * Errors    none: what it does not serve a reader does */
#ifndef THAW_ENGINE_BESIDE_H
#define THAW_ENGINE_BESIDE_H

#include <stdbool.h>
#include <stdint.h>

struct thaw_mm;
struct thaw_worker;

struct thaw_beside {
	struct thaw_mm *mm;     /* whose faults are to be served here (a reference); NULL: none's */
	bool own;               /* it is ours */
	uint64_t looked_ns, looked_cpu_ns; /* when it last came by between two copies, on both clocks; 0: it has waited since */
	uint64_t not_before_ns; /* behind a wait: until then it takes none */
	uint64_t aside_until_ns, aside_ns; /* behind having done badly; how long that was */
};

/* Before a copy in mm, outside S and with no lock held: takes the space if it pays, serves what waits. */
void thaw_beside_look(struct thaw_worker *w, struct thaw_mm *mm);

/* Lets go, if it has one. */
void thaw_beside_leave(struct thaw_worker *w);
/* The same before a wait, which is seldom the only one: it is not taken again for some milliseconds. */
void thaw_beside_leave_to_wait(struct thaw_worker *w);

#endif
