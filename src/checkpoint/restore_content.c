// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_content.c - eager content is written into the new process */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kern/sys.h"
#include "util/err.h"

#define CHUNK_PAGES 64u             /* read, compared and written at once: they stay in the second cache meanwhile */
#define TWO_THREADS_PAGES 16384u    /* below 64 MiB a second thread does not pay */

struct writer {
	struct thaw_restore *r;
	atomic_size_t next;      /* the run to be written next */
	uint64_t pages, began_ns;
	_Atomic uint64_t done;   /* pages written */
	_Atomic uint64_t first_ns;
	atomic_int failed;       /* -errno */
	_Atomic uint64_t where;
	_Atomic bool reading;    /* it was the image that failed, at byte `where` of pages-1.img */
};

static int read_failed(struct writer *w, uint64_t off, int err)
{
	atomic_store(&w->where, off);
	atomic_store(&w->reading, true);
	return err;
}

static int read_chunk(struct writer *w, const struct thaw_run *run, uint64_t off, uint64_t len, unsigned char *buf)
{
	struct thaw_source *src = w->r->source;
	const struct thaw_sums *sums = src->ops->sums ? src->ops->sums(src, run->object) : NULL;
	int fd = src->ops->object_fd(src, run->object);
	uint64_t done = 0, right;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return read_failed(w, off + done, n ? -errno : -ENODATA);
		done += (uint64_t)n;
	}
	if (!sums) { /* a file that was cut meanwhile may have been read as zeros from there on: engine/content.h */
		int64_t size = thaw_sys_size_in_memory(fd);
		bool whole = size >= (int64_t)(off + len) && (!src->ops->size || (uint64_t)size <= src->ops->size(src, run->object));

		return whole ? 0 : read_failed(w, off, -ENODATA);
	}
	right = thaw_sums_right(sums, off, len, buf);
	return right < len ? read_failed(w, off + right, -EBADMSG) : 0;
}

static int write_chunk(struct writer *w, const struct thaw_run *run, uint64_t first, uint64_t pages, unsigned char *buf)
{
	uint64_t done = 0, len = pages * THAW_PAGE_SIZE, at = run->addr + first * THAW_PAGE_SIZE;
	int err = read_chunk(w, run, run->off + first * THAW_PAGE_SIZE, len, buf);

	while (!err && done < len) {
		struct iovec from = { buf + done, len - done }, to = { (void *)(at + done), len - done };
		ssize_t n = process_vm_writev(w->r->pid, &from, 1, &to, 1, 0);

		if (n <= 0) {
			atomic_store(&w->where, at + done);
			return n ? -errno : -EFAULT;
		}
		done += (uint64_t)n;
	}
	return err;
}

static void count(struct writer *w, uint64_t pages, bool tells)
{
	const struct thaw_restore_options *o = &w->r->o;
	uint64_t done = atomic_fetch_add(&w->done, pages) + pages, none = 0;

	if (done == pages)
		atomic_compare_exchange_strong(&w->first_ns, &none, thaw_sys_now_ns() - w->began_ns);
	if (tells && o->written)
		o->written(o->written_opaque, done * THAW_PAGE_SIZE, w->pages * THAW_PAGE_SIZE);
}

/* Runs are dealt out one by one; a long run is cut, so `next` counts chunks of the whole. */
static void write_runs(struct writer *w, bool tells)
{
	const struct thaw_restore *r = w->r;
	unsigned char *buf = malloc(CHUNK_PAGES * THAW_PAGE_SIZE);
	size_t i = 0;
	uint64_t before = 0; /* chunks of the runs before i */

	if (!buf)
		atomic_store(&w->failed, -ENOMEM);
	while (!atomic_load_explicit(&w->failed, memory_order_relaxed)) { /* only to end early */
		uint64_t mine = atomic_fetch_add(&w->next, 1), chunks, first, n;
		int err;

		while (i < r->n_eager && mine >= before + (r->eager[i].pages + CHUNK_PAGES - 1) / CHUNK_PAGES)
			before += (r->eager[i++].pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
		if (i == r->n_eager)
			break;
		chunks = mine - before;
		first = chunks * CHUNK_PAGES;
		n = r->eager[i].pages - first < CHUNK_PAGES ? r->eager[i].pages - first : CHUNK_PAGES;
		err = write_chunk(w, &r->eager[i], first, n, buf);
		if (!err && mine % 512 == 0)
			err = thaw_restore_interrupted(r);
		if (err)
			atomic_store(&w->failed, err);
		else
			count(w, n, tells);
	}
	free(buf);
}

static void *help(void *opaque)
{
	write_runs(opaque, false);
	return NULL;
}

static uint64_t eager_pages(const struct thaw_restore *r)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < r->n_eager; i++)
		pages += r->eager[i].pages;
	return pages;
}

static int tell(struct writer *w, int err)
{
	const struct thaw_restore *r = w->r;
	uint64_t where = atomic_load(&w->where);

	if (err == -EINTR)
		return thaw_restore_interrupted(r); /* the helper's sentence is not ours */
	if (!atomic_load(&w->reading))
		return thaw_err_set(err, "restoring process %d: writing its memory at 0x%llx: %s", r->p->pid, (unsigned long long)where,
				    strerror(-err));
	if (err == -EBADMSG)
		return thaw_err_set(err, "%s: pages-1.img: the page at byte %llu does not match its checksum: the image is corrupt or "
				    "belongs to another checkpoint", r->o.dir, (unsigned long long)where);
	return thaw_err_set(err, "%s: pages-1.img: at byte %llu: %s", r->o.dir, (unsigned long long)where,
			    err == -ENODATA ? "it has become shorter" : strerror(-err));
}

int thaw_restore_content(struct thaw_restore *r)
{
	struct writer w = { .r = r, .pages = eager_pages(r), .began_ns = thaw_sys_now_ns() };
	pthread_t helper;
	bool helped = false;
	int err;

	if (w.pages > TWO_THREADS_PAGES)
		helped = !pthread_create(&helper, NULL, help, &w);
	write_runs(&w, true);
	if (helped)
		pthread_join(helper, NULL);
	err = atomic_load(&w.failed);
	if (err)
		tell(&w, err);
	r->written = (struct thaw_written){ w.pages * THAW_PAGE_SIZE, w.first_ns, thaw_sys_now_ns() - w.began_ns };
	return err;
}
