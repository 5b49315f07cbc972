/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* server/store.h - a checkpoint as a page server sees it: for each process, where each page's content is.
 *
 * Page maps are in memory, pages are not: they go from the page cache to the socket. Those that have checksums are compared
 * with them on the way.
 *
 * Rule      immutable once it is open
 * Threads   any
 * Errors    -errno with a sentence */
#ifndef THAW_SERVER_STORE_H
#define THAW_SERVER_STORE_H

#include "image/chain.h"
#include "proto/frame.h"

struct thaw_store_task {
	int pid;
	struct thaw_image_chain chain;
};
struct thaw_store {
	size_t n;
	struct thaw_store_task *task; /* by pid */
	enum thaw_frame_layout layout;
	uint64_t pages; /* lazy and others */
};

int thaw_store_open(struct thaw_store *s, int dirfd);
void thaw_store_close(struct thaw_store *s);

/* How many pages of the process lie one behind the other from addr on, at which level of its images and where. 0: none. */
uint64_t thaw_store_find(const struct thaw_store *s, uint64_t id, uint64_t addr, const struct thaw_image_level **level, uint64_t *off);

#endif
