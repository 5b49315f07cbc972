// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/showmemory.c - the memory images of a checkpoint: how much of it comes when, and whether all of it is there.
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/show.h"
#include "image/image.h"
#include "image/sums.h"
#include "util/err.h"

/* Mappings and runs are both in address order: one walk. */
static int sum(struct thaw_show *s, const struct thaw_image_pagemap *pm)
{
	const ThawState__Process *p = s->process;
	uint64_t page = s->head->page_size;
	size_t m = 0;

	for (size_t i = 0; i < pm->n; i++) {
		uint64_t at = pm->run[i].addr, end = at + pm->run[i].pages * page;

		if (!(pm->run[i].flags & THAW_PE_PRESENT))
			continue;
		while (at < end) {
			while (m < p->n_mappings && p->mappings[m]->end <= at)
				m++;
			if (m == p->n_mappings || p->mappings[m]->start > at)
				return thaw_err_set(-EBADMSG, "pagemap-%d.img: pages at %#" PRIx64 " are in no mapping", p->pid, at);
			uint64_t stop = p->mappings[m]->end < end ? p->mappings[m]->end : end;

			*(p->mappings[m]->lazy ? &s->lazy_bytes : &s->eager_bytes) += stop - at;
			at = stop;
		}
	}
	return 0;
}

/* All of it is read: a restore does that only as the memory is needed. */
static int check_sums(const struct thaw_image_pagemap *pm, int dirfd, int pages_fd, const char *name)
{
	struct thaw_sums sums;
	int r = thaw_sums_open(dirfd, pm->pages_id, pm->file_pages, &sums);

	if (!r && !sums.sum)
		r = thaw_err_set(-ENOENT, "%s: no such file: is the image directory complete?", sums.name);
	if (!r)
		r = thaw_sums_verify(&sums, pages_fd, name);
	thaw_sums_close(&sums);
	return r;
}

static int check_pages(const struct thaw_image_pagemap *pm, int dirfd, uint64_t page)
{
	char name[32];
	struct stat st;
	int r = 0;

	snprintf(name, sizeof(name), "pages-%u.img", pm->pages_id);
	int fd = thaw_image_open_file(dirfd, name);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		r = thaw_err_set(-errno, "%s: %s", name, strerror(errno));
	else if ((uint64_t)st.st_size != pm->file_pages * page)
		r = thaw_err_set(-EBADMSG, "%s: ends at byte %jd instead of %" PRIu64, name, (intmax_t)st.st_size,
				 pm->file_pages * page);
	else
		r = check_sums(pm, dirfd, fd, name);
	close(fd);
	return r;
}

int thaw_show_memory(struct thaw_show *s, int dirfd)
{
	struct thaw_image_pagemap pm;
	int r = thaw_image_pagemap_load(dirfd, s->process->pid, &pm);

	if (r < 0)
		return r;
	r = check_pages(&pm, dirfd, s->head->page_size);
	if (!r)
		r = sum(s, &pm);
	thaw_image_pagemap_free(&pm);
	return r;
}
