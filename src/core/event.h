/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/event.h - a message of the kernel as a change to a page map.
 *
 * One mremap() is told in up to three messages, and messages of several threads are queued in no
 * particular order (the window: an mremap's UNMAP of its old range is queued only after its REMAP has been read,
 * and another thread's mremap may have moved something there meanwhile). So a REMAP(from, len) is kept as
 * half of a pair until the UNMAP(from, from + len) that ends the same call arrives; that UNMAP then removes nothing.
 * A pair that is still open when the space has settled (a fill got an answer other than EAGAIN), or whose range is
 * discarded although nothing has come there, was a MREMAP_DONTUNMAP and is forgotten.
 *
 * A whole message may be overtaken, too: its thread is preempted before it has queued it, while another mremap() goes to the place that
 * it has left. That is seen, because nothing can be moved to where something is: content that a REMAP meets is put aside as
 * displaced, and the next message that takes away from there takes that, not what has come since. What is
 * displaced when the space has settled is dropped.
 *
 * A discard is told before it happens: its pages are zapped by a thread that has been woken by the reading of its message, at any time
 * after that. Nothing can be wrong with what was there; but what another thread moves to the place meanwhile is zapped along, although
 * its message says no such thing. So the last discarded ranges are remembered, and what a REMAP brings there is doubtful from then on,
 * wherever it is moved: if a page of it is in and yet not there, it has been zapped. That holds as long as the map is known to be right:
 * in a space where a message was overtaken, or never came, nothing is doubtful from then on, and what is not there is waited for.
 *
 * Threads   caller has the exclusive section; thaw_events_settled() may be called from S (atomic flag)
 * Errors    -ENOMEM; -EINVAL for a message that names no whole pages */
#ifndef THAW_CORE_EVENT_H
#define THAW_CORE_EVENT_H

#include "core/pagemap.h"

enum thaw_change_kind { THAW_CHANGE_REMAP, THAW_CHANGE_REMOVE, THAW_CHANGE_UNMAP };

struct thaw_change {
	enum thaw_change_kind kind;
	uint64_t start, len; /* REMAP: old address, old length */
	uint64_t to;         /* REMAP only */
};

struct thaw_events; /* the open pairs, the arrivals, what is doubtful and what is displaced in one space */

struct thaw_events *thaw_events_new(void);
void thaw_events_free(struct thaw_events *ev);

/* Applies one change. Returns the absent pages that the process has discarded by it, or a negative errno. Then nothing has changed, and
 * the same change can be applied again, unless something is displaced: then it may be carried out in part, and the space
 * can be followed no more. */
int64_t thaw_events_apply(struct thaw_events *ev, struct thaw_pagemap *pm, const struct thaw_change *c);

/* Has anything been applied since the space was last known to be settled? A FORK read now may stand at the wrong
 * place. */
bool thaw_events_unsettled(const struct thaw_events *ev);

/* Is there content that waits for the message which says where it is? Then the space is not complete. */
bool thaw_events_has_displaced(const struct thaw_events *ev);

/* The absent pages of it, which the map does not count; any thread. Some may be left behind when nothing waits any more,
 * until the next change. */
uint64_t thaw_events_absent(const struct thaw_events *ev);
uint64_t thaw_events_waiting(const struct thaw_events *ev); /* without those: the absent pages that will be back */

/* A fill (or a probe) was answered with something else than EAGAIN: no event is outstanding. Cheap; any thread in S or
 * X. A process that makes many changes without a fault should be probed after each batch, else unrelated changes that
 * follow each other look as if they were at the same time. */
void thaw_events_settled(struct thaw_events *ev);

/* If the page at addr is in and is not there, has it been zapped (and is zero)? By a discard that was told before the page came there,
 * of the last 256; or in a child, where it was INHERITED before it moved. Without memory it is forgotten. (X, or the owner.) */
bool thaw_events_may_be_zapped(const struct thaw_events *ev, uint64_t addr);

/* A message is missing: the map may be wrong. (X) */
void thaw_events_guessed(struct thaw_events *ev);

/* A child's memory was its parent's: what may have been zapped there may be missing here. Before the child's first change. */
int thaw_events_inherit(struct thaw_events *ev, const struct thaw_events *parent);

/* The changes come in the order of their numbers: no pairs are looked for, and nothing is displaced. Before the first. */
void thaw_events_set_exact(struct thaw_events *ev);

/* The kernel tells of a mremap() that shrinks while it moves with the old length, and of the end that did not move with
 * an UNMAP behind (in the order of numbers: right before). Before the first. */
void thaw_events_set_long_remaps(struct thaw_events *ev);

size_t thaw_events_memory(const struct thaw_events *ev);

#endif
