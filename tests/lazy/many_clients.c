// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/many_clients.c - CRIU's page server ends after one restore: thaw page-server serves any number, at once and one after
 * another, of both protocols, pages of parents as well; hostile clients are turned away, each with a line, and nobody else notices */
#include "config.h"
#include "lazy/page_server.h"
#include "lazy/remote_rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image/image.h"

#define CLIENTS 4
#define PAGES 600
#define PARENT 64 /* pages that lie in the parent, behind a gap of as many without content */
#define GAP_AT (LIVE_BASE + PAGES * LIVE_PAGE)
#define PARENT_AT (GAP_AT + PARENT * LIVE_PAGE)

static struct scratch parent;

static void put_images(struct rig *r)
{
	static struct bytes b;
	char name[64];

	snprintf(name, sizeof(name), "pagemap-%d.img", RIG_PID);
	rig_index(r, 2);
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	bytes_entry(&b, LIVE_BASE, RIG_ENTRY, 6, r->wide);
	bytes_entry(&b, LIVE_BASE + RIG_ENTRY * LIVE_PAGE, PAGES - RIG_ENTRY, 6, r->wide);
	bytes_entry(&b, PARENT_AT, PARENT, 1, r->wide);
	scratch_put(&r->dir, name, b.at, b.len);
	rig_pages_file(&r->dir, LIVE_BASE, PAGES);
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	bytes_entry(&b, PARENT_AT, PARENT, 4, r->wide);
	scratch_put(&parent, name, b.at, b.len);
	rig_pages_file(&parent, PARENT_AT, PARENT);
	unlinkat(r->dir.fd, "parent", 0);
	if (symlinkat(parent.path, r->dir.fd, "parent"))
		LIVE_DIE("symlink");
}

/* ---- hostile clients --------------------------------------------------------------------------------------- */
static void check_good(const struct page_server *s, int layout)
{
	unsigned char page[LIVE_PAGE], want[LIVE_PAGE];
	int fd = raw_connect(s->port);

	raw_send(fd, layout, 7, 1, LIVE_BASE + 7 * LIVE_PAGE, RIG_PID);
	LIVE_CHECK(raw_reply(fd, layout, LIVE_BASE + 7 * LIVE_PAGE, RIG_PID) == 1);
	LIVE_CHECK(raw_receive(fd, page, LIVE_PAGE));
	live_fill(want, RIG_SEED, LIVE_BASE + 7 * LIVE_PAGE, 0);
	LIVE_CHECK(!memcmp(page, want, LIVE_PAGE));
	close(fd);
}

static void check_refused(const struct page_server *s, int layout, uint32_t cmd, uint64_t pages, uint64_t addr, uint64_t id)
{
	unsigned before = page_server_said(s, "is disconnected");
	int fd = raw_connect(s->port);

	raw_send(fd, layout, cmd, pages, addr, id);
	LIVE_CHECK(raw_ended(fd));
	close(fd);
	RIG_AWAIT(page_server_said(s, "is disconnected") == before + 1);
	check_good(s, layout);
}

static void test_hostile(const struct page_server *s)
{
	unsigned char page[LIVE_PAGE];
	unsigned before;
	int fd;

	for (int layout = 24; layout <= 32; layout += 8) {
		check_refused(s, layout, 7, 1, LIVE_BASE, RIG_PID + 5);       /* no such process */
		check_refused(s, layout, 7, 1, LIVE_BASE, RIG_PID + 1);       /* a zombie */
		check_refused(s, layout, 7, 1, LIVE_BASE, (uint64_t)RIG_PID << 32);
		check_refused(s, layout, 7, 1, GAP_AT, RIG_PID);              /* no such page */
		check_refused(s, layout, 7, 1, LIVE_BASE + 8, RIG_PID);
		check_refused(s, layout, 7, 1, ~0ULL << 12, RIG_PID);
		check_refused(s, layout, 7, 0, LIVE_BASE, RIG_PID);
		check_refused(s, layout, 4, 1, LIVE_BASE, RIG_PID << 8 | 1);  /* a dump that wants to be taken in */
		check_refused(s, layout, 0xffffffff, 1, LIVE_BASE, RIG_PID);
		/* Far more than there is: as much as there is in one piece. */
		fd = raw_connect(s->port);
		raw_send(fd, layout, 7, layout == 24 ? UINT32_MAX : 65535, LIVE_BASE, RIG_PID);
		LIVE_CHECK(raw_reply(fd, layout, LIVE_BASE, RIG_PID) == PAGES);
		LIVE_CHECK(raw_receive(fd, NULL, PAGES * LIVE_PAGE));
		raw_send(fd, layout, 7, layout == 24 ? UINT32_MAX : UINT64_MAX, LIVE_BASE + LIVE_PAGE, RIG_PID);
		LIVE_CHECK(raw_reply(fd, layout, LIVE_BASE + LIVE_PAGE, RIG_PID) == PAGES - 1);
		LIVE_CHECK(raw_receive(fd, NULL, (PAGES - 1) * LIVE_PAGE));
		/* Of the parent, too, and the end of it all. */
		raw_send(fd, layout, 7, 1, PARENT_AT + LIVE_PAGE, RIG_PID);
		LIVE_CHECK(raw_reply(fd, layout, PARENT_AT + LIVE_PAGE, RIG_PID) == 1);
		LIVE_CHECK(raw_receive(fd, page, LIVE_PAGE));
		raw_send(fd, layout, 0x1023, 0, 0, 0);
		LIVE_CHECK(raw_receive(fd, page, 4) && !memcmp(page, "\0\0\0\0", 4));
		shutdown(fd, SHUT_WR);
		LIVE_CHECK(raw_ended(fd));
		close(fd);
	}
	/* Half a request, and away. */
	before = page_server_said(s, "is disconnected");
	fd = raw_connect(s->port);
	LIVE_CHECK(send(fd, page, 13, MSG_NOSIGNAL) == 13);
	close(fd);
	RIG_AWAIT(page_server_said(s, "is disconnected") == before + 1);
	/* Half a request, and nothing more: nobody else waits for it. */
	fd = raw_connect(s->port);
	LIVE_CHECK(send(fd, page, 13, MSG_NOSIGNAL) == 13);
	check_good(s, 32);
	close(fd);
	/* The first word is the last. */
	for (int layout = 24; layout <= 32; layout += 8) {
		fd = raw_connect(s->port);
		raw_send(fd, layout, 0x1024, 0, 0, 0);
		LIVE_CHECK(raw_receive(fd, page, 4) && !memcmp(page, "\0\0\0\0", 4));
		shutdown(fd, SHUT_WR);
		LIVE_CHECK(raw_ended(fd));
		close(fd);
	}
}

/* Its file is cut, within a page, while a client takes its time: what was on the way is what was asked for, or does not come. */
static void test_cut(const struct page_server *s, const struct rig *images)
{
	unsigned char page[LIVE_PAGE], want[LIVE_PAGE];
	int fd = raw_connect(s->port), file = openat(images->dir.fd, "pages-1.img", O_RDWR | O_CLOEXEC);

	raw_send(fd, 32, 7, PAGES, LIVE_BASE, RIG_PID);
	LIVE_CHECK(raw_reply(fd, 32, LIVE_BASE, RIG_PID) == PAGES);
	usleep(200000); /* the rest is in the socket, as much of it as there is room for */
	LIVE_CHECK(file >= 0 && !ftruncate(file, 20 * LIVE_PAGE + 100));
	for (uint64_t addr = LIVE_BASE; addr < GAP_AT && raw_receive(fd, page, LIVE_PAGE); addr += LIVE_PAGE) {
		live_fill(want, RIG_SEED, addr, 0);
		if (memcmp(page, want, LIVE_PAGE))
			LIVE_DIE("page %#lx was cut on its way", (unsigned long)addr);
	}
	close(fd);
	fd = raw_connect(s->port);
	raw_send(fd, 32, 7, 1, LIVE_BASE + 20 * LIVE_PAGE, RIG_PID);
	LIVE_CHECK(raw_reply(fd, 32, LIVE_BASE + 20 * LIVE_PAGE, RIG_PID) == 1 && !raw_receive(fd, page, LIVE_PAGE));
	close(fd);
	close(file);
}

/* ---- restores ---------------------------------------------------------------------------------------------- */
static void test_at_once(struct page_server *s, const struct rig *images)
{
	static struct rig r[CLIENTS];

	for (unsigned i = 0; i < CLIENTS; i++) {
		rig_begin(&r[i], PAGES, images->wide);
		rig_worker(&r[i], rig_read_all, &r[i]);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		r[i].options.protocol = i % 2 ? 24 : 32;
		r[i].flags = 6;
		rig_images(&r[i]);
		rig_open(&r[i], s->port);
		rig_start(&r[i], 1, i % 2 ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		live_go(&r[i].live);
	for (unsigned i = 0; i < CLIENTS; i++)
		LIVE_CHECK(live_end(&r[i].live) == 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		LIVE_OK(thaw_wait(r[i].h, 0, 60000));
		rig_end(&r[i], true);
	}
}

static void test(bool wide)
{
	struct page_server s;
	struct rig images;

	rig_begin(&images, PAGES, wide);
	scratch_begin(&parent);
	put_images(&images);
	page_server_start(&s, images.dir.path, NULL);
	test_hostile(&s);
	test_at_once(&s, &images);
	test_at_once(&s, &images); /* and again: it is still there */
	RIG_AWAIT(page_server_said(&s, "is done") >= 2 * CLIENTS);
	test_cut(&s, &images);
	LIVE_CHECK(page_server_stop(&s) == 0);
	LIVE_CHECK(page_server_said(&s, "clients served") == 1);
	scratch_end(&parent);
	scratch_end(&images.dir);
}

int main(void)
{
	alarm(250);
	test(false);
	test(true);
	return 0;
}
