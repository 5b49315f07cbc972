/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/subscribe.h - who keeps translations of a space of its own, and is told of each change around its X.
 *
 *	open     before read(): invalidations are in progress from here on, for whoever samples
 *	begin    behind read(), within X: the ranges, known now
 *	settled  behind X: until the process has carried out what it was let go on with
 *	end      the sequence moves on, then nothing is in progress any more
 *
 * Rule      who is entered is told all of begin and end, and lives until then. That is who is there at open; who comes later, at begin
 *           or, when there are others, at end. No lock is held across a callback
 * Threads   open..end: the owner of the space. The others: any thread of the application, but not a callback
 * Errors    -ENOMEM, -ENOENT, -EBUSY (no place), with a sentence */
#ifndef THAW_ENGINE_SUBSCRIBE_H
#define THAW_ENGINE_SUBSCRIBE_H

#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "thaw.h"

#define THAW_MAX_SUBSCRIBERS 16
#define THAW_MAX_CHANGES 65 /* messages of a batch, and the end of the space */

struct thaw;
struct thaw_mm;
struct thaw_worker;

/* A place on the monitor's list. */
struct thaw_subscription {
	_Atomic(struct thaw_subscriber *) who;
	_Atomic uint32_t users; /* owners between open and end. Counted before `who` is looked at */
	bool taken;             /* m->lock: from add until remove is done with it */
};

/* The owner's, in its worker. */
struct thaw_invalidations {
	struct thaw_subscriber *who[THAW_MAX_SUBSCRIBERS]; /* opened */
	bool any;
	size_t n;
	struct thaw_change_info change[THAW_MAX_CHANGES];
	uint32_t ufd[THAW_MAX_CHANGES]; /* of a FORK: by which its child is known */
};

void thaw_subscribers_open(struct thaw_worker *w, struct thaw_mm *mm);
void thaw_subscribers_begin(struct thaw_worker *w, struct thaw_mm *mm, const struct uffd_msg *msgs, int n);
void thaw_subscribers_ending(struct thaw_worker *w, struct thaw_mm *mm); /* within X: the space is about to end */
void thaw_subscribers_child(struct thaw_worker *w, const struct uffd_msg *fork, int64_t child);
void thaw_subscribers_end(struct thaw_worker *w, struct thaw_mm *mm);    /* outside X: settles, then ends */

int thaw_subscribers_add(struct thaw *m, int64_t space, const struct thaw_subscriber_ops *ops, void *opaque,
			 struct thaw_subscriber **out);
void thaw_subscribers_remove(struct thaw_subscriber *s); /* returns when no callback of it runs any more; frees */
void thaw_subscribers_free(struct thaw *m);              /* with the monitor: those that are left */

uint64_t thaw_subscribers_sample(const struct thaw_subscriber *s);
bool thaw_subscribers_retry(const struct thaw_subscriber *s, uint64_t sample);

#endif
