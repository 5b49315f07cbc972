// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/memory_of_page_server.c - criu page-server --lazy-pages loads all images into pipes before it serves a page: thaw
 * page-server's own memory stays small, however large the checkpoint is, and however many clients ask and do not read */
#include "config.h"
#include "lazy/page_server.h"
#include "lazy/remote_rig.h"

#include <string.h>
#include <unistd.h>

#include "image/image.h"

#define PAGES (96UL << 10) /* 384 MiB */
#define SLOW 24
#define SANITIZED (getenv("THAW_SANITIZER_CFLAGS") ? getenv("THAW_SANITIZER_CFLAGS") : "") /* of this build: "" or options */

static void put_images(struct rig *r)
{
	static struct bytes b;
	char name[64];

	rig_index(r, 1);
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	for (uint64_t at = 0; at < PAGES; at += 256)
		bytes_entry(&b, LIVE_BASE + at * LIVE_PAGE, 256, 6, 1);
	snprintf(name, sizeof(name), "pagemap-%d.img", RIG_PID);
	scratch_put(&r->dir, name, b.at, b.len);
	scratch_size(&r->dir, "pages-1.img", PAGES * LIVE_PAGE); /* sparse: all zero, and no room on the disk */
}

int main(void)
{
	struct page_server s;
	struct rig images;
	int fd[SLOW], one;
	long before, after;

	alarm(250);
	rig_begin(&images, 1, true);
	put_images(&images);
	page_server_start(&s, images.dir.path, NULL);
	before = page_server_status(&s, "RssAnon");
	one = raw_connect(s.port);
	for (uint64_t at = 0, n; at < PAGES; at += n) {
		raw_send(one, 32, 7, PAGES - at < 60000 ? PAGES - at : 60000, LIVE_BASE + at * LIVE_PAGE, RIG_PID);
		n = raw_reply(one, 32, LIVE_BASE + at * LIVE_PAGE, RIG_PID);
		LIVE_CHECK(n && raw_receive(one, NULL, n * LIVE_PAGE));
	}
	for (unsigned i = 0; i < SLOW; i++) {
		fd[i] = raw_connect(s.port);
		for (unsigned k = 0; k < 100; k++)
			raw_send(fd[i], 32, 7, 4000, LIVE_BASE + k * LIVE_PAGE, RIG_PID);
		LIVE_CHECK(raw_reply(fd[i], 32, LIVE_BASE, RIG_PID));
	}
	/* They do not read on; others are served all the same. */
	raw_send(one, 32, 7, 1, LIVE_BASE, RIG_PID);
	LIVE_CHECK(raw_reply(one, 32, LIVE_BASE, RIG_PID) == 1 && raw_receive(one, NULL, LIVE_PAGE));
	after = page_server_status(&s, "RssAnon");
	printf("own memory: %ld KiB at the start, %ld KiB with %d MiB sent and %d clients that do not read\n", before, after,
	       (int)(PAGES >> 8), SLOW);
	if (!*SANITIZED)
		LIVE_CHECK(before > 0 && before < 16 << 10 && after < 32 << 10);
	for (unsigned i = 0; i < SLOW; i++)
		close(fd[i]);
	close(one);
	LIVE_CHECK(page_server_stop(&s) == 0);
	scratch_end(&images.dir);
	return 0;
}
