// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_events.c - a restored program that changes its memory while it still arrives */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define MB(n) ((size_t)(n) << 20)

static char *filled(size_t len, uint64_t seed)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	scope_fill(p, len, seed);
	return p;
}

static void run_discard(void)
{
	char *p = filled(MB(32), 1);

	scope_point();
	for (size_t at = 0; at < MB(32); at += MB(1)) {
		CHECK(!madvise(p + at, MB(1) / 2, MADV_DONTNEED));
		CHECK(scope_is_zero(p + at, MB(1) / 2));
		scope_fill(p + at, MB(1) / 4, at);
	}
	for (size_t at = 0; at < MB(32); at += MB(1)) {
		CHECK(scope_is_filled(p + at, MB(1) / 4, at) && scope_is_zero(p + at + MB(1) / 4, MB(1) / 4));
		CHECK(scope_is_filled(p + at + MB(1) / 2, MB(1) / 2, 1));
	}
}

static void run_move(void)
{
	char *p = filled(MB(16), 2), *copy = malloc(MB(16)), *q, *r;

	memcpy(copy, p, MB(16));
	scope_point();
	q = mmap(NULL, MB(64), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(q != MAP_FAILED);
	for (size_t at = 0; at < MB(16); at += MB(2)) { /* every piece somewhere else */
		r = mremap(p + at, MB(2), MB(3), MREMAP_MAYMOVE | MREMAP_FIXED, q + MB(4) * ((at / MB(2) + 3) % 8));
		CHECK(r != MAP_FAILED);
	}
	for (size_t at = 0; at < MB(16); at += MB(2)) {
		r = q + MB(4) * ((at / MB(2) + 3) % 8);
		CHECK(!memcmp(r, copy + at, MB(2)) && scope_is_zero(r + MB(2), MB(1)));
	}
}

static void run_unmap(void)
{
	char *p = filled(MB(16), 3), *q;

	scope_point();
	for (size_t at = 0; at < MB(16); at += MB(1)) {
		CHECK(!munmap(p + at, MB(1) / 2));
		q = mmap(p + at, MB(1) / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		CHECK(q == p + at && scope_is_zero(q, MB(1) / 2));
		CHECK(scope_is_filled(p + at + MB(1) / 2, MB(1) / 2, 3));
	}
}

/* Protections change under the copy: it must still find its way in. */
static void run_protect(void)
{
	char *p = filled(MB(16), 4);

	scope_point();
	for (size_t at = 0; at < MB(16); at += 8192)
		CHECK(!mprotect(p + at, 4096, PROT_READ));
	CHECK(scope_is_filled(p, MB(16), 4));
}

/* A child of the restored process has all of its memory, and neither sees the other's changes. */
static void run_fork(void)
{
	char *p = filled(MB(32), 5), *wiped = filled(MB(1), 6);
	pid_t child;
	int status;

	CHECK(!madvise(wiped, MB(1), MADV_WIPEONFORK));
	scope_point();
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		scope_fill(p, MB(4), 7);
		CHECK(scope_is_filled(p + MB(4), MB(28), 5) && scope_is_filled(p, MB(4), 7) && scope_is_zero(wiped, MB(1)));
		_exit(7);
	}
	scope_fill(p + MB(28), MB(4), 8);
	CHECK(scope_is_filled(p, MB(28), 5) && scope_is_filled(p + MB(28), MB(4), 8) && scope_is_filled(wiped, MB(1), 6));
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* The kernel reads and writes memory that has not arrived. */
static void run_kernel_access(void)
{
	char *p = filled(MB(8), 9);
	int ends[2];

	CHECK(!pipe(ends));
	scope_point();
	for (size_t at = 0; at < MB(4); at += 65536) {
		CHECK(write(ends[1], p + at, 4096) == 4096);
		CHECK(read(ends[0], p + MB(4) + at + 4096, 4096) == 4096);
		CHECK(!memcmp(p + at, p + MB(4) + at + 4096, 4096));
	}
	CHECK(scope_is_filled(p, MB(4), 9));
}

static void exec_again(void)
{
	char *p = filled(MB(8), 10);

	scope_point();
	CHECK(scope_is_filled(p, MB(1), 10));
	execl("/bin/echo", "echo", "ok", NULL);
	CHECK(!"exec");
}

const struct scope_item scope_events[] = {
	{ "discard", run_discard },
	{ "move", run_move },
	{ "unmap", run_unmap },
	{ "protect", run_protect },
	{ "fork", run_fork },
	{ "kernel-access", run_kernel_access },
	{ "exec", exec_again },
	{ 0 },
};
