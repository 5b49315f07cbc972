// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/imagedir.c - content from a directory of CRIU images and its parents: object N is level N's pages file */
#include "config.h"
#include "source/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "image/chain.h"
#include "source/chain_extents.h"
#include "util/err.h"

struct imagedir {
	struct thaw_source base;
	struct thaw_image_chain chain;
};

static int extents(struct thaw_source *s, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque)
{
	return thaw_chain_extents(&((struct imagedir *)s)->chain, emit, opaque);
}

static int object_fd(struct thaw_source *s, uint32_t object)
{
	return thaw_chain_fd(&((struct imagedir *)s)->chain, object);
}

static uint64_t size(struct thaw_source *s, uint32_t object)
{
	return thaw_chain_size(&((struct imagedir *)s)->chain, object);
}

static const struct thaw_sums *sums(struct thaw_source *s, uint32_t object)
{
	return thaw_chain_sums(&((struct imagedir *)s)->chain, object);
}

static void describe(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size)
{
	const struct imagedir *d = (const struct imagedir *)s;
	uint32_t id = object < d->chain.n ? d->chain.level[object].pm.pages_id : 0;

	if (object)
		snprintf(buf, size, "pages-%u.img of parent %u at byte %lu", id, object, off);
	else
		snprintf(buf, size, "pages-%u.img at byte %lu", id, off);
}

static void settle(struct thaw_source *s)
{
	thaw_image_chain_forget(&((struct imagedir *)s)->chain);
}

static void free_imagedir(struct thaw_source *s)
{
	struct imagedir *d = (struct imagedir *)s;

	thaw_image_chain_close(&d->chain);
	free(d);
}

static const struct thaw_source_ops ops = {
	.kind = "images",
	.extents = extents,
	.object_fd = object_fd,
	.size = size,
	.sums = sums,
	.describe = describe,
	.settle = settle,
	.free = free_imagedir,
};

THAW_PUBLIC struct thaw_source *thaw_source_images(int dirfd, int pid)
{
	struct imagedir *d;

	if (pid <= 0) {
		thaw_err_set(-EINVAL, "thaw_source_images: %d is no process number", pid);
		return NULL;
	}
	d = malloc(sizeof(*d));
	if (!d) {
		thaw_err_set(-ENOMEM, "thaw_source_images: no memory");
		return NULL;
	}
	d->base = (struct thaw_source){ &ops, 1 };
	if (thaw_image_chain_open(dirfd, pid, &d->chain)) {
		thaw_err_wrap("thaw_source_images");
		free(d);
		return NULL;
	}
	return &d->base;
}
