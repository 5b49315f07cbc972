/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/ring.h - reads of files that answer later: io_uring, or threads that call preadv, behind one interface.
 *
 * Requests wait in two queues. An urgent one (a fault waits for it) goes before all others and finds room even when
 * background reads fill the ring: those may use all but a part of the depth (pool: all but one of the threads).
 *
 * Rule      a request belongs to the ring from submit until its done() is called, exactly once
 * Threads   submit, stop: any. No thread is started here: the owner starts thaw_ring_threads() threads that each call
 *           thaw_ring_run(); done() is called in them (io_uring: one thread, which also makes the ring; pool: several
 * at once). The probe's own thread ends with it Lifetime  free after every run has returned Errors    -errno; new and
 * probe with a sentence */
#ifndef THAW_KERN_RING_H
#define THAW_KERN_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct thaw_ring;

struct thaw_ring_req {
	/* The caller's: */
	int fd;
	uint64_t off;
	void *buf;
	uint32_t len;
	/* error: 0, or a positive errno; ENODATA: the file ends before off + len; ECANCELED: the ring was stopped
	 * first. `thread` is what this thread gave to thaw_ring_run(). The request is the caller's again. It may
	 * submit. */
	void (*done)(struct thaw_ring_req *req, int error, void *thread);
	/* The ring's: */
	struct thaw_ring_req *next;
	uint32_t got;
	bool urgent;
};

enum thaw_ring_kind { THAW_RING_AUTO, THAW_RING_URING, THAW_RING_POOL };

enum thaw_ring_state {
	THAW_RING_OK,
	THAW_RING_ABSENT, /* this kernel has none */
	THAW_RING_DENIED, /* kernel.io_uring_disabled, or a container's filter */
	THAW_RING_BROKEN  /* it is made, but a read through it goes wrong */
};
/* May io_uring be used here? Tries it: a ring is made, a file read, the ring closed. Not OK: *why (static, or NULL
 * asked). */
enum thaw_ring_state thaw_ring_probe(const char **why);

/* depth: reads under way at once (1..256). threads: of the pool (2..64). AUTO: io_uring where the probe says OK. */
int thaw_ring_new(struct thaw_ring **out, enum thaw_ring_kind kind, unsigned depth, unsigned threads);
void thaw_ring_free(struct thaw_ring *r); /* NULL is fine */

enum thaw_ring_kind thaw_ring_kind(const struct thaw_ring *r); /* URING or POOL */
unsigned thaw_ring_threads(const struct thaw_ring *r);         /* how many threads must call run */

/* After stop: the request's done() is called at once, in the caller, with ECANCELED and thread NULL. */
void thaw_ring_submit(struct thaw_ring *r, struct thaw_ring_req *req, bool urgent);
/* A waiting background request becomes urgent. False: it is under way, urgent or done already. */
bool thaw_ring_hurry(struct thaw_ring *r, struct thaw_ring_req *req);

/* Until thaw_ring_stop(): what is under way then is waited for, what still waits is ended with ECANCELED. */
void thaw_ring_run(struct thaw_ring *r, void *thread);
void thaw_ring_stop(struct thaw_ring *r);

/* Waiting and under way; a relaxed read, for statistics. */
unsigned thaw_ring_pending(const struct thaw_ring *r);

#endif
