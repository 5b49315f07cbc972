// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/pageserver_source.c - content of one process that lies at a page server, and beside it in a directory of images */
#include "config.h"
#include "source/pageserver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/chain.h"
#include "source/chain_extents.h"
#include "util/err.h"

struct remote {
	struct thaw_source base;
	struct thaw_pageserver *ps; /* a reference */
	int pid;
	struct thaw_image_chain chain;
};

static int extents(struct thaw_source *s, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque)
{
	return thaw_chain_extents(&((struct remote *)s)->chain, emit, opaque);
}

static int object_fd(struct thaw_source *s, uint32_t object)
{
	return thaw_chain_fd(&((struct remote *)s)->chain, object);
}

static const struct thaw_sums *sums(struct thaw_source *s, uint32_t object)
{
	return thaw_chain_sums(&((struct remote *)s)->chain, object);
}

static int read_remote(struct thaw_source *s, uint32_t object, uint64_t off, size_t len, void *buf, struct thaw_request *req)
{
	const struct remote *r = (const struct remote *)s;
	struct thaw_pageserver *ps = r->ps;
	struct thaw_remote_read *rr;
	bool closed;

	if (object != THAW_CHAIN_ELSEWHERE || len > THAW_WANT_PAGES * 4096UL)
		return -EINVAL;
	rr = calloc(1, sizeof(*rr));
	if (!rr)
		return -ENOMEM;
	rr->want = (struct thaw_want){
		.pid = (uint64_t)r->pid, .addr = off, .pages = (unsigned)(len / 4096), .urgent = req->urgent,
		.soon = req->soon, .buf = buf,
	};
	rr->request = req;
	{
		THAW_SCOPED_LOCK(&ps->lock);
		closed = ps->closed;
		if (!closed) {
			*ps->fresh_last = rr;
			ps->fresh_last = &rr->next;
		}
	}
	if (closed) {
		free(rr);
		return -ECANCELED;
	}
	thaw_pageserver_wake(ps);
	return THAW_LATER;
}

static void describe(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size)
{
	const struct remote *r = (const struct remote *)s;

	if (object == THAW_CHAIN_ELSEWHERE)
		snprintf(buf, size, "%#lx of pid %d at the page server %s", off, r->pid, r->ps->name);
	else
		snprintf(buf, size, "pages-%u.img of level %u at byte %lu",
			 object < r->chain.n ? r->chain.level[object].pm.pages_id : 0, object, off);
}

static void forget(struct thaw_pageserver *ps, int pid)
{
	THAW_SCOPED_LOCK(&ps->lock);

	for (unsigned i = 0; i < ps->n_pids; i++)
		if (ps->pids[i] == pid) {
			ps->pids[i] = ps->pids[--ps->n_pids];
			return;
		}
}

static int remember(struct thaw_pageserver *ps, int pid)
{
	int *more;
	THAW_SCOPED_LOCK(&ps->lock);

	more = realloc(ps->pids, (ps->n_pids + 1) * sizeof(*more));
	if (!more)
		return thaw_err_set(-ENOMEM, "no memory for a source");
	ps->pids = more;
	ps->pids[ps->n_pids++] = pid;
	return 0;
}

static uint64_t size(struct thaw_source *s, uint32_t object)
{
	return thaw_chain_size(&((struct remote *)s)->chain, object);
}

static void settle(struct thaw_source *s)
{
	thaw_image_chain_forget(&((struct remote *)s)->chain);
}

static void free_remote(struct thaw_source *s)
{
	struct remote *r = (struct remote *)s;

	thaw_image_chain_close(&r->chain);
	forget(r->ps, r->pid);
	thaw_pageserver_put(r->ps);
	free(r);
}

static const struct thaw_source_ops ops = {
	.kind = "page server",
	.far = true,
	.extents = extents,
	.object_fd = object_fd,
	.size = size,
	.sums = sums,
	.read = read_remote,
	.describe = describe,
	.settle = settle,
	.free = free_remote,
};

/* The images tell which layout the dumper speaks, and all of them the same. One without pages tells nothing. */
static int settle_layout(struct thaw_pageserver *ps, const struct thaw_image_pagemap *pm)
{
	int told = pm->wide ? THAW_FRAME_NEW : THAW_FRAME_OLD, is = THAW_FRAME_UNKNOWN;

	if (!pm->n || ps->told)
		return 0;
	if (atomic_compare_exchange_strong(&ps->layout, &is, told) || is == told)
		return 0;
	return thaw_err_set(-EBADMSG, "pagemap: these images are of the page-server protocol %d, others over the same connection of %d:"
			    " name the one that is right (protocol)", told, is);
}

THAW_PUBLIC struct thaw_source *thaw_source_pageserver(struct thaw_pageserver *ps, int dirfd, int pid, unsigned flags)
{
	unsigned how = THAW_CHAIN_REMOTE | (flags & THAW_PAGESERVER_LAZY_ONLY ? THAW_CHAIN_LAZY_ONLY : 0);
	struct remote *r;
	int err;

	if (!ps || pid <= 0 || flags & ~THAW_PAGESERVER_LAZY_ONLY) {
		thaw_err_set(-EINVAL, "thaw_source_pageserver: no connection, no process number, or unknown flags");
		return NULL;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		thaw_err_set(-ENOMEM, "thaw_source_pageserver: no memory");
		return NULL;
	}
	r->base = (struct thaw_source){ &ops, 1 };
	r->pid = pid;
	err = thaw_image_chain_open_how(dirfd, pid, how, &r->chain);
	if (!err) {
		err = settle_layout(ps, &r->chain.level[0].pm);
		if (!err)
			err = remember(ps, pid);
		if (err)
			thaw_image_chain_close(&r->chain);
	}
	if (err) {
		thaw_err_wrap("thaw_source_pageserver");
		free(r);
		return NULL;
	}
	r->ps = thaw_pageserver_get(ps);
	return &r->base;
}
