// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/write.c - image files made: magic, records, and the pagemap as its runs come */
#include "config.h"
#include "image/write.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"

/* The first failure sticks: closing tells it again, so a caller may look once at the end. */
struct thaw_image_writer {
	int fd;
	int error;
	size_t used;
	char name[32];
	unsigned char buf[1 << 16];
};

/* ---- bytes ------------------------------------------------------------------------------------------------- */
static int failed(struct thaw_image_writer *w, int error)
{
	w->error = error;
	return thaw_err_set(-error, "%s: %s", w->name, strerror(error));
}

static int flush(struct thaw_image_writer *w, const unsigned char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(w->fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(w, errno);
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static int append(struct thaw_image_writer *w, const void *data, size_t len)
{
	if (w->error)
		return failed(w, w->error);
	if (len > sizeof(w->buf) - w->used) {
		int ret = flush(w, w->buf, w->used);

		w->used = 0;
		if (ret)
			return ret;
	}
	if (len > sizeof(w->buf))
		return flush(w, data, len);
	memcpy(w->buf + w->used, data, len);
	w->used += len;
	return 0;
}

static int append_u32(struct thaw_image_writer *w, uint32_t v)
{
	v = htole32(v);
	return append(w, &v, sizeof(v));
}

/* ---- files ------------------------------------------------------------------------------------------------- */
struct thaw_image_writer *thaw_image_create(int dirfd, const char *name, uint32_t magic)
{
	struct thaw_image_writer *w = malloc(sizeof(*w));

	if (!w) {
		thaw_err_set(-ENOMEM, "%s: no memory", name);
		return NULL;
	}
	w->error = 0;
	w->used = 0;
	snprintf(w->name, sizeof(w->name), "%s", name);
	w->fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->fd < 0) {
		failed(w, errno);
		free(w);
		return NULL;
	}
	if (magic != THAW_IMAGE_INVENTORY_MAGIC)
		append_u32(w, THAW_IMAGE_COMMON_MAGIC);
	append_u32(w, magic);
	return w;
}

int thaw_image_put(struct thaw_image_writer *w, const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	unsigned char small[512], *packed = len <= sizeof(small) ? small : malloc(len);
	int ret;

	if (!packed || len > INT32_MAX)
		ret = failed(w, packed ? EFBIG : ENOMEM);
	else
		ret = append_u32(w, (uint32_t)protobuf_c_message_pack(m, packed));
	if (!ret)
		ret = append(w, packed, len);
	if (packed != small)
		free(packed);
	return ret;
}

int thaw_image_close(struct thaw_image_writer *w)
{
	int ret;

	if (!w)
		return 0;
	ret = w->error ? failed(w, w->error) : flush(w, w->buf, w->used);
	if (!ret && fsync(w->fd))
		ret = failed(w, errno);
	if (close(w->fd) && !ret)
		ret = failed(w, errno);
	free(w);
	return ret;
}

static int write_one(int dirfd, const char *name, uint32_t magic, const ProtobufCMessage *m)
{
	struct thaw_image_writer *w = thaw_image_create(dirfd, name, magic);

	if (!w)
		return thaw_err_code();
	thaw_image_put(w, m); /* a failure is told again by close */
	return thaw_image_close(w);
}

int thaw_image_write_inventory(int dirfd)
{
	ThawImage__Inventory m = THAW_IMAGE__INVENTORY__INIT;

	m.img_version = 2;
	m.has_fdinfo_per_id = m.fdinfo_per_id = true;
	return write_one(dirfd, "inventory.img", THAW_IMAGE_INVENTORY_MAGIC, &m.base);
}

int thaw_image_write_pstree(int dirfd, int pid, int ppid, int pgid, int sid, const uint32_t *threads, size_t n)
{
	ThawImage__Pstree m = THAW_IMAGE__PSTREE__INIT;

	m.pid = pid;
	m.ppid = ppid;
	m.pgid = pgid;
	m.sid = sid;
	m.n_threads = n;
	m.threads = (uint32_t *)threads;
	return write_one(dirfd, "pstree.img", THAW_IMAGE_PSTREE_MAGIC, &m.base);
}

int thaw_image_write_mm(int dirfd, int pid, const ThawImage__Mm *mm)
{
	char name[32];

	snprintf(name, sizeof(name), "mm-%d.img", pid);
	return write_one(dirfd, name, THAW_IMAGE_MM_MAGIC, &mm->base);
}

/* ---- pagemap ----------------------------------------------------------------------------------------------- */
struct thaw_pagemap_writer {
	struct thaw_image_writer *file;
	uint64_t addr, pages; /* the run not yet written; 0 pages: none */
	unsigned flags;
};

struct thaw_pagemap_writer *thaw_image_pagemap_create(int dirfd, int pid, uint32_t pages_id)
{
	struct thaw_pagemap_writer *w = calloc(1, sizeof(*w));
	ThawImage__PagemapHead head = THAW_IMAGE__PAGEMAP_HEAD__INIT;
	char name[32];

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	if (!w) {
		thaw_err_set(-ENOMEM, "%s: no memory", name);
		return NULL;
	}
	w->file = thaw_image_create(dirfd, name, THAW_IMAGE_PAGEMAP_MAGIC);
	if (!w->file) {
		free(w);
		return NULL;
	}
	head.pages_id = pages_id;
	thaw_image_put(w->file, &head.base);
	return w;
}

static int put_run(struct thaw_pagemap_writer *w)
{
	ThawImage__PagemapEntry e = THAW_IMAGE__PAGEMAP_ENTRY__INIT;

	if (!w->pages)
		return 0;
	e.vaddr = w->addr;
	e.has_flags = true;
	e.flags = w->flags;
	e.has_nr_pages = true;
	e.nr_pages = w->pages;
	w->pages = 0;
	return thaw_image_put(w->file, &e.base);
}

int thaw_image_pagemap_add(struct thaw_pagemap_writer *w, uint64_t addr, uint64_t pages, unsigned flags)
{
	uint64_t end = w->addr + w->pages * 4096;
	int ret = 0;

	if (addr & 4095 || !pages || pages > (UINT64_MAX - addr) / 4096 || addr < end)
		return thaw_err_set(-EINVAL, "%s: a run of %lu pages at 0x%lx does not follow what ends at 0x%lx",
				    w->file->name, pages, addr, end);
	if (w->pages && addr == end && flags == w->flags) {
		w->pages += pages;
		return 0;
	}
	ret = put_run(w);
	w->addr = addr;
	w->pages = pages;
	w->flags = flags;
	return ret;
}

int thaw_image_pagemap_close(struct thaw_pagemap_writer *w)
{
	int ret;

	if (!w)
		return 0;
	put_run(w); /* a failure is told again by close */
	ret = thaw_image_close(w->file);
	free(w);
	return ret;
}
