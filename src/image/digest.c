// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/digest.c - length and checksum of a whole image file, whichever kind it is */
#include "config.h"
#include "image/sums.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxh_x86dispatch.h>

#include "image/image.h"
#include "util/err.h"

enum { PAGE = THAW_SUMS_PAGE, PIECE = 256 << 10 };

static bool is_zero(const unsigned char *at, size_t len)
{
	return !at[0] && !memcmp(at, at + 1, len - 1);
}

static void add_number(XXH3_state_t *state, uint64_t v)
{
	v = htole64(v);
	XXH3_64bits_update(state, &v, sizeof(v));
}

/* Where the file goes on behind a hole; its end: it does not. */
static uint64_t next_data(int fd, uint64_t at, uint64_t len)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data < 0) /* no more, or a file system that does not know: all of it then */
		return errno == ENXIO ? len : at;
	return (uint64_t)data & ~(uint64_t)(PAGE - 1);
}

static int add_pages(XXH3_state_t *state, int fd, uint64_t len, unsigned char *buf)
{
	for (uint64_t at = 0; (at = next_data(fd, at, len)) < len;) {
		ssize_t n = pread(fd, buf, len - at < PIECE ? (size_t)(len - at) : PIECE, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		if (at + (uint64_t)n < len)
			n &= ~(ssize_t)(PAGE - 1);
		if (!n)
			return -EIO; /* not even a page at once */
		for (size_t i = 0; i < (size_t)n; i += PAGE) {
			size_t part = (size_t)n - i < PAGE ? (size_t)n - i : PAGE;

			if (is_zero(buf + i, part))
				continue;
			add_number(state, (at + i) / PAGE);
			XXH3_64bits_update(state, buf + i, part);
		}
		at += (uint64_t)n;
	}
	add_number(state, len);
	return 0;
}

int thaw_image_digest(int dirfd, const char *name, uint64_t *len, uint64_t *sum)
{
	int fd = thaw_image_open_file(dirfd, name), err;
	XXH3_state_t *state;
	unsigned char *buf;
	struct stat st;

	if (fd < 0)
		return fd;
	state = XXH3_createState();
	buf = malloc(PIECE);
	err = !state || !buf ? -ENOMEM : fstat(fd, &st) ? -errno : 0;
	if (!err) {
		XXH3_64bits_reset(state);
		*len = (uint64_t)st.st_size;
		err = add_pages(state, fd, *len, buf);
	}
	if (!err)
		*sum = XXH3_64bits_digest(state);
	else
		thaw_err_set(err, "%s: its checksum cannot be made: %s", name, strerror(-err));
	free(buf);
	XXH3_freeState(state);
	close(fd);
	return err;
}
