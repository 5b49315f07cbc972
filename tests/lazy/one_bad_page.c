// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/one_bad_page.c - one page of the images is not what it was, and their page server can only end the connection when it is
 * asked for that: all others come nevertheless, and soon, and the one when it has been mended
 *
 * Bug: it was asked for first each time, and what was behind it came a few pages at a time. */
#include "config.h"
#include "lazy/page_server.h"
#include "lazy/remote_rig.h"
#include "support/patience.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "image/sums.h"

#define PAGES 400
#define BAD 203       /* not one of those that are compared when the directory is opened */
#define LOST_MOST 12U /* the connection, until all others are in: a few times for the run it lies in, then ever more seldom */

static void put_images(struct rig *r)
{
	static unsigned char page[LIVE_PAGE];
	static struct bytes b;
	struct thaw_sums_writer *sums;
	char name[64];

	snprintf(name, sizeof(name), "pagemap-%d.img", RIG_PID);
	rig_index(r, 1);
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	bytes_entry(&b, LIVE_BASE, RIG_ENTRY, 6, r->wide);
	bytes_entry(&b, LIVE_BASE + RIG_ENTRY * LIVE_PAGE, PAGES - RIG_ENTRY, 6, r->wide);
	scratch_put(&r->dir, name, b.at, b.len);
	rig_pages_file(&r->dir, LIVE_BASE, PAGES);
	sums = thaw_sums_create(r->dir.fd, 1);
	LIVE_CHECK(sums);
	for (uint64_t i = 0; i < PAGES; i++) {
		live_fill(page, RIG_SEED, LIVE_BASE + i * LIVE_PAGE, 0);
		LIVE_CHECK(!thaw_sums_add(sums, page, 1));
	}
	LIVE_CHECK(!thaw_sums_finish(sums));
}

static void flip(const struct rig *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_RDWR | O_CLOEXEC);
	off_t at = BAD * LIVE_PAGE + 77;
	char c;

	LIVE_CHECK(pread(fd, &c, 1, at) == 1);
	c ^= 2;
	LIVE_CHECK(pwrite(fd, &c, 1, at) == 1);
	close(fd);
}

static int work(void *arg, int sock)
{
	if (!live_is(LIVE_BASE, BAD, RIG_SEED, 0) || !live_is(LIVE_BASE + (BAD + 1) * LIVE_PAGE, PAGES - BAD - 1, RIG_SEED, 0))
		return 1;
	return write(sock, "o", 1) == 1 && live_is(LIVE_BASE + BAD * LIVE_PAGE, 1, RIG_SEED, 0) ? 0 : 2;
}

static void test(enum thaw_background policy)
{
	struct page_server s;
	struct rig images, r;
	unsigned lost;
	char c;

	rig_begin(&images, PAGES, true);
	put_images(&images);
	page_server_start(&s, images.dir.path, NULL);
	flip(&images);
	rig_begin(&r, PAGES, true);
	r.flags = 2;
	rig_worker(&r, work, NULL);
	rig_images(&r);
	rig_open(&r, s.port);
	rig_start(&r, 1, policy);
	live_go(&r.live);
	LIVE_CHECK(read(r.live.sock, &c, 1) == 1 && c == 'o');
	lost = page_server_said(&s, "is disconnected");
	printf("policy %d: all others were in when the connection had been lost %u times\n", policy, lost);
	LIVE_CHECK(lost <= LOST_MOST * (unsigned)patience(1));
	RIG_AWAIT(page_server_said(&s, "do not match their checksums") > 0);
	flip(&images);
	LIVE_CHECK(live_end(&r.live) == 0);
	LIVE_OK(thaw_wait(r.h, 0, patience(60000)));
	rig_end(&r, true);
	LIVE_CHECK(page_server_stop(&s) == 0);
	scratch_end(&images.dir);
}

int main(void)
{
	alarm(patience(200));
	test(THAW_BACKGROUND_RUN);
	test(THAW_BACKGROUND_STAY_LAZY);
	return 0;
}
