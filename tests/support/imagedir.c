// SPDX-License-Identifier: LGPL-2.1-or-later
/* support/imagedir.c - a scratch directory with image files made byte by byte */
#include "config.h"
#include "support/imagedir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"

void scratch_begin(struct scratch *s)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(s->path, sizeof(s->path), "%s/thaw-test-XXXXXX", tmp && strlen(tmp) < 90 ? tmp : "/tmp");
	if (!mkdtemp(s->path))
		abort();
	s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd < 0)
		abort();
}

void scratch_empty(struct scratch *s)
{
	int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(s->fd, e->d_name, e->d_type == DT_DIR ? AT_REMOVEDIR : 0);
	closedir(d);
}

void scratch_end(struct scratch *s)
{
	scratch_empty(s);
	close(s->fd);
	rmdir(s->path);
}

static int make(struct scratch *s, const char *name)
{
	int fd;

	unlinkat(s->fd, name, 0);
	fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		abort();
	return fd;
}

void scratch_put(struct scratch *s, const char *name, const void *data, size_t len)
{
	int fd = make(s, name);

	if (write(fd, data, len) != (ssize_t)len)
		abort();
	close(fd);
}

void scratch_size(struct scratch *s, const char *name, uint64_t size)
{
	int fd = make(s, name);

	if (ftruncate(fd, (off_t)size))
		unlinkat(s->fd, name, 0); /* more than this filesystem's files can have: then there is none */
	close(fd);
}

/* ---- bytes ------------------------------------------------------------------------------------------------- */
static void put(struct bytes *b, const void *data, size_t len)
{
	if (b->len + len > sizeof(b->at))
		abort();
	memcpy(b->at + b->len, data, len);
	b->len += len;
}

void bytes_u32(struct bytes *b, uint32_t v)
{
	put(b, &v, 4); /* the images are little-endian, and so is what this runs on */
}

void bytes_magic(struct bytes *b, uint32_t magic)
{
	b->len = 0;
	if (magic != THAW_IMAGE_INVENTORY_MAGIC)
		bytes_u32(b, THAW_IMAGE_COMMON_MAGIC);
	bytes_u32(b, magic);
}

static void varint(struct bytes *b, uint64_t v)
{
	unsigned char c;

	do {
		c = (v & 127) | (v > 127 ? 128 : 0);
		put(b, &c, 1);
		v >>= 7;
	} while (v);
}

void bytes_field(struct bytes *b, unsigned field, uint64_t v)
{
	varint(b, field << 3);
	varint(b, v);
}

void bytes_entry(struct bytes *b, uint64_t addr, uint64_t pages, unsigned flags, int wide)
{
	size_t len_at = b->len;
	uint32_t len;

	bytes_u32(b, 0);
	bytes_field(b, 1, addr);
	bytes_field(b, 2, wide ? 0 : pages);
	if (flags)
		bytes_field(b, 4, flags);
	if (wide)
		bytes_field(b, 5, pages);
	len = (uint32_t)(b->len - len_at - 4);
	memcpy(b->at + len_at, &len, 4);
}

void bytes_head(struct bytes *b, uint32_t pages_id)
{
	size_t len_at;
	uint32_t len;

	bytes_magic(b, THAW_IMAGE_PAGEMAP_MAGIC);
	len_at = b->len;
	bytes_u32(b, 0);
	bytes_field(b, 1, pages_id);
	len = (uint32_t)(b->len - len_at - 4);
	memcpy(b->at + len_at, &len, 4);
}
