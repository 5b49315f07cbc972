/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image/write.h - image files made: each new (O_EXCL), readable by its owner only, synced when it is closed.
 *
 * Rule      pages-N.img is raw and the caller's business; it holds exactly the pages of the PRESENT runs, in order
 * Threads   a writer belongs to its thread
 * Errors    -errno with a sentence that names the file; what was begun stays for the caller to remove */
#ifndef THAW_IMAGE_WRITE_H
#define THAW_IMAGE_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "image/image.h"

int thaw_image_write_inventory(int dirfd);
int thaw_image_write_pstree(int dirfd, int pid, int ppid, int pgid, int sid, const uint32_t *threads, size_t n);
int thaw_image_write_mm(int dirfd, int pid, const ThawImage__Mm *mm);

/* pagemap-PID.img, written as the runs come: by address, whole pages. Neighbours with the same flags become one
 * entry. */
struct thaw_pagemap_writer;
struct thaw_pagemap_writer *thaw_image_pagemap_create(int dirfd, int pid, uint32_t pages_id); /* NULL: see the error */
int thaw_image_pagemap_add(struct thaw_pagemap_writer *w, uint64_t addr, uint64_t pages, unsigned flags);
int thaw_image_pagemap_close(struct thaw_pagemap_writer *w); /* ends and frees it, whatever it returns; NULL is fine */

/* ---- single records ---------------------------------------------------------------------------------------- */
struct thaw_image_writer;
struct thaw_image_writer *thaw_image_create(int dirfd, const char *name, uint32_t magic);
int thaw_image_put(struct thaw_image_writer *w, const ProtobufCMessage *m);
int thaw_image_close(struct thaw_image_writer *w);

#endif
