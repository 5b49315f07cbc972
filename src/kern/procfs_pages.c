// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/procfs_pages.c - which pages of a process hold content: PAGEMAP_SCAN, or the words of /proc/PID/pagemap */
#include "config.h"
#include "kern/procfs.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Linux 6.7; our own names, since headers that have the kernel's would clash. */
struct scan_region {
	uint64_t start, end, categories;
};
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define SCAN_FILE (1 << 2)
#define SCAN_PRESENT (1 << 3)
#define SCAN_SWAPPED (1 << 4)
#define SCAN_PFNZERO (1 << 5)
#define SCAN_GUARD (1 << 8) /* Linux 6.15 */

#define WORD_PRESENT (1ULL << 63)
#define WORD_SWAPPED (1ULL << 62)
#define WORD_FILE (1ULL << 61)
#define WORD_GUARD (1ULL << 58) /* MADV_GUARD_INSTALL (Linux 6.15 tells); such a page counts as swapped out too */
#define WORD_PFN ((1ULL << 55) - 1)

#ifndef MADV_GUARD_INSTALL /* Linux 6.13 */
#define MADV_GUARD_INSTALL 102
#endif

#define BATCH 512

struct thaw_pagemap_file {
	int fd;
	bool scans, scans_guard;
	bool tells_guard; /* by scan or by word */
	long page;
	uint64_t zero_pfn; /* 0: unknown */
	union {
		struct scan_region regions[BATCH];
		uint64_t words[BATCH];
	};
};

static bool can_scan(int fd, uint64_t category)
{
	struct scan_arg a = { .size = sizeof(a), .category_mask = category, .return_mask = SCAN_PRESENT };

	return !THAW_INJECT("pagemap.scan") && ioctl(fd, SCAN_IOCTL, &a) >= 0; /* the empty range */
}

/* The frame of the zero page, seen through two pages of ours that were only read; 0 without CAP_SYS_ADMIN. A kernel that does without
 * it gives each of them a frame, which belongs to somebody else a moment later: that one must not be taken for zero. */
static uint64_t find_zero_pfn(long page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char *p = mmap(NULL, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t word[2] = { 0 };

	if (fd >= 0 && p != MAP_FAILED) {
		madvise((void *)p, 2 * page, MADV_NOHUGEPAGE);
		(void)p[0];
		(void)p[page];
		if (pread(fd, word, sizeof(word), (uintptr_t)p / page * sizeof(word[0])) != sizeof(word))
			word[0] = 0;
	}
	if (p != MAP_FAILED)
		munmap((void *)p, 2 * page);
	if (fd >= 0)
		close(fd);
	return word[0] & WORD_PRESENT && word[0] == word[1] ? word[0] & WORD_PFN : 0;
}

/* Between Linux 6.13 and the first that tells them, guard pages cannot be told from swapped out ones; before there are none. Tried with one
 * of ours, so that nobody reads words for terabytes of mappings for nothing. */
static bool words_tell_guard(long page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t word = 0;

	if (fd < 0 || p == MAP_FAILED || madvise(p, page, MADV_GUARD_INSTALL) ||
	    pread(fd, &word, sizeof(word), (uintptr_t)p / page * sizeof(word)) != sizeof(word))
		word = 0;
	if (p != MAP_FAILED)
		munmap(p, page);
	if (fd >= 0)
		close(fd);
	return word & WORD_GUARD;
}

int thaw_procfs_pagemap_open(pid_t pid, struct thaw_pagemap_file **out)
{
	struct thaw_pagemap_file *f = calloc(1, sizeof(*f));
	char path[48];
	int err;

	if (!f)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	f->fd = THAW_INJECT_ERRNO("procfs.open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0) {
		err = errno == ENOENT ? -ESRCH : -errno;
		free(f);
		return err;
	}
	f->page = sysconf(_SC_PAGESIZE);
	f->scans = can_scan(f->fd, SCAN_PRESENT);
	f->scans_guard = f->scans && can_scan(f->fd, SCAN_GUARD);
	f->tells_guard = f->scans_guard || words_tell_guard(f->page);
	if (!f->scans)
		f->zero_pfn = find_zero_pfn(f->page);
	*out = f;
	return 0;
}

void thaw_procfs_pagemap_close(struct thaw_pagemap_file *f)
{
	if (!f)
		return;
	close(f->fd);
	free(f);
}

bool thaw_procfs_pagemap_scans(const struct thaw_pagemap_file *f)
{
	return f->scans;
}

void thaw_procfs_pagemap_no_scan(struct thaw_pagemap_file *f)
{
	f->scans = false;
	f->zero_pfn = find_zero_pfn(f->page);
}

enum which { OWN, CHANGED, GUARD };

/* Joins what comes in pieces into runs. */
struct runs {
	uint64_t start, end;
	thaw_run_fn *fn;
	void *opaque;
};

static int flush(struct runs *r)
{
	int err = r->end > r->start ? r->fn(r->opaque, r->start, r->end) : 0;

	r->start = r->end = 0;
	return err;
}

static int add(struct runs *r, uint64_t start, uint64_t end)
{
	int err = 0;

	if (r->end == start && r->end > r->start) {
		r->end = end;
		return 0;
	}
	err = flush(r);
	r->start = start;
	r->end = end;
	return err;
}

static int scan(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, enum which which, struct runs *r)
{
	/* Not a page of a file or of shared memory. */
	uint64_t not = SCAN_FILE | (which == OWN ? SCAN_PFNZERO : 0) | (f->scans_guard ? SCAN_GUARD : 0);

	while (start < end) {
		struct scan_arg a = {
			.size = sizeof(a),
			.start = start,
			.end = end,
			.vec = (uintptr_t)f->regions,
			.vec_len = BATCH,
			.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
			.return_mask = SCAN_PRESENT,
		};
		int i, n, err;

		a.category_inverted = a.category_mask = not;
		if (which == GUARD) {
			a.category_inverted = 0;
			a.category_mask = SCAN_GUARD;
		}
		n = ioctl(f->fd, SCAN_IOCTL, &a);
		if (n < 0)
			return -errno;
		for (i = 0; i < n; i++) {
			err = add(r, f->regions[i].start, f->regions[i].end);
			if (err)
				return err;
		}
		if (a.walk_end <= start)
			return -EPROTO;
		start = a.walk_end;
	}
	return 0;
}

static bool wanted(const struct thaw_pagemap_file *f, uint64_t word, enum which which)
{
	if (!(word & (WORD_PRESENT | WORD_SWAPPED)))
		return false;
	if (which == GUARD || word & WORD_GUARD)
		return which == GUARD && word & WORD_GUARD;
	if (word & WORD_FILE)
		return false;
	if (which == CHANGED)
		return true;
	return !(word & WORD_PRESENT && f->zero_pfn && (word & WORD_PFN) == f->zero_pfn);
}

static int read_words(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, enum which which, struct runs *r)
{
	while (start < end) {
		uint64_t pages = (end - start) / f->page, i;
		size_t len = (pages < BATCH ? pages : BATCH) * sizeof(uint64_t);
		ssize_t n = THAW_INJECT_ERRNO("procfs.read") ? -1 : pread(f->fd, f->words, len, start / f->page * sizeof(uint64_t));

		if (n < 0)
			return -errno;
		if (n < (ssize_t)sizeof(uint64_t))
			return 0; /* the end of what user space can map */
		for (i = 0; i < n / sizeof(uint64_t); i++) {
			uint64_t at = start + i * f->page;
			int err = wanted(f, f->words[i], which) ? add(r, at, at + f->page) : 0;

			if (err)
				return err;
		}
		start += i * f->page;
	}
	return 0;
}

static int pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, enum which which, thaw_run_fn *fn,
		 void *opaque)
{
	struct runs r = { .fn = fn, .opaque = opaque };
	/* A scan that does not tell guard pages would take them for swapped out ones, where words do tell. */
	bool by_scan = f->scans && f->scans_guard == f->tells_guard;
	int err = by_scan ? scan(f, start, end, which, &r) : read_words(f, start, end, which, &r);

	return err ? err : flush(&r);
}

int thaw_procfs_own_pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque)
{
	return pages(f, start, end, OWN, fn, opaque);
}

int thaw_procfs_changed_pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque)
{
	return pages(f, start, end, CHANGED, fn, opaque);
}

int thaw_procfs_guard_pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque)
{
	return f->tells_guard ? pages(f, start, end, GUARD, fn, opaque) : 0;
}

int thaw_procfs_any_page(int fd, uint64_t first, uint64_t n)
{
	uint64_t words[512];

	while (n) {
		size_t want = n < 512 ? n : 512;
		ssize_t got = THAW_INJECT_ERRNO("procfs.read") ? -1 : pread(fd, words, want * sizeof(words[0]), first * sizeof(words[0]));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -ESRCH;
		got /= (ssize_t)sizeof(words[0]);
		for (ssize_t i = 0; i < got; i++)
			if (words[i] >> 62) /* bit 63: present, 62: in swap */
				return 1;
		first += got;
		n -= got;
	}
	return 0;
}
