/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image/chain.h - the memory of a process through a directory and its parents (incremental dumps).
 *
 * A page whose entry says "in the parent" is looked for in the directory that `parent` leads to, and so on. What comes
 * out is, for each run of pages, the level (0: the directory itself) and the place in that level's pages-N.img.
 *
 * Threads   immutable after it has been opened
 * Errors    -errno with a sentence: -ELOOP parents in a circle or too many, -ENOTSUP pages that the dump left behind
 *           (dump --lazy-pages), -EBADMSG a page that no parent has, a pages file of another size than its
 *           pagemap says, or with other content than its checksums say */
#ifndef THAW_IMAGE_CHAIN_H
#define THAW_IMAGE_CHAIN_H

#include "image/image.h"
#include "image/sums.h"

#define THAW_CHAIN_MOST 64

struct thaw_image_level {
	int pages_fd; /* -1: it has no pages of its own */
	struct thaw_sums sums; /* of those pages, a sample of which has been compared; sum NULL: there are none */
	struct thaw_image_pagemap pm;
};
/* What of the images is meant. */
enum thaw_chain_how {
	THAW_CHAIN_ALL = 0,
	THAW_CHAIN_REMOTE = 1,   /* lazy pages of the directory itself are at a page server, whatever lies here */
	THAW_CHAIN_LAZY_ONLY = 2 /* nothing but those: the rest is not walked, no parent is looked for */
};
#define THAW_CHAIN_ELSEWHERE 65535 /* the level of remote pages; their offset is their address */
struct thaw_image_chain {
	unsigned n;
	unsigned how;
	struct thaw_image_level level[THAW_CHAIN_MOST];
};

typedef int thaw_chain_emit(void *opaque, unsigned level, uint64_t addr, uint64_t pages, uint64_t off);

/* dirfd stays the caller's. Every page that is in the images or said to be has been found once this has returned 0. */
int thaw_image_chain_open(int dirfd, int pid, struct thaw_image_chain *chain);
int thaw_image_chain_open_how(int dirfd, int pid, unsigned how, struct thaw_image_chain *chain);
void thaw_image_chain_close(struct thaw_image_chain *chain);
void thaw_image_chain_forget(struct thaw_image_chain *chain); /* keeps the files: there is no walk and no finding any more */

/* Calls emit for each run, by address; it ends the walk with a value other than 0, which is returned. */
int thaw_image_chain_walk(const struct thaw_image_chain *chain, thaw_chain_emit *emit, void *opaque);

/* How many pages from addr on lie one behind the other in one file, and where; 0: there is no content. Not of remote ones. */
uint64_t thaw_image_chain_find(const struct thaw_image_chain *chain, uint64_t addr, unsigned *level, uint64_t *off);

#endif
