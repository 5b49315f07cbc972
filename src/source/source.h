/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source/source.h - one interface to where content lives.
 *
 * A source tells once which run-time ranges have content and where that content lies: (object, offset). An object
 * that is a file is read by the engine itself (mapping window, io_uring, preadv pool): the source only hands out its
 * descriptor. Other objects are read through read(), which answers at once or later.
 *
 * Rule      immutable after creation, but for settle(); counted reference
 * Threads   any
 * Errors    -errno with a sentence */
#ifndef THAW_SOURCE_SOURCE_H
#define THAW_SOURCE_SOURCE_H

#include "core/pagemap.h"
#include "image/sums.h"
#include "thaw.h"

/* A read under way that the source answers later. The engine embeds it; done() is called exactly once, on any
 * thread. */
struct thaw_request {
	void (*done)(struct thaw_request *req, int error); /* error: 0 or a positive errno */
	bool urgent; /* somebody sleeps on it */
	bool soon;   /* what lies beside such a page: before all that is not urgent */
};

struct thaw_source_ops {
	const char *kind; /* "images", "memfile", "callback": for messages */
	bool far; /* read() costs time by the page: what somebody sleeps on is asked for alone, what lies beside it apart */
	/* Calls emit() for each run of content in address order. covers() sources (callback) leave this NULL: all of
	 * the space's ranges have content, object 0, offset = address. */
	int (*extents)(struct thaw_source *s, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque);
	int (*object_fd)(struct thaw_source *s, uint32_t object); /* >= 0: a file, borrowed; -1: use read() */
	/* What such a file had in bytes when it was found whole: one that has grown since is no image any more (image/pages_file.h).
	 * NULL: files may grow. */
	uint64_t (*size)(struct thaw_source *s, uint32_t object);
	/* The checksums of such a file's pages; NULL, as the member may be: there are none. Who reads the file compares. */
	const struct thaw_sums *(*sums)(struct thaw_source *s, uint32_t object);
	/* 0: buf is filled; THAW_LATER: req->done() follows; else -errno. `off` as in the extent. Only non-file
	 * objects. */
	int (*read)(struct thaw_source *s, uint32_t object, uint64_t off, size_t len, void *buf,
		    struct thaw_request *req);
	/* Names the place of a byte for a message: "pages-1.img at byte 4096". */
	void (*describe)(struct thaw_source *s, uint32_t object, uint64_t off, char *buf, size_t size);
	/* The caller has let go of it: extents() is not called any more. NULL: nothing is kept for that alone. */
	void (*settle)(struct thaw_source *s);
	void (*free)(struct thaw_source *s);
};

struct thaw_source {
	const struct thaw_source_ops *ops;
	unsigned refs; /* atomic */
	bool closed;   /* atomic: the caller has let go of it, no space can be added with it */
};

struct thaw_source *thaw_source_get(struct thaw_source *s);
void thaw_source_put(struct thaw_source *s);

#endif
