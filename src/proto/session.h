/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* proto/session.h - the server's side of a page-server connection: bytes of a client made into requests.
 *
 * Which layout a client speaks is told from the first 24 bytes of its first request, which both have: where the new layout has a
 * number of pages, the old one has an address. Should they make sense in both, the layout of the images counts.
 *
 * Rule      pure: no system call, no memory; what comes in is hostile
 * Threads   the caller serialises
 * Errors    -EPROTO with a sentence: this client is not served any more */
#ifndef THAW_PROTO_SESSION_H
#define THAW_PROTO_SESSION_H

#include <stdbool.h>

#include "proto/frame.h"

/* Is there content for this page? */
typedef bool thaw_session_find(void *opaque, uint64_t id, uint64_t addr);

struct thaw_session {
	enum thaw_frame_layout layout; /* UNKNOWN until the first request */
	enum thaw_frame_layout images; /* the layout of the images */
	thaw_session_find *find;
	void *opaque;
	unsigned char buf[THAW_FRAME_MOST];
	size_t have;
};

/* layout: UNKNOWN, or one that is not to be guessed. */
void thaw_session_init(struct thaw_session *s, enum thaw_frame_layout layout, enum thaw_frame_layout images,
		       thaw_session_find *find, void *opaque);

/* Where the next bytes go, and how many are needed (never 0). */
size_t thaw_session_room(struct thaw_session *s, unsigned char **at);
/* That many have been put there. 1: *f is a GET for pages that start with one there is, or a CLOSE or FORCE_CLOSE;
 * 0: more bytes are needed. */
int thaw_session_filled(struct thaw_session *s, size_t bytes, struct thaw_frame *f);

#endif
