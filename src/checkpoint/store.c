// SPDX-License-Identifier: LGPL-2.1-or-later
// Stored objects of a dump: content without a name (deleted files, memfds) goes to file-N.raw, each inode once.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/files_priv.h"

struct object {
	uint64_t dev, ino;
	int stored;            /* N of file-N.raw, -1: only numbered */
	uint64_t size;
};

struct thaw_store {
	int dirfd;
	struct object *objects; /* File.object is the index + 1 */
	size_t n, room;
	unsigned *stored;      /* index of the object that is file-N.raw */
	unsigned n_stored;
};

struct thaw_store *thaw_store_new(int dirfd)
{
	struct thaw_store *st = calloc(1, sizeof(*st));

	if (st)
		st->dirfd = dirfd;
	return st;
}

void thaw_store_free(struct thaw_store *st)
{
	if (!st)
		return;
	free(st->objects);
	free(st->stored);
	free(st);
}

uint64_t thaw_store_object(struct thaw_store *st, uint64_t dev, uint64_t ino)
{
	for (size_t i = st->n; i-- > 0;)
		if (st->objects[i].ino == ino && st->objects[i].dev == dev)
			return i + 1;
	if (st->n == st->room) {
		size_t room = st->room ? st->room * 2 : 32;
		struct object *more = reallocarray(st->objects, room, sizeof(*more));

		if (!more) {
			thaw_err_set(-ENOMEM, "out of memory for %zu stored objects", room);
			return 0;
		}
		st->objects = more;
		st->room = room;
	}
	st->objects[st->n] = (struct object){ .dev = dev, .ino = ino, .stored = -1 };
	return ++st->n;
}

unsigned thaw_store_count(const struct thaw_store *st)
{
	return st->n_stored;
}

uint64_t thaw_store_size(const struct thaw_store *st, unsigned n)
{
	return n < st->n_stored ? st->objects[st->stored[n]].size : 0;
}

/* [off, end) of in to the same place of out. */
static int copy_run(int in, int out, off_t off, off_t end)
{
	char *buf = NULL;
	int rc = 0;

	while (off < end && !rc) {
		loff_t from = off, to = off;
		ssize_t n = buf ? -1 : copy_file_range(in, &from, out, &to, (size_t)(end - off), 0);

		if (n <= 0) {  /* not between these file systems: by hand */
			size_t want = end - off < 1 << 20 ? (size_t)(end - off) : 1 << 20;

			if (!buf && !(buf = malloc(1 << 20)))
				return -ENOMEM;
			n = pread(in, buf, want, off);
			if (n > 0 && pwrite(out, buf, (size_t)n, off) != n)
				n = -1;
			if (n == 0)
				break;  /* shorter than fstat said: the size is set by the caller */
			if (n < 0)
				rc = errno ? -errno : -EIO;
		}
		off += n > 0 ? n : 0;
	}
	free(buf);
	return rc;
}

/* Data where there is data, holes where there are holes. */
int thaw_copy_sparse(int in, int out, off_t size)
{
	off_t off = 0;

	if (ftruncate(out, size))
		return -errno;
	while (off < size) {
		off_t data = lseek(in, off, SEEK_DATA), hole;
		int rc;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			data = off;  /* no SEEK_DATA here: everything is data */
		hole = lseek(in, data, SEEK_HOLE);
		if (hole < 0 || hole > size)
			hole = size;
		rc = copy_run(in, out, data, hole);
		if (rc)
			return rc;
		off = hole;
	}
	return 0;
}

/* Another description, so that seeking in it moves nothing that the process sees. */
static int reopen_readonly(int fd, const char *what)
{
	char link[40];
	int in;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	in = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (in < 0)
		return thaw_err_set(-errno, "%s: cannot be opened for reading (%s): its content cannot be stored", what,
				    strerrordesc_np(errno));
	return in;
}

static int store_content(struct thaw_store *st, int fd, uint64_t index, unsigned n, const char *what)
{
	struct object *o = &st->objects[index];
	char name[32];
	struct stat s;
	int in, out, rc;

	snprintf(name, sizeof(name), "file-%u.raw", n);
	in = reopen_readonly(fd, what);
	if (in < 0)
		return in;
	if (fstat(in, &s)) {
		rc = thaw_err_set(-errno, "%s: fstat failed", what);
		close(in);
		return rc;
	}
	out = openat(st->dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0) {
		rc = thaw_err_set(-errno, "%s: cannot be made in the image directory: %s", name, strerrordesc_np(errno));
		close(in);
		return rc;
	}
	rc = thaw_copy_sparse(in, out, s.st_size);
	if (rc)
		thaw_err_set(rc, "%s: storing %s (%llu bytes) failed: %s", name, what, (unsigned long long)s.st_size,
			     strerrordesc_np(-rc));
	close(in);
	if (close(out) && !rc)
		rc = thaw_err_set(-errno, "%s: storing %s failed: %s", name, what, strerrordesc_np(errno));
	o->size = (uint64_t)s.st_size;
	return rc;
}

int thaw_store_add(struct thaw_store *st, int fd, const char *what)
{
	struct stat s;
	uint64_t object;
	unsigned *more, n = st->n_stored;
	int rc;

	if (fstat(fd, &s))
		return thaw_err_set(-errno, "%s: fstat failed: %s", what, strerrordesc_np(errno));
	object = thaw_store_object(st, s.st_dev, s.st_ino);
	if (!object)
		return -ENOMEM;
	if (st->objects[object - 1].stored >= 0)
		return st->objects[object - 1].stored;
	more = reallocarray(st->stored, n + 1, sizeof(*more));
	if (!more)
		return thaw_err_set(-ENOMEM, "out of memory for %u stored objects", n + 1);
	st->stored = more;
	rc = store_content(st, fd, object - 1, n, what);
	if (rc)
		return rc;
	st->stored[st->n_stored++] = (unsigned)(object - 1);
	st->objects[object - 1].stored = (int)n;
	return (int)n;
}

int thaw_store_sync(struct thaw_store *st)
{
	for (unsigned n = 0; n < st->n_stored; n++) {
		char name[32];
		int fd, bad;

		snprintf(name, sizeof(name), "file-%u.raw", n);
		fd = openat(st->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		bad = fd < 0 || fsync(fd) ? errno : 0;
		if (fd >= 0)
			close(fd);
		if (bad)
			return thaw_err_set(-bad, "%s: writing to the disk failed: %s", name, strerrordesc_np(bad));
	}
	return 0;
}
