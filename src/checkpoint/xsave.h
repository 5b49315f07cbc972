/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/xsave.h - where each state of a CPU lies in an xsave area of the standard format, here and in an image.
 *
 * The first two states (x87, SSE) have one place everywhere. Where the others are is the CPU's: between AMD's and Intel's, and from
 * one generation to the next, places differ.
 *
 * Threads   any
 * Errors    -errno with a sentence */
#ifndef THAW_CHECKPOINT_XSAVE_H
#define THAW_CHECKPOINT_XSAVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "checkpoint/state.pb-c.h"

#define THAW_XSAVE_IN_USE 512u /* u64 in an area: which states are not in their initial configuration */

struct thaw_xsave_layout {
	uint64_t xcr0;                                /* the states there are; 0: not known */
	struct { uint32_t offset, size; } state[64];  /* from 2 on */
};

void thaw_xsave_here(struct thaw_xsave_layout *l);
/* An area of layout `then`, with these states in use, is one of layout `now`: 0, or -ENOTSUP with a sentence that names the thread
 * and the first state that is missing or elsewhere. */
int thaw_xsave_compare(pid_t tid, uint64_t in_use, const struct thaw_xsave_layout *then, const struct thaw_xsave_layout *now);

void thaw_xsave_to_state(ThawState__Head *h);
/* Every thread's area is one of this CPU's, as far as the image says how it was laid out. */
int thaw_xsave_check(const ThawState__Head *h, const ThawState__Process *p);

#endif
