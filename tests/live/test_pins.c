// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_pins.c - the kernel itself takes hold of memory that is not in yet: O_DIRECT, io_uring's registered buffers, vmsplice.
 *
 * Each of them pins absent pages, which are brought in for it like for any fault; what goes out is the checkpointed content,
 * and what comes in stays, whatever the copiers do. Pages that are discarded while they are pinned read as zero in the process. */
#include "config.h"
#include "support/live.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEED 61
#define PART 16 /* pages of one step */
#define BYTES (PART * LIVE_PAGE)
#define PARTS 6

static unsigned char buf[BYTES];

static uint64_t part(unsigned i)
{
	return LIVE_BASE + i * BYTES;
}

static void *at(uint64_t addr)
{
	return (void *)(uintptr_t)addr;
}

/* Is what has come out of the memory at addr its content? */
static void check_out(uint64_t addr, const char *how)
{
	unsigned char page[LIVE_PAGE];

	for (unsigned i = 0; i < PART; i++) {
		live_fill(page, SEED, addr + i * LIVE_PAGE, 0);
		if (memcmp(page, buf + i * LIVE_PAGE, LIVE_PAGE))
			LIVE_DIE("%s: page %u has another content", how, i);
	}
}

static int temporary(int flags)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/thaw-pins-XXXXXX", dir ? dir : "/var/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	LIVE_CHECK(fd >= 0);
	if (flags) { /* in a second step: an open that is refused for its flags leaves the file on some kernels */
		int plain = fd;

		fd = open(path, O_RDWR | O_CLOEXEC | flags);
		close(plain);
	}
	unlink(path);
	return fd;
}

static void direct(void)
{
	int fd = temporary(O_DIRECT);

	if (fd < 0) {
		printf("test_pins: no O_DIRECT here (%s): left out\n", strerror(errno));
		return;
	}
	LIVE_CHECK(pwrite(fd, at(part(0)), BYTES, 0) == (ssize_t)BYTES);
	/* Read back into absent memory of another content. */
	LIVE_CHECK(pread(fd, at(part(1)), BYTES, 0) == (ssize_t)BYTES);
	memcpy(buf, at(part(1)), BYTES);
	check_out(part(0), "O_DIRECT");
	close(fd);
}

static void spliced(void)
{
	struct iovec v = { at(part(2)), BYTES };
	int p[2];

	LIVE_CHECK(!pipe(p));
	if (fcntl(p[1], F_GETPIPE_SZ) < (int)BYTES) { /* a user's pipes are made smaller when there are many */
		printf("test_pins: pipes are too small here for vmsplice: left out\n");
		close(p[0]);
		close(p[1]);
		return;
	}
	LIVE_CHECK(vmsplice(p[1], &v, 1, 0) == (ssize_t)BYTES);
	LIVE_CHECK(!madvise(at(part(2)), BYTES, MADV_DONTNEED)); /* the pipe has them still */
	LIVE_CHECK(live_is_zero(part(2), PART));
	for (size_t got = 0; got < BYTES;) {
		ssize_t n = read(p[0], buf + got, BYTES - got);

		LIVE_CHECK(n > 0);
		got += n;
	}
	check_out(part(2), "vmsplice");
	close(p[0]);
	close(p[1]);
}

static void fixed(struct io_uring *ring, bool write, int fd, void *mem, unsigned index)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;

	if (write)
		io_uring_prep_write_fixed(sqe, fd, mem, BYTES, 0, index);
	else
		io_uring_prep_read_fixed(sqe, fd, mem, BYTES, 0, index);
	LIVE_CHECK(io_uring_submit_and_wait(ring, 1) == 1 && !io_uring_wait_cqe(ring, &cqe));
	LIVE_CHECK(cqe->res == (int)BYTES);
	io_uring_cqe_seen(ring, cqe);
}

static void registered(void)
{
	struct iovec v[2] = { { at(part(3)), BYTES }, { at(part(4)), BYTES } };
	int fd = temporary(0), err;
	struct io_uring ring;

	LIVE_CHECK(fd >= 0);
	err = io_uring_queue_init(2, &ring, 0);
	if (err) {
		printf("test_pins: no io_uring here (%s): left out\n", strerror(-err));
		close(fd);
		return;
	}
	err = io_uring_register_buffers(&ring, v, 2);
	if (err) {
		printf("test_pins: no buffers can be registered (%s): left out\n", strerror(-err));
	} else {
		fixed(&ring, true, fd, v[0].iov_base, 0);
		LIVE_CHECK(pread(fd, buf, BYTES, 0) == (ssize_t)BYTES);
		check_out(part(3), "a registered buffer");
		fixed(&ring, false, fd, v[1].iov_base, 1); /* into pages that were pinned absent */
		LIVE_CHECK(live_moved_is(part(4), part(3), PART, SEED, 0));
		LIVE_CHECK(!madvise(at(part(3)), BYTES, MADV_DONTNEED)); /* pinned, and the process's no more */
		LIVE_CHECK(live_is_zero(part(3), PART));
	}
	io_uring_queue_exit(&ring);
	close(fd);
}

static int work(void *arg, int sock)
{
	direct();
	spliced();
	registered();
	fflush(stdout);
	return !live_is(part(5), PART, SEED, 0);
}

static void run(enum thaw_background policy)
{
	struct thaw_range r = { LIVE_BASE, PARTS * BYTES, THAW_KIND_ANON, 3, 0 };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, policy);
	struct thaw_memfile_range file;
	struct thaw_source *s;
	struct live l;
	int fd, status;

	live_start(&l, &r, 1, work, NULL);
	fd = live_file(false, SEED, &r, 1, &file);
	s = thaw_source_memfile(fd, &file, 1);
	live_add(h, &l, s, &r, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	if (status)
		LIVE_DIE("policy %d: the worker ended with %d", policy, status);
	LIVE_OK(thaw_wait(h, 0, 60000));
	thaw_close(h);
	close(fd);
}

int main(void)
{
	alarm(120);
	for (unsigned i = 0; i < 3; i++) {
		run(THAW_BACKGROUND_STAY_LAZY);
		run(THAW_BACKGROUND_RUN);
	}
	return 0;
}
