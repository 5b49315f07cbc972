// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/content.c - the files of a source, and what is in memory of them: read, or seen through a window of a mapping, without waiting */
#include "config.h"
#include "engine/content.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kern/sys.h"
#include "util/err.h"
#include "util/inject.h"
#include "util/sabotage.h"

#define MAX_OBJECTS 65536
#define MAPPED_BYTES (2UL << 20)

struct numbers {
	uint32_t *v;
	unsigned n, room;
};

static int note_number(void *opaque, const struct thaw_extent *e)
{
	struct numbers *ns = opaque;
	uint32_t *more;

	for (unsigned i = ns->n; i-- > 0;) /* the last one seen is nearly always the one */
		if (ns->v[i] == e->object)
			return 0;
	if (ns->n == ns->room) {
		more = realloc(ns->v, (ns->room * 2 + 4) * sizeof(*more));
		if (!more)
			return thaw_err_set(-ENOMEM, "no memory for the list of content files");
		ns->v = more;
		ns->room = ns->room * 2 + 4;
	}
	ns->v[ns->n++] = e->object;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Only where mincore() tells the truth: of a file that is neither ours nor writable for us it says that all is in memory. Made without
 * access and unlocked first, so that a caller's mlockall(MCL_FUTURE) does not read and lock all of the image. */
static void map_object(struct thaw_object *o, const struct stat *st)
{
	void *map;

	if (!o->size || (st->st_uid != geteuid() && faccessat(o->fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS)))
		return;
	map = THAW_INJECT("content.map") ? MAP_FAILED : mmap(NULL, o->size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, o->fd, 0);
	if (map == MAP_FAILED)
		return; /* it is read then */
	if (THAW_INJECT("content.unlock") || munlock(map, o->size) || mprotect(map, o->size, PROT_READ)) {
		munmap(map, o->size);
		return;
	}
	madvise(map, o->size, MADV_RANDOM); /* no read-ahead behind a window's end: advice only, like these */
	madvise(map, o->size, MADV_DONTFORK);
	madvise(map, o->size, MADV_DONTDUMP);
	o->map = map;
}

static int open_object(struct thaw_object *o, struct thaw_source *src)
{
	struct stat st;
	struct statfs fs;
	char byte;
	struct iovec iov = { &byte, 1 };

	o->map = NULL;
	o->sums = NULL;
	o->fd = src->ops->object_fd ? src->ops->object_fd(src, o->number) : -1;
	if (o->fd < 0)
		return 0;
	if (THAW_INJECT_ERRNO("content.stat") || fstat(o->fd, &st) || fstatfs(o->fd, &fs))
		return thaw_err_set(-errno, "%s source: content file %u: %s", src->ops->kind, o->number, strerror(errno));
	o->size = st.st_size;
	o->most = src->ops->size ? src->ops->size(src, o->number) : UINT64_MAX;
	o->resident = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
	o->nowait = !o->resident && (preadv2(o->fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN);
	o->sums = src->ops->sums ? src->ops->sums(src, o->number) : NULL;
	if (!o->sums)
		map_object(o, &st);
	return 0;
}

int thaw_content_new(struct thaw_content **out, struct thaw_source *source)
{
	struct numbers ns = { 0 };
	struct thaw_content *c = NULL;
	int err = 0;

	if (source->ops->extents)
		err = source->ops->extents(source, note_number, &ns);
	else
		err = note_number(&ns, &(struct thaw_extent){ .object = 0 });
	if (!err) {
		if (ns.n) /* a source may have nothing at all */
			qsort(ns.v, ns.n, sizeof(*ns.v), by_number);
		c = calloc(1, sizeof(*c) + ns.n * sizeof(c->objects[0]));
		if (!c)
			err = thaw_err_set(-ENOMEM, "no memory for %u content files", ns.n);
	}
	if (c) {
		c->refs = 1;
		c->source = thaw_source_get(source);
		for (; c->n_objects < ns.n && !err; c->n_objects++) {
			c->objects[c->n_objects].number = ns.v[c->n_objects];
			err = open_object(&c->objects[c->n_objects], source);
		}
		if (err)
			thaw_content_put(c);
	}
	free(ns.v);
	if (!err)
		*out = c;
	return err;
}

struct thaw_content *thaw_content_get(struct thaw_content *c)
{
	__atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED); /* the caller holds one: it cannot be the first */
	return c;
}

void thaw_content_put(struct thaw_content *c)
{
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (unsigned i = 0; i < c->n_objects; i++)
		if (c->objects[i].map)
			munmap(c->objects[i].map, c->objects[i].size);
	thaw_source_put(c->source);
	free(c);
}

const struct thaw_object *thaw_content_object(const struct thaw_content *c, uint32_t number)
{
	unsigned lo = 0, hi = c->n_objects;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (c->objects[mid].number == number)
			return &c->objects[mid];
		if (c->objects[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int read_all(const struct thaw_object *o, uint64_t off, size_t len, void *buf, int flags)
{
	size_t got = 0;

	if (THAW_SABOTAGE(SHORT_READ_WHOLE) && len > THAW_PAGE_SIZE)
		len /= 2;
	while (got < len) {
		struct iovec iov = { (char *)buf + got, THAW_INJECT_SHORT("content.read", len - got, 1) };
		ssize_t n = THAW_INJECT_ERRNO("content.read") ? -1 : preadv2(o->fd, &iov, 1, off + got, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return off + got >= o->size || !flags ? -ENODATA : -EAGAIN;
		got += n;
	}
	return 0;
}

/* What has been read up to `end` was there: see content.h. */
static bool is_whole(const struct thaw_object *o, uint64_t end)
{
	int64_t size;

	if (!o->size) /* a device */
		return true;
	size = thaw_sys_size_in_memory(o->fd);
	return size >= (int64_t)end && (uint64_t)size <= o->most;
}

int thaw_object_verify(const struct thaw_object *o, uint64_t off, size_t len, const void *buf)
{
	if (o->fd < 0)
		return 0;
	if (!o->sums)
		return THAW_INJECT("content.end") || !is_whole(o, off + len) ? -ENODATA : 0;
	return thaw_sums_right(o->sums, off, len, buf) < len ? -EBADMSG : 0;
}

int thaw_object_read_now(const struct thaw_object *o, uint64_t off, size_t len, void *buf)
{
	int flags = o->resident ? 0 : RWF_NOWAIT, err;

	if (!o->resident && !o->nowait)
		return -EAGAIN;
	err = read_all(o, off, len, buf, flags);
	if (!err)
		err = thaw_object_verify(o, off, len, buf);
	return err == -EOPNOTSUPP ? -EAGAIN : err;
}

int thaw_object_read(const struct thaw_object *o, uint64_t off, size_t len, void *buf)
{
	int err = read_all(o, off, len, buf, 0);

	return err ? err : thaw_object_verify(o, off, len, buf);
}

static bool read_window(struct thaw_window *w, const struct thaw_content *c, const struct thaw_object *o, uint64_t off,
			uint64_t least, unsigned char *buf)
{
	struct iovec iov = { buf, THAW_INJECT_SHORT("content.ahead", THAW_WINDOW_BYTES, 1) };
	int flags = o->resident ? 0 : RWF_NOWAIT;
	uint64_t got;
	ssize_t n;

	if (!o->resident && !o->nowait)
		return false;
	do
		n = THAW_INJECT_ERRNO("content.ahead") ? -1 : preadv2(o->fd, &iov, 1, (off_t)off, flags);
	while (n < 0 && errno == EINTR);
	got = n < 0 ? 0 : (uint64_t)n & ~(THAW_PAGE_SIZE - 1);
	if (got && o->sums)
		got = thaw_sums_right(o->sums, off, got, buf);
	else if (got && thaw_object_verify(o, off, got, buf))
		got = 0;
	if (got < least) /* the rest is on the disk, cannot be read or is not right: the read that waits will tell */
		return false;
	*w = (struct thaw_window){ c, o->number, off, off + got, buf };
	return true;
}

/* Bytes of [off, off + len) that are in memory, from off on. A memory file is asked, too: to populate a hole of it makes pages there. */
static uint64_t in_memory(const struct thaw_object *o, uint64_t off, uint64_t len)
{
	unsigned char in[MAPPED_BYTES >> THAW_PAGE_SHIFT];
	uint64_t pages = 0;

	if (THAW_INJECT("content.mincore") || mincore(o->map + off, len, in))
		return 0;
	while (pages < len >> THAW_PAGE_SHIFT && (in[pages] & 1))
		pages++;
	return pages << THAW_PAGE_SHIFT;
}

static bool map_window(struct thaw_window *w, const struct thaw_content *c, const struct thaw_object *o, uint64_t off, uint64_t least)
{
	uint64_t len = off < o->size ? o->size - off : 0;

	len = (len < MAPPED_BYTES ? len : MAPPED_BYTES) & ~(THAW_PAGE_SIZE - 1);
	if (len >= least)
		len = in_memory(o, off, len);
	if (!len || len < least)
		return false;
	/* What has gone again meanwhile is waited for here, and not in S. A page that cannot be read makes it fail. */
	if (THAW_INJECT("content.populate") || madvise(o->map + off, len, MADV_POPULATE_READ) ||
	    THAW_INJECT("content.size") || !is_whole(o, off + len))
		return false;
	*w = (struct thaw_window){ c, o->number, off, off + len, o->map + off, o };
	return true;
}

bool thaw_window_move(struct thaw_window *w, const struct thaw_content *c, const struct thaw_object *o, uint64_t off,
		      uint64_t least, enum thaw_way way, unsigned char *buf)
{
	thaw_window_drop(w);
	if (way == THAW_WAY_MAP && o->map && map_window(w, c, o, off, least))
		return true;
	return read_window(w, c, o, off, least, buf);
}

bool thaw_window_is_whole(const struct thaw_window *w, uint64_t off, uint64_t len)
{
	return !THAW_INJECT("content.size") && is_whole(w->mapped, off + len);
}

void thaw_window_drop(struct thaw_window *w)
{
	/* Gives back the page table and the resident size, not the page cache. */
	if (w->content && w->mapped)
		madvise((void *)w->data, w->end - w->start, MADV_DONTNEED);
	w->content = NULL;
}
