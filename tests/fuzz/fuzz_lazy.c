// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_lazy.c - a hostile directory of images as thaw lazy-pages reads it: what is accepted hangs together
 *
 * Input: four files without their magic numbers, each behind a 16-bit length: inventory.img, pstree.img, pagemap-7.img,
 * mm-7.img; and a byte of switches in front: 1 the pages file is too long, 2 pages come from a server. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "lazy/images.h"
#include "source/source.h"
#include "support/imagedir.h"
#include "util/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct scratch dir;

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s (%s)\n", what, thaw_err_text());
	abort();
}

static void clean_up(void)
{
	scratch_end(&dir);
}

static const uint8_t *put(const char *name, uint32_t magic, const uint8_t *data, const uint8_t *end)
{
	static struct bytes b;
	size_t len = end - data < 2 ? 0 : (size_t)data[0] | (size_t)data[1] << 8;

	data = end - data < 2 ? end : data + 2;
	if (len > (size_t)(end - data))
		len = (size_t)(end - data);
	bytes_magic(&b, magic);
	if (len > sizeof(b.at) - b.len)
		len = sizeof(b.at) - b.len;
	memcpy(b.at + b.len, data, len);
	scratch_put(&dir, name, b.at, b.len + len);
	return data + len;
}

static void put_pages(int too_long)
{
	struct thaw_image_pagemap pm;
	char name[32];

	if (thaw_image_pagemap_load(dir.fd, 7, &pm))
		return;
	snprintf(name, sizeof(name), "pages-%u.img", pm.pages_id);
	scratch_size(&dir, name, pm.file_pages * 4096 + (too_long ? 512 : 0));
	thaw_image_pagemap_free(&pm);
}

static uint64_t pages;
static const struct thaw_lazy_task *task;

static int is_inside(uint64_t addr, uint64_t len)
{
	for (size_t i = 0; i < task->n_ranges && len; i++) {
		uint64_t end = task->ranges[i].address + task->ranges[i].length;

		if (addr < task->ranges[i].address || addr >= end)
			continue;
		if (len <= end - addr)
			return 1;
		len -= end - addr;
		addr = end;
	}
	return 0;
}

static int see(void *opaque, const struct thaw_extent *e)
{
	pages += e->pages;
	check(is_inside(e->addr, e->pages * 4096), "content outside of all mappings");
	check(e->off / 4096 + e->pages <= task->pm.file_pages, "content behind the end of its file");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;
	unsigned switches = size ? *data++ : 0;
	struct thaw_lazy_images im;

	if (!dir.fd) {
		setenv("TMPDIR", "/dev/shm", 0);
		scratch_begin(&dir);
		atexit(clean_up);
	}
	data = put("inventory.img", THAW_IMAGE_INVENTORY_MAGIC, data, end);
	data = put("pstree.img", THAW_IMAGE_PSTREE_MAGIC, data, end);
	data = put("pagemap-7.img", THAW_IMAGE_PAGEMAP_MAGIC, data, end);
	put("mm-7.img", THAW_IMAGE_MM_MAGIC, data, end);
	put_pages(switches & 1);
	thaw_err_clear();
	if (thaw_lazy_images_load(&im, dir.fd, switches & 2)) {
		check(*thaw_err_text(), "refused without a sentence");
	} else {
		for (size_t i = 0; i < im.n; i++) {
			task = &im.task[i];
			pages = 0;
			check(i == 0 || im.task[i - 1].pid < task->pid, "tasks out of order");
			check(thaw_lazy_images_find(&im, task->pid) == task, "a task that is not found");
			if (task->local)
				check(!task->local->ops->extents(task->local, see, NULL), "a source that fails");
			check(!task->local || pages == task->lazy_pages, "pages that are silently missing");
		}
		thaw_lazy_images_free(&im);
	}
	scratch_empty(&dir);
	return 0;
}
