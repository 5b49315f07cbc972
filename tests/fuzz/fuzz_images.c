// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_images.c - a directory of hostile images with up to two parents, read as a source; against a page by page
 * search
 *
 * Input: a byte of switches, then three pagemaps (without magic), each behind a 16-bit length. The pages files get the
 * size that fits, unless a switch says otherwise. With another one the first has right checksums, with two a byte of those is wrong. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "image/sums.h"
#include "source/source.h"
#include "support/imagedir.h"
#include "util/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LEVELS = 3, NEGLIGIBLE = 3000 };

static struct scratch dir[LEVELS];
static struct thaw_image_pagemap level[LEVELS]; /* n 0: none, or not readable */

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s (%s)\n", what, thaw_err_text());
	abort();
}

static void clean_up(void)
{
	for (unsigned i = 0; i < LEVELS; i++)
		scratch_end(&dir[i]);
}

static void begin(void)
{
	if (dir[0].fd)
		return;
	setenv("TMPDIR", "/dev/shm", 0);
	for (unsigned i = 0; i < LEVELS; i++)
		scratch_begin(&dir[i]);
	atexit(clean_up);
}

static const uint8_t *put_level(unsigned i, const uint8_t *data, const uint8_t *end, unsigned switches)
{
	static struct bytes b;
	size_t len = end - data < 2 ? 0 : (size_t)data[0] | (size_t)data[1] << 8;
	char name[32];

	data = end - data < 2 ? end : data + 2;
	if (len > (size_t)(end - data))
		len = (size_t)(end - data);
	if (len > sizeof(b.at) - 8)
		len = sizeof(b.at) - 8;
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	memcpy(b.at + b.len, data, len);
	scratch_put(&dir[i], "pagemap-7.img", b.at, b.len + len);
	memset(&level[i], 0, sizeof(level[i]));
	if (!thaw_image_pagemap_load(dir[i].fd, 7, &level[i])) {
		snprintf(name, sizeof(name), "pages-%u.img", level[i].pages_id);
		scratch_size(&dir[i], name, level[i].file_pages * 4096 + (switches & 1 ? 512 : 0));
	}
	if (i)
		check(!symlinkat(dir[i].path, dir[i - 1].fd, "parent"), "no link");
	return data + len;
}

/* ---- the slow way ------------------------------------------------------------------------------------------ */
/* The level that has the page's content and where, or -1. */
static int search(uint64_t addr, uint64_t *off)
{
	for (unsigned l = 0; l < LEVELS; l++) {
		const struct thaw_image_run *hit = NULL;

		for (size_t i = 0; i < level[l].n && !hit; i++)
			if (addr >= level[l].run[i].addr && addr - level[l].run[i].addr < level[l].run[i].pages * 4096)
				hit = &level[l].run[i];
		if (!hit)
			return -1;
		if (hit->flags & THAW_PE_PRESENT) {
			*off = hit->off + (addr - hit->addr);
			return (int)l;
		}
		if (!(hit->flags & THAW_PE_PARENT))
			return -1;
	}
	return -1;
}

static uint64_t last_end, emitted;

static int compare(void *opaque, const struct thaw_extent *e)
{
	check(!emitted || e->addr >= last_end, "extents out of order");
	last_end = e->addr + e->pages * 4096;
	for (uint64_t i = 0; i < e->pages && emitted < NEGLIGIBLE; i++, emitted++) {
		uint64_t off = 0;

		check(search(e->addr + i * 4096, &off) == (int)e->object && off == e->off + i * 4096,
		      "a page from elsewhere");
	}
	return emitted >= NEGLIGIBLE;
}

/* Of a file of zeros, as the pages files here are. */
static bool put_sums(unsigned wrong)
{
	static const unsigned char page[THAW_SUMS_PAGE];
	struct thaw_sums_writer *w;
	char name[32];
	off_t at;
	char c = 0;
	int fd;

	if (!level[0].n || level[0].file_pages > NEGLIGIBLE)
		return false;
	w = thaw_sums_create(dir[0].fd, level[0].pages_id);
	check(w != NULL, "no checksums");
	for (uint64_t i = 0; i < level[0].file_pages; i++)
		thaw_sums_add(w, page, 1);
	check(!thaw_sums_finish(w), "checksums not written");
	if (!wrong)
		return true;
	snprintf(name, sizeof(name), "pages-%u.sum.img", level[0].pages_id);
	fd = openat(dir[0].fd, name, O_RDWR | O_CLOEXEC);
	at = (off_t)(wrong * 7919UL % (THAW_SUMS_HEADER + level[0].file_pages * 4));
	check(fd >= 0 && pread(fd, &c, 1, at) == 1, "checksums not read");
	c ^= 1 << wrong % 8;
	check(pwrite(fd, &c, 1, at) == 1, "checksums not changed");
	close(fd);
	return true;
}

static void check_source(struct thaw_source *s)
{
	uint64_t want = 0;
	int ret;

	last_end = emitted = 0;
	ret = s->ops->extents(s, compare, NULL);
	check(ret >= 0, "a source that fails after it was made");
	for (size_t i = 0; i < level[0].n; i++)
		want += level[0].run[i].pages;
	check(ret || emitted == want, "pages that are silently missing");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;
	unsigned switches = size ? *data++ : 0;
	struct thaw_source *s;
	bool sums;

	begin();
	for (unsigned i = 0; i < LEVELS; i++)
		data = put_level(i, data, end, switches >> i);
	if (switches & 64)
		symlinkat(dir[0].path, dir[LEVELS - 1].fd, "parent");
	sums = switches & 128 && put_sums(switches & 32 ? 1 + (unsigned)size : 0);
	thaw_err_clear();
	s = thaw_source_images(dir[0].fd, 7);
	check(!s || !sums || !(switches & 32) || !level[0].file_pages, "wrong checksums that were not noticed");
	if (s)
		check_source(s);
	else
		check(thaw_get_errno() > 0 && *thaw_get_error(), "refused without a sentence");
	thaw_source_close(s);
	for (unsigned i = 0; i < LEVELS; i++) {
		thaw_image_pagemap_free(&level[i]);
		scratch_empty(&dir[i]);
	}
	return 0;
}
