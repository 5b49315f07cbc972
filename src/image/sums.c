// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/sums.c - the checksums of a pages file: opened, and compared with what was read */
#include "config.h"
#include "image/sums.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxh_x86dispatch.h>

#include "image/image.h"
#include "util/err.h"

enum { PAGE = THAW_SUMS_PAGE, SAMPLE = 66, PIECE = 256 << 10, SPARSE_LEAST = 64 << 20 };

uint32_t thaw_sums_of_page(const void *page)
{
	return (uint32_t)XXH3_64bits(page, PAGE);
}

/* ---- bytes ------------------------------------------------------------------------------------------------- */
/* All of it; -ENODATA: the file ends before. */
static int read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (char *)buf + got, len - got, (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ENODATA;
		got += (size_t)n;
	}
	return 0;
}

static int failed(const char *name, uint64_t off, int err)
{
	return thaw_err_set(err, "%s: at byte %lu: %s", name, off, err == -ENODATA ? "shorter than it was" : strerror(-err));
}

/* ---- open -------------------------------------------------------------------------------------------------- */
static uint32_t u32_at(const unsigned char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return le32toh(v);
}

static uint64_t u64_at(const unsigned char *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return le64toh(v);
}

int thaw_sums_parse(const char *name, const unsigned char header[THAW_SUMS_HEADER], uint64_t size, uint64_t pages)
{
	uint64_t whole = THAW_SUMS_HEADER + pages * sizeof(uint32_t);

	if (size < THAW_SUMS_HEADER)
		return thaw_err_set(-EBADMSG, "%s: truncated: %lu bytes are not even its header", name, size);
	if (memcmp(header, THAW_SUMS_MAGIC, 8))
		return thaw_err_set(-EBADMSG, "%s: is not a file of checksums (wrong first bytes)", name);
	if (u32_at(header + 8) != THAW_SUMS_VERSION)
		return thaw_err_set(-ENOTSUP, "%s: version %u at byte 8, this thaw reads %d", name, u32_at(header + 8),
				    THAW_SUMS_VERSION);
	if (u32_at(header + 12) != PAGE)
		return thaw_err_set(-EBADMSG, "%s: corrupt: pages of %u bytes (byte 12)", name, u32_at(header + 12));
	if (u64_at(header + 16) != pages)
		return thaw_err_set(-EBADMSG, "%s: has the checksums of %lu pages (byte 16), the page map has %lu: it belongs to another "
				    "checkpoint", name, u64_at(header + 16), pages);
	if (size != whole)
		return thaw_err_set(-EBADMSG, "%s: %s: ends at byte %lu instead of %lu", name, size < whole ? "truncated" : "corrupt",
				    size, whole);
	return 0;
}

/* The sums, and the file against itself: a wrong bit in it shall not look like wrong memory. */
static int load(struct thaw_sums *s, int fd, const unsigned char header[THAW_SUMS_HEADER])
{
	size_t len = s->pages * sizeof(*s->sum);
	uint64_t sum;
	int err;

	s->sum = malloc(len ? len : 1);
	if (!s->sum)
		return thaw_err_set(-ENOMEM, "%s: no memory for %lu checksums", s->name, s->pages);
	err = read_at(fd, s->sum, len, THAW_SUMS_HEADER);
	if (err)
		return failed(s->name, THAW_SUMS_HEADER, err);
	sum = XXH3_64bits_withSeed(header, THAW_SUMS_HEADER - 8, XXH3_64bits(s->sum, len));
	if (sum != u64_at(header + 24))
		return thaw_err_set(-EBADMSG, "%s: corrupt: wrong checksum of its own (bytes 0 to %lu)", s->name, THAW_SUMS_HEADER + len);
	return 0;
}

int thaw_sums_open(int dirfd, uint32_t id, uint64_t pages, struct thaw_sums *s)
{
	unsigned char header[THAW_SUMS_HEADER] = { 0 };
	struct stat st;
	int fd, err;

	*s = (struct thaw_sums){ .pages = pages };
	snprintf(s->name, sizeof(s->name), "pages-%u.sum.img", id);
	if (faccessat(dirfd, s->name, F_OK, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
		return 0;
	fd = thaw_image_open_file(dirfd, s->name);
	if (fd < 0)
		return fd;
	err = fstat(fd, &st) ? thaw_err_set(-errno, "%s: %s", s->name, strerror(errno)) : 0;
	if (!err && st.st_size >= (off_t)sizeof(header) && (err = read_at(fd, header, sizeof(header), 0)))
		failed(s->name, 0, err);
	if (!err)
		err = thaw_sums_parse(s->name, header, (uint64_t)st.st_size, pages);
	if (!err && st.st_size > SPARSE_LEAST && st.st_blocks < st.st_size / 512 / 64) /* a hole of terabytes would be read to its end */
		err = thaw_err_set(-EBADMSG, "%s: corrupt: of its %ld bytes hardly any are on the disk", s->name, (long)st.st_size);
	if (!err)
		err = load(s, fd, header);
	close(fd);
	if (err)
		thaw_sums_close(s);
	return err;
}

void thaw_sums_close(struct thaw_sums *s)
{
	free(s->sum);
	s->sum = NULL;
}

/* ---- compare ----------------------------------------------------------------------------------------------- */
uint64_t thaw_sums_right(const struct thaw_sums *s, uint64_t off, uint64_t len, const void *buf)
{
	uint64_t first = off / PAGE, n = len / PAGE, i = 0;

	while (i < n && first + i < s->pages && thaw_sums_of_page((const char *)buf + i * PAGE) == le32toh(s->sum[first + i]))
		i++;
	return i * PAGE;
}

static int check_piece(const struct thaw_sums *s, int pages_fd, const char *name, uint64_t off, size_t len, unsigned char *buf)
{
	int err = read_at(pages_fd, buf, len, off);
	uint64_t right;

	if (err)
		return failed(name, off, err);
	right = thaw_sums_right(s, off, len, buf);
	if (right < len)
		return thaw_err_set(-EBADMSG, "%s: the page at byte %lu does not match its checksum: the image is corrupt or belongs to "
				    "another checkpoint", name, off + right);
	return 0;
}

int thaw_sums_sample(const struct thaw_sums *s, int pages_fd, const char *pages_name)
{
	uint64_t n = s->pages < SAMPLE ? s->pages : SAMPLE;
	unsigned char page[PAGE];
	int err = 0;

	for (uint64_t i = 1; i < n; i++) /* a disk brings them side by side; if it is not told so, one by one */
		(void)posix_fadvise(pages_fd, (off_t)(i * (s->pages - 1) / (n - 1) * PAGE), PAGE, POSIX_FADV_WILLNEED);
	for (uint64_t i = 0; i < n && !err; i++)
		err = check_piece(s, pages_fd, pages_name, n == 1 ? 0 : i * (s->pages - 1) / (n - 1) * PAGE, PAGE, page);
	return err;
}

int thaw_sums_verify(const struct thaw_sums *s, int pages_fd, const char *pages_name)
{
	uint64_t end = s->pages * PAGE;
	unsigned char *buf = malloc(PIECE);
	int err = buf ? 0 : thaw_err_set(-ENOMEM, "%s: no memory", pages_name);

	(void)posix_fadvise(pages_fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice */
	for (uint64_t at = 0; at < end && !err; at += PIECE)
		err = check_piece(s, pages_fd, pages_name, at, end - at < PIECE ? (size_t)(end - at) : PIECE, buf);
	free(buf);
	return err;
}
