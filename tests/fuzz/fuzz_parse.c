// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_parse.c - one image file of hostile bytes, in memory: framing, and each kind's reader
 *
 * First byte: which kind, and whether the magic numbers are the input's own or right ones are put in front. With 8 in it, eight bytes
 * of a number of pages and a file of checksums follow. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "image/sums.h"
#include "util/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint32_t magics[] = {
	THAW_IMAGE_INVENTORY_MAGIC, THAW_IMAGE_PSTREE_MAGIC, THAW_IMAGE_PAGEMAP_MAGIC, THAW_IMAGE_MM_MAGIC,
};

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s (%s)\n", what, thaw_err_text());
	abort();
}

static void check_runs(const struct thaw_image_pagemap *pm)
{
	uint64_t end = 0, pages = 0;

	for (size_t i = 0; i < pm->n; i++) {
		const struct thaw_image_run *r = &pm->run[i];

		check(r->addr >= end && r->pages && r->addr + r->pages * 4096 - 1 >= r->addr, "a run out of order");
		end = r->addr + r->pages * 4096;
		if (!(r->flags & THAW_PE_PRESENT))
			continue;
		check(r->off == pages * 4096, "a run at a wrong place of the pages file");
		pages += r->pages;
	}
	check(pages == pm->file_pages, "a wrong sum of pages");
	check(pages < UINT64_C(1) << 45, "more pages than a file can have");
}

static int read_it(struct thaw_image_file *f, unsigned kind)
{
	struct thaw_image_index index = { 0 };
	struct thaw_image_pagemap pm;
	ThawImage__Mm *mm;
	unsigned version;
	int ret;

	if (kind == 0) {
		ret = thaw_image_inventory_parse(f, &version);
		check(ret || (version >= 1 && version <= 2), "an impossible version");
	} else if (kind == 1) {
		ret = thaw_image_pstree_parse(f, &index);
		check(ret || index.n, "no process and no error");
		thaw_image_index_free(&index);
	} else if (kind == 2) {
		ret = thaw_image_pagemap_parse(f, &pm);
		if (!ret)
			check_runs(&pm);
		check(!ret || !pm.run, "a failed reader keeps memory");
		thaw_image_pagemap_free(&pm);
	} else {
		ret = thaw_image_mm_parse(f, &mm);
		for (size_t i = 1; !ret && i < mm->n_vmas; i++)
			check(mm->vmas[i]->start >= mm->vmas[i - 1]->end, "mappings out of order");
		if (!ret)
			thaw_image__mm__free_unpacked(mm, NULL);
	}
	return ret;
}

static void read_sums(const uint8_t *data, size_t size)
{
	unsigned char header[THAW_SUMS_HEADER] = { 0 };
	uint64_t pages = 0;
	int ret;

	memcpy(&pages, data, size < 8 ? size : 8);
	pages %= (UINT64_C(1) << 44) + 1; /* no page map has more */
	data += size < 8 ? size : 8;
	size -= size < 8 ? size : 8;
	memcpy(header, data, size < sizeof(header) ? size : sizeof(header));
	thaw_err_clear();
	ret = thaw_sums_parse("fuzz.img", header, size, pages);
	check(ret || size == THAW_SUMS_HEADER + pages * 4, "a file of checksums that is too short for its pages, or too long");
	check(!ret || (ret < 0 && thaw_err_code() == ret && strstr(thaw_err_text(), "fuzz.img")), "refused without a sentence");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned kind = size ? data[0] & 3 : 0;
	struct thaw_image_file f;
	size_t len = 0;
	uint8_t *buf;
	int ret;

	if (!size)
		return 0;
	if (data[0] & 8) {
		read_sums(data + 1, size - 1);
		return 0;
	}
	buf = malloc(size + 8);
	if (!buf)
		return 0;
	if (!(data[0] & 4)) {
		static const uint32_t common = THAW_IMAGE_COMMON_MAGIC;

		if (kind) {
			memcpy(buf, &common, 4);
			len = 4;
		}
		memcpy(buf + len, &magics[kind], 4);
		len += 4;
	}
	memcpy(buf + len, data + 1, size - 1);
	len += size - 1;
	thaw_err_clear();
	ret = thaw_image_parse(&f, "fuzz.img", buf, len, magics[kind]);
	if (!ret)
		ret = read_it(&f, kind);
	if (ret)
		check(ret < 0 && thaw_err_code() == ret && strstr(thaw_err_text(), "fuzz.img"),
		      "refused without a sentence");
	free(buf);
	return 0;
}
