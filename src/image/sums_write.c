// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/sums_write.c - the checksums of a pages file: made as its pages are written */
#include "config.h"
#include "image/sums.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxh_x86dispatch.h>

#include "util/err.h"

enum { ROOM = 16384 };

/* The first failure sticks: finishing tells it again. */
struct thaw_sums_writer {
	int fd, error;
	char name[32];
	XXH3_state_t *state;
	uint64_t pages;
	size_t used;
	uint32_t sum[ROOM];
};

static int failed(struct thaw_sums_writer *w, int error)
{
	w->error = error;
	return thaw_err_set(-error, "%s: %s", w->name, strerror(error));
}

static int put(struct thaw_sums_writer *w, const void *data, size_t len, off_t at)
{
	const char *from = data;

	while (len && !w->error) {
		ssize_t n = pwrite(w->fd, from, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(w, errno);
		from += n;
		at += n;
		len -= (size_t)n;
	}
	return w->error ? failed(w, w->error) : 0;
}

static int flush(struct thaw_sums_writer *w)
{
	size_t len = w->used * sizeof(*w->sum);

	XXH3_64bits_update(w->state, w->sum, len);
	w->used = 0;
	return put(w, w->sum, len, (off_t)(THAW_SUMS_HEADER + w->pages * sizeof(*w->sum) - len));
}

struct thaw_sums_writer *thaw_sums_create(int dirfd, uint32_t id)
{
	struct thaw_sums_writer *w = calloc(1, sizeof(*w));

	if (!w || !(w->state = XXH3_createState())) {
		thaw_err_set(-ENOMEM, "pages-%u.sum.img: no memory", id);
		free(w);
		return NULL;
	}
	XXH3_64bits_reset(w->state);
	snprintf(w->name, sizeof(w->name), "pages-%u.sum.img", id);
	w->fd = openat(dirfd, w->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->fd < 0) {
		failed(w, errno);
		XXH3_freeState(w->state);
		free(w);
		return NULL;
	}
	return w;
}

int thaw_sums_add(struct thaw_sums_writer *w, const void *pages, size_t n)
{
	const unsigned char *page = pages;
	int err = 0;

	for (; n && !err; n--, page += THAW_SUMS_PAGE) {
		w->sum[w->used++] = htole32(thaw_sums_of_page(page));
		w->pages++;
		if (w->used == ROOM)
			err = flush(w);
	}
	return err;
}

static int put_header(struct thaw_sums_writer *w)
{
	unsigned char h[THAW_SUMS_HEADER] = THAW_SUMS_MAGIC;
	uint32_t version = htole32(THAW_SUMS_VERSION), size = htole32(THAW_SUMS_PAGE);
	uint64_t pages = htole64(w->pages), sum;

	memcpy(h + 8, &version, sizeof(version));
	memcpy(h + 12, &size, sizeof(size));
	memcpy(h + 16, &pages, sizeof(pages));
	sum = htole64(XXH3_64bits_withSeed(h, THAW_SUMS_HEADER - 8, XXH3_64bits_digest(w->state)));
	memcpy(h + 24, &sum, sizeof(sum));
	return put(w, h, sizeof(h), 0);
}

int thaw_sums_finish(struct thaw_sums_writer *w)
{
	int err;

	if (!w)
		return 0;
	err = flush(w);
	if (!err)
		err = put_header(w);
	if (!err && fsync(w->fd))
		err = failed(w, errno);
	if (close(w->fd) && !err)
		err = failed(w, errno);
	XXH3_freeState(w->state);
	free(w);
	return err;
}
