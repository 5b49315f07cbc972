// SPDX-License-Identifier: LGPL-2.1-or-later
/* proto/session.c - which layout a client speaks, and what it asks for */
#include "config.h"
#include "proto/session.h"

#include <errno.h>
#include <string.h>

#include "util/err.h"

#define PAGE 4096ULL
/* Of a first request in the new layout. In the old one an address stands there, and below this there is none: the
 * kernel maps nothing (vm.mmap_min_addr). */
#define FIRST_PAGES_MOST 65536

void thaw_session_init(struct thaw_session *s, enum thaw_frame_layout layout, enum thaw_frame_layout images,
		       thaw_session_find *find, void *opaque)
{
	*s = (struct thaw_session){ .layout = layout, .images = images, .find = find, .opaque = opaque };
}

size_t thaw_session_room(struct thaw_session *s, unsigned char **at)
{
	*at = s->buf + s->have;
	return (s->layout == THAW_FRAME_UNKNOWN ? THAW_FRAME_OLD : s->layout) - s->have;
}

static bool is_close(const struct thaw_frame *f)
{
	return f->command == THAW_FRAME_CLOSE || f->command == THAW_FRAME_FORCE_CLOSE;
}

static bool is_question(const struct thaw_session *s, const struct thaw_frame *f)
{
	return f->command == THAW_FRAME_GET && f->pages && !(f->addr % PAGE) && s->find(s->opaque, f->id, f->addr);
}

/* Could these 24 bytes be the beginning of a GET of 32? Its last number is not here yet. */
static bool may_be_new(const unsigned char *buf)
{
	unsigned char whole[THAW_FRAME_MOST] = { 0 };
	struct thaw_frame f;

	memcpy(whole, buf, THAW_FRAME_OLD);
	thaw_frame_decode(THAW_FRAME_NEW, whole, &f);
	return f.command == THAW_FRAME_GET && f.pages && f.pages < FIRST_PAGES_MOST && !(f.addr % PAGE);
}

static enum thaw_frame_layout guess(const struct thaw_session *s)
{
	struct thaw_frame f;

	thaw_frame_decode(THAW_FRAME_OLD, s->buf, &f);
	if (is_close(&f)) /* the same in both; the 8 bytes more that may follow are thrown away with the rest */
		return THAW_FRAME_OLD;
	if (!may_be_new(s->buf))
		return THAW_FRAME_OLD;
	return is_question(s, &f) ? s->images : THAW_FRAME_NEW;
}

static int take(struct thaw_session *s, struct thaw_frame *f)
{
	thaw_frame_decode(s->layout, s->buf, f);
	s->have = 0;
	if (is_close(f) || is_question(s, f))
		return 1;
	if (f->command != THAW_FRAME_GET)
		return thaw_err_set(-EPROTO, "command %#x is not served here: only pages are given out", f->command);
	if (!f->pages || f->addr % PAGE)
		return thaw_err_set(-EPROTO, "it asked for %lu pages at %#lx, which are no pages", f->pages, f->addr);
	return thaw_err_set(-EPROTO, "it asked for %#lx of process %lu, which is not in the images", f->addr, f->id);
}

int thaw_session_filled(struct thaw_session *s, size_t bytes, struct thaw_frame *f)
{
	s->have += bytes;
	if (s->layout == THAW_FRAME_UNKNOWN && s->have == THAW_FRAME_OLD)
		s->layout = guess(s);
	if (s->layout == THAW_FRAME_UNKNOWN || s->have < (size_t)s->layout)
		return 0;
	return take(s, f);
}
