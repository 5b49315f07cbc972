// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_failures.c - content that cannot be read or is wrong: its readers wait or get SIGBUS, never a zero;
 * all else goes on */
#include "config.h"
#include "image/sums.h"
#include "image/write.h"
#include "support/imagedir.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SEED 31
#define PAGES 2000
#define BAD 767 /* this page, and all from here on when a file is cut: the last of a chunk, so that one may be copied up to there */

static const struct thaw_range range = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
static _Atomic bool broken;
static _Atomic unsigned told;
static _Atomic int told_error;

static int read_some(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	uint64_t bad = LIVE_BASE + BAD * LIVE_PAGE;

	if (broken && address <= bad && bad < address + length)
		return -EIO;
	for (size_t i = 0; i < length; i += LIVE_PAGE)
		live_fill((char *)buf + i, SEED, address + i, 0);
	return 0;
}

static void on_event(void *opaque, const struct thaw_event_info *info)
{
	if (info->event != THAW_EVENT_UNAVAILABLE)
		return;
	told_error = info->error;
	told++;
}

static void quiet(void *opaque, enum thaw_log_level level, const char *line)
{
	if (getenv("LIVE_VERBOSE"))
		fprintf(stderr, "%s\n", line);
}

/* ---- the worker ------------------------------------------------------------------------------------------- */
static _Thread_local sigjmp_buf jump;

static void on_sigbus(int sig)
{
	siglongjmp(jump, 1);
}

/* 'b' SIGBUS, 'y' the right content, 'n' the wrong one */
static char try_bad(void)
{
	if (sigsetjmp(jump, 1))
		return 'b';
	return live_is(LIVE_BASE + BAD * LIVE_PAGE, 1, SEED, 0) ? 'y' : 'n';
}

static void *reader(void *arg)
{
	char c = try_bad();

	if (write((int)(intptr_t)arg, &c, 1) != 1)
		_exit(3);
	return NULL;
}

static int work(void *arg, int sock)
{
	uint64_t end = *(uint64_t *)arg; /* content is whole up to here, but for the bad page */
	pthread_t t;
	bool good;

	signal(SIGBUS, on_sigbus);
	pthread_create(&t, NULL, reader, (void *)(intptr_t)sock);
	good = live_is(LIVE_BASE, BAD, SEED, 0);
	if (end > BAD + 1)
		good = good && live_is(LIVE_BASE + (BAD + 1) * LIVE_PAGE, end - BAD - 1, SEED, 0);
	if (write(sock, good ? "G" : "B", 1) != 1)
		return 3;
	pthread_join(t, NULL);
	return !good;
}

static char next(const struct live *l, int timeout_ms)
{
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	char c = 0;

	setsockopt(l->sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	while (read(l->sock, &c, 1) < 0 && errno == EINTR)
		;
	return c;
}

/* A reader that waits says nothing, whether its page has been asked for already or not yet. */
static bool is_told(void)
{
	for (int left = patience(5000); !told && left > 0; left -= 5)
		usleep(5000);
	return told;
}

static struct thaw *monitor(enum thaw_background policy, enum thaw_failure failure, enum thaw_io io)
{
	struct thaw *h = live_monitor(io, 2, policy);

	LIVE_OK(thaw_set_failure(h, failure));
	LIVE_OK(thaw_set_event(h, on_event, NULL));
	LIVE_OK(thaw_set_log(h, quiet, NULL, THAW_LOG_ERROR));
	broken = true;
	told = 0;
	return h;
}

static void test_wait(enum thaw_background policy)
{
	struct thaw *h = monitor(policy, THAW_FAILURE_WAIT, THAW_IO_AUTO);
	struct thaw_source *s = thaw_source_callback(read_some, NULL);
	uint64_t end = PAGES;
	struct live l;
	char c;

	live_start(&l, &range, 1, work, &end);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_CHECK(next(&l, 5000) == 'G');       /* everything else is there */
	LIVE_CHECK((c = next(&l, 300)) == 0);    /* the bad page's reader waits */
	LIVE_CHECK(is_told() && told <= 4 && told_error == EIO);
	LIVE_CHECK(thaw_wait(h, 0, 50) == -1 && thaw_get_errno() == ETIMEDOUT);
	broken = false;                          /* the disk is back */
	LIVE_CHECK(next(&l, 8000) == 'y');
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(20000)));
	LIVE_CHECK(live_stats(h, 0).io_errors > 0);
	thaw_close(h);
}

static void test_sigbus(enum thaw_background policy)
{
	struct thaw *h = monitor(policy, THAW_FAILURE_SIGBUS, THAW_IO_AUTO);
	struct thaw_source *s = thaw_source_callback(read_some, NULL);
	uint64_t end = PAGES;
	struct live l;
	char a, b;

	live_start(&l, &range, 1, work, &end);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	a = next(&l, 5000);
	b = next(&l, 5000);
	if (!((a == 'G' && b == 'b') || (a == 'b' && b == 'G')))
		LIVE_DIE("policy %d: the worker said %d and %d", policy, a, b);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_CHECK(is_told() && told_error == EIO);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	thaw_close(h);
}

/* A file that ends too early, found out when it is too late to refuse. It ends within a page: what a mapping has behind the end is zeros.
 * (Of a file system's large folios the kernel says that pages behind the end are in memory, and does not map those; a memory file's are
 * single pages.) */
static void test_cut_file(enum thaw_background policy, enum thaw_io io, bool disk)
{
	struct thaw *h = monitor(policy, THAW_FAILURE_WAIT, io);
	struct thaw_memfile_range at;
	struct thaw_source *s;
	uint64_t end = BAD;
	struct live l;
	int fd;

	live_start(&l, &range, 1, work, &end);
	fd = live_file(disk, SEED, &range, 1, &at);
	s = thaw_source_memfile(fd, &at, 1);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_CHECK(!ftruncate(fd, BAD * LIVE_PAGE + 100));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_CHECK(next(&l, 5000) == 'G');
	LIVE_CHECK(next(&l, 300) == 0);
	LIVE_CHECK(is_told());
	live_kill(&l);
	LIVE_CHECK(live_end(&l) == 128 + SIGKILL);
	LIVE_OK(thaw_wait(h, 0, patience(3000)));
	thaw_close(h);
	close(fd);
}

/* ---- images -------------------------------------------------------------------------------------------- */
static int put_images(struct scratch *dir, bool with_sums)
{
	static unsigned char page[LIVE_PAGE];
	struct thaw_pagemap_writer *map;
	struct thaw_sums_writer *sums;
	int fd;

	scratch_begin(dir);
	map = thaw_image_pagemap_create(dir->fd, 7, 1);
	sums = with_sums ? thaw_sums_create(dir->fd, 1) : NULL;
	fd = openat(dir->fd, "pages-1.img", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	LIVE_CHECK(map && !sums == !with_sums && fd >= 0);
	for (uint64_t at = LIVE_BASE; at < LIVE_BASE + PAGES * LIVE_PAGE; at += LIVE_PAGE) {
		live_fill(page, SEED, at, 0);
		LIVE_CHECK((!sums || !thaw_sums_add(sums, page, 1)) && write(fd, page, sizeof(page)) == sizeof(page));
	}
	LIVE_CHECK(!thaw_image_pagemap_add(map, LIVE_BASE, PAGES, THAW_PE_PRESENT | THAW_PE_LAZY));
	LIVE_CHECK(!thaw_image_pagemap_close(map) && !thaw_sums_finish(sums) && !fsync(fd));
	return fd;
}

static void flip(int fd)
{
	off_t at = BAD * LIVE_PAGE + 1234;
	char c;

	LIVE_CHECK(pread(fd, &c, 1, at) == 1);
	c ^= 16;
	LIVE_CHECK(pwrite(fd, &c, 1, at) == 1 && !fsync(fd));
}

/* A wrong bit, found when the page is read: in the fault, in a copier's window, or behind a read that waited for the disk. What lies
 * beside it is right, and so is the page itself when the image is. */
static void test_wrong_bit(enum thaw_background policy, enum thaw_io io, bool cold, enum thaw_failure failure)
{
	struct thaw *h = monitor(policy, failure, io);
	struct thaw_source *s;
	uint64_t end = PAGES;
	struct scratch dir;
	struct live l;
	char a, b;
	int fd;

	fd = put_images(&dir, true);
	s = thaw_source_images(dir.fd, 7);
	LIVE_CHECK(s);
	flip(fd); /* no sample sees it any more */
	if (cold)
		live_make_cold(fd);
	live_start(&l, &range, 1, work, &end);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	a = next(&l, patience(5000));
	b = next(&l, failure == THAW_FAILURE_WAIT ? 300 : 5000);
	LIVE_CHECK(is_told() && told_error == EBADMSG);
	if (failure == THAW_FAILURE_WAIT) {
		LIVE_CHECK(a == 'G' && b == 0);
		flip(fd);
		LIVE_CHECK(next(&l, patience(8000)) == 'y');
	} else {
		LIVE_CHECK((a == 'G' && b == 'b') || (a == 'b' && b == 'G'));
	}
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(20000)));
	LIVE_CHECK(live_stats(h, 0).io_errors > 0);
	thaw_close(h);
	close(fd);
	scratch_end(&dir);
}

/* Images without checksums whose disk space somebody else gives back meanwhile: the holes read as zeros, and are not taken for content. */
static void test_taken_apart(enum thaw_background policy)
{
	struct thaw *h = monitor(policy, THAW_FAILURE_WAIT, THAW_IO_AUTO);
	off_t from = BAD * LIVE_PAGE;
	unsigned char page[LIVE_PAGE];
	struct thaw_source *s;
	uint64_t end = PAGES;
	struct scratch dir;
	struct live l;
	int fd;

	fd = put_images(&dir, false);
	s = thaw_source_images(dir.fd, 7);
	LIVE_CHECK(s);
	live_start(&l, &range, 1, work, &end);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_CHECK(!ftruncate(fd, PAGES * LIVE_PAGE + 1)); /* as thaw lazy-pages --auto-dedup does before the first hole */
	LIVE_CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, LIVE_PAGE));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_CHECK(next(&l, 300) == 0);
	LIVE_CHECK(is_told() && told_error == ENODATA);
	live_fill(page, SEED, LIVE_BASE + from, 0); /* all is as it was again */
	LIVE_CHECK(pwrite(fd, page, LIVE_PAGE, from) == (ssize_t)LIVE_PAGE && !ftruncate(fd, PAGES * LIVE_PAGE));
	LIVE_CHECK(next(&l, patience(20000)) && next(&l, patience(20000)));
	LIVE_CHECK(live_end(&l) == 0); /* and the worker has read nothing else */
	thaw_close(h);
	close(fd);
	scratch_end(&dir);
}

static void test_wrong_bits(enum thaw_failure failure)
{
	for (unsigned i = 0; i < 8; i++)
		test_wrong_bit(i & 1 ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY, i & 2 ? THAW_IO_POOL : THAW_IO_AUTO, i & 4,
			       failure);
}

int main(void)
{
	struct thaw *h = thaw_create();

	alarm(patience(150));
	test_wait(THAW_BACKGROUND_RUN);
	test_wait(THAW_BACKGROUND_STAY_LAZY);
	for (unsigned i = 0; i < 4; i++) {
		test_cut_file(THAW_BACKGROUND_RUN, i & 1 ? THAW_IO_POOL : THAW_IO_AUTO, i & 2);
		test_cut_file(THAW_BACKGROUND_STAY_LAZY, i & 1 ? THAW_IO_POOL : THAW_IO_AUTO, i & 2);
	}
	test_taken_apart(THAW_BACKGROUND_RUN);
	test_taken_apart(THAW_BACKGROUND_STAY_LAZY);
	test_wrong_bits(THAW_FAILURE_WAIT);
	if (thaw_set_failure(h, THAW_FAILURE_SIGBUS) == 0) {
		test_wrong_bits(THAW_FAILURE_SIGBUS);
		test_sigbus(THAW_BACKGROUND_RUN);
		test_sigbus(THAW_BACKGROUND_STAY_LAZY);
	} else {
		LIVE_CHECK(thaw_get_errno() == ENOTSUP);
		printf("no SIGBUS here: %s\n", thaw_get_error());
	}
	thaw_close(h);
	return 0;
}
