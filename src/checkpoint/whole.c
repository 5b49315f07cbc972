// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/whole.c - the files of a checkpoint against each other */
#include "config.h"
#include "checkpoint/whole.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "image/image.h"
#include "image/sums.h"
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

/* ---- checksums --------------------------------------------------------------------------------------------- */
int thaw_whole_names(int pid, size_t stored, int (*each)(void *opaque, const char *name), void *opaque)
{
	static const char *const forms[] = { "inventory.img", "pstree.img", "mm-%d.img", "pagemap-%d.img", "pages-1.sum.img" };
	char name[40];
	int r = 0;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]) && !r; i++) {
		snprintf(name, sizeof(name), forms[i], pid);
		r = each(opaque, name);
	}
	for (size_t i = 0; i < stored && !r; i++) {
		snprintf(name, sizeof(name), "file-%zu.raw", i);
		r = each(opaque, name);
	}
	return r;
}

struct listed {
	int dirfd;
	const ThawState__Head *head;
	size_t next;
};

/* They are listed in the order in which they are asked for. */
static int check_image(void *opaque, const char *name)
{
	struct listed *l = opaque;
	const ThawState__Image *m = l->next < l->head->n_images ? l->head->images[l->next++] : NULL;
	uint64_t len, sum;
	int r;

	if (!m || strcmp(m->name, name))
		return thaw_err_set(-EBADMSG, "thaw.img: has no checksum of %s", name);
	r = thaw_image_digest(l->dirfd, name, &len, &sum);
	if (r)
		return r;
	if (len != m->length)
		return thaw_err_set(-EBADMSG, "%s: ends at byte %" PRIu64 " instead of %" PRIu64, name, len, m->length);
	if (sum != m->checksum)
		return thaw_err_set(-EBADMSG, "%s: wrong checksum (bytes 0 to %" PRIu64 "): it is corrupt or belongs to another checkpoint",
				    name, len);
	return 0;
}

static int check_images(int dirfd, const ThawState__Head *head, int pid)
{
	struct listed l = { dirfd, head, 0 };
	int r = thaw_whole_names(pid, head->n_stored_sizes, check_image, &l);

	if (!r && l.next != head->n_images)
		r = thaw_err_set(-EBADMSG, "thaw.img: has checksums of %zu files, there are %zu", head->n_images, l.next);
	for (size_t i = 0; !r && i < head->n_stored_sizes; i++)
		if (head->images[head->n_images - head->n_stored_sizes + i]->length != head->stored_sizes[i])
			r = thaw_err_set(-EBADMSG, "thaw.img: has two sizes of file-%zu.raw", i);
	return r;
}

int thaw_whole_check(int dirfd, const ThawState__Head *head, const ThawState__Process *p)
{
	int r = thaw_image_check_owner(dirfd, "image directory");

	if (!r)
		r = check_images(dirfd, head, p->pid);
	if (!r)
		r = check_index(dirfd, p->pid);
	return r ? r : check_mm(dirfd, p);
}
