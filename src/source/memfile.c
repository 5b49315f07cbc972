// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/memfile.c - content from one plain file: run-time ranges and where they lie in it */
#include "config.h"
#include "source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"

struct memfile {
	struct thaw_source base;
	int fd;
	size_t n;
	struct thaw_memfile_range *range; /* NULL once no space is added any more */
};

/* ---- operations -------------------------------------------------------------------------------------------- */
static int extents(struct thaw_source *s, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque)
{
	const struct memfile *m = (const struct memfile *)s;
	int ret = 0;

	for (size_t i = 0; i < m->n && !ret; i++) {
		struct thaw_extent e = {
			.addr = m->range[i].address,
			.pages = m->range[i].length >> THAW_PAGE_SHIFT,
			.off = m->range[i].offset,
		};

		ret = emit(opaque, &e);
	}
	return ret;
}

static int object_fd(struct thaw_source *s, uint32_t object)
{
	return object ? -1 : ((struct memfile *)s)->fd;
}

static void describe(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size)
{
	snprintf(buf, size, "the memory file at byte %lu", off);
}

static void settle(struct thaw_source *s)
{
	struct memfile *m = (struct memfile *)s;

	free(m->range);
	m->range = NULL;
	m->n = 0;
}

static void free_memfile(struct thaw_source *s)
{
	settle(s);
	close(((struct memfile *)s)->fd);
	free(s);
}

static const struct thaw_source_ops ops = {
	.kind = "memfile",
	.extents = extents,
	.object_fd = object_fd,
	.describe = describe,
	.settle = settle,
	.free = free_memfile,
};

/* ---- creation ---------------------------------------------------------------------------------------------- */
static int by_address(const void *a, const void *b)
{
	const struct thaw_memfile_range *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static int check_range(const struct thaw_memfile_range *r, const struct thaw_memfile_range *before, uint64_t size)
{
	if ((r->address | r->length | r->offset) & (THAW_PAGE_SIZE - 1) || !r->length)
		return thaw_err_set(
			-EINVAL,
			"thaw_source_memfile: the range at 0x%lx (0x%lx bytes, offset 0x%lx) is not whole pages",
			r->address, r->length, r->offset);
	if (r->length - 1 > UINT64_MAX - r->address)
		return thaw_err_set(
			-EINVAL, "thaw_source_memfile: the range at 0x%lx (0x%lx bytes) goes beyond the address space",
			r->address, r->length);
	if (before && r->address - before->address < before->length)
		return thaw_err_set(-EINVAL, "thaw_source_memfile: the ranges at 0x%lx and 0x%lx overlap",
				    before->address, r->address);
	if (r->offset > size || r->length > size - r->offset)
		return thaw_err_set(-EINVAL,
				    "thaw_source_memfile: the range at 0x%lx needs the file up to byte %lu, it has %lu",
				    r->address, r->offset + r->length, size);
	return 0;
}

/* The file's size in bytes, or -errno for what cannot be read at an offset. */
static int64_t file_size(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	off_t here, size;

	if (flags < 0)
		return thaw_err_set(-errno, "thaw_source_memfile: descriptor %d: %s", fd, strerror(errno));
	if ((flags & O_ACCMODE) == O_WRONLY || flags & O_PATH)
		return thaw_err_set(-EBADF, "thaw_source_memfile: descriptor %d is not open for reading", fd);
	here = lseek(fd, 0, SEEK_CUR);
	size = lseek(fd, 0, SEEK_END); /* a block device too, for which fstat says 0 */
	if (here < 0 || size < 0)
		return thaw_err_set(-errno, "thaw_source_memfile: descriptor %d is no file: %s", fd, strerror(errno));
	lseek(fd, here, SEEK_SET);
	return size;
}

static int fill(struct memfile *m, int fd, const struct thaw_memfile_range *ranges, size_t n)
{
	int64_t size = file_size(fd);

	if (size < 0)
		return (int)size;
	memcpy(m->range, ranges, n * sizeof(m->range[0]));
	qsort(m->range, n, sizeof(m->range[0]), by_address);
	m->n = n;
	for (size_t i = 0; i < n; i++) {
		int ret = check_range(&m->range[i], i ? &m->range[i - 1] : NULL, (uint64_t)size);

		if (ret)
			return ret;
	}
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (m->fd < 0)
		return thaw_err_set(-errno, "thaw_source_memfile: %s", strerror(errno));
	return 0;
}

THAW_PUBLIC struct thaw_source *thaw_source_memfile(int fd, const struct thaw_memfile_range *ranges, size_t n)
{
	struct memfile *m;

	if (!ranges || !n) {
		thaw_err_set(-EINVAL, "thaw_source_memfile: no ranges given");
		return NULL;
	}
	m = calloc(1, sizeof(*m));
	if (m)
		m->range = n > SIZE_MAX / 2 / sizeof(m->range[0]) ? NULL : malloc(n * sizeof(m->range[0]));
	if (!m || !m->range) {
		thaw_err_set(-ENOMEM, "thaw_source_memfile: no memory for %zu ranges", n);
		free(m);
		return NULL;
	}
	m->base = (struct thaw_source){ &ops, 1 };
	if (fill(m, fd, ranges, n)) {
		free(m->range);
		free(m);
		return NULL;
	}
	return &m->base;
}
