/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/follow.h - what the latest faults tell of the next: that comes in before its turn.
 *
 * A chain: a thread waited for a page, and a word of another that was waited for just before points into it. So threads follow
 * pointers here, and where that word points lies an object. The reader goes on from there when it has served the fault: what the
 * object points to, and what that points to, is brought in, a handful of pages, as long as nobody waits for another. (To go by the content
 * of what comes in: Cooksey, Jourdan, Grunwald, ASPLOS 2002. Only where a pointer has been seen to be followed: Roth, Moshovos,
 * Sohi, ASPLOS 1998.) The word is looked for, since a message tells the address within the page only to those who asked for
 * EXACT_ADDRESS; CRIU does not.
 *
 * Heat: a span in which threads wait again and again, as they do where a table is looked up at random, is copied before the others.
 *
 * Rule      hints: a page is placed by a step that looks it up like any other, and nobody waits for a hint
 * Threads   chains: the owner of the space. Heat: the owner adds, copiers take
 * Lifetime  struct thaw_follow: of its worker
 * Errors    none: what cannot be had at once is left to its turn */
#ifndef THAW_ENGINE_FOLLOW_H
#define THAW_ENGINE_FOLLOW_H

#include "engine/monitor.h"

int thaw_follow_new(struct thaw_follow **out); /* with a sentence */
void thaw_follow_free(struct thaw_follow *f);

/* A fault of the page at addr has been served; its content is in the first page of w->buf, and the rest of that is used. As owner. */
void thaw_follow_chain(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr);

/* A fault of content at addr. As owner. */
void thaw_follow_heat(struct thaw_mm *mm, uint64_t addr);
/* The start of the span in which threads wait most, if they do so often; its heat is forgotten. */
bool thaw_follow_hot(struct thaw_mm *mm, uint64_t *span);

#endif
