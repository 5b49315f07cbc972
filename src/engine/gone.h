/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/gone.h - pages that turned out to be in no mapping of the space, though no message has said so: they were never
 * registered, or left out of a child.
 *
 * They are marked done at once, so that nobody tries to place them. But what is moved to their place later would seem to meet content there
 * (core/event.h), so they leave the map before the next change is applied to it.
 *
 * Rule      an entry is written in S by the thread that took it, and read in X, which comes when all S have ended
 * Threads   thaw_gone_mark: S, or the owner's turn; thaw_gone_forget: X
 * Errors    none: an entry that finds no room, or no memory, stays in the map as done */
#ifndef THAW_ENGINE_GONE_H
#define THAW_ENGINE_GONE_H

#include <stdint.h>

struct thaw_mm;
struct thaw_worker;

/* Marks the pages done and counts them; nobody can fault there. */
void thaw_gone_mark(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr, uint64_t pages);

/* What has been marked leaves the map. */
void thaw_gone_forget(struct thaw_mm *mm);

#endif
