/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/fetch_impl.h - what the two halves of fetch share: fetch.c owns the reads and gets them answered, fetch_place.c has
 * the answered ones and makes pages of them.
 *
 * Rule      a read that is busy has one holder: the ring, the application, a list, or the thread that places it
 * Threads   as marked at each field
 * Rank      THAW_RANK_IO
 * Lifetime  of the monitor
 * Errors    as fetch.h */
#ifndef THAW_ENGINE_FETCH_IMPL_H
#define THAW_ENGINE_FETCH_IMPL_H

#include "engine/fetch.h"
#include "kern/ring.h"

#define THAW_DEMAND_READS 32
#define THAW_DEMAND_PAGES 16
#define THAW_AHEAD_READS 24

struct thaw_read {
	struct thaw_ring_req ring;
	struct thaw_request request; /* of a callback */
	struct thaw_fetch *f;
	struct thaw_mm *mm;          /* a reference while in use. Demand: changed under f->lock */
	struct thaw_extent e;        /* demand: changed under f->lock */
	struct thaw_fault fault;     /* demand only. t0 0: nobody sleeps there, it was read beside another's page */
	bool demand, busy;           /* busy: f->lock */
	int error;
	unsigned char *buf;
	struct thaw_read *next;      /* f->lock: of the list it is on */
};

struct thaw_read_list {
	struct thaw_read *first, **last;
};

struct thaw_fetch {
	struct thaw *m;
	struct thaw_ring *ring;
	unsigned char *pool;
	size_t bytes;
	struct thaw_lock lock;   /* THAW_RANK_IO */
	struct thaw_read reads[THAW_DEMAND_READS + THAW_AHEAD_READS];
	struct thaw_read_list free_demand, free_ahead, ready, landed; /* lock */
	_Atomic unsigned n_demand, n_ahead; /* busy ones; changed under lock, read without: a hint */
	unsigned abroad;         /* lock: with the application's callback */
	bool closed;             /* lock: the last one from abroad frees */
	_Atomic unsigned n_ready;
};

struct thaw_read *thaw_fetch_pop(struct thaw_read_list *l);

/* Asks for what r describes: the ring or the application. 0, or what came of it when it was answered at once. */
int thaw_fetch_submit(struct thaw_worker *w, struct thaw_read *r);

/* A file's content that was read, before any of it is placed: 0 or a positive errno. */
int thaw_fetch_verify(const struct thaw_read *r);

/* Ends the read; r is not the caller's any more. */
void thaw_fetch_give_back(struct thaw_read *r);

/* A demand read that was answered, with content or with an error. owner: the caller owns the space, and -EAGAIN says that
 * the page is still owed after its next X. */
int thaw_fetch_place_demand(struct thaw_worker *w, struct thaw_read *r, bool owner);
int thaw_fetch_fail_demand(struct thaw_worker *w, struct thaw_read *r, bool owner, int error);

#endif
