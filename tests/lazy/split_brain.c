// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/split_brain.c - a request for a page that is not there made CRIU's server end the session and resume the source, while
 * the restored processes ran on: whatever the process does to its memory, nothing is ever asked for but lazy pages of the images,
 * at the addresses that they were dumped from */
#include "config.h"
#include "lazy/remote_rig.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/image.h"

/* Pages: lazy, eager, lazy, nothing, lazy in the images as well. One mapping over all of it. */
static const struct {
	uint64_t from, pages;
	unsigned flags;
} entries[] = {
	{ 0, 200, THAW_PE_LAZY },
	{ 200, 30, THAW_PE_PRESENT },
	{ 230, 1, THAW_PE_LAZY },
	{ 231, 300, THAW_PE_LAZY },
	{ 600, 17, THAW_PE_LAZY | THAW_PE_PRESENT },
	{ 700, 300, THAW_PE_LAZY },
};
#define ENTRIES (sizeof(entries) / sizeof(*entries))
#define PAGES 1010

static void put_images(struct rig *r)
{
	static struct bytes b;
	char name[64];

	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	for (unsigned i = 0; i < ENTRIES; i++)
		bytes_entry(&b, LIVE_BASE + entries[i].from * LIVE_PAGE, entries[i].pages, entries[i].flags, r->wide);
	snprintf(name, sizeof(name), "pagemap-%d.img", RIG_PID);
	scratch_put(&r->dir, name, b.at, b.len);
}

static uint64_t at(uint64_t page)
{
	return LIVE_BASE + page * LIVE_PAGE;
}

static bool is_lazy(uint64_t page)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		if (page >= entries[i].from && page < entries[i].from + entries[i].pages && entries[i].flags & THAW_PE_LAZY)
			return true;
	return false;
}

static bool check(uint64_t where, uint64_t page)
{
	return is_lazy(page) ? live_moved_is(where, at(page), 1, RIG_SEED, 0) : live_is_zero(where, 1);
}

static void *move(uint64_t from, uint64_t pages)
{
	void *to = mmap(NULL, pages * LIVE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mremap((void *)(uintptr_t)from, pages * LIVE_PAGE, pages * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

/* All that may be done to memory, before most of it is there. */
static int work(void *arg, int sock)
{
	uint64_t moved, grown;
	int status = 0;
	pid_t child;

	if (!check(at(700), 700) || !check(at(199), 199) || !check(at(200), 200) || !check(at(230), 230))
		return 1;
	moved = (uint64_t)(uintptr_t)move(at(720), 100);
	if (madvise((void *)(uintptr_t)at(850), 50 * LIVE_PAGE, MADV_DONTNEED) ||
	    munmap((void *)(uintptr_t)at(950), 20 * LIVE_PAGE) || mprotect((void *)(uintptr_t)at(240), LIVE_PAGE, PROT_READ))
		return 2;
	child = fork();
	if (!child)
		_exit(!check(moved + 99 * LIVE_PAGE, 819) || !check(at(300), 300) || !check(moved + 7 * LIVE_PAGE, 727));
	grown = (uint64_t)(uintptr_t)mremap((void *)(uintptr_t)at(980), 30 * LIVE_PAGE, 60 * LIVE_PAGE, MREMAP_MAYMOVE);
	for (unsigned i = 0; i < 100; i++)
		if (!check(moved + i * LIVE_PAGE, 720 + i))
			return 3;
	for (unsigned i = 0; i < 720; i++)
		if (!check(at(i), i))
			return 4;
	for (unsigned i = 0; i < 60; i++)
		if (!(i < 30 ? check(grown + i * LIVE_PAGE, 980 + i) : live_is_zero(grown + i * LIVE_PAGE, 1)))
			return 5;
	if (!live_is_zero(at(850), 50) || !check(at(840), 840) || !check(at(920), 920))
		return 6;
	return waitpid(child, &status, 0) != child || status ? 7 : 0;
}

static void test(enum thaw_background policy, unsigned around, unsigned most)
{
	struct fake_options o;
	struct fake f;
	struct rig r;
	int status;

	rig_begin(&r, PAGES, true);
	put_images(&r);
	o = rig_fake(&r);
	o.n_ranges = 0;
	for (unsigned i = 0; i < ENTRIES; i++)
		if (entries[i].flags & THAW_PE_LAZY)
			o.ranges[o.n_ranges++] = (struct fake_range){ at(entries[i].from), entries[i].pages * LIVE_PAGE };
	o.most = most;
	fake_start(&f, &o);
	rig_worker(&r, work, &r);
	rig_open(&r, f.port);
	r.h = live_monitor(THAW_IO_AUTO, 2, policy);
	LIVE_OK(thaw_set_read_around(r.h, around));
	live_add(r.h, &r.live, r.source, &r.range, 1);
	thaw_source_close(r.source);
	LIVE_OK(thaw_start(r.h));
	live_go(&r.live);
	status = live_end(&r.live);
	if (status)
		LIVE_DIE("policy %d, around %u: the worker ended with %d", policy, around, status);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	LIVE_CHECK(f.stats->bad == 0 && f.stats->connections == 1);
	rig_end(&r, true);
	LIVE_CHECK(f.stats->bad == 0);
	fake_stop(&f);
}

int main(void)
{
	alarm(200);
	for (unsigned i = 0; i < 4; i++) {
		test(i % 2 ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY, i < 2 ? 16 : 0, 0);
		test(i % 2 ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY, i < 2 ? 64 : 0, 5);
	}
	return 0;
}
