/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/plan.h - what copiers do next: passes over each space, handed out in spans, the spaces in turn.
 *
 * A pass hands out the absent memory of a space from the bottom to the top, a span to a copier at a time, and some spans in which
 * threads wait before their turn. It is over when
 * everything handed out is done, reads under way included. If something is absent still (content that could not be
 * read, an answer that came too late), the next pass begins, at once when the last one placed something, else later.
 *
 * Threads   any with a slot
 * Rank      THAW_RANK_PLAN, one a space; not held within S */
#ifndef THAW_ENGINE_PLAN_H
#define THAW_ENGINE_PLAN_H

#include "engine/monitor.h"

#define THAW_SPAN_BYTES (2UL << 20)

/* A span of a space whose turn it is, with a reference to be dropped after thaw_plan_done(). NULL: nothing now;
 * *wait_ns then says when to look again at the latest. */
struct thaw_mm *thaw_plan_claim(struct thaw_worker *w, int64_t *last, uint64_t *from, uint64_t *to, uint64_t *wait_ns);

void thaw_plan_also(struct thaw_mm *mm);                        /* a read under way keeps the pass open as well */
void thaw_plan_done(struct thaw_worker *w, struct thaw_mm *mm); /* a span or a read */

/* After placing: is that space complete? Then the control thread is asked to end it. */
void thaw_plan_look(struct thaw_worker *w, struct thaw_mm *mm);

#endif
