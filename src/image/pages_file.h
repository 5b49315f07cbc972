/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image/pages_file.h - pages-N.img, the content itself.
 *
 * Its size is what its pagemap says, to the byte. To whom disk space is more than the image (--auto-dedup) it is given back once all is
 * in: holes are zeros, so before the first one the file is made one byte longer. Nobody takes it for a whole image from then on:
 * who opens it is told, and who has it open sees that its size has changed (engine/content.h).
 *
 * Rule      who reads a page looks at the size, or at the checksum, behind the read
 * Threads   any
 * Errors    -errno with a sentence: -EBADMSG of another size, given back, or with other content than its checksums say */
#ifndef THAW_IMAGE_PAGES_FILE_H
#define THAW_IMAGE_PAGES_FILE_H

#include "image/image.h"
#include "image/sums.h"

/* *fd is -1 where there are no pages and no file, sums->sum NULL where there are no checksums; of others a sample has been compared. */
int thaw_image_pages_open(int dirfd, const struct thaw_image_pagemap *pm, int *fd, struct thaw_sums *sums);
void thaw_image_pages_close(int *fd, struct thaw_sums *sums);

/* A descriptor to make holes with, of a file that is not an image any more. */
int thaw_image_pages_spend(int dirfd, const struct thaw_image_pagemap *pm);

#endif
