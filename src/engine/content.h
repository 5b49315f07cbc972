/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/content.h - a source made ready for the engine: its files, and what may be had of them without waiting.
 *
 * Content is fetched before S and lies in memory then: read into a buffer of ours, in a thread's own or one of the pool, or in a
 * populated window of the file's mapping. A mapping saves one of two copies, and pays for it with finding, entering and flushing
 * its pages: which is cheaper depends on the processor and on what is below it (with shadow page tables each entered page
 * costs more than copying it), so the copiers try both (copier.c). A window's page may be reclaimed again before it
 * is copied: COPY waits for the disk in S then, which costs an X some milliseconds and no correctness.
 *
 * A file that is cut short while it is in use: what its last page then has behind the end becomes zeros, in the page cache,
 * after its size has changed. A mapping shows those zeros, and so may a read, which looks at the size first and copies then.
 * So where the file ends is asked for behind each read, and before each copy from a mapping (where a file is cut after
 * that, its pages are unmapped first, and the copy comes too late for all but a few microseconds). Checksums tell as much, and
 * more. An image that has grown is being taken apart (image/pages_file.h).
 *
 * Content that has checksums is compared with them in the buffer that it is placed from, outside S. It is never mapped: what
 * was compared could be read from the disk once more before it is copied, and to look at a page that cannot be read would be
 * a signal. That costs some 0.2 us a page (image/sums.h).
 *
 * Rule      nothing here is called within S, but thaw_window_peek() and thaw_window_is_whole()
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
	unsigned char *map; /* all of the file, shared, read-only; NULL: it cannot be mapped */
	const struct thaw_sums *sums; /* the source's; then map is NULL. NULL: nothing tells what the file should hold */
	bool resident;      /* a memory file: never on a disk */
	bool nowait;        /* RWF_NOWAIT works */
	uint64_t most;      /* what size may be: an image that has grown is none */
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

/* Reads what is in memory already: 0, -EAGAIN, or another -errno (-ENODATA: the file ends before, -EBADMSG: it does not match its
 * checksum). Files only. */
int thaw_object_read_now(const struct thaw_object *o, uint64_t off, size_t len, void *buf);
/* Waits for the disk. Files only. */
int thaw_object_read(const struct thaw_object *o, uint64_t off, size_t len, void *buf);

/* What has been read of it, against its checksums: 0 or -EBADMSG; without them -ENODATA if the file has been cut meanwhile. Not a file:
 * 0. Waits for nothing. */
int thaw_object_verify(const struct thaw_object *o, uint64_t off, size_t len, const void *buf);

/* Content of one run that lies in memory. */
struct thaw_window {
	const struct thaw_content *content; /* whose; NULL: none. Two sources number their objects alike */
	uint32_t number;                    /* of the object */
	uint64_t start, end;                /* bytes of it */
	const unsigned char *data;          /* of `start` */
	const struct thaw_object *mapped;   /* whose mapping it is in, populated for this window; NULL: a buffer */
};

enum thaw_way { THAW_WAY_READ, THAW_WAY_MAP, THAW_WAYS };

/* The content of [off, off + len) if the window holds it. Safe within S: no system call. */
static inline const void *thaw_window_peek(const struct thaw_window *w, const struct thaw_content *c, uint32_t number,
					   uint64_t off, uint64_t len)
{
	if (w->content != c || w->number != number || off < w->start || off + len > w->end)
		return NULL;
	return w->data + (off - w->start);
}

/* Which way a copier goes: both are tried at first and now and then, and the one that costs it less time of its CPU is gone. */
struct thaw_ways {
	enum thaw_way way;       /* of the present window */
	unsigned turn;           /* windows so far */
	uint64_t began_ns, used; /* of the present window: CPU time when it was made (0: not to be counted), bytes placed from it */
	uint64_t cost[THAW_WAYS]; /* picoseconds a byte; 0: not known */
};

/* Moves the window to the content in memory from off on, at least `least` bytes of it: THAW_WAY_READ, into buf, of THAW_WINDOW_BYTES, or
 * THAW_WAY_MAP, where the file could be mapped. False: not there. */
bool thaw_window_move(struct thaw_window *w, const struct thaw_content *c, const struct thaw_object *o, uint64_t off,
		      uint64_t least, enum thaw_way way, unsigned char *buf);
/* Does the file still reach to the end of a mapped window's [off, off + len)? Never waits: it is asked what the kernel has in memory. */
bool thaw_window_is_whole(const struct thaw_window *w, uint64_t off, uint64_t len);
void thaw_window_drop(struct thaw_window *w); /* while its content is there */
/* Stays in the second cache of a processor while it is copied, piece by piece. */
#define THAW_WINDOW_BYTES (256UL << 10)

#endif
