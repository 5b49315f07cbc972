/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* support/imagedir.h - a scratch directory with image files made byte by byte.
 * Rule      gone, with all that is in it, after scratch_end()
 * Errors    abort */
#ifndef THAW_TEST_IMAGEDIR_H
#define THAW_TEST_IMAGEDIR_H

#include <stddef.h>
#include <stdint.h>

struct scratch {
	char path[128];
	int fd;
};
void scratch_begin(struct scratch *s);
void scratch_end(struct scratch *s);
void scratch_put(struct scratch *s, const char *name, const void *data, size_t len); /* replaces it; mode 0600 */
void scratch_size(struct scratch *s, const char *name, uint64_t size);               /* sparse, replaces it */
void scratch_empty(struct scratch *s);                                               /* removes the files */

/* Bytes of an image under construction. */
struct bytes {
	size_t len;
	unsigned char at[1 << 16];
};
void bytes_magic(struct bytes *b,
		 uint32_t magic); /* starts anew; the common magic in front unless it is the inventory's */
void bytes_u32(struct bytes *b, uint32_t v);
void bytes_field(struct bytes *b, unsigned field, uint64_t v); /* a varint field, raw */
/* A pagemap entry in the layout of CRIU up to 4.1 (wide 0) or since 4.2 (wide 1). */
void bytes_entry(struct bytes *b, uint64_t addr, uint64_t pages, unsigned flags, int wide);
void bytes_head(struct bytes *b, uint32_t pages_id);

#endif
