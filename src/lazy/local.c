// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/local.c - the lazy pages of a task in its own pages-N.img, as a source; and their disk space given back */
#include "config.h"
#include "lazy/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/source.h"
#include "util/err.h"

struct local {
	struct thaw_source base;
	int fd; /* -1: nothing is lazy, and there is no file */
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

static void describe(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size)
{
	snprintf(buf, size, "pages-%u.img at byte %lu", ((struct local *)s)->pages_id, off);
}

static void free_local(struct thaw_source *s)
{
	struct local *l = (struct local *)s;

	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

static const struct thaw_source_ops ops = {
	.kind = "images",
	.extents = extents,
	.object_fd = object_fd,
	.describe = describe,
	.free = free_local,
};

/* ---- creation ---------------------------------------------------------------------------------------------- */
/* A pagemap cut off between two entries looks whole; the size of the pages file tells. */
static int open_pages(int dirfd, const struct thaw_lazy_task *t)
{
	uint64_t want = t->pm.file_pages << THAW_PAGE_SHIFT;
	struct stat st;
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "pages-%u.img", t->pm.pages_id);
	if (!want && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
		return -1;
	fd = thaw_image_open_file(dirfd, name);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		thaw_err_set(-errno, "%s: %s", name, strerror(errno));
	else if ((uint64_t)st.st_size == want)
		return fd;
	else
		thaw_err_set(-EBADMSG, "%s: has %lu bytes, but pagemap-%d.img says %lu: one of them is truncated or of another"
			     " dump", name, (uint64_t)st.st_size, t->pid, want);
	close(fd);
	return thaw_err_code();
}

struct thaw_source *thaw_lazy_local_source(int dirfd, const struct thaw_lazy_task *t)
{
	struct local *l = malloc(sizeof(*l) + t->pm.n * sizeof(l->extent[0]));

	if (!l) {
		thaw_err_set(-ENOMEM, "pagemap-%d.img: no memory for %zu entries", t->pid, t->pm.n);
		return NULL;
	}
	*l = (struct local){ .base = { &ops, 1 }, .pages_id = t->pm.pages_id };
	thaw_err_clear();
	l->fd = t->lazy_pages ? open_pages(dirfd, t) : -1; /* the rest of the file is the restorer's affair */
	if (l->fd < 0 && thaw_err_code()) {
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
	char name[32];
	int fd, ret = 0;

	if (t->bare || !t->lazy_pages)
		return 0;
	snprintf(name, sizeof(name), "pages-%u.img", t->pm.pages_id);
	fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return thaw_err_set(-errno, "%s: cannot be opened to give back its disk space: %s", name, strerror(errno));
	for (size_t i = 0; i < t->pm.n && !ret; i++) {
		const struct thaw_image_run *run = &t->pm.run[i];

		if (!(run->flags & THAW_PE_LAZY) || !(run->flags & THAW_PE_PRESENT))
			continue;
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, run->off, run->pages << THAW_PAGE_SHIFT))
			ret = thaw_err_set(-errno, "%s: its disk space cannot be given back: %s", name, strerror(errno));
	}
	close(fd);
	return ret;
}
