/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/images.h - what a restorer has left to be brought in, from a directory of CRIU images.
 *
 * Only pages that the uppermost pagemap marks as lazy (PE_LAZY) are ours. The others, those in parent directories
 * included, the restorer has put in place itself; memory that has neither is zero.
 *
 * Rule      images are not trusted: see image/image.h
 * Threads   immutable once loaded, but for what says otherwise
 * Errors    -errno with a sentence, as image/image.h; -ENOTSUP also: a page that the dump left behind, compressed images */
#ifndef THAW_LAZY_IMAGES_H
#define THAW_LAZY_IMAGES_H

#include <stdbool.h>

#include "image/image.h"
#include "thaw.h"

struct thaw_lazy_task {
	int pid;               /* as in the images */
	bool bare;             /* it has no pagemap: a zombie, if the restorer agrees */
	struct thaw_image_pagemap pm;
	struct thaw_range *ranges; /* its mappings */
	size_t n_ranges;
	uint64_t lazy_pages;
	struct thaw_source *local; /* of its lazy pages; NULL: remote, or a zombie */
};

struct thaw_lazy_images {
	int dirfd;             /* the caller's */
	bool remote;           /* content comes from a page server: the pages files are not looked at */
	size_t n;
	struct thaw_lazy_task *task; /* by pid */
};

int thaw_lazy_images_load(struct thaw_lazy_images *im, int dirfd, bool remote);
void thaw_lazy_images_free(struct thaw_lazy_images *im);

struct thaw_lazy_task *thaw_lazy_images_find(const struct thaw_lazy_images *im, int pid);

/* The lazy pages of one task in its own pages-N.img. NULL with a sentence. */
struct thaw_source *thaw_lazy_local_source(int dirfd, const struct thaw_lazy_task *t);
/* Gives back the disk space of a task's lazy pages (--auto-dedup): they are all in. */
int thaw_lazy_punch(int dirfd, const struct thaw_lazy_task *t);

#endif
