// SPDX-License-Identifier: LGPL-2.1-or-later
/* unit/test_source.c - the three sources: what they tell, what they refuse, how long they live */
#include "config.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kern/keep.h"
#include "kern/sys.h"
#include "source/pageserver.h"
#include "source/source.h"
#include "support/imagedir.h"
#include "util/err.h"

/* ---- the first attempts to connect --------------------------------------------------------------------------- */
/* One whose queue is full: who connects hears nothing. */
static int silent(struct thaw_net_address *at, int *filler)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct thaw_net_address){ .len = sizeof(a) };
	cr_assert(!bind(fd, (void *)&a, sizeof(a)) && !listen(fd, 0) && !getsockname(fd, (void *)&at->at, &at->len));
	for (unsigned i = 0; i < 2; i++) { /* one more than it takes */
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(filler[i], (void *)&at->at, at->len);
	}
	usleep(50000);
	return fd;
}

Test(source, addresses)
{
	struct thaw_pageserver ps = { .link.fd = -1, .addresses.n = 2, .name = (char *)"x" };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct thaw_net_address *good = &ps.addresses.address[1];
	int filler[2], first = silent(&ps.addresses.address[0], filler), second = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(!thaw_keep_init());
	good->len = sizeof(a);
	cr_assert(!bind(second, (void *)&a, sizeof(a)) && !listen(second, 5) && !getsockname(second, (void *)&good->at, &good->len));
	cr_assert_eq(thaw_link_open(&ps, thaw_sys_now_ns() + 1000000000ULL), 0, "the first address, which is silent, took all the time");
	thaw_link_close(&ps.link);
	close(first);
	close(second);
}

static _Atomic unsigned attempts;

static void count_attempt(void *opaque, const struct thaw_pageserver_event *e)
{
	attempts++;
}

/* The first attempt hears nothing for longer than a server is expected to take to listen, the next ones are refused at once. */
Test(source, refused_late)
{
	struct thaw_net_address at;
	int filler[2], fd = silent(&at, filler);
	struct thaw_pageserver_options o = {
		.size = sizeof(o), .address = "127.0.0.1", .socket = -1, .changed = count_attempt,
		.port = ntohs(((const struct sockaddr_in *)&at.at)->sin_port),
	};
	struct thaw_pageserver *ps = thaw_pageserver_begin(&o);

	cr_assert(ps, "%s", thaw_err_text());
	usleep(5200000);
	close(fd); /* SYN is sent again at 7 s */
	for (unsigned i = 0; i < 1000 && !attempts; i++)
		usleep(10000);
	cr_assert(attempts);
	attempts = 0;
	for (unsigned i = 0; i < 100 && attempts < 100; i++) /* a second, however long that takes */
		usleep(10000);
	cr_assert_lt(attempts, 100, "%u attempts", attempts);
	thaw_pageserver_close(ps);
}

struct list {
	unsigned n;
	struct thaw_extent e[8];
};

static int collect(void *opaque, const struct thaw_extent *e)
{
	struct list *l = opaque;

	if (l->n == 8)
		return -E2BIG;
	l->e[l->n++] = *e;
	return 0;
}

/* ---- memory file ------------------------------------------------------------------------------------------- */
static int memory_file(size_t size)
{
	int fd = memfd_create("test_source", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

Test(source, memfile_tells_its_ranges_in_order)
{
	const struct thaw_memfile_range r[] = {
		{ 0x7f0000000000, 0x2000, 0x5000 }, { 0x10000, 0x3000, 0 }, { 0x13000, 0x1000, 0x7000 },
	};
	int fd = memory_file(0x8000);
	struct thaw_source *s = thaw_source_memfile(fd, r, 3);
	struct list l = { 0 };
	char where[64], page[4096];

	cr_assert(s, "%s", thaw_get_error());
	cr_assert_eq(pwrite(fd, "content", 7, 0x5000), 7);
	close(fd); /* the source has its own */
	cr_assert_eq(s->ops->extents(s, collect, &l), 0);
	cr_assert_eq(l.n, 3);
	cr_assert(l.e[0].addr == 0x10000 && l.e[0].pages == 3 && l.e[0].off == 0);
	cr_assert(l.e[1].addr == 0x13000 && l.e[2].addr == 0x7f0000000000 && l.e[2].off == 0x5000);
	cr_assert_eq(pread(s->ops->object_fd(s, 0), page, 4096, 0x5000), 4096);
	cr_assert_eq(memcmp(page, "content", 7), 0);
	cr_assert_eq(s->ops->object_fd(s, 1), -1);
	s->ops->describe(s, 0, 0x5000, where, sizeof(where));
	cr_assert_str_eq(where, "the memory file at byte 20480");
	fd = s->ops->object_fd(s, 0);
	thaw_source_get(s);
	thaw_source_close(s);
	cr_assert_neq(fcntl(fd, F_GETFD), -1, "a space still holds it");
	cr_assert_eq(s->ops->object_fd(s, 0), fd);
	cr_assert(s->closed, "no space can be added with it");
	thaw_source_put(s);
	cr_assert_eq(fcntl(fd, F_GETFD), -1, "nobody holds it");
	thaw_source_close(NULL);
}

Test(source, memfile_refuses)
{
	static const struct thaw_memfile_range bad[][2] = {
		{ { 0x10001, 0x1000, 0 }, { 0x40000, 0x1000, 0 } },
		{ { 0x10000, 0x1001, 0 }, { 0x40000, 0x1000, 0 } },
		{ { 0x10000, 0x1000, 1 }, { 0x40000, 0x1000, 0 } },
		{ { 0x10000, 0, 0 }, { 0x40000, 0x1000, 0 } },
		{ { 0x10000, 0x2000, 0 }, { 0x11000, 0x1000, 0 } },
		{ { 0x10000, 0x1000, 0x8000 }, { 0x40000, 0x1000, 0 } },
		{ { 0x10000, 0x1000, -0x1000UL }, { 0x40000, 0x1000, 0 } },
		{ { -0x1000UL, 0x2000, 0 }, { 0x40000, 0x1000, 0 } },
	};
	static const struct thaw_memfile_range last = { -0x1000UL, 0x1000, 0x7000 };
	int fd = memory_file(0x8000), out = open("/dev/null", O_WRONLY | O_CLOEXEC), pipes[2];
	struct thaw_source *s;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_null(thaw_source_memfile(fd, bad[i], 2), "ranges %u", i);
		cr_assert_eq(thaw_get_errno(), EINVAL, "ranges %u", i);
		cr_assert(strstr(thaw_get_error(), "thaw_source_memfile: the range"), "%s", thaw_get_error());
	}
	s = thaw_source_memfile(fd, &last, 1);
	cr_assert(s, "the last page of address space and file: %s", thaw_get_error());
	thaw_source_close(s);
	cr_assert(!thaw_source_memfile(fd, NULL, 1) && thaw_get_errno() == EINVAL);
	cr_assert(!thaw_source_memfile(fd, &last, 0) && thaw_get_errno() == EINVAL);
	cr_assert(!thaw_source_memfile(-1, &last, 1) && thaw_get_errno() == EBADF);
	cr_assert(!thaw_source_memfile(out, &last, 1) && thaw_get_errno() == EBADF);
	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	cr_assert(!thaw_source_memfile(pipes[0], &last, 1) && thaw_get_errno() == ESPIPE);
	close(fd), close(out), close(pipes[0]), close(pipes[1]);
}

/* ---- function ---------------------------------------------------------------------------------------------- */
static int asked(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	memset(buf, (int)(address >> 12), length);
	return *(int *)opaque;
}

struct answer {
	struct thaw_request req;
	int error, calls;
};

static void answered(struct thaw_request *req, int error)
{
	struct answer *a = (struct answer *)req;

	a->error = error;
	a->calls++;
}

Test(source, callback)
{
	struct answer a = { { answered }, 0, 0 };
	unsigned char buf[4096];
	int give = 0;
	struct thaw_source *s = thaw_source_callback(asked, &give);

	cr_assert(!thaw_source_callback(NULL, NULL) && thaw_get_errno() == EINVAL);
	cr_assert_null(s->ops->extents);
	cr_assert_eq(s->ops->object_fd(s, 0), -1);
	cr_assert_eq(s->ops->read(s, 0, 0x42000, sizeof(buf), buf, &a.req), 0);
	cr_assert_eq(buf[4095], 0x42);
	give = -EIO;
	cr_assert_eq(s->ops->read(s, 0, 0x42000, sizeof(buf), buf, &a.req), -EIO);
	give = THAW_LATER;
	cr_assert_eq(s->ops->read(s, 0, 0x42000, sizeof(buf), buf, &a.req), THAW_LATER);
	cr_assert_eq(a.calls, 0);
	thaw_complete(&a.req, 0);
	cr_assert(a.calls == 1 && a.error == 0);
	thaw_complete(&a.req, ENODATA);
	cr_assert(a.calls == 2 && a.error == ENODATA);
	thaw_complete(&a.req, -ENODATA);
	cr_assert(a.calls == 3 && a.error == ENODATA);
	give = 5;
	cr_assert_eq(s->ops->read(s, 0, 0x42000, sizeof(buf), buf, &a.req), -EPROTO);
	thaw_source_close(s);
}

/* ---- images ------------------------------------------------------------------------------------------------ */
Test(source, images_with_a_parent)
{
	static struct bytes b;
	struct scratch dir, parent;
	struct list l = { 0 };
	struct thaw_source *s;
	char where[64];

	scratch_begin(&dir);
	scratch_begin(&parent);
	cr_assert(!thaw_source_images(dir.fd, 7) && thaw_get_errno() == ENOENT);
	cr_assert(strstr(thaw_get_error(), "thaw_source_images: pagemap-7.img"), "%s", thaw_get_error());
	cr_assert(!thaw_source_images(dir.fd, 0) && thaw_get_errno() == EINVAL);
	cr_assert(!thaw_source_images(-1, 7) && thaw_get_errno() == EBADF);
	bytes_head(&b, 1);
	bytes_entry(&b, 0x1000, 2, 6, 1);
	bytes_entry(&b, 0x3000, 1, 1, 1);
	scratch_put(&dir, "pagemap-7.img", b.at, b.len);
	scratch_size(&dir, "pages-1.img", 0x2000);
	bytes_head(&b, 5);
	bytes_entry(&b, 0x2000, 2, 4, 0);
	scratch_put(&parent, "pagemap-7.img", b.at, b.len);
	scratch_size(&parent, "pages-5.img", 0x2000);
	cr_assert_eq(symlinkat(parent.path, dir.fd, "parent"), 0);
	s = thaw_source_images(dir.fd, 7);
	cr_assert(s, "%s", thaw_get_error());
	cr_assert_eq(s->ops->extents(s, collect, &l), 0);
	cr_assert_eq(l.n, 2);
	cr_assert(l.e[0].addr == 0x1000 && l.e[0].pages == 2 && l.e[0].object == 0 && l.e[0].off == 0);
	cr_assert(l.e[1].addr == 0x3000 && l.e[1].pages == 1 && l.e[1].object == 1 && l.e[1].off == 0x1000);
	cr_assert(s->ops->object_fd(s, 0) >= 0 && s->ops->object_fd(s, 1) >= 0 && s->ops->object_fd(s, 2) == -1);
	s->ops->describe(s, 1, 4096, where, sizeof(where));
	cr_assert_str_eq(where, "pages-5.img of parent 1 at byte 4096");
	thaw_source_get(s);
	thaw_source_close(s);
	s->ops->describe(s, 1, 4096, where, sizeof(where));
	cr_assert_str_eq(where, "pages-5.img of parent 1 at byte 4096");
	cr_assert(s->ops->object_fd(s, 1) >= 0);
	thaw_source_put(s);
	scratch_end(&dir);
	scratch_end(&parent);
}
