// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/callback.c - content from a function of the tool */
#include "config.h"
#include "source/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/err.h"

struct callback {
	struct thaw_source base;
	thaw_read_fn *fn;
	void *opaque;
};

static int no_file(struct thaw_source *s, uint32_t object)
{
	return -1;
}

static int read_callback(struct thaw_source *s, uint32_t object, uint64_t off, size_t len, void *buf,
			 struct thaw_request *req)
{
	struct callback *c = (struct callback *)s;
	int ret = c->fn(c->opaque, off, len, buf, req);

	/* Anything positive but THAW_LATER breaks the agreement; nobody knows what is in buf then. */
	return ret > THAW_LATER ? -EPROTO : ret;
}

static void describe(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size)
{
	snprintf(buf, size, "the source function at 0x%lx", off);
}

static void free_callback(struct thaw_source *s)
{
	free(s);
}

static const struct thaw_source_ops ops = {
	.kind = "callback",
	.object_fd = no_file,
	.read = read_callback,
	.describe = describe,
	.free = free_callback,
};

THAW_PUBLIC struct thaw_source *thaw_source_callback(thaw_read_fn *fn, void *opaque)
{
	struct callback *c;

	if (!fn) {
		thaw_err_set(-EINVAL, "thaw_source_callback: no function given");
		return NULL;
	}
	c = malloc(sizeof(*c));
	if (!c) {
		thaw_err_set(-ENOMEM, "thaw_source_callback: no memory");
		return NULL;
	}
	*c = (struct callback){ { &ops, 1 }, fn, opaque };
	return &c->base;
}

THAW_PUBLIC void thaw_complete(struct thaw_request *request, int error)
{
	if (request)
		request->done(request, error < 0 ? -error : error); /* -EIO is an easy slip: taken as EIO */
}
