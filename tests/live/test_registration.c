// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_registration.c - mappings that somebody else registers while the space is being served already */
#include "config.h"
#include "support/live.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 11
#define PAGES 1500

static const struct thaw_range ranges[] = {
	{ LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
	{ LIVE_BASE + PAGES * LIVE_PAGE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ, 0 }, /* right behind: a mapping of its own */
	{ LIVE_BASE + (1ULL << 32), PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
	{ LIVE_BASE + (2ULL << 32), PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
};
#define N (sizeof(ranges) / sizeof(*ranges))

static struct {
	_Atomic unsigned unregistered, finished, gone, forked;
	_Atomic uint64_t address, length;
} seen;

static void event(void *opaque, const struct thaw_event_info *info)
{
	if (info->event == THAW_EVENT_UNREGISTERED) {
		seen.address = info->address;
		seen.length = info->length;
		seen.unregistered++;
	}
	seen.finished += info->event == THAW_EVENT_FINISHED;
	seen.gone += info->event == THAW_EVENT_GONE;
	seen.forked += info->event == THAW_EVENT_FORKED;
}

static void enroll(const struct live *l, unsigned i)
{
	struct uffdio_register u = { .range = { ranges[i].address, ranges[i].length }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(l->uffd, UFFDIO_REGISTER, &u))
		LIVE_DIE("UFFDIO_REGISTER: %s", strerror(errno));
}

static void step(int sock)
{
	char c = 's';

	if (write(sock, &c, 1) != 1 || read(sock, &c, 1) != 1)
		exit(9);
}

static void answer(const struct live *l)
{
	char c = 'a';

	if (write(l->sock, &c, 1) != 1)
		LIVE_DIE("the worker is gone");
}

static void await(const struct live *l)
{
	char c;

	if (read(l->sock, &c, 1) != 1)
		LIVE_DIE("the worker is gone");
}

/* Range 0 is registered; its last page lies beside a mapping that is not: what is brought in beside it stops there. */
static int work(void *arg, int sock)
{
	for (uint64_t i = PAGES / 2; i < PAGES; i++)
		if (!live_is(ranges[0].address + i * LIVE_PAGE, 1, SEED, 0))
			return 1;
	step(sock); /* ranges 1 and 2 are registered now */
	/* What it takes away and replaces itself is not "never registered", and stays what it makes of it. */
	if (munmap((void *)(uintptr_t)ranges[2].address, ranges[2].length / 2) ||
	    mmap((void *)(uintptr_t)ranges[2].address, ranges[2].length / 2, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return 2;
	step(sock); /* it is said */
	if (!live_is(ranges[0].address, PAGES, SEED, 0) || !live_is(ranges[1].address, PAGES, SEED, 0))
		return 3;
	if (!live_is_zero(ranges[2].address, PAGES / 2) ||
	    !live_is(ranges[2].address + ranges[2].length / 2, PAGES / 2, SEED, 0))
		return 4;
	return live_is_zero(ranges[3].address, PAGES) ? 0 : 5;
}

static void one_by_one(void)
{
	struct thaw_memfile_range at[N];
	int fd = live_file(false, SEED, ranges, N, at);
	struct thaw_source *s = thaw_source_memfile(fd, at, N);
	struct thaw *h = live_monitor(THAW_IO_AUTO, 2, THAW_BACKGROUND_RUN);
	struct thaw_progress p = { .size = sizeof(p) };
	struct thaw_space d = { .size = sizeof(d), .source = s, .ranges = ranges, .n_ranges = N, .registers_later = 1 };
	struct live l;
	int64_t id;

	memset(&seen, 0, sizeof(seen));
	LIVE_OK(thaw_set_event(h, event, NULL));
	LIVE_OK(thaw_start(h));
	live_start_unregistered(&l, ranges, N, work, NULL);
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	d.register_ranges = 1;
	LIVE_CHECK(thaw_add_space(h, &d) < 0 && thaw_get_errno() == EINVAL);
	d.register_ranges = 0;
	LIVE_OK(id = thaw_add_space(h, &d));
	LIVE_CHECK(thaw_space_registered(h, id + 1) < 0 && thaw_get_errno() == ENOENT);
	LIVE_CHECK(thaw_space_registered(h, -1) < 0 && thaw_get_errno() == EINVAL);
	LIVE_CHECK(thaw_space_registered(NULL, 0) < 0 && thaw_get_errno() == EINVAL);
	enroll(&l, 0);
	live_go(&l);
	await(&l);
	/* Only what was touched, and beside it, has come; nothing is lost. */
	LIVE_OK(thaw_get_progress(h, id, &p));
	LIVE_CHECK(p.bytes_placed < PAGES * LIVE_PAGE && !p.bytes_gone);
	LIVE_CHECK(!live_stats(h, id).pages_background);
	enroll(&l, 1);
	enroll(&l, 2);
	answer(&l);
	await(&l);
	LIVE_OK(thaw_space_registered(h, id));
	LIVE_OK(thaw_wait(h, id, 60000));
	answer(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_CHECK(seen.finished == 1 && !seen.gone && seen.unregistered == 1);
	LIVE_CHECK(seen.address == ranges[3].address && seen.length == ranges[3].length);
	LIVE_OK(thaw_get_progress(h, id, &p));
	LIVE_CHECK(p.bytes_gone == (PAGES / 2 + PAGES) * LIVE_PAGE && p.bytes_placed + p.bytes_gone == p.bytes_total);
	LIVE_OK(thaw_stop(h));
	LIVE_CHECK(thaw_space_registered(h, id) < 0 && thaw_get_errno() == ECANCELED);
	thaw_close(h);
	thaw_source_close(s);
	close(fd);
}

/* A space whose pages are all in does not end before: its process could be told to wait by nobody. And its child is
 * told with it. */
static int forker(void *arg, int sock)
{
	int status;
	pid_t pid;

	if (!live_is(ranges[0].address, PAGES, SEED, 0))
		return 1;
	pid = fork();
	if (!pid) {
		step(sock);
		_exit(!live_is(ranges[0].address, PAGES, SEED, 0) || !live_is(ranges[3].address, PAGES, SEED, 0));
	}
	return waitpid(pid, &status, 0) != pid || status || !live_is(ranges[3].address, PAGES, SEED, 0);
}

static void all_in_before(void)
{
	const struct thaw_range two[] = { ranges[0], ranges[3] };
	struct thaw_memfile_range at[2];
	int fd = live_file(false, SEED, two, 2, at);
	struct thaw_source *s = thaw_source_memfile(fd, at, 2);
	struct thaw *h = live_monitor(THAW_IO_AUTO, 2, THAW_BACKGROUND_RUN);
	struct thaw_space d = { .size = sizeof(d), .source = s, .ranges = two, .n_ranges = 1, .registers_later = 1 };
	struct thaw_progress p = { .size = sizeof(p) };
	struct live l;
	int64_t id;

	memset(&seen, 0, sizeof(seen));
	LIVE_OK(thaw_set_event(h, event, NULL));
	LIVE_OK(thaw_start(h));
	live_start_unregistered(&l, two, 2, forker, NULL);
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	d.n_ranges = 2;
	LIVE_OK(id = thaw_add_space(h, &d));
	enroll(&l, 0);
	{
		struct uffdio_register u = { .range = { two[1].address, two[1].length }, .mode = UFFDIO_REGISTER_MODE_MISSING };

		LIVE_CHECK(!ioctl(l.uffd, UFFDIO_REGISTER, &u));
	}
	live_go(&l);
	await(&l);
	for (unsigned i = 0; !seen.forked && i < 10000; i++) /* the child may be quicker than who is told of it */
		usleep(1000);
	LIVE_CHECK(seen.forked == 1 && !seen.finished);
	LIVE_CHECK(thaw_wait(h, id + 1, 0) < 0 && thaw_get_errno() == ETIMEDOUT);
	LIVE_OK(thaw_get_progress(h, id + 1, &p));
	LIVE_CHECK(p.bytes_total == PAGES * LIVE_PAGE && !p.bytes_placed);
	LIVE_OK(thaw_space_registered(h, 0));
	LIVE_OK(thaw_wait(h, 0, 60000));
	LIVE_CHECK(seen.finished == 2 && !seen.gone && !seen.unregistered);
	answer(&l);
	LIVE_CHECK(live_end(&l) == 0);
	thaw_close(h);
	thaw_source_close(s);
	close(fd);
}

/* Nothing to place at all, and the registrar still holds the descriptor: the space lives until it is said. */
static int toucher(void *arg, int sock)
{
	return live_is_zero(ranges[0].address, PAGES) ? 0 : 1;
}

static void nothing_absent(void)
{
	struct thaw_memfile_range at;
	int fd = live_file(false, SEED, &ranges[3], 1, &at);
	struct thaw_source *s = thaw_source_memfile(fd, &at, 1); /* content elsewhere only */
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_space d = { .size = sizeof(d), .source = s, .ranges = ranges, .n_ranges = 1, .registers_later = 1 };
	struct live l;
	int64_t id;

	LIVE_OK(thaw_start(h));
	live_start_unregistered(&l, ranges, 1, toucher, NULL);
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	LIVE_OK(id = thaw_add_space(h, &d));
	LIVE_CHECK(thaw_wait(h, id, 300) < 0 && thaw_get_errno() == ETIMEDOUT);
	enroll(&l, 0);
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_space_registered(h, 0));
	LIVE_OK(thaw_wait(h, 0, 60000));
	thaw_close(h);
	thaw_source_close(s);
	close(fd);
}

/* Where a mapping was that is not the library's, something of its own comes, and moves on at once: it keeps what it holds, though
 * the map knew of content there. */
#define STEP_PAGES 20
static int passer(void *arg, int sock)
{
	const uint64_t len = STEP_PAGES * LIVE_PAGE, fresh = ranges[3].address + (1ULL << 32);

	step(sock); /* it is said */
	for (uint64_t at = 0; at + len <= ranges[0].length; at += len) {
		void *from = (void *)(uintptr_t)(ranges[0].address + at), *over = (void *)(uintptr_t)(ranges[3].address + at);

		if (mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, over) != over ||
		    mremap(over, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)(fresh + at)) == MAP_FAILED)
			return 1;
		if (!live_moved_is(fresh + at, ranges[0].address + at, STEP_PAGES, SEED, 0))
			return 2;
	}
	return 0;
}

static void moved_over_what_is_not_ours(void)
{
	const struct thaw_range two[] = { ranges[0], ranges[3] };
	struct thaw_memfile_range at[2];
	int fd = live_file(false, SEED, two, 2, at);
	struct thaw_source *s = thaw_source_memfile(fd, at, 2);
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_space d = { .size = sizeof(d), .source = s, .ranges = two, .n_ranges = 2, .registers_later = 1 };
	struct live l;
	int64_t id;

	memset(&seen, 0, sizeof(seen));
	LIVE_OK(thaw_set_event(h, event, NULL));
	LIVE_OK(thaw_start(h));
	live_start_unregistered(&l, two, 2, passer, NULL);
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	LIVE_OK(id = thaw_add_space(h, &d));
	enroll(&l, 0);
	live_go(&l);
	await(&l);
	LIVE_OK(thaw_space_registered(h, id));
	while (!seen.unregistered)
		usleep(1000);
	answer(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, 60000));
	thaw_close(h);
	thaw_source_close(s);
	close(fd);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("test_registration: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	one_by_one();
	all_in_before();
	nothing_absent();
	moved_over_what_is_not_ours();
	return 0;
}
