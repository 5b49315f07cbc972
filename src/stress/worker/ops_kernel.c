// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_kernel.c - restored memory as the kernel touches it: copied from and to, pinned, spliced, waited on */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static bool open_pipe(int p[2])
{
	return pipe2(p, O_CLOEXEC) == 0;
}

static void close_pipe(const int p[2])
{
	close(p[0]);
	close(p[1]);
}

static uint32_t pick_writable(struct stress_task *t, uint32_t a)
{
	return thaw_stress_pick(t->arena, a, STRESS_NO_ACCESS | STRESS_READONLY);
}

/* ---- copied ------------------------------------------------------------------------------------------------------ */
/* A whole page, or its middle: the rest of it is the content that has to be brought in for that. */
enum stress_done thaw_stress_op_SYS_READ(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = pick_writable(t, op->a), version;
	struct stress_page *g;
	uint64_t words[STRESS_WORDS];
	unsigned at = 0, len = STRESS_WORDS;
	char *to;
	int fd[2];

	if (p == STRESS_NOWHERE || !open_pipe(fd))
		return STRESS_REFUSED;
	g = &r->page[p];
	version = thaw_stress_next_version(t);
	if (g->holds == STRESS_CONTENT && !g->is.len && op->b % 3) {
		at = op->b % STRESS_WORDS;
		len = 1 + op->c % (STRESS_WORDS - at);
		thaw_stress_fill(words, t->s->seed, g->is.from, version);
	} else {
		thaw_stress_fill(words, t->s->seed, thaw_stress_own_number(t, r, p), version);
	}
	to = (char *)thaw_stress_at(r, p) + at * 8;
	thaw_stress_note(t, (uintptr_t)to, len * 8, 0);
	if (write(fd[1], words + at, len * 8) != (ssize_t)len * 8 || read(fd[0], to, len * 8) != (ssize_t)len * 8)
		thaw_stress_failed(t, (uintptr_t)to, "read into the page", errno);
	close_pipe(fd);
	if (len == STRESS_WORDS && !(g->holds == STRESS_CONTENT && !g->is.len && op->b % 3)) {
		thaw_stress_set_content(g, thaw_stress_own_number(t, r, p), version);
	} else {
		g->old = g->is;
		g->has_old = true;
		g->is.at = at;
		g->is.len = len;
		g->is.over = version;
	}
	if (op->a % 2)
		thaw_stress_check(t, r, p);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_SYS_WRITE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS);
	uint64_t words[STRESS_WORDS];
	void *at;
	int fd[2];

	if (p == STRESS_NOWHERE || !open_pipe(fd))
		return STRESS_REFUSED;
	at = thaw_stress_at(r, p);
	thaw_stress_note(t, (uintptr_t)at, STRESS_PAGE, 0);
	if (write(fd[1], at, STRESS_PAGE) != (ssize_t)STRESS_PAGE || read(fd[0], words, STRESS_PAGE) != (ssize_t)STRESS_PAGE)
		thaw_stress_failed(t, (uintptr_t)at, "write from the page", errno);
	close_pipe(fd);
	thaw_stress_check_bytes(t, &r->page[p], (uintptr_t)at, words);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_VM_READV(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS), n;
	uint64_t words[8 * STRESS_WORDS];
	struct iovec l = { words, 0 }, m;

	if (p == STRESS_NOWHERE)
		return STRESS_REFUSED;
	n = thaw_stress_extent(r, p, 1 + op->b % 8);
	m = (struct iovec){ thaw_stress_at(r, p), n * STRESS_PAGE };
	l.iov_len = m.iov_len;
	thaw_stress_note(t, (uintptr_t)m.iov_base, m.iov_len, 0);
	if (process_vm_readv(getpid(), &l, 1, &m, 1, 0) != (ssize_t)m.iov_len) {
		if (errno == EPERM || errno == ENOSYS)
			return STRESS_REFUSED;
		thaw_stress_failed(t, (uintptr_t)m.iov_base, "process_vm_readv", errno);
	}
	for (uint32_t i = 0; i < n; i++)
		thaw_stress_check_bytes(t, &r->page[p + i], (uintptr_t)thaw_stress_at(r, p + i), words + i * STRESS_WORDS);
	return STRESS_DONE;
}

/* ---- pinned ------------------------------------------------------------------------------------------------------ */
enum stress_done thaw_stress_op_VMSPLICE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS | STRESS_LOCKED);
	uint64_t words[STRESS_WORDS];
	struct iovec v;
	ssize_t n;
	int fd[2];

	if (p == STRESS_NOWHERE || !open_pipe(fd))
		return STRESS_REFUSED;
	v = (struct iovec){ thaw_stress_at(r, p), STRESS_PAGE };
	thaw_stress_note(t, (uintptr_t)v.iov_base, v.iov_len, 0);
	n = vmsplice(fd[1], &v, 1, 0);
	if (n != (ssize_t)STRESS_PAGE)
		thaw_stress_failed(t, (uintptr_t)v.iov_base, "vmsplice", errno);
	/* Discarded while the pipe has it: the pipe keeps the old page, the next look finds zero. */
	if (op->c % 2 && madvise(v.iov_base, STRESS_PAGE, MADV_DONTNEED))
		thaw_stress_failed(t, (uintptr_t)v.iov_base, "MADV_DONTNEED", errno);
	if (read(fd[0], words, STRESS_PAGE) != (ssize_t)STRESS_PAGE)
		thaw_stress_failed(t, (uintptr_t)v.iov_base, "read from the pipe", errno);
	close_pipe(fd);
	thaw_stress_check_bytes(t, &r->page[p], (uintptr_t)v.iov_base, words);
	if (op->c % 2)
		thaw_stress_discard(&r->page[p]);
	thaw_stress_check(t, r, p);
	return STRESS_DONE;
}

/* From one page to the file, and from the file into another: both by way of the pages themselves. */
enum stress_done thaw_stress_op_DIRECT(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS), q = pick_writable(t, op->b);
	off_t off = (off_t)t->number * STRESS_PAGE;
	int fd = t->s->scratch;

	if (fd < 0 || p == STRESS_NOWHERE || q == STRESS_NOWHERE || p == q || r->page[p].holds == STRESS_EITHER)
		return STRESS_REFUSED;
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, p), STRESS_PAGE, (uintptr_t)thaw_stress_at(r, q));
	if (pwrite(fd, thaw_stress_at(r, p), STRESS_PAGE, off) != (ssize_t)STRESS_PAGE) {
		if (errno == EINVAL || errno == ENOSPC)
			return STRESS_REFUSED;
		thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, p), "pwrite with O_DIRECT", errno);
	}
	thaw_stress_beat(t, (uintptr_t)thaw_stress_at(r, q));
	if (pread(fd, thaw_stress_at(r, q), STRESS_PAGE, off) != (ssize_t)STRESS_PAGE)
		thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, q), "pread with O_DIRECT", errno);
	thaw_stress_discard(&r->page[q]); /* what it held is the old content now */
	r->page[q].holds = r->page[p].holds;
	r->page[q].is = r->page[p].is;
	thaw_stress_check(t, r, q);
	return STRESS_DONE;
}

static bool one_write(struct io_uring *ring, int fd, void *at, int *res)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;

	io_uring_prep_write_fixed(sqe, fd, at, STRESS_PAGE, 0, 0);
	if (io_uring_submit(ring) != 1 || io_uring_wait_cqe(ring, &cqe))
		return false;
	*res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return true;
}

/* A registered buffer is brought in and pinned by its registration. Discarded, the memory reads as zero; the pin keeps the old page. */
/* Up to Linux 6.2 a long-term pin does not wait for a page that a userfaultfd has to bring: EFAULT. */
static bool pins_can_wait(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	return uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2 || major > 6 || (major == 6 && minor >= 3);
}

enum stress_done thaw_stress_op_URING(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS | STRESS_READONLY | STRESS_LOCKED);
	uint64_t words[STRESS_WORDS];
	struct io_uring ring;
	struct iovec v;
	int fd[2], res = 0;

	if (p == STRESS_NOWHERE || !open_pipe(fd))
		return STRESS_REFUSED;
	if (io_uring_queue_init(2, &ring, 0)) {
		close_pipe(fd);
		return STRESS_REFUSED;
	}
	v = (struct iovec){ thaw_stress_at(r, p), STRESS_PAGE };
	thaw_stress_note(t, (uintptr_t)v.iov_base, v.iov_len, 0);
	res = io_uring_register_buffers(&ring, &v, 1);
	if (res) {
		io_uring_queue_exit(&ring);
		close_pipe(fd);
		if (res == -ENOMEM || res == -EPERM || (res == -EFAULT && !pins_can_wait()))
			return STRESS_REFUSED;
		thaw_stress_failed(t, (uintptr_t)v.iov_base, "io_uring_register_buffers", -res);
	}
	if (!one_write(&ring, fd[1], v.iov_base, &res) || res != (int)STRESS_PAGE ||
	    read(fd[0], words, STRESS_PAGE) != (ssize_t)STRESS_PAGE)
		thaw_stress_failed(t, (uintptr_t)v.iov_base, "a write of a fixed buffer", res < 0 ? -res : errno);
	thaw_stress_check_bytes(t, &r->page[p], (uintptr_t)v.iov_base, words);
	if (op->c % 2) {
		if (madvise(v.iov_base, STRESS_PAGE, MADV_DONTNEED))
			thaw_stress_failed(t, (uintptr_t)v.iov_base, "MADV_DONTNEED", errno);
		thaw_stress_discard(&r->page[p]);
		thaw_stress_check(t, r, p);
	}
	io_uring_queue_exit(&ring);
	close_pipe(fd);
	return STRESS_DONE;
}

/* ---- waited on --------------------------------------------------------------------------------------------------- */
enum stress_done thaw_stress_op_FUTEX(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = pick_writable(t, op->a), at = op->b % (STRESS_WORDS * 2), want;
	struct timespec soon = { 0, 1000 };
	uint64_t words[STRESS_WORDS];
	uint32_t *word;
	long err;

	if (p == STRESS_NOWHERE || r->page[p].holds == STRESS_EITHER)
		return STRESS_REFUSED;
	memset(words, 0, sizeof(words));
	if (r->page[p].holds == STRESS_CONTENT)
		thaw_stress_expected(t, &r->page[p], words);
	memcpy(&want, (char *)words + at * 4, sizeof(want));
	word = (uint32_t *)thaw_stress_at(r, p) + at;
	thaw_stress_note(t, (uintptr_t)word, 4, 0);
	err = syscall(SYS_futex, word, op->c % 2 ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, want, &soon, NULL, 0) ? errno : 0;
	if (err == EAGAIN) /* the kernel saw another value: what is there, by our own eyes? */
		thaw_stress_check(t, r, p);
	if (err == EAGAIN)
		thaw_stress_violation(t, STRESS_FAILED_CALL, (uintptr_t)word, "the value that is there", "another one (EAGAIN)",
				      "futex(FUTEX_WAIT)");
	if (err && err != ETIMEDOUT && err != EINTR)
		thaw_stress_failed(t, (uintptr_t)word, "futex", err);
	return STRESS_DONE;
}
