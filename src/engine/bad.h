/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/bad.h - content that cannot be had: who is told, and what becomes of its readers.
 *
 * THAW_FAILURE_WAIT: they sleep on, and are woken (to fault and ask again) at a slow pace. THAW_FAILURE_SIGBUS: the page
 * is poisoned. Never a zero. The background passes such runs by and tries them again now and then.
 *
 * Threads   any, outside S and X (report also by the owner between two X) */
#ifndef THAW_ENGINE_BAD_H
#define THAW_ENGINE_BAD_H

#include "engine/monitor.h"

/* [e] could not be read: error is a positive errno. Logged and announced once a run. `reader`: somebody sleeps there. */
void thaw_bad_report(struct thaw_worker *w, struct thaw_mm *mm, bool owner, const struct thaw_extent *e, int error,
		     bool reader);

/* The owner's: the page is not there although it was placed, and nobody knows what it holds now. Told once a space. */
void thaw_bad_wait(struct thaw_mm *mm, uint64_t addr);

/* Where the bad run that holds addr ends; 0: it is in none, or due to be tried again. */
uint64_t thaw_bad_skip(struct thaw_mm *mm, uint64_t addr);
/* There were more runs than are remembered, so the background leaves the space alone: until *when at the latest, then nothing is known
 * to be bad any more. */
bool thaw_bad_is_too_much(struct thaw_mm *mm, uint64_t now, uint64_t *when);
/* The first bad run that begins at or behind addr does so here (UINT64_MAX: none does). */
uint64_t thaw_bad_next(struct thaw_mm *mm, uint64_t addr);

/* The control thread's: wakes sleepers whose time has come. */
void thaw_bad_tick(struct thaw_worker *w, struct thaw_mm *mm, uint64_t now);

#endif
