/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* proto/frame.h - the header of the page-server protocol, in both of its layouts.
 *
 * The protocol has no version: CRIU up to 4.1 sends 24 bytes (cmd u32, pages u32, address u64, id u64), since 4.2
 * 32 bytes (cmd u32, 4 bytes of padding, pages u64, address u64, id u64), all in the order of bytes of the machine. The low half
 * of cmd is the command, the high half flags of the pages.
 *
 * Rule      pure: no system call, no memory. What is decoded is not trusted: whoever uses it checks it
 * Threads   any
 * Errors    -ERANGE: a number that the layout cannot hold */
#ifndef THAW_PROTO_FRAME_H
#define THAW_PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum thaw_frame_command {
	THAW_FRAME_ADD_F = 6,           /* pages: the answer to a GET */
	THAW_FRAME_GET = 7,             /* pages are wanted; id is the bare process number of the images */
	THAW_FRAME_CLOSE = 0x1023,      /* the end: an int32 status is the answer */
	THAW_FRAME_FORCE_CLOSE = 0x1024 /* the same, over a socket that was inherited */
};

#define THAW_FRAME_PRESENT 4 /* flag of an answer: the pages follow */

/* A layout is the size of its header. */
enum thaw_frame_layout { THAW_FRAME_UNKNOWN = 0, THAW_FRAME_OLD = 24, THAW_FRAME_NEW = 32 };
#define THAW_FRAME_MOST 32

struct thaw_frame {
	uint16_t command, flags;
	uint64_t pages, addr, id;
};

int thaw_frame_encode(enum thaw_frame_layout layout, const struct thaw_frame *f, unsigned char *out);
void thaw_frame_decode(enum thaw_frame_layout layout, const unsigned char *in, struct thaw_frame *f);

#endif
