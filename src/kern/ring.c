// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/ring.c - the queues of reads, and the pool of threads that serves them with preadv */
#include "config.h"
#include "kern/ring_impl.h"
#include "util/err.h"
#include "util/inject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void push(struct thaw_ring_queue *q, struct thaw_ring_req *req)
{
	req->next = NULL;
	*q->tail = req;
	q->tail = &req->next;
}

static struct thaw_ring_req *pop(struct thaw_ring_queue *q)
{
	struct thaw_ring_req *req = q->head;

	if (!req)
		return NULL;
	q->head = req->next;
	if (!q->head)
		q->tail = &q->head;
	return req;
}

static bool unlink_req(struct thaw_ring_queue *q, struct thaw_ring_req *req)
{
	struct thaw_ring_req **at;

	for (at = &q->head; *at; at = &(*at)->next) {
		if (*at != req)
			continue;
		*at = req->next;
		if (!*at)
			q->tail = at;
		return true;
	}
	return false;
}

/* Changed under the lock; atomic for the one reader without it, thaw_ring_pending(). */
static void count(unsigned *n, int by)
{
	__atomic_store_n(n, *n + by, __ATOMIC_RELAXED);
}

struct thaw_ring_req *thaw_ring_take_locked(struct thaw_ring *r)
{
	struct thaw_ring_req *req = NULL;

	THAW_LOCK_ASSERT_HELD(&r->lock);
	if (r->stopping || r->active >= r->limit)
		return NULL;
	req = pop(&r->urgent);
	if (!req && r->background_active < r->background_limit) {
		req = pop(&r->background);
		if (req)
			r->background_active++;
	}
	if (!req)
		return NULL;
	count(&r->waiting, -1);
	count(&r->active, 1);
	return req;
}

void thaw_ring_finish(struct thaw_ring *r, struct thaw_ring_req *req, int error, void *thread)
{
	{
		THAW_SCOPED_LOCK(&r->lock);
		count(&r->active, -1);
		if (!req->urgent)
			r->background_active--;
	}
	req->done(req, error, thread);
}

void thaw_ring_cancel_waiting(struct thaw_ring *r, void *thread)
{
	struct thaw_ring_req *req;

	for (;;) {
		{
			THAW_SCOPED_LOCK(&r->lock);
			req = pop(&r->urgent);
			if (!req)
				req = pop(&r->background);
			if (!req)
				return;
			count(&r->waiting, -1);
		}
		req->done(req, ECANCELED, thread);
	}
}

int thaw_ring_new(struct thaw_ring **out, enum thaw_ring_kind kind, unsigned depth, unsigned threads)
{
	struct thaw_ring *r;
	const char *why;
	int err = 0;

	if (depth < 1 || depth > 256 || threads < 2 || threads > 64)
		return thaw_err_set(-EINVAL, "i/o ring: %u reads and %u threads are not within 1..256 and 2..64", depth,
				    threads);
	if (kind == THAW_RING_AUTO)
		kind = thaw_ring_probe(&why) == THAW_RING_OK ? THAW_RING_URING : THAW_RING_POOL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return thaw_err_set(-ENOMEM, "i/o ring: no memory");
	r->kind = kind;
	r->wake_fd = -1;
	r->urgent.tail = &r->urgent.head;
	r->background.tail = &r->background.head;
	r->limit = kind == THAW_RING_POOL ? threads : depth;
	r->background_limit = r->limit - (r->limit + 3) / 4;
	if (!r->background_limit)
		r->background_limit = 1;
	thaw_lock_init(&r->lock, THAW_RANK_RING);
	thaw_cond_init(&r->work);
	if (kind == THAW_RING_URING)
		err = thaw_ring_uring_init(r);
	if (err) {
		thaw_cond_destroy(&r->work);
		thaw_lock_destroy(&r->lock);
		free(r);
		return err;
	}
	*out = r;
	return 0;
}

void thaw_ring_free(struct thaw_ring *r)
{
	if (!r)
		return;
	thaw_ring_stop(r);
	thaw_ring_cancel_waiting(r, NULL);
	if (r->kind == THAW_RING_URING)
		thaw_ring_uring_exit(r);
	thaw_cond_destroy(&r->work);
	thaw_lock_destroy(&r->lock);
	free(r);
}

enum thaw_ring_kind thaw_ring_kind(const struct thaw_ring *r)
{
	return r->kind;
}

unsigned thaw_ring_threads(const struct thaw_ring *r)
{
	return r->kind == THAW_RING_URING ? 1 : r->limit;
}

/* Somebody may sleep although a request can start. */
static void kick(struct thaw_ring *r, bool wake_uring)
{
	thaw_cond_signal(&r->work); /* a ring that could not be made is served as a pool is */
	if (wake_uring)
		thaw_ring_uring_wake(r);
}

void thaw_ring_submit(struct thaw_ring *r, struct thaw_ring_req *req, bool urgent)
{
	bool refused, wake;

	req->got = 0;
	req->urgent = urgent;
	{
		THAW_SCOPED_LOCK(&r->lock);
		refused = r->stopping;
		if (!refused) {
			push(urgent ? &r->urgent : &r->background, req);
			count(&r->waiting, 1);
		}
		wake = r->asleep;
		r->asleep = false;
	}
	if (refused)
		req->done(req, ECANCELED, NULL);
	else
		kick(r, wake);
}

bool thaw_ring_hurry(struct thaw_ring *r, struct thaw_ring_req *req)
{
	bool wake;

	{
		THAW_SCOPED_LOCK(&r->lock);
		if (!unlink_req(&r->background, req))
			return false;
		req->urgent = true;
		push(&r->urgent, req);
		wake = r->asleep;
		r->asleep = false;
	}
	kick(r, wake);
	return true;
}

void thaw_ring_stop(struct thaw_ring *r)
{
	{
		THAW_SCOPED_LOCK(&r->lock);
		r->stopping = true;
		r->asleep = false;
	}
	thaw_cond_broadcast(&r->work);
	if (r->kind == THAW_RING_URING)
		thaw_ring_uring_wake(r);
}

unsigned thaw_ring_pending(const struct thaw_ring *r)
{
	/* For a figure on a screen: a value that is a moment old is as good. */
	return __atomic_load_n(&r->waiting, __ATOMIC_RELAXED) + __atomic_load_n(&r->active, __ATOMIC_RELAXED);
}

static int read_whole(struct thaw_ring_req *req)
{
	while (req->got < req->len) {
		struct iovec v = { (char *)req->buf + req->got, THAW_INJECT_SHORT("ring.read", req->len - req->got, 1) };
		ssize_t n = THAW_INJECT_ERRNO("ring.read") ? -1 : preadv(req->fd, &v, 1, req->off + req->got);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue; /* as the ring does it */
		if (n < 0)
			return errno;
		if (n == 0)
			return ENODATA;
		req->got += n;
	}
	return 0;
}

static void pool_run(struct thaw_ring *r, void *thread)
{
	struct thaw_ring_req *req;

	for (;;) {
		{
			THAW_SCOPED_LOCK(&r->lock);
			while (!(req = thaw_ring_take_locked(r)) && !r->stopping)
				thaw_cond_wait(&r->work, &r->lock);
		}
		if (!req)
			return;
		thaw_ring_finish(r, req, read_whole(req), thread);
		/* A background read that gave its place back may let another start; we look for it ourselves. */
	}
}

void thaw_ring_run(struct thaw_ring *r, void *thread)
{
	/* The probe said that a ring can be had; when it cannot any more (memory), this thread reads one by one. */
	if (r->kind == THAW_RING_POOL || thaw_ring_uring_run(r, thread))
		pool_run(r, thread);
	thaw_ring_cancel_waiting(r, thread);
}
