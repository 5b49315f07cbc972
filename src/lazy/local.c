// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/local.c - the lazy pages of a task in its own pages-N.img, as a source; and their disk space given back */
#include "config.h"
#include "lazy/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/pages_file.h"
#include "source/source.h"
#include "util/err.h"

struct local {
	struct thaw_source base;
	int fd; /* -1: nothing is lazy, and there is no file */
	struct thaw_sums sums;
	uint64_t bytes; /* of the file, when it was opened */
	uint32_t pages_id;
	size_t n;
	struct thaw_extent extent[];
};

/* ---- operations -------------------------------------------------------------------------------------------- */
static int extents(struct thaw_source *s, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque)
{
	const struct local *l = (const struct local *)s;
	int ret = 0;

	for (size_t i = 0; i < l->n && !ret; i++)
		ret = emit(opaque, &l->extent[i]);
	return ret;
}

static int object_fd(struct thaw_source *s, uint32_t object)
{
	return object ? -1 : ((struct local *)s)->fd;
}

static uint64_t size(struct thaw_source *s, uint32_t object)
{
	return ((struct local *)s)->bytes;
}

static const struct thaw_sums *sums(struct thaw_source *s, uint32_t object)
{
	const struct local *l = (const struct local *)s;

	return !object && l->sums.sum ? &l->sums : NULL;
}

static void describe(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size)
{
	snprintf(buf, size, "pages-%u.img at byte %lu", ((struct local *)s)->pages_id, off);
}

static void free_local(struct thaw_source *s)
{
	struct local *l = (struct local *)s;

	thaw_image_pages_close(&l->fd, &l->sums);
	free(l);
}

static const struct thaw_source_ops ops = {
	.kind = "images",
	.extents = extents,
	.object_fd = object_fd,
	.size = size,
	.sums = sums,
	.describe = describe,
	.free = free_local,
};

/* ---- creation ---------------------------------------------------------------------------------------------- */
struct thaw_source *thaw_lazy_local_source(int dirfd, const struct thaw_lazy_task *t)
{
	struct local *l = malloc(sizeof(*l) + t->pm.n * sizeof(l->extent[0]));

	if (!l) {
		thaw_err_set(-ENOMEM, "pagemap-%d.img: no memory for %zu entries", t->pid, t->pm.n);
		return NULL;
	}
	*l = (struct local){ .base = { &ops, 1 }, .fd = -1, .bytes = t->pm.file_pages << THAW_PAGE_SHIFT,
			     .pages_id = t->pm.pages_id };
	/* Where nothing is lazy the file is the restorer's affair. */
	if (t->lazy_pages && thaw_image_pages_open(dirfd, &t->pm, &l->fd, &l->sums)) {
		thaw_err_wrap("process %d", t->pid);
		free(l);
		return NULL;
	}
	for (size_t i = 0; i < t->pm.n; i++) {
		const struct thaw_image_run *run = &t->pm.run[i];

		if (run->flags & THAW_PE_LAZY)
			l->extent[l->n++] = (struct thaw_extent){ .addr = run->addr, .pages = run->pages, .off = run->off };
	}
	return &l->base;
}

/* ---- dedup ------------------------------------------------------------------------------------------------- */
int thaw_lazy_punch(int dirfd, const struct thaw_lazy_task *t)
{
	int fd, ret = 0;

	if (t->bare || !t->lazy_pages)
		return 0;
	fd = thaw_image_pages_spend(dirfd, &t->pm);
	if (fd < 0)
		return fd;
	for (size_t i = 0; i < t->pm.n && !ret; i++) {
		const struct thaw_image_run *run = &t->pm.run[i];

		if (!(run->flags & THAW_PE_LAZY) || !(run->flags & THAW_PE_PRESENT))
			continue;
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, run->off, run->pages << THAW_PAGE_SHIFT))
			ret = thaw_err_set(-errno, "pages-%u.img: its disk space cannot be given back: %s", t->pm.pages_id, strerror(errno));
	}
	close(fd);
	return ret;
}
