// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_content.c - eager content is written into the new process */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "kern/sys.h"
#include "util/err.h"

#define CHUNK_PAGES 512u            /* of one process_vm_writev */
#define TWO_THREADS_PAGES 16384u    /* below 64 MiB a second thread does not pay */

struct window { const unsigned char *base; size_t len; };
struct writer {
	struct thaw_restore *r;
	struct window *windows;  /* by object, mapped whole */
	unsigned n_windows;
	atomic_size_t next;      /* the run to be written next */
	uint64_t pages, began_ns;
	_Atomic uint64_t done;   /* pages written */
	_Atomic uint64_t first_ns;
	atomic_int failed;       /* -errno */
	_Atomic uint64_t where;
};

static int map_object(struct writer *w, uint32_t object)
{
	struct thaw_source *src = w->r->source;
	struct window *bigger;
	struct stat st;
	void *base;
	int fd;

	if (object >= w->n_windows) {
		bigger = realloc(w->windows, (object + 1) * sizeof(*bigger));
		if (!bigger)
			return thaw_err_set(-ENOMEM, "no memory for %u image files", object + 1);
		memset(bigger + w->n_windows, 0, (object + 1 - w->n_windows) * sizeof(*bigger));
		w->windows = bigger;
		w->n_windows = object + 1;
	}
	if (w->windows[object].base)
		return 0;
	fd = src->ops->object_fd(src, object);
	if (fd < 0 || fstat(fd, &st) || st.st_size <= 0)
		return thaw_err_set(-EBADMSG, "the pages of %s cannot be opened", w->r->o.dir);
	base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return thaw_err_set(-errno, "mapping %lld bytes of pages: %s", (long long)st.st_size, strerror(errno));
	madvise(base, (size_t)st.st_size, MADV_SEQUENTIAL); /* only a hint */
	w->windows[object] = (struct window){ base, (size_t)st.st_size };
	return 0;
}

static int map_objects(struct writer *w)
{
	const struct thaw_restore *r = w->r;
	int err = 0;

	for (size_t i = 0; i < r->n_eager && !err; i++) {
		const struct thaw_run *run = &r->eager[i];

		err = map_object(w, run->object);
		if (!err && (run->off > w->windows[run->object].len ||
			     run->pages * THAW_PAGE_SIZE > w->windows[run->object].len - run->off))
			err = thaw_err_set(-EBADMSG, "the content of 0x%llx lies behind the end of its pages image: it is truncated",
					   (unsigned long long)run->addr);
	}
	return err;
}

static int write_chunk(struct writer *w, const struct thaw_run *run, uint64_t first, uint64_t pages)
{
	uint64_t done = 0, len = pages * THAW_PAGE_SIZE, at = run->addr + first * THAW_PAGE_SIZE;
	const unsigned char *src = w->windows[run->object].base + run->off + first * THAW_PAGE_SIZE;

	while (done < len) {
		struct iovec from = { (void *)(src + done), len - done }, to = { (void *)(at + done), len - done };
		ssize_t n = process_vm_writev(w->r->pid, &from, 1, &to, 1, 0);

		if (n <= 0) {
			atomic_store(&w->where, at + done);
			return n ? -errno : -EFAULT;
		}
		done += (uint64_t)n;
	}
	return 0;
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
	size_t i = 0;
	uint64_t before = 0; /* chunks of the runs before i */

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
		err = write_chunk(w, &r->eager[i], first, n);
		if (!err && mine % 64 == 0)
			err = thaw_restore_interrupted(r);
		if (err)
			atomic_store(&w->failed, err);
		else
			count(w, n, tells);
	}
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

int thaw_restore_content(struct thaw_restore *r)
{
	struct writer w = { .r = r, .pages = eager_pages(r), .began_ns = thaw_sys_now_ns() };
	pthread_t helper;
	bool helped = false;
	int err = map_objects(&w);

	if (!err) {
		if (w.pages > TWO_THREADS_PAGES)
			helped = !pthread_create(&helper, NULL, help, &w);
		write_runs(&w, true);
		if (helped)
			pthread_join(helper, NULL);
		err = atomic_load(&w.failed);
		if (err == -EINTR)
			thaw_restore_interrupted(r); /* the helper's sentence is not ours */
		else if (err)
			thaw_err_set(err, "restoring process %d: writing its memory at 0x%llx: %s", r->p->pid,
				     (unsigned long long)atomic_load(&w.where), strerror(-err));
	}
	for (unsigned i = 0; i < w.n_windows; i++)
		if (w.windows[i].base)
			munmap((void *)w.windows[i].base, w.windows[i].len);
	free(w.windows);
	r->written = (struct thaw_written){ w.pages * THAW_PAGE_SIZE, w.first_ns, thaw_sys_now_ns() - w.began_ns };
	return err;
}
