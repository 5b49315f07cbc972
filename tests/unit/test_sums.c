// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_sums.c - checksums of pages: written, read back, and what does not belong to them is found */
#include "config.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/chain.h"
#include "image/sums.h"
#include "image/write.h"
#include "support/imagedir.h"
#include "util/err.h"

enum { PAGE = 4096, PAGES = 700, BYTES = PAGES * PAGE };

static struct scratch dir;
static unsigned char memory[BYTES];
static unsigned char file[THAW_SUMS_HEADER + PAGES * 4];

static int cmp_err(int ret, int code, const char *one, const char *other)
{
	return ret == code && strstr(thaw_err_text(), one) && strstr(thaw_err_text(), other);
}
#define refused(ret, code, one, other) cr_assert(cmp_err(ret, code, one, other), "%s", thaw_err_text())

static void put_sums(unsigned pages)
{
	struct thaw_sums_writer *w;

	unlinkat(dir.fd, "pages-1.sum.img", 0);
	w = thaw_sums_create(dir.fd, 1);
	cr_assert(w, "%s", thaw_err_text());
	cr_assert_eq(thaw_sums_add(w, memory, pages / 3), 0);
	cr_assert_eq(thaw_sums_add(w, memory + pages / 3 * PAGE, pages - pages / 3), 0);
	cr_assert_eq(thaw_sums_finish(w), 0, "%s", thaw_err_text());
}

static void setup(void)
{
	uint32_t x = 4711;
	int fd;

	scratch_begin(&dir);
	for (size_t i = 0; i < BYTES; i++)
		memory[i] = (unsigned char)((x = x * 1103515245 + 12345) >> 16);
	put_sums(PAGES);
	fd = openat(dir.fd, "pages-1.sum.img", O_RDONLY);
	cr_assert_eq(read(fd, file, sizeof(file)), (ssize_t)sizeof(file));
	close(fd);
}

static void teardown(void)
{
	scratch_end(&dir);
}
TestSuite(sums, .init = setup, .fini = teardown);

static void open_sums(struct thaw_sums *s)
{
	cr_assert_eq(thaw_sums_open(dir.fd, 1, PAGES, s), 0, "%s", thaw_err_text());
	cr_assert(s->sum);
}

Test(sums, one_page_of_many)
{
	struct thaw_sums s;

	open_sums(&s);
	cr_assert_eq(thaw_sums_right(&s, 0, BYTES, memory), BYTES);
	for (unsigned page = 0; page < PAGES; page += 37) {
		memory[page * PAGE + page] ^= 1;
		cr_assert_eq(thaw_sums_right(&s, 0, BYTES, memory), page * PAGE);
		cr_assert_eq(thaw_sums_right(&s, page * PAGE, PAGE, memory + page * PAGE), 0);
		memory[page * PAGE + page] ^= 1;
		cr_assert_eq(thaw_sums_right(&s, page * PAGE, PAGE, memory + page * PAGE), PAGE);
	}
	cr_assert_eq(thaw_sums_right(&s, PAGE, PAGE, memory), 0); /* right content at a wrong place */
	cr_assert_eq(thaw_sums_right(&s, BYTES, PAGE, memory), 0);
	cr_assert_eq(ftruncate(openat(dir.fd, "pages-1.sum.img", O_WRONLY), 100), 0); /* cut while it is used */
	cr_assert_eq(thaw_sums_right(&s, BYTES - PAGE, PAGE, memory + BYTES - PAGE), PAGE);
	thaw_sums_close(&s);
}

/* Every bit of it counts, and its length. */
Test(sums, damaged)
{
	struct thaw_sums s;

	for (size_t i = 0; i < sizeof(file); i += i < 40 ? 1 : 61) {
		int ret;

		file[i] ^= 0x20;
		scratch_put(&dir, "pages-1.sum.img", file, sizeof(file));
		ret = thaw_sums_open(dir.fd, 1, PAGES, &s);
		cr_assert(ret == -EBADMSG || ret == -ENOTSUP, "byte %zu: %d", i, ret);
		cr_assert(strstr(thaw_err_text(), "pages-1.sum.img") && !s.sum, "%s", thaw_err_text());
		file[i] ^= 0x20;
	}
	for (size_t len = 0; len < sizeof(file); len += len < 40 ? 1 : 499) {
		scratch_put(&dir, "pages-1.sum.img", file, len);
		refused(thaw_sums_open(dir.fd, 1, PAGES, &s), -EBADMSG, "pages-1.sum.img", "truncated");
	}
	scratch_put(&dir, "pages-1.sum.img", file, sizeof(file));
	refused(thaw_sums_open(dir.fd, 1, PAGES + 1, &s), -EBADMSG, "700 pages", "another checkpoint");
	{
		uint64_t many = htole64(1UL << 36);

		memcpy(file + 16, &many, 8);
		scratch_size(&dir, "pages-1.sum.img", THAW_SUMS_HEADER + (4UL << 36)); /* a hole, not read */
		cr_assert_eq(pwrite(openat(dir.fd, "pages-1.sum.img", O_WRONLY), file, THAW_SUMS_HEADER, 0), THAW_SUMS_HEADER);
		refused(thaw_sums_open(dir.fd, 1, 1UL << 36, &s), -EBADMSG, "pages-1.sum.img", "hardly any");
	}
	scratch_put(&dir, "pages-1.sum.img", file, sizeof(file));
	fchmodat(dir.fd, "pages-1.sum.img", 0620, 0);
	refused(thaw_sums_open(dir.fd, 1, PAGES, &s), -EPERM, "pages-1.sum.img", "chmod");
	unlinkat(dir.fd, "pages-1.sum.img", 0);
	cr_assert_eq(thaw_sums_open(dir.fd, 1, PAGES, &s), 0);
	cr_assert_null(s.sum);
}

/* A directory is refused when its pages are another's, and only looked at in places otherwise. */
Test(sums, of_a_directory)
{
	static struct thaw_image_chain c;
	struct thaw_pagemap_writer *w = thaw_image_pagemap_create(dir.fd, 7, 1);
	struct thaw_sums s;
	int fd;

	cr_assert(w && !thaw_image_pagemap_add(w, 0x10000, PAGES, THAW_PE_PRESENT) && !thaw_image_pagemap_close(w));
	scratch_put(&dir, "pages-1.img", memory, BYTES);
	cr_assert_eq(thaw_image_chain_open(dir.fd, 7, &c), 0, "%s", thaw_err_text());
	cr_assert(c.level[0].sums.sum);
	thaw_image_chain_close(&c);

	memory[5 * PAGE + 17] ^= 4; /* not in the sample */
	scratch_put(&dir, "pages-1.img", memory, BYTES);
	cr_assert_eq(thaw_image_chain_open(dir.fd, 7, &c), 0, "%s", thaw_err_text());
	thaw_image_chain_close(&c);
	fd = openat(dir.fd, "pages-1.img", O_RDONLY);
	open_sums(&s);
	refused(thaw_sums_verify(&s, fd, "pages-1.img"), -EBADMSG, "pages-1.img: the page at byte 20480 ", "does not match its checksum");
	memory[5 * PAGE + 17] ^= 4;

	for (unsigned i = 0; i < 2; i++) { /* the first page, the last one */
		unsigned char *byte = &memory[i ? BYTES - 1 : 0];

		*byte ^= 1;
		scratch_put(&dir, "pages-1.img", memory, BYTES);
		refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, i ? "byte 2863104 " : "byte 0 ", "another checkpoint");
		*byte ^= 1;
	}
	memmove(memory, memory + PAGE, BYTES - PAGE);
	scratch_put(&dir, "pages-1.img", memory, BYTES);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "pages-1.img", "another checkpoint");
	put_sums(PAGES);
	cr_assert_eq(thaw_image_chain_open(dir.fd, 7, &c), 0, "%s", thaw_err_text());
	thaw_image_chain_close(&c);
	put_sums(1);
	refused(thaw_image_chain_open(dir.fd, 7, &c), -EBADMSG, "1 pages", "another checkpoint");
	thaw_sums_close(&s);
	close(fd);
}

Test(sums, few_pages)
{
	for (unsigned n = 0; n < 5; n++) {
		struct thaw_sums s;
		int fd;

		put_sums(n);
		scratch_put(&dir, "pages-1.img", memory, n * PAGE);
		cr_assert_eq(thaw_sums_open(dir.fd, 1, n, &s), 0, "%s", thaw_err_text());
		fd = openat(dir.fd, "pages-1.img", O_RDONLY);
		cr_assert(!thaw_sums_sample(&s, fd, "pages-1.img") && !thaw_sums_verify(&s, fd, "pages-1.img"), "%s", thaw_err_text());
		thaw_sums_close(&s);
		close(fd);
	}
}

/* ---- other files --------------------------------------------------------------------------------------------- */
static uint64_t digest(const char *name, uint64_t want)
{
	uint64_t len = 1, sum = 0;

	cr_assert_eq(thaw_image_digest(dir.fd, name, &len, &sum), 0, "%s", thaw_err_text());
	cr_assert_eq(len, want);
	return sum;
}

Test(sums, of_other_files)
{
	uint64_t sum, hole, len;
	int fd;

	memset(memory + 3 * PAGE, 0, 300 * PAGE);
	scratch_put(&dir, "file", memory, BYTES - 7);
	sum = digest("file", BYTES - 7);
	fd = openat(dir.fd, "sparse", O_RDWR | O_CREAT, 0600); /* the same with a hole */
	cr_assert_eq(pwrite(fd, memory, 3 * PAGE, 0), 3 * PAGE);
	cr_assert_eq(pwrite(fd, memory + 303 * PAGE, BYTES - 7 - 303 * PAGE, 303 * PAGE), BYTES - 7 - 303 * PAGE);
	cr_assert_eq(digest("sparse", BYTES - 7), sum);
	cr_assert_eq(ftruncate(fd, 1L << 40), 0); /* not read, all of it */
	hole = digest("sparse", 1UL << 40);
	cr_assert_neq(hole, sum);
	cr_assert_eq(ftruncate(fd, (1L << 40) + 1), 0);
	cr_assert_neq(digest("sparse", (1UL << 40) + 1), hole);
	close(fd);
	for (unsigned i = 0; i < BYTES - 7; i += 99991) {
		memory[i] ^= 1;
		scratch_put(&dir, "file", memory, BYTES - 7);
		cr_assert_neq(digest("file", BYTES - 7), sum, "byte %u", i);
		memory[i] ^= 1;
	}
	scratch_put(&dir, "file", memory, 0);
	digest("file", 0);
	cr_assert_eq(thaw_image_digest(dir.fd, "absent", &len, &sum), -ENOENT);
}
