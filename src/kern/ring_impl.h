/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/ring_impl.h - what the two kinds of ring share: the queues and who may take from them.
 * Rule      everything but the constants is under `lock`; done() is never called with it held
 * Threads   as ring.h */
#ifndef THAW_KERN_RING_IMPL_H
#define THAW_KERN_RING_IMPL_H

#include <liburing.h>

#include "kern/ring.h"
#include "util/lock.h"

struct thaw_ring_queue {
	struct thaw_ring_req *head, **tail;
};

struct thaw_ring {
	/* Constant after new. */
	enum thaw_ring_kind kind;
	unsigned limit;            /* reads under way at once: depth, or threads */
	unsigned background_limit; /* of these, reads for which no fault waits */

	struct thaw_lock lock;
	struct thaw_ring_queue urgent, background;
	unsigned waiting, active, background_active;
	bool stopping;

	/* Pool. */
	struct thaw_cond work;

	/* io_uring: owned by the running thread but for `asleep` (lock) and the eventfd. */
	struct io_uring uring;
	int wake_fd;
	uint64_t wake_value; /* the eventfd is read into it */
	bool asleep;
};

/* The next request that may start now, or NULL. (L) */
struct thaw_ring_req *thaw_ring_take_locked(struct thaw_ring *r);
/* After stop: ends everything that waits. Not locked. */
void thaw_ring_cancel_waiting(struct thaw_ring *r, void *thread);
/* The request is over: gives its place back, calls done(). Not locked. */
void thaw_ring_finish(struct thaw_ring *r, struct thaw_ring_req *req, int error, void *thread);

int thaw_ring_uring_init(struct thaw_ring *r);
void thaw_ring_uring_exit(struct thaw_ring *r);
/* -errno: there was no ring to be had after all, and nothing has been done. */
int thaw_ring_uring_run(struct thaw_ring *r, void *thread);
void thaw_ring_uring_wake(struct thaw_ring *r);

#endif
