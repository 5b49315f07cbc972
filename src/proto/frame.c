// SPDX-License-Identifier: LGPL-2.1-or-later
/* proto/frame.c - headers to bytes and back */
#include "config.h"
#include "proto/frame.h"

#include <errno.h>
#include <string.h>

static void put32(unsigned char *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

static void put64(unsigned char *at, uint64_t v)
{
	memcpy(at, &v, sizeof(v));
}

static uint32_t get32(const unsigned char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static uint64_t get64(const unsigned char *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

int thaw_frame_encode(enum thaw_frame_layout layout, const struct thaw_frame *f, unsigned char *out)
{
	put32(out, f->command | (uint32_t)f->flags << 16);
	if (layout == THAW_FRAME_OLD) {
		if (f->pages > UINT32_MAX)
			return -ERANGE;
		put32(out + 4, (uint32_t)f->pages);
		put64(out + 8, f->addr);
		put64(out + 16, f->id);
		return 0;
	}
	put32(out + 4, 0);
	put64(out + 8, f->pages);
	put64(out + 16, f->addr);
	put64(out + 24, f->id);
	return 0;
}

void thaw_frame_decode(enum thaw_frame_layout layout, const unsigned char *in, struct thaw_frame *f)
{
	uint32_t cmd = get32(in);

	f->command = cmd & 0xffff;
	f->flags = cmd >> 16;
	if (layout == THAW_FRAME_OLD) {
		f->pages = get32(in + 4);
		f->addr = get64(in + 8);
		f->id = get64(in + 16);
	} else { /* what the padding holds is nobody's business */
		f->pages = get64(in + 8);
		f->addr = get64(in + 16);
		f->id = get64(in + 24);
	}
}
