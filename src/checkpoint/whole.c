// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/whole.c - the files of a checkpoint against each other */
#include "config.h"
#include "checkpoint/whole.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int compare(const ThawImage__Mm *mm, const ThawState__Process *p)
{
	if (mm->n_vmas != p->n_mappings)
		return thaw_err_set(-EBADMSG, "mm-%d.img: has %zu mappings, thaw.img %zu", p->pid, mm->n_vmas, p->n_mappings);
	for (size_t i = 0; i < p->n_mappings; i++)
		if (mm->vmas[i]->start != p->mappings[i]->start || mm->vmas[i]->end != p->mappings[i]->end)
			return thaw_err_set(-EBADMSG, "mm-%d.img: mapping %zu is at %#" PRIx64 ", in thaw.img at %#" PRIx64, p->pid,
					    i, mm->vmas[i]->start, p->mappings[i]->start);
	return 0;
}

static int check_mm(int dirfd, const ThawState__Process *p)
{
	ThawImage__Mm *mm;
	int r = thaw_image_mm_load(dirfd, p->pid, &mm);

	if (r < 0)
		return r;
	r = compare(mm, p);
	thaw_image__mm__free_unpacked(mm, NULL);
	return r;
}

static int check_stored(int dirfd, size_t i, uint64_t size)
{
	char name[32];
	struct stat st;
	int r = 0;

	snprintf(name, sizeof(name), "file-%zu.raw", i);
	int fd = thaw_image_open_file(dirfd, name);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		r = thaw_err_set(-errno, "%s: cannot be looked at", name);
	else if ((uint64_t)st.st_size != size)
		r = thaw_err_set(-EBADMSG, "%s: ends at byte %jd instead of %" PRIu64, name, (intmax_t)st.st_size, size);
	close(fd);
	return r;
}

int thaw_whole_check(int dirfd, const ThawState__Head *head, const ThawState__Process *p)
{
	int r = check_index(dirfd, p->pid);

	if (!r)
		r = check_mm(dirfd, p);
	for (size_t i = 0; !r && i < head->n_stored_sizes; i++)
		r = check_stored(dirfd, i, head->stored_sizes[i]);
	return r;
}
