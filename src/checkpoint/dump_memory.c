// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_memory.c - the pages of a stopped process, into pages-1.img, their checksums and pagemap-PID.img */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "image/sums.h"
#include "image/write.h"
#include "util/err.h"

#define PAGE 4096u
#define CHUNK (1u << 20) /* what is read at once: small enough to be written from the CPU's cache */
#define PAGES_ID 1
#define SYNC_PIECE (64u << 20)

struct memory {
	struct thaw_dumper *d;
	const ThawState__Mapping *m; /* the mapping at hand */
	const struct thaw_dump_map *dm;
	struct thaw_pagemap_writer *w;
	struct thaw_sums_writer *sums;
	int pages_fd, mem_fd;
	unsigned char *buf;
	unsigned flags;              /* THAW_PE_* of its pages */
	bool zeros;                  /* pages full of zeros have to be stored as well */
};

static int fail(const struct memory *mem, uint64_t addr, int err)
{
	if (err == -ESRCH)
		return thaw_err_set(err, "process %d has ended meanwhile", mem->d->pid);
	return thaw_err_set(err, "process %d: memory at %llx (mapping %llx-%llx) cannot be read: %s", mem->d->pid,
			    (unsigned long long)addr, (unsigned long long)mem->m->start, (unsigned long long)mem->m->end,
			    strerror(-err));
}

/* As a debugger reads, whatever the protection says. */
static int read_forced(struct memory *mem, uint64_t addr, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(mem->mem_fd, mem->buf + done, len - done, (off_t)(addr + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) /* 0: the mm is gone */
			return fail(mem, addr + done, n ? -errno : -ESRCH);
		done += (size_t)n;
	}
	return 0;
}

static int read_chunk(struct memory *mem, uint64_t addr, size_t len)
{
	struct iovec local = { mem->buf, len };
	struct iovec remote = { (void *)(uintptr_t)addr, len };
	ssize_t n = -1;

	if (mem->m->prot & 1) { /* PROT_READ */
		n = process_vm_readv(mem->d->pid, &local, 1, &remote, 1, 0);
		if (n < 0 && errno == ESRCH)
			return fail(mem, addr, -ESRCH);
	}
	return n == (ssize_t)len ? 0 : read_forced(mem, addr, len);
}

static bool is_zero(const unsigned char *page)
{
	return page[0] == 0 && !memcmp(page, page + 1, PAGE - 1);
}

static int write_out(struct memory *mem, const unsigned char *from, size_t len)
{
	while (len) {
		ssize_t n = write(mem->pages_fd, from, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return thaw_err_set(-errno, "pages-%d.img: %s", PAGES_ID, strerror(errno));
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A run of pages that are stored, from the buffer. */
static int store(struct memory *mem, uint64_t addr, size_t first, size_t end)
{
	int r;

	if (first == end)
		return 0;
	r = thaw_image_pagemap_add(mem->w, addr + first * PAGE, end - first, mem->flags);
	if (r == 0)
		r = thaw_sums_add(mem->sums, mem->buf + first * PAGE, end - first); /* of what is in the cache still */
	if (r == 0)
		r = write_out(mem, mem->buf + first * PAGE, (end - first) * PAGE);
	mem->d->bytes += (end - first) * PAGE;
	return r;
}

static int dump_chunk(struct memory *mem, uint64_t addr, size_t len)
{
	size_t pages = len / PAGE, first = 0, i;
	int r;

	r = thaw_dump_abandoned(mem->d);
	if (r == 0)
		r = read_chunk(mem, addr, len);
	for (i = 0; r == 0 && i < pages; i++) {
		if (mem->zeros || !is_zero(mem->buf + i * PAGE))
			continue;
		r = store(mem, addr, first, i);
		first = i + 1;
	}
	return r < 0 ? r : store(mem, addr, first, pages);
}

static int dump_run(void *opaque, uint64_t start, uint64_t end)
{
	struct memory *mem = opaque;
	int r = 0;

	while (r == 0 && start < end) {
		size_t len = end - start < CHUNK ? end - start : CHUNK;

		r = dump_chunk(mem, start, len);
		start += len;
	}
	return r;
}

static int add_guard(void *opaque, uint64_t start, uint64_t end)
{
	ThawState__Mapping *m = opaque;
	ThawState__Range *g = thaw_dump_alloc(sizeof(*g));

	thaw_state__range__init(g);
	g->start = start;
	g->end = end;
	m->guards = thaw_dump_grow(m->guards, m->n_guards, sizeof(*m->guards));
	m->guards[m->n_guards++] = g;
	return 0;
}

/* Does its content go into pages-1.img? */
static bool has_pages(const struct memory *mem)
{
	return !mem->dm->droppable && mem->m->kind != THAW_STATE__MAPPING__KIND__FILE_SHARED &&
	       mem->m->kind != THAW_STATE__MAPPING__KIND__SHARED_ANON;
}

/* What a mapping holds that comes back from nowhere else. Content of shared memory is stored elsewhere, but guard pages belong to the
 * mapping. They are looked for in every one: the flag that smaps shows for them is younger than they are. */
static int dump_mapping(struct memory *mem, size_t i)
{
	ThawState__Mapping *m = mem->d->p.mappings[i];
	bool file = m->kind == THAW_STATE__MAPPING__KIND__FILE_PRIVATE;
	int r;

	mem->m = m;
	mem->dm = &mem->d->maps[i];
	if (mem->dm->special)
		return 0;
	mem->flags = THAW_PE_PRESENT | (m->lazy ? THAW_PE_LAZY : 0);
	mem->zeros = file; /* else the file's content would show */
	thaw_err_clear();
	r = thaw_procfs_guard_pages(mem->d->pagemap, m->start, m->end, add_guard, m);
	/* Not even smaps knows of swapped pages of kinds it does not count, so an empty mapping is scanned too. */
	if (r == 0 && has_pages(mem))
		r = (file ? thaw_procfs_changed_pages : thaw_procfs_own_pages)(mem->d->pagemap, m->start, m->end, dump_run, mem);
	if (r < 0 && thaw_err_code() != r)
		return fail(mem, m->start, r);
	return r;
}

static int open_files(struct memory *mem)
{
	char path[64];

	mem->buf = aligned_alloc(PAGE, CHUNK);
	if (!mem->buf)
		return thaw_err_set(-ENOMEM, "no memory for a buffer");
	snprintf(path, sizeof(path), "/proc/%d/mem", mem->d->pid);
	mem->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (mem->mem_fd < 0)
		return thaw_err_set(-errno, "process %d: %s: %s", mem->d->pid, path, strerror(errno));
	mem->w = thaw_image_pagemap_create(mem->d->dirfd, mem->d->pid, PAGES_ID);
	mem->sums = mem->w ? thaw_sums_create(mem->d->dirfd, PAGES_ID) : NULL;
	return mem->sums ? 0 : thaw_err_code();
}

int thaw_dump_memory(struct thaw_dumper *d)
{
	struct memory mem = { .d = d, .pages_fd = d->pages_fd, .mem_fd = -1 };
	size_t i;
	int r;

	r = open_files(&mem);
	for (i = 0; r == 0 && i < d->n_maps; i++)
		r = dump_mapping(&mem, i);
	if (mem.mem_fd >= 0)
		close(mem.mem_fd);
	free(mem.buf);
	d->pagemap_writer = mem.w;
	d->sums_writer = mem.sums;
	if (r == 0 && ftruncate(d->pages_fd, (off_t)d->bytes) < 0) /* it was made too long */
		r = thaw_err_set(-errno, "pages-%d.img: %s", PAGES_ID, strerror(errno));
	return r;
}

/* Private memory of the process at the moment, in bytes: an estimate. */
static uint64_t private_bytes(pid_t pid)
{
	unsigned long long size, resident, shared;
	char buf[128];

	if (thaw_procfs_read(pid, "statm", buf, sizeof(buf)) <= 0 ||
	    sscanf(buf, "%llu %llu %llu", &size, &resident, &shared) != 3 || resident < shared)
		return 0;
	return (resident - shared) * PAGE;
}

/* To write over pages of the page cache is several times faster than to have them made. When the process is to run on, that
 * is done before it is stopped. It may fail: what counts is written later. */
static int warm(struct thaw_dumper *d)
{
	uint64_t left = private_bytes(d->pid);
	unsigned char *zeros = calloc(1, CHUNK);
	int r = 0;

	while (zeros && left && r == 0) {
		ssize_t n = write(d->pages_fd, zeros, left < CHUNK ? left : CHUNK);

		if (n <= 0)
			break;
		left -= (uint64_t)n;
		r = thaw_dump_abandoned(d);
	}
	if (zeros && left && r == 0 && ftruncate(d->pages_fd, 0) < 0) /* full: leave room for what is really needed */
		r = thaw_err_set(-errno, "pages-%d.img: %s", PAGES_ID, strerror(errno));
	if (r == 0 && lseek(d->pages_fd, 0, SEEK_SET) < 0)
		r = thaw_err_set(-errno, "pages-%d.img: %s", PAGES_ID, strerror(errno));
	free(zeros);
	return r;
}

int thaw_dump_memory_prepare(struct thaw_dumper *d, bool warm_up)
{
	char name[32];

	snprintf(name, sizeof(name), "pages-%d.img", PAGES_ID);
	d->pages_fd = openat(d->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->pages_fd < 0)
		return thaw_err_set(-errno, "%s: %s", name, strerror(errno));
	return warm_up ? warm(d) : 0;
}

/* Most of it piece by piece, so that whoever does not want to wait for a slow disk can say so. That it fails, fsync tells. */
static int sync_pieces(struct thaw_dumper *d)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < d->bytes; at += SYNC_PIECE) {
		sync_file_range(d->pages_fd, (off_t)at, SYNC_PIECE, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
		r = thaw_dump_abandoned(d);
	}
	return r;
}

int thaw_dump_memory_sync(struct thaw_dumper *d)
{
	int r = thaw_image_pagemap_close(d->pagemap_writer), sums = thaw_sums_finish(d->sums_writer);

	d->pagemap_writer = NULL;
	d->sums_writer = NULL;
	if (r == 0)
		r = sums;
	if (r == 0)
		r = sync_pieces(d);
	if (r == 0 && fsync(d->pages_fd) < 0)
		r = thaw_err_set(-errno, "pages-%d.img: %s", PAGES_ID, strerror(errno));
	return r;
}
