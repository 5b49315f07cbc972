/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image/sums.h - checksums: one for each page of pages-N.img, in pages-N.sum.img beside it, and one over any other image file.
 *
 * A page's sum is the lower half of its XXH3 hash: 4 bytes for 4096, and some 0.2 us to make or compare it while the page is
 * in the processor's cache; a wrong page has a right sum once in 2^32. The sums are kept in memory, 1 MiB for 1 GiB, as they
 * were when the file was opened and found right: what becomes of it afterwards, together with the pages (another checkpoint
 * copied over this one), does not make wrong pages right, and to compare waits for nothing.
 *
 * Rule      who places or passes on a page of a pages file that has sums compares it first, in memory that is its own
 * Threads   sums: any, immutable once open. A writer belongs to its thread
 * Errors    -errno with a sentence that names the file and the byte: -EBADMSG corrupt, truncated or another checkpoint's,
 *           -ENOTSUP a version that is not read, -ENOMEM */
#ifndef THAW_IMAGE_SUMS_H
#define THAW_IMAGE_SUMS_H

#include <stddef.h>
#include <stdint.h>

#define THAW_SUMS_PAGE 4096u
#define THAW_SUMS_MAGIC "thawsum\n"
#define THAW_SUMS_VERSION 1
#define THAW_SUMS_HEADER 32u /* magic, u32 version, u32 page size, u64 pages, u64 checksum; then a u32 a page */

uint32_t thaw_sums_of_page(const void *page);

/* ---- compared ---------------------------------------------------------------------------------------------- */
struct thaw_sums {
	uint32_t *sum; /* as in the file; NULL: there are none */
	uint64_t pages;
	char name[32];
};
/* Those of pages-`id`.img, which has so many pages. The file is read once, against its own checksum. None, which is what images of CRIU
 * have, is no error: sum is NULL then. */
int thaw_sums_open(int dirfd, uint32_t id, uint64_t pages, struct thaw_sums *s);
void thaw_sums_close(struct thaw_sums *s);

/* The header, and that the file has the length that follows from it. `name`: for the sentence. */
int thaw_sums_parse(const char *name, const unsigned char header[THAW_SUMS_HEADER], uint64_t size, uint64_t pages);

/* How many bytes from buf on are right, whole pages, up to len; buf was read at `off`. */
uint64_t thaw_sums_right(const struct thaw_sums *s, uint64_t off, uint64_t len, const void *buf);

/* Some pages of the whole file, first and last among them: whether it is this checkpoint's at all. */
int thaw_sums_sample(const struct thaw_sums *s, int pages_fd, const char *pages_name);
/* Every page. */
int thaw_sums_verify(const struct thaw_sums *s, int pages_fd, const char *pages_name);

/* ---- made -------------------------------------------------------------------------------------------------- */
struct thaw_sums_writer;
struct thaw_sums_writer *thaw_sums_create(int dirfd, uint32_t id); /* NULL: see the error */
int thaw_sums_add(struct thaw_sums_writer *w, const void *pages, size_t n);
/* Ends, syncs and frees it, whatever it returns; NULL is fine. */
int thaw_sums_finish(struct thaw_sums_writer *w);

/* ---- other files ------------------------------------------------------------------------------------------- */
/* Length and checksum of any file of the directory. Pages of zeros count by their absence, so that it is the same whether they are
 * stored or holes, and holes are not read. */
int thaw_image_digest(int dirfd, const char *name, uint64_t *len, uint64_t *sum);

#endif
