// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/wrong_pages.c - thaw page-server passed on a page that was wrong in the image: pages with checksums are compared before they
 * are sent, and a session that asks for a wrong one ends, others do not */
#include "config.h"
#include "lazy/page_server.h"
#include "lazy/remote_rig.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "image/sums.h"

#define PAGES 3000UL
#define WRONG 1234UL /* not one of the sample */

static unsigned char content[LIVE_PAGE];

static void put_images(struct rig *r)
{
	struct thaw_sums_writer *sums = thaw_sums_create(r->dir.fd, 1);
	int fd = openat(r->dir.fd, "pages-1.img", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	static struct bytes b;
	char name[64];

	LIVE_CHECK(sums && fd >= 0);
	rig_index(r, 1);
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	bytes_entry(&b, LIVE_BASE, PAGES, 6, 1);
	snprintf(name, sizeof(name), "pagemap-%d.img", RIG_PID);
	scratch_put(&r->dir, name, b.at, b.len);
	for (uint64_t i = 0; i < PAGES; i++) {
		live_fill(content, 5, LIVE_BASE + i * LIVE_PAGE, 0);
		LIVE_CHECK(!thaw_sums_add(sums, content, 1) && write(fd, content, LIVE_PAGE) == (ssize_t)LIVE_PAGE);
	}
	LIVE_CHECK(!thaw_sums_finish(sums) && !close(fd));
}

static void flip(struct rig *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_RDWR | O_CLOEXEC);
	char c = 0;

	LIVE_CHECK(pread(fd, &c, 1, WRONG * LIVE_PAGE + 99) == 1);
	c ^= 1;
	LIVE_CHECK(pwrite(fd, &c, 1, WRONG * LIVE_PAGE + 99) == 1 && !close(fd));
}

/* Pages [first, end), all of them right. */
static void ask(int fd, uint64_t first, uint64_t end)
{
	static unsigned char page[LIVE_PAGE];

	while (first < end) {
		uint64_t n;

		raw_send(fd, 32, 7, end - first, LIVE_BASE + first * LIVE_PAGE, RIG_PID);
		n = raw_reply(fd, 32, LIVE_BASE + first * LIVE_PAGE, RIG_PID);
		LIVE_CHECK(n && n <= end - first);
		for (; n; n--, first++) {
			live_fill(content, 5, LIVE_BASE + first * LIVE_PAGE, 0);
			LIVE_CHECK(raw_receive(fd, page, LIVE_PAGE) && !memcmp(page, content, LIVE_PAGE));
		}
	}
}

int main(void)
{
	struct page_server s;
	struct rig images;
	int one, other;

	alarm(100);
	rig_begin(&images, 1, true);
	put_images(&images);
	page_server_start(&s, images.dir.path, NULL);
	one = raw_connect(s.port);
	ask(one, 0, PAGES);
	flip(&images);
	ask(one, 0, WRONG);
	ask(one, WRONG + 1, PAGES);
	other = raw_connect(s.port);
	raw_send(other, 32, 7, 1, LIVE_BASE + WRONG * LIVE_PAGE, RIG_PID);
	LIVE_CHECK(raw_reply(other, 32, LIVE_BASE + WRONG * LIVE_PAGE, RIG_PID) == 1 && raw_ended(other));
	LIVE_CHECK(page_server_said(&s, "pages-1.img") && page_server_said(&s, "checksums"));
	ask(one, 0, WRONG);
	close(one);
	close(other);
	LIVE_CHECK(page_server_stop(&s) == 0);
	scratch_end(&images.dir);
	return 0;
}
