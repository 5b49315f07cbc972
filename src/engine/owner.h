/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/owner.h - who may read a space's messages: a word, not a lock. Who finds it taken leaves a note, and the owner goes round
 * again before it lets go, or has somebody else do so. An owner that only waits for the next message says that it dozes, and is
 * nudged by who leaves a note.
 *
 * Rule      what the owner has done is visible to the next one, what was done before a note to the round that follows it
 * Threads   take: any; the others: the owner */
#ifndef THAW_ENGINE_OWNER_H
#define THAW_ENGINE_OWNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct thaw_owner {
	_Atomic uint32_t word;  /* nobody, here, here with a note: all 0 at first */
	_Atomic uint32_t dozer; /* who dozes; 0: nobody does */
};

/* False: there is an owner, and it has been left a note; *nudge: who has to be woken for that, or 0. */
bool thaw_owner_take(struct thaw_owner *o, uint32_t *nudge);
bool thaw_owner_try(struct thaw_owner *o); /* the same without a note: whoever has it owes us nothing */
bool thaw_owner_drop(struct thaw_owner *o); /* false: go round again, still the owner */
/* Lets go in any case. True: there was a note, and the caller has somebody else go round for it. */
bool thaw_owner_hand_on(struct thaw_owner *o);

bool thaw_owner_is_noted(const struct thaw_owner *o); /* the owner's */

/* The owner is about to sleep, as `who` (not 0). False: it must not, go round again. */
bool thaw_owner_doze(struct thaw_owner *o, uint32_t who);
/* Its sleep is over. True: there is a note, go round again. */
bool thaw_owner_awake(struct thaw_owner *o);

#endif
