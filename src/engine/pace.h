/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/pace.h - how many pages a copy beside faults should have, from what copies beside faults have cost.
 *
 * Beside faults copies are short, since who comes to wait waits for the one under way first. That pays where a copy costs what its pages
 * cost. Under a hypervisor that keeps shadow page tables it may not: each time that the faulting process gets the CPU back its page tables
 * are made read-only again, and the next copy's first entry traps, for 10 to 17 us, whatever the length. Then a copy of 2 pages
 * lasts as long as one of 8, and the drain takes twice as long for nothing.
 *
 * Rule      no more than a hint: a short copy is right everywhere
 * Threads   one: each copier has its own
 * Errors    none */
#ifndef THAW_ENGINE_PACE_H
#define THAW_ENGINE_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct thaw_pace_sum {
	unsigned copies;
	uint64_t pages, ns;
};

struct thaw_pace {
	struct thaw_pace_sum few, many; /* of the latest copies */
	unsigned pages;                 /* not to be gone below; 0: copies cost what their pages cost */
	unsigned turn;
	bool beside; /* faults: those that are being made now count. The copier's to set */
};

/* A copy of so many pages beside faults took so long. */
void thaw_pace_saw(struct thaw_pace *p, uint64_t pages, uint64_t ns);

/* Do they cost the same whatever their length, nearly? */
static inline bool thaw_pace_is_dear(const struct thaw_pace *p)
{
	return p->pages;
}

/* How many pages the next one should have at most, where `pages` would be short enough and `most` is allowed. */
uint64_t thaw_pace_pages(const struct thaw_pace *p, uint64_t pages, uint64_t most);

#endif
