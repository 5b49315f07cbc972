// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/add.c - a space from the caller's description: what is checked, and how its map is built */
#include "config.h"
#include "engine/mm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/areas.h"
#include "engine/monitor.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"

#define USER_END (1ULL << 47)
#define WHOLE_PAGES(x) (!((x) & (THAW_PAGE_SIZE - 1)))

static int check_range(const struct thaw_range *r, size_t i)
{
	if (!r->length || !WHOLE_PAGES(r->address) || !WHOLE_PAGES(r->length))
		return thaw_err_set(-EINVAL, "range %zu: address and length must be whole pages, length not 0", i);
	if (r->address >= USER_END || r->length > USER_END - r->address)
		return thaw_err_set(-EINVAL, "range %zu: %#llx+%#llx is not in user memory", i,
				    (unsigned long long)r->address, (unsigned long long)r->length);
	if (r->kind == THAW_KIND_SHMEM)
		return thaw_err_set(-ENOTSUP, "range %zu: shared memory is not served lazily (the kernel announces MADV_REMOVE"
				    " and MADV_DONTNEED alike); restore it eagerly", i);
	if (r->kind == THAW_KIND_HUGETLB)
		return thaw_err_set(-ENOTSUP, "range %zu: hugetlb memory is not served lazily; restore it eagerly", i);
	if (r->kind != THAW_KIND_ANON)
		return thaw_err_set(-EINVAL, "range %zu: unknown kind %d", i, r->kind);
	if (r->prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC))
		return thaw_err_set(-EINVAL, "range %zu: unknown protection bits %#x", i, r->prot);
	if (r->flags & ~(THAW_RANGE_WIPEONFORK | THAW_RANGE_DONTFORK))
		return thaw_err_set(-EINVAL, "range %zu: unknown flags %#x", i, r->flags);
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct thaw_range *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* A sorted copy of the ranges, or NULL with a sentence. */
static struct thaw_range *sort_ranges(const struct thaw_space *d)
{
	struct thaw_range *r;

	for (size_t i = 0; i < d->n_ranges; i++)
		if (check_range(&d->ranges[i], i))
			return NULL;
	r = malloc(d->n_ranges * sizeof(*r));
	if (!r) {
		thaw_err_set(-ENOMEM, "no memory for %zu ranges", d->n_ranges);
		return NULL;
	}
	memcpy(r, d->ranges, d->n_ranges * sizeof(*r));
	qsort(r, d->n_ranges, sizeof(*r), by_address);
	for (size_t i = 1; i < d->n_ranges; i++) {
		if (r[i].address >= r[i - 1].address + r[i - 1].length)
			continue;
		thaw_err_set(-EINVAL, "ranges at %#llx and %#llx overlap", (unsigned long long)r[i - 1].address,
			     (unsigned long long)r[i].address);
		free(r);
		return NULL;
	}
	return r;
}

/* A map with many short runs is made smaller now and then while it is built, so that it is never large. In a debug build also where
 * that does not pay: its tests meet such maps everywhere. */
#define COMPACT_EVERY 4096
#ifdef THAW_DEBUG
#define COMPACT_ALWAYS true
#else
#define COMPACT_ALWAYS false
#endif

struct builder {
	struct thaw_pagemap *pm;
	const struct thaw_range *ranges;
	size_t n, next; /* next: the first range that may still meet an extent (they come in address order) */
	uint64_t added, end, compact_from;
	bool disorder; /* compacted on the way, it would have to be taken apart again and again */
};

static void compact(struct builder *b, const struct thaw_extent *e)
{
	b->disorder |= e->addr < b->end;
	b->end = e->addr + (e->pages << THAW_PAGE_SHIFT);
	if (++b->added % COMPACT_EVERY || b->disorder)
		return;
	thaw_pagemap_compact(b->pm, b->compact_from, COMPACT_ALWAYS);
	b->compact_from = b->end;
}

static uint32_t extent_flags(const struct thaw_range *r)
{
	return (r->flags & THAW_RANGE_WIPEONFORK ? THAW_EXTENT_WIPEONFORK : 0) |
	       (r->flags & THAW_RANGE_DONTFORK ? THAW_EXTENT_DONTFORK : 0);
}

/* The part of e in each range. Content outside all ranges is not the monitor's to place. */
static int add_extent(void *opaque, const struct thaw_extent *e)
{
	struct builder *b = opaque;
	uint64_t end = e->addr + (e->pages << THAW_PAGE_SHIFT);

	while (b->next && b->ranges[b->next - 1].address + b->ranges[b->next - 1].length > e->addr)
		b->next--; /* out of order after all: correct, only slower */
	compact(b, e);
	for (; b->next < b->n && b->ranges[b->next].address < end; b->next++) {
		const struct thaw_range *r = &b->ranges[b->next];
		uint64_t from = e->addr > r->address ? e->addr : r->address;
		uint64_t to = end < r->address + r->length ? end : r->address + r->length;
		int err;

		if (from >= to)
			continue;
		err = thaw_pagemap_add(b->pm, &(struct thaw_extent){
			.addr = from,
			.pages = (to - from) >> THAW_PAGE_SHIFT,
			.off = e->off + (from - e->addr),
			.object = e->object,
			.flags = extent_flags(r),
		});
		if (err)
			return thaw_err_set(err, "content at %#llx: %s", (unsigned long long)from,
					    err == -EEXIST ? "the source describes it twice" : strerror(-err));
		if (end <= r->address + r->length)
			break;
	}
	return 0;
}

/* A source that says nothing of extents has content everywhere. */
static int add_ranges(struct builder *b)
{
	int err = 0;

	for (size_t i = 0; i < b->n && !err; i++)
		err = add_extent(b, &(struct thaw_extent){
			.addr = b->ranges[i].address,
			.pages = b->ranges[i].length >> THAW_PAGE_SHIFT,
			.off = b->ranges[i].address,
		});
	return err;
}

static int build_map(struct thaw_mm *mm, const struct thaw_space *d, const struct thaw_range *ranges)
{
	struct builder b = { .ranges = ranges, .n = d->n_ranges };
	int err = 0;

	b.pm = mm->pm = thaw_pagemap_new();
	mm->ev = thaw_events_new();
	if (!mm->pm || !mm->ev)
		return thaw_err_set(-ENOMEM, "no memory for the page map");
	if (thaw_uffd_tells_old_length())
		thaw_events_set_long_remaps(mm->ev);
	if (d->source->ops->extents)
		err = d->source->ops->extents(d->source, add_extent, &b);
	else
		err = add_ranges(&b);
	if (!err)
		thaw_pagemap_compact(mm->pm, b.disorder ? 0 : b.compact_from, COMPACT_ALWAYS);
	return err;
}

/* What the kernel says of the descriptor: that it is a userfaultfd, and that it announces all four events. */
static int check_uffd(int uffd, bool *numbers)
{
	char path[64], line[256] = "";
	unsigned long long features = 0;
	unsigned api;
	bool is = false;
	FILE *f;
	int flags = fcntl(uffd, F_GETFL);

	if (flags < 0)
		return thaw_err_set(-EBADF, "uffd %d is not an open descriptor", uffd);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
	f = fopen(path, "re");
	if (!f)
		return thaw_err_set(-errno, "%s: %s", path, strerror(errno));
	while (!is && fgets(line, sizeof(line), f))
		is = sscanf(line, "API: %x:%llx", &api, &features) == 2;
	fclose(f);
	if (!is)
		return thaw_err_set(-EINVAL, "descriptor %d is not a userfaultfd", uffd);
	if (!(flags & O_NONBLOCK))
		return thaw_err_set(-EINVAL, "userfaultfd %d is blocking: make it with O_NONBLOCK", uffd);
	if ((features & THAW_UFFD_EVENTS) != THAW_UFFD_EVENTS)
		return thaw_err_set(-EINVAL, "userfaultfd %d does not announce fork, mremap, madvise and munmap (features"
				    " %#llx): children would read zeros; make it with thaw_uffd_open()", uffd, features);
	*numbers = features & UFFD_FEATURE_EVENT_SEQ && thaw_uffd_has_numbers();
	return 0;
}

/* Each userfaultfd has an inode of its own, which tells duplicates of it. Most anonymous files, epoll among them, share one: a kernel
 * that gives that to userfaultfds too leaves only the number to be compared. */
static uint64_t inode_of(int uffd, int epoll)
{
	struct stat it, shared;

	if (fstat(uffd, &it) || fstat(epoll, &shared) || it.st_ino == shared.st_ino)
		return 0;
	return it.st_ino;
}

static int take_process(struct thaw_mm *mm, const struct thaw_space *d)
{
	char path[64];
	int pid = d->pid;

	if (d->pidfd >= 0) {
		pid = thaw_sys_pid_of(d->pidfd);
		if (pid == -ESRCH)
			return thaw_err_set(pid, "the process of pidfd %d is gone", d->pidfd);
		if (pid == -EINVAL)
			return thaw_err_set(pid, "descriptor %d is not a pidfd", d->pidfd);
		if (pid < 0)
			return thaw_err_set(pid, "pidfd %d: %s", d->pidfd, strerror(-pid));
		mm->pidfd = fcntl(d->pidfd, F_DUPFD_CLOEXEC, 0);
		if (mm->pidfd < 0)
			return thaw_err_set(-errno, "pidfd %d cannot be duplicated: %s", d->pidfd, strerror(errno));
	} else if (pid > 0) {
		mm->pidfd = thaw_sys_pidfd_open(pid);
		if (mm->pidfd < 0)
			return thaw_err_set(mm->pidfd, "process %d: %s", pid, strerror(-mm->pidfd));
	}
	if (pid <= 0)
		return 0;
	mm->pid = pid;
	/* Opened now, while it is allowed: a fork child's MADV_WIPEONFORK ranges are read from it later. Without
	 * it only those named by the caller are known. */
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	mm->smaps_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (thaw_uffd_close_can_spin()) {
		snprintf(path, sizeof(path), "/proc/%d/maps", pid);
		mm->maps_fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	mm->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC); /* for subscribers: engine/subscribe.c */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, pid);
	mm->stat_fd = open(path, O_RDONLY | O_CLOEXEC); /* engine/near.c */
	return 0;
}

static int register_all(int uffd, const struct thaw_range *r, size_t n)
{
	bool *ours = calloc(n, sizeof(*ours)); /* the caller may have registered some, or parts */

	if (!ours)
		return thaw_err_set(-ENOMEM, "no memory for %zu ranges", n);
	for (size_t i = 0; i < n; i++) {
		int err;

		ours[i] = thaw_uffd_is_registered(uffd, r[i].address) == THAW_NO_VMA &&
			  thaw_uffd_is_registered(uffd, r[i].address + r[i].length - THAW_PAGE_SIZE) == THAW_NO_VMA;
		err = thaw_uffd_register(uffd, r[i].address, r[i].length);
		/* The caller gets its userfaultfd back as it was. Where that fails, whoever closes it does the same. */
		for (size_t k = 0; err && k < i; k++)
			if (ours[k])
				(void)thaw_uffd_unregister(uffd, r[k].address, r[k].length);
		if (err) {
			free(ours);
			return thaw_err_set(err, "range %#llx+%#llx cannot be registered (is it all mapped, private and"
					    " anonymous?): %s", (unsigned long long)r[i].address,
					    (unsigned long long)r[i].length, strerror(-err));
		}
	}
	free(ours);
	return 0;
}

static int note_mappings(struct thaw_mm *mm, const struct thaw_range *r, size_t n)
{
	mm->mappings = malloc(n * sizeof(*mm->mappings));
	if (!mm->mappings)
		return thaw_err_set(-ENOMEM, "no memory for %zu ranges", n);
	for (size_t i = 0; i < n; i++)
		mm->mappings[i] = (struct thaw_span){ r[i].address, r[i].address + r[i].length };
	mm->n_mappings = n;
	mm->registration = THAW_REGISTERING;
	return 0;
}

static int fill_in(struct thaw_mm *mm, const struct thaw_space *d, const struct thaw_range *ranges)
{
	int err = take_process(mm, d);

	if (!err)
		err = thaw_content_new(&mm->content, d->source);
	if (!err)
		err = build_map(mm, d, ranges);
	if (!err)
		thaw_areas_new(mm, ranges, d->n_ranges);
	/* Of another space's nothing may be taken back: what is registered there is that one's. */
	if (!err && d->register_ranges)
		err = thaw_mm_check_uffd(mm);
	if (!err && d->register_ranges)
		err = register_all(d->uffd, ranges, d->n_ranges);
	if (!err && d->registers_later)
		err = note_mappings(mm, ranges, d->n_ranges);
	return err;
}

int64_t thaw_mm_add(struct thaw *m, const struct thaw_space *d)
{
	struct thaw_range *ranges;
	struct thaw_mm *mm;
	bool numbers = false;
	int64_t id;
	int err;

	if (!d->source)
		return thaw_err_set(-EINVAL, "no source is given");
	if (__atomic_load_n(&d->source->closed, __ATOMIC_RELAXED))
		return thaw_err_set(-EINVAL, "the source has been closed");
	if (!d->n_ranges || !d->ranges)
		return thaw_err_set(-EINVAL, "no range is given");
	if (d->register_ranges && d->registers_later)
		return thaw_err_set(-EINVAL, "register_ranges and registers_later exclude each other");
	err = check_uffd(d->uffd, &numbers);
	if (err)
		return err;
	ranges = sort_ranges(d);
	if (!ranges)
		return thaw_err_code();
	mm = thaw_mm_new(m);
	if (mm) {
		mm->uffd = d->uffd;
		mm->uffd_ino = inode_of(d->uffd, m->epoll);
	}
	err = mm ? fill_in(mm, d, ranges) : thaw_err_set(-ENOMEM, "no memory for a space");
	free(ranges);
	if (err) {
		thaw_mm_put(mm);
		return err;
	}
	mm->numbers = numbers;
	mm->tally.total = thaw_pagemap_absent(mm->pm);
	thaw_mm_get(mm); /* once published it may end at any moment */
	err = thaw_mm_publish(mm);
	id = err ? err : mm->id;
	if (err)
		thaw_mm_put(mm); /* the caller's reference, and the one that the list did not take */
	thaw_mm_put(mm);
	return id;
}
