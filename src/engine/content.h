/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/content.h - a source made ready for the engine: its files, and what may be had of them without waiting.
 *
 * Content is fetched before S and lies in memory of ours then: in a thread's own buffer, or in one of the pool. Files are read
 * and not mapped: the mapping of an image saves a copy, and costs as much for finding, entering and flushing its pages
 * (and more than the copying of them where a hypervisor keeps shadow page tables); its pages may be gone again in S.
 *
 * Rule      nothing here is called within S, but thaw_window_peek()
 * Threads   content: immutable after creation, counted; a window: owned by its thread
 * Errors    -errno; -EAGAIN: not without waiting */
#ifndef THAW_ENGINE_CONTENT_H
#define THAW_ENGINE_CONTENT_H

#include "core/pagemap.h"
#include "source/source.h"

struct thaw_object {
	uint32_t number; /* the source's */
	int fd;          /* borrowed from the source; -1: content comes from read() */
	uint64_t size;
	bool resident;      /* a memory file: never on a disk */
	bool nowait;        /* RWF_NOWAIT works */
};

struct thaw_content {
	unsigned refs; /* atomic */
	struct thaw_source *source;
	unsigned n_objects;
	struct thaw_object objects[]; /* by number */
};

int thaw_content_new(struct thaw_content **out, struct thaw_source *source);
struct thaw_content *thaw_content_get(struct thaw_content *c);
void thaw_content_put(struct thaw_content *c);

const struct thaw_object *thaw_content_object(const struct thaw_content *c, uint32_t number);

/* Reads what is in memory already: 0, -EAGAIN, or another -errno (-ENODATA: the file ends before). Files only. */
int thaw_object_read_now(const struct thaw_object *o, uint64_t off, size_t len, void *buf);
/* Waits for the disk. Files only. */
int thaw_object_read(const struct thaw_object *o, uint64_t off, size_t len, void *buf);

/* Content of one run that lies in memory. */
struct thaw_window {
	const struct thaw_content *content; /* whose; NULL: none. Two sources number their objects alike */
	uint32_t number;                    /* of the object */
	uint64_t start, end;                /* bytes of it */
	const unsigned char *data;          /* of `start` */
};

/* The content of [off, off + len) if the window holds it. Safe within S: no system call. */
static inline const void *thaw_window_peek(const struct thaw_window *w, const struct thaw_content *c, uint32_t number,
					   uint64_t off, uint64_t len)
{
	if (w->content != c || w->number != number || off < w->start || off + len > w->end)
		return NULL;
	return w->data + (off - w->start);
}

/* Fills buf, of THAW_WINDOW_BYTES, with the content in memory from off on, at least `least` bytes of it. False: not there. */
bool thaw_window_move(struct thaw_window *w, const struct thaw_content *c, const struct thaw_object *o, uint64_t off,
		      uint64_t least, unsigned char *buf);
/* Stays in the second cache of a processor while it is copied, piece by piece. */
#define THAW_WINDOW_BYTES (256UL << 10)

#endif
