// SPDX-License-Identifier: LGPL-2.1-or-later
/* unit/test_image.c - images written and read back, old layouts, parents, and what is refused with which words */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/chain.h"
#include "image/write.h"
#include "support/imagedir.h"
#include "util/err.h"

static struct scratch dir, parent;
static struct bytes b;

static void set_up(void)
{
	scratch_begin(&dir);
	scratch_begin(&parent);
}

static void tear_down(void)
{
	scratch_end(&dir);
	scratch_end(&parent);
}

TestSuite(image, .init = set_up, .fini = tear_down);

static void refused(int ret, int code, const char *file, const char *place)
{
	cr_assert_eq(ret, code, "%d, not %d: %s", ret, code, thaw_err_text());
	cr_assert(strstr(thaw_err_text(), file), "\"%s\" does not name %s", thaw_err_text(), file);
	cr_assert(strstr(thaw_err_text(), place), "\"%s\" does not say \"%s\"", thaw_err_text(), place);
}

static void put_pagemap(struct scratch *s)
{
	scratch_put(s, "pagemap-7.img", b.at, b.len);
}

/* ---- pagemap ----------------------------------------------------------------------------------------------- */
Test(image, pagemap_written_and_read)
{
	struct thaw_pagemap_writer *w = thaw_image_pagemap_create(dir.fd, 7, 300);
	struct thaw_image_pagemap pm;
	struct stat st;

	cr_assert_eq(thaw_image_pagemap_add(w, 0x10000, 4, 6), 0);
	cr_assert_eq(thaw_image_pagemap_add(w, 0x14000, 4, 6), 0);
	cr_assert_eq(thaw_image_pagemap_add(w, 0x18000, 1, 4), 0);
	cr_assert_eq(thaw_image_pagemap_add(w, 0x100000000000, 5UL << 20, 6), 0);
	cr_assert_eq(thaw_image_pagemap_add(w, 0x18000, 1, 6), -EINVAL);
	cr_assert_eq(thaw_image_pagemap_close(w), 0);
	cr_assert_null(thaw_image_pagemap_create(dir.fd, 7, 300), "an existing file is not written over");
	cr_assert_eq(thaw_image_pagemap_load(dir.fd, 7, &pm), 0, "%s", thaw_err_text());
	cr_assert_eq(pm.pages_id, 300);
	cr_assert_eq(pm.n, 3);
	cr_assert(pm.wide);
	cr_assert_eq(pm.run[0].pages, 8);
	cr_assert_eq(pm.run[1].off, 8 * 4096);
	cr_assert_eq(pm.run[2].addr, 0x100000000000);
	cr_assert_eq(pm.run[2].pages, 5UL << 20);
	cr_assert_eq(pm.file_pages, 9 + (5UL << 20));
	thaw_image_pagemap_free(&pm);
	cr_assert_eq(fstatat(dir.fd, "pagemap-7.img", &st, 0), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
}

Test(image, many_runs_through_the_writer)
{
	struct thaw_pagemap_writer *w = thaw_image_pagemap_create(dir.fd, 7, 1);
	struct thaw_image_pagemap pm;

	for (uint64_t i = 0; i < 100000; i++)
		cr_assert_eq(thaw_image_pagemap_add(w, i * 0x3000, 2, 4), 0);
	cr_assert_eq(thaw_image_pagemap_close(w), 0);
	cr_assert_eq(thaw_image_pagemap_load(dir.fd, 7, &pm), 0);
	cr_assert_eq(pm.n, 100000);
	for (uint64_t i = 0; i < pm.n; i++)
		cr_assert(pm.run[i].addr == i * 0x3000 && pm.run[i].off == i * 0x2000 && pm.run[i].pages == 2);
	thaw_image_pagemap_free(&pm);
}

/* Up to CRIU 4.1 the number is in field 2; entries without flags are present, or in the parent. Bytes as CRIU wrote
 * them. */
Test(image, old_layout)
{
	static const unsigned char probed[] = {
		0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, 2, 0, 0, 0, 0x08, 0x01,
		0x0e, 0, 0, 0, 0x08, 0x80, 0xe0, 0xf3, 0x8a, 0x8f, 0xc3, 0x15, 0x10, 0x00, 0x20, 0x04, 0x28, 0x01,
	};
	struct thaw_image_pagemap pm;
	struct thaw_image_file f;

	cr_assert_eq(thaw_image_parse(&f, "pagemap-1.img", probed, sizeof(probed), THAW_IMAGE_PAGEMAP_MAGIC), 0);
	cr_assert_eq(thaw_image_pagemap_parse(&f, &pm), 0);
	cr_assert(pm.n == 1 && pm.wide && pm.run[0].pages == 1 && pm.run[0].flags == 4 && pm.pages_id == 1);
	thaw_image_pagemap_free(&pm);
	bytes_head(&b, 2);
	bytes_entry(&b, 0x1000, 256, 0, 0);
	bytes_entry(&b, 0x101000, 256, 0, 0);
	put_pagemap(&dir);
	cr_assert_eq(thaw_image_pagemap_load(dir.fd, 7, &pm), 0);
	cr_assert(pm.n == 1 && !pm.wide && pm.run[0].pages == 512 && pm.run[0].flags == THAW_PE_PRESENT);
	thaw_image_pagemap_free(&pm);
}

Test(image, pagemap_entries_that_are_refused)
{
	static const struct {
		uint64_t addr, pages;
		unsigned flags;
		const char *what;
	} bad[] = {
		{ 0x3001, 1, 4, "address" },
		{ 0x2000, 1, 4, "before the end" },
		{ 0x4000, 0, 4, "number of pages" },
		{ 0x4000, UINT64_MAX, 4, "number of pages" },
		{ 0x4000, 1UL << 52, 4, "number of pages" },
		{ -4096UL, 2, 4, "number of pages" },
		{ 0x4000, 1, 8, "flags" },
		{ 0x4000, 1, 5, "flags" },
		{ 0x4000, 1, 3, "flags" },
	};
	struct thaw_image_pagemap pm;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bytes_head(&b, 1);
		bytes_entry(&b, 0x1000, 2, 4, 1);
		bytes_entry(&b, bad[i].addr, bad[i].pages, bad[i].flags, 1);
		put_pagemap(&dir);
		refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img: ", bad[i].what);
		refused(-EBADMSG, -EBADMSG, "byte 27", "corrupt");
	}
}

/* ---- framing ----------------------------------------------------------------------------------------------- */
Test(image, frames_that_are_refused)
{
	struct thaw_image_pagemap pm;

	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -ENOENT, "pagemap-7.img", "no such file");
	scratch_put(&dir, "pagemap-7.img", "", 0);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img", "truncated: 0 bytes");
	scratch_put(&dir, "pagemap-7.img", "\177ELF\2\1\1\0\0\0", 10);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img", "is not an image");
	bytes_magic(&b, THAW_IMAGE_MM_MAGIC);
	put_pagemap(&dir);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img", "another kind of image");
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	put_pagemap(&dir);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img", "byte 8");
	bytes_u32(&b, 0xfffffff0);
	put_pagemap(&dir);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img",
		"a record of 4294967280 bytes at byte 8");
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_u32(&b, 4);
	bytes_field(&b, 1, 5);
	put_pagemap(&dir);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img", "truncated: the record at byte 8");
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_u32(&b, 2);
	bytes_field(&b, 9, 5); /* the required field is missing */
	put_pagemap(&dir);
	refused(thaw_image_pagemap_load(dir.fd, 7, &pm), -EBADMSG, "pagemap-7.img",
		"the record at byte 8 cannot be read");
}

/* ---- who could have written it ------------------------------------------------------------------------------- */
Test(image, files_of_others_are_refused)
{
	struct thaw_image_chain c;

	bytes_head(&b, 1);
	put_pagemap(&dir);
	cr_assert_eq(thaw_image_chain_open(dir.fd, 7, &c), 0, "%s", thaw_err_text());
	thaw_image_chain_close(&c);
	fchmodat(dir.fd, "pagemap-7.img", 0620, 0);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EPERM, "pagemap-7.img", "chmod go-w");
	fchmodat(dir.fd, "pagemap-7.img", 0644, 0);
	fchmod(dir.fd, 0757);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EPERM, "image directory", "chmod go-w");
	fchmod(dir.fd, 0700);
	renameat(dir.fd, "pagemap-7.img", dir.fd, "elsewhere");
	symlinkat("elsewhere", dir.fd, "pagemap-7.img");
	refused(thaw_image_chain_open(dir.fd, 7, &c), -ELOOP, "pagemap-7.img", "symbolic link");
	unlinkat(dir.fd, "pagemap-7.img", 0);
	mkfifoat(dir.fd, "pagemap-7.img", 0600);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "pagemap-7.img", "regular file");
	unlinkat(dir.fd, "pagemap-7.img", 0);
	if (geteuid())
		cr_skip_test("the rest needs root");
	put_pagemap(&dir);
	fchownat(dir.fd, "pagemap-7.img", 4711, -1, 0);
	refused(thaw_image_chain_open(dir.fd, 7, &c), geteuid() == 4711 ? 0 : -EPERM, "pagemap-7.img", "user 4711");
}

/* ---- chains ------------------------------------------------------------------------------------------------ */
struct found {
	char text[400];
};

static int note(void *opaque, unsigned level, uint64_t addr, uint64_t pages, uint64_t off)
{
	struct found *f = opaque;
	size_t len = strlen(f->text);

	snprintf(f->text + len, sizeof(f->text) - len, "%lx+%lu=%u:%lx ", addr, pages, level, off);
	return 0;
}

static void link_parent(void)
{
	cr_assert_eq(symlinkat(parent.path, dir.fd, "parent"), 0);
}

Test(image, pages_of_the_parent)
{
	struct thaw_image_chain c;
	struct found f = { "" };

	bytes_head(&b, 1);
	bytes_entry(&b, 0x1000, 2, 4, 1);
	bytes_entry(&b, 0x3000, 6, 1, 1);
	bytes_entry(&b, 0x9000, 1, 6, 1);
	put_pagemap(&dir);
	scratch_size(&dir, "pages-1.img", 3 * 4096);
	bytes_head(&b, 9);
	bytes_entry(&b, 0x0000, 4, 4, 1);
	bytes_entry(&b, 0x4000, 1, 6, 1);
	bytes_entry(&b, 0x5000, 20, 4, 1);
	put_pagemap(&parent);
	scratch_size(&parent, "pages-9.img", 25 * 4096);
	link_parent();
	cr_assert_eq(thaw_image_chain_open(dir.fd, 7, &c), 0, "%s", thaw_err_text());
	cr_assert_eq(thaw_image_chain_walk(&c, note, &f), 0);
	cr_assert_str_eq(f.text, "1000+2=0:0 3000+1=1:3000 4000+1=1:4000 5000+4=1:5000 9000+1=0:2000 ");
	cr_assert_neq(c.level[1].pages_fd, -1);
	thaw_image_chain_close(&c);
}

Test(image, parents_that_are_refused)
{
	struct thaw_image_chain c;

	bytes_head(&b, 1);
	bytes_entry(&b, 0x3000, 6, 1, 1);
	put_pagemap(&dir);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "parent", "no link");
	link_parent();
	refused(thaw_image_chain_open(dir.fd, 7, &c), -ENOENT, "parent directory: pagemap-7.img", "no such file");
	put_pagemap(&parent);
	symlinkat(dir.path, parent.fd, "parent");
	refused(thaw_image_chain_open(dir.fd, 7, &c), -ELOOP, "parent", "circle");
	bytes_head(&b, 1);
	bytes_entry(&b, 0x3000, 3, 4, 1);
	put_pagemap(&parent);
	scratch_size(&parent, "pages-1.img", 3 * 4096);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "parent 1 does not have it", "0x6000");
	bytes_entry(&b, 0x6000, 3, 2, 1);
	put_pagemap(&parent);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -ENOTSUP, "page server", "0x6000");
	fchmod(parent.fd, 0777);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EPERM, "parent directory: image directory", "chmod go-w");
}

/* A pagemap cut off at any byte is refused: by its framing, or because the pages file has more than it tells of. */
Test(image, truncation_at_any_byte)
{
	struct thaw_image_chain c;
	size_t whole;

	bytes_head(&b, 1);
	for (unsigned i = 0; i < 20; i++)
		bytes_entry(&b, 0x10000 + i * 0x5000, 2, 4, 1);
	scratch_size(&dir, "pages-1.img", 40 * 4096);
	whole = b.len;
	put_pagemap(&dir);
	cr_assert_eq(thaw_image_chain_open(dir.fd, 7, &c), 0);
	thaw_image_chain_close(&c);
	for (size_t len = 0; len < whole; len++) {
		scratch_put(&dir, "pagemap-7.img", b.at, len);
		cr_assert_lt(thaw_image_chain_open(dir.fd, 7, &c), 0, "cut to %zu bytes and not refused", len);
		cr_assert(strstr(thaw_err_text(), ".img: ") && strstr(thaw_err_text(), "byte"), "%s", thaw_err_text());
	}
	put_pagemap(&dir);
	scratch_size(&dir, "pages-1.img", 39 * 4096 + 4095);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "pages-1.img: truncated", "byte 163839");
	scratch_size(&dir, "pages-1.img", 41 * 4096);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "pages-1.img", "byte 163840");
	unlinkat(dir.fd, "pages-1.img", 0);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -ENOENT, "pages-1.img", "no such file");
}

/* ---- mm, inventory, pstree ----------------------------------------------------------------------------------- */
static int mm_with(uint64_t start1, uint64_t end1, uint64_t start2, uint64_t end2, ThawImage__Mm **read)
{
	ThawImage__Mm mm = THAW_IMAGE__MM__INIT;
	ThawImage__Vma v[2] = { THAW_IMAGE__VMA__INIT, THAW_IMAGE__VMA__INIT }, *vs[2] = { &v[0], &v[1] };

	v[0].start = start1, v[0].end = end1, v[0].fd = -1, v[0].status = THAW_VMA_REGULAR | THAW_VMA_ANON_PRIVATE;
	v[1].start = start2, v[1].end = end2, v[1].fd = 77, v[1].pgoff = 5UL << 32;
	mm.n_vmas = 2;
	mm.vmas = vs;
	mm.brk = 0x555555554000;
	unlinkat(dir.fd, "mm-7.img", 0);
	cr_assert_eq(thaw_image_write_mm(dir.fd, 7, &mm), 0, "%s", thaw_err_text());
	return thaw_image_mm_load(dir.fd, 7, read);
}

Test(image, mm_written_and_read)
{
	ThawImage__Mm *mm;

	cr_assert_eq(mm_with(0x1000, 0x3000, 0x3000, 0x7fff00000000, &mm), 0, "%s", thaw_err_text());
	cr_assert(mm->n_vmas == 2 && mm->vmas[0]->fd == -1 && mm->vmas[1]->fd == 77 && mm->brk == 0x555555554000);
	cr_assert(mm->vmas[1]->end == 0x7fff00000000 && mm->vmas[1]->pgoff == 5UL << 32);
	thaw_image__mm__free_unpacked(mm, NULL);
	refused(mm_with(0x1000, 0x3000, 0x2000, 0x4000, &mm), -EBADMSG, "mm-7.img", "mapping 1");
	refused(mm_with(0x1000, 0x1000, 0x2000, 0x4000, &mm), -EBADMSG, "mm-7.img", "mapping 0");
	refused(mm_with(0x1001, 0x3000, 0x3000, 0x4000, &mm), -EBADMSG, "mm-7.img", "byte 8");
	bytes_magic(&b, THAW_IMAGE_MM_MAGIC);
	scratch_put(&dir, "mm-7.img", b.at, b.len);
	refused(thaw_image_mm_load(dir.fd, 7, &mm), -EBADMSG, "mm-7.img", "truncated");
}

Test(image, index_written_and_read)
{
	const uint32_t threads[] = { 7, 8, 9 };
	struct thaw_image_index index;

	cr_assert_eq(thaw_image_write_inventory(dir.fd), 0);
	cr_assert_eq(thaw_image_write_pstree(dir.fd, 7, 1, 7, 5, threads, 3), 0);
	cr_assert_eq(thaw_image_index_load(dir.fd, &index), 0, "%s", thaw_err_text());
	cr_assert(index.version == 2 && index.n == 1);
	cr_assert(index.task[0].pid == 7 && index.task[0].ppid == 1 && index.task[0].sid == 5 &&
		  index.task[0].threads == 3);
	thaw_image_index_free(&index);
	bytes_magic(&b, THAW_IMAGE_INVENTORY_MAGIC);
	bytes_u32(&b, 2);
	bytes_field(&b, 1, 3);
	scratch_put(&dir, "inventory.img", b.at, b.len);
	refused(thaw_image_index_load(dir.fd, &index), -ENOTSUP, "inventory.img", "image version 3 at byte 4");
}
