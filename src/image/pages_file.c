// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/pages_file.c - pages-N.img: whether it is what its pagemap says, and still whole */
#include "config.h"
#include "image/pages_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"

enum { PAGE = 4096 };

/* What of an image that is being taken apart shows to whoever reads it: it is longer than it was. */
#define SPENT_BYTES 1

static int check(int fd, const char *name, uint64_t want)
{
	struct stat st;

	if (fstat(fd, &st))
		return thaw_err_set(-errno, "%s: %s", name, strerror(errno));
	if ((uint64_t)st.st_size == want + SPENT_BYTES)
		return thaw_err_set(-EBADMSG,
				    "%s: an earlier restore has given its disk space back (--auto-dedup): what it held is gone, "
				    "restore from another dump or a copy", name);
	if ((uint64_t)st.st_size < want)
		return thaw_err_set(-EBADMSG, "%s: truncated: ends at byte %lu, its pagemap has pages up to byte %lu",
				    name, (uint64_t)st.st_size, want);
	if ((uint64_t)st.st_size > want)
		return thaw_err_set(-EBADMSG,
				    "%s: has %lu bytes behind the last page of its pagemap (byte %lu): the pagemap "
				    "is truncated or another's",
				    name, (uint64_t)st.st_size - want, want);
	return 0;
}

int thaw_image_pages_open(int dirfd, const struct thaw_image_pagemap *pm, int *fd, struct thaw_sums *sums)
{
	char name[32];
	int ret;

	snprintf(name, sizeof(name), "pages-%u.img", pm->pages_id);
	*fd = -1;
	*sums = (struct thaw_sums){ 0 };
	/* No pages and no file, or an empty one, is fine. */
	if (!pm->file_pages && faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
		return 0;
	*fd = thaw_image_open_file(dirfd, name);
	if (*fd < 0)
		return *fd;
	ret = check(*fd, name, pm->file_pages * PAGE);
	if (!ret)
		ret = thaw_sums_open(dirfd, pm->pages_id, pm->file_pages, sums);
	if (!ret && sums->sum)
		ret = thaw_sums_sample(sums, *fd, name);
	if (ret)
		thaw_image_pages_close(fd, sums);
	return ret;
}

void thaw_image_pages_close(int *fd, struct thaw_sums *sums)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	thaw_sums_close(sums);
}

int thaw_image_pages_spend(int dirfd, const struct thaw_image_pagemap *pm)
{
	char name[32];
	int fd, ret;

	snprintf(name, sizeof(name), "pages-%u.img", pm->pages_id);
	fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return thaw_err_set(-errno, "%s: cannot be opened to give back its disk space: %s", name, strerror(errno));
	ret = check(fd, name, pm->file_pages * PAGE);
	/* Before the first hole, on the disk too: a page of zeros that is read then is not taken for content. */
	if (!ret && (ftruncate(fd, (off_t)(pm->file_pages * PAGE + SPENT_BYTES)) || fsync(fd)))
		ret = thaw_err_set(-errno, "%s: cannot be marked as given back: %s", name, strerror(errno));
	if (!ret)
		return fd;
	close(fd);
	return ret;
}
