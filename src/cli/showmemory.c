// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/showmemory.c - the memory images of a checkpoint: how much of it comes when, and whether all of it is there.
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "cli/show.h"
#include "image/image.h"
#include "util/err.h"

static int check_index(int dirfd, int pid)
{
	struct thaw_image_index index;
	bool found = false;
	int r = thaw_image_index_load(dirfd, &index);

	if (r < 0)
		return r;
	for (size_t i = 0; i < index.n; i++)
		found |= index.task[i].pid == pid;
	thaw_image_index_free(&index);
	return found ? 0 : thaw_err_set(-EBADMSG, "pstree.img: process %d of thaw.img is not in it", pid);
}

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

int thaw_show_memory(struct thaw_show *s, int dirfd)
{
	struct thaw_image_pagemap pm;
	ThawImage__Mm *mm;
	int pid = s->process->pid;
	int r = check_index(dirfd, pid);

	if (r < 0)
		return r;
	r = thaw_image_mm_load(dirfd, pid, &mm);
	if (r < 0)
		return r;
	if (mm->n_vmas != s->process->n_mappings)
		r = thaw_err_set(-EBADMSG, "mm-%d.img: has %zu mappings, thaw.img %zu", pid, mm->n_vmas, s->process->n_mappings);
	thaw_image__mm__free_unpacked(mm, NULL);
	if (r < 0)
		return r;
	r = thaw_image_pagemap_load(dirfd, pid, &pm);
	if (r < 0)
		return r;
	r = sum(s, &pm);
	thaw_image_pagemap_free(&pm);
	return r;
}
