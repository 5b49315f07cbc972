// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/images.c - the tasks of a directory of images: their mappings, and which of their pages are to come lazily */
#include "config.h"
#include "lazy/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"

#define PAGE 4096ULL
#define USER_END (1ULL << 47)

/* From Linux's ABI; MADV_* are bit numbers in Vma.madv. */
#define HAS_ADVICE(v, number) ((v)->has_madv && (v)->madv >> (number) & 1)

static int take_mappings(struct thaw_lazy_task *t, const ThawImage__Mm *mm)
{
	t->ranges = calloc(mm->n_vmas + 1, sizeof(*t->ranges));
	if (!t->ranges)
		return thaw_err_set(-ENOMEM, "mm-%d.img: no memory for %zu mappings", t->pid, mm->n_vmas);
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const ThawImage__Vma *v = mm->vmas[i];

		if (v->end > USER_END || v->status & THAW_VMA_VSYSCALL)
			continue;
		/* All of them: which are registered is the restorer's affair. */
		t->ranges[t->n_ranges++] = (struct thaw_range){
			.address = v->start,
			.length = v->end - v->start,
			.kind = THAW_KIND_ANON,
			.prot = v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC),
			.flags = (HAS_ADVICE(v, MADV_WIPEONFORK) ? THAW_RANGE_WIPEONFORK : 0) |
				 (HAS_ADVICE(v, MADV_DONTFORK) ? THAW_RANGE_DONTFORK : 0),
		};
	}
	return t->n_ranges ? 0 : thaw_err_set(-EBADMSG, "mm-%d.img: corrupt: there is no mapping in it", t->pid);
}

/* Each lazy page lies in a mapping, or the images do not belong together. */
static int check_inside(const struct thaw_lazy_task *t)
{
	size_t v = 0;

	for (size_t i = 0; i < t->pm.n; i++) {
		uint64_t at = t->pm.run[i].addr, end = at + t->pm.run[i].pages * PAGE;

		while (t->pm.run[i].flags & THAW_PE_LAZY && at < end) {
			while (v < t->n_ranges && t->ranges[v].address + t->ranges[v].length <= at)
				v++;
			if (v == t->n_ranges || t->ranges[v].address > at)
				return thaw_err_set(-EBADMSG, "pagemap-%d.img: the lazy page at 0x%lx lies in no mapping of"
						    " mm-%d.img: are the images of one dump?", t->pid, at, t->pid);
			at = t->ranges[v].address + t->ranges[v].length;
		}
	}
	return 0;
}

static int count_lazy(struct thaw_lazy_task *t, bool remote)
{
	for (size_t i = 0; i < t->pm.n; i++) {
		const struct thaw_image_run *run = &t->pm.run[i];

		if (!(run->flags & THAW_PE_LAZY))
			continue;
		if (!remote && !(run->flags & THAW_PE_PRESENT))
			return thaw_err_set(-ENOTSUP, "pagemap-%d.img: the content of 0x%lx was left with the dump (--lazy-pages): it"
					    " comes from its page server only; give --page-server, --address and --port",
					    t->pid, run->addr);
		t->lazy_pages += run->pages;
	}
	return 0;
}

static int load_task(int dirfd, bool remote, struct thaw_lazy_task *t)
{
	char name[32];
	struct stat st;
	ThawImage__Mm *mm;
	int ret;

	snprintf(name, sizeof(name), "pagemap-%d.img", t->pid);
	/* A zombie has none; the restorer says whether it is one. */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) && errno == ENOENT) {
		t->bare = true;
		return 0;
	}
	ret = thaw_image_pagemap_load(dirfd, t->pid, &t->pm);
	if (!ret)
		ret = thaw_image_mm_load(dirfd, t->pid, &mm);
	if (ret)
		return ret;
	ret = take_mappings(t, mm);
	thaw_image__mm__free_unpacked(mm, NULL);
	if (!ret)
		ret = check_inside(t);
	if (!ret)
		ret = count_lazy(t, remote);
	if (!ret && !remote && !(t->local = thaw_lazy_local_source(dirfd, t)))
		ret = thaw_err_code();
	return ret;
}

static int by_pid(const void *a, const void *b)
{
	const struct thaw_lazy_task *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

int thaw_lazy_images_load(struct thaw_lazy_images *im, int dirfd, bool remote)
{
	struct thaw_image_index index;
	int ret = thaw_image_index_load(dirfd, &index);

	*im = (struct thaw_lazy_images){ .dirfd = dirfd, .remote = remote };
	if (ret)
		return ret;
	im->task = calloc(index.n, sizeof(*im->task));
	if (!im->task)
		ret = thaw_err_set(-ENOMEM, "pstree.img: no memory for %zu tasks", index.n);
	for (size_t i = 0; i < index.n && !ret; i++) {
		struct thaw_lazy_task *t = &im->task[im->n++];

		t->pid = index.task[i].pid;
		ret = load_task(dirfd, remote, t);
	}
	thaw_image_index_free(&index);
	if (ret)
		thaw_lazy_images_free(im);
	else
		qsort(im->task, im->n, sizeof(*im->task), by_pid);
	return ret;
}

void thaw_lazy_images_free(struct thaw_lazy_images *im)
{
	for (size_t i = 0; i < im->n; i++) {
		thaw_image_pagemap_free(&im->task[i].pm);
		thaw_source_close(im->task[i].local);
		free(im->task[i].ranges);
	}
	free(im->task);
	im->task = NULL;
	im->n = 0;
}

struct thaw_lazy_task *thaw_lazy_images_find(const struct thaw_lazy_images *im, int pid)
{
	struct thaw_lazy_task key = { .pid = pid };

	return bsearch(&key, im->task, im->n, sizeof(key), by_pid);
}
