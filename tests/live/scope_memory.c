// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_memory.c - kinds of memory, protections, advice, locked memory, heap and stack */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KB(n) ((size_t)(n) << 10)
#define MB(n) ((size_t)(n) << 20)
#define PAGE KB(4)

static char *map(size_t len, int prot, int flags, int fd)
{
	char *p = mmap(NULL, len, prot, flags, fd, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static char *anon(size_t len)
{
	return map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* Content, pages never touched, pages given back, and a page that was zeroed by hand. */
static void run_anon(void)
{
	char *p = anon(MB(24)), *holes = anon(MB(4));

	scope_fill(p, MB(24), 1);
	for (size_t at = 0; at < MB(4); at += 2 * PAGE)
		scope_fill(holes + at, PAGE, 2);
	CHECK(!madvise(p + MB(8), MB(1), MADV_DONTNEED));
	memset(p + MB(10), 0, PAGE);
	scope_point();
	for (size_t at = MB(4) - 2 * PAGE; at < MB(4); at -= 2 * PAGE) {
		CHECK(scope_is_filled(holes + at, PAGE, 2));
		CHECK(scope_is_zero(holes + at + PAGE, PAGE));
	}
	CHECK(scope_is_filled(p, MB(8), 1));
	CHECK(scope_is_zero(p + MB(8), MB(1)));
	CHECK(scope_is_filled(p + MB(9), MB(1), 1));
	CHECK(scope_is_zero(p + MB(10), PAGE));
	CHECK(scope_is_filled(p + MB(10) + PAGE, MB(14) - PAGE, 1));
}

static int temp_file(size_t len)
{
	char name[] = "/tmp/thaw-scope-XXXXXX", *content = anon(len);
	int fd = mkstemp(name);

	CHECK(fd >= 0);
	unlink(name);
	for (size_t i = 0; i < len / 8; i++)
		((uint64_t *)content)[i] = i;
	CHECK(write(fd, content, len) == (ssize_t)len);
	munmap(content, len);
	return fd;
}

/* A private mapping of a file that is deleted: changed pages and unchanged ones. */
static void run_private_file(void)
{
	int fd = temp_file(MB(2));
	char *p = map(MB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd), *ro = map(MB(2), PROT_READ, MAP_PRIVATE, fd);

	close(fd);
	for (size_t at = 0; at < MB(2); at += 4 * PAGE)
		scope_fill(p + at, PAGE, 3);
	scope_point();
	for (size_t at = 0; at < MB(2); at += PAGE)
		if (at % (4 * PAGE))
			CHECK_IS(*(uint64_t *)(p + at), at / 8);
		else
			CHECK(scope_is_filled(p + at, PAGE, 3));
	CHECK_IS(*(uint64_t *)(ro + MB(1)), MB(1) / 8);
}

/* The kernel's own page of zeros in a private mapping of a file.
 *
 * Bug: it passed for a page that nobody had written to, and the file's content came back. */
static void run_zero_page(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { 0 };
	int fd = memfd_create("scope", MFD_CLOEXEC), uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	char *content = anon(MB(1)), *p;

	memset(content, 'f', MB(1));
	CHECK(fd >= 0 && uffd >= 0 && write(fd, content, MB(1)) == (ssize_t)MB(1));
	p = map(MB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	reg.range = (struct uffdio_range){ (uintptr_t)p, MB(1) };
	CHECK(!ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &reg));
	zero.range = (struct uffdio_range){ (uintptr_t)p + KB(64), KB(8) };
	CHECK(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
	close(uffd);
	close(fd);
	scope_point();
	CHECK(scope_is_zero(p + KB(64), KB(8)));
	CHECK(!memcmp(p, content, KB(64)) && !memcmp(p + KB(72), content, MB(1) - KB(72)));
}

/* A private mapping of a file above a shared one that nobody can write to. scope_memory.sh changes the file, too: then there is no restore.
 *
 * Bug: the private mapping had the descriptor of the shared one, whose file may change, and the file was not compared any more. */
static void run_private_above_shared(void)
{
	char *at = map(MB(2), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1), *content = anon(MB(1));
	int fd;

	scope_enter();
	fd = open("below", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	for (size_t i = 0; i < MB(1) / 8; i++)
		((uint64_t *)content)[i] = i;
	CHECK(fd >= 0 && write(fd, content, MB(1)) == (ssize_t)MB(1));
	close(fd);
	fd = open("below", O_RDONLY | O_CLOEXEC);
	CHECK(mmap(at, MB(1), PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == at);
	CHECK(mmap(at + MB(1), MB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == at + MB(1));
	close(fd);
	scope_fill(at + MB(1) + KB(64), PAGE, 16);
	scope_point();
	CHECK(!memcmp(at, content, MB(1)) && !memcmp(at + MB(1), content, KB(64)));
	CHECK(scope_is_filled(at + MB(1) + KB(64), PAGE, 16) && !memcmp(at + MB(1) + KB(68), content + KB(68), KB(956)));
}

/* Two views of one memory stay two views of one memory. */
static void run_shared(void)
{
	int fd = memfd_create("scope", MFD_CLOEXEC);
	char *a, *b, *s = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1), *file;
	int file_fd = temp_file(MB(1));

	CHECK(fd >= 0 && !ftruncate(fd, (off_t)MB(1)));
	a = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	b = map(MB(1), PROT_READ, MAP_SHARED, fd);
	file = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED, file_fd);
	scope_fill(a, MB(1), 4);
	scope_fill(s, KB(512), 5);
	strcpy(file + KB(64), "through the mapping");
	scope_point();
	CHECK(scope_is_filled(a, MB(1), 4) && scope_is_filled(s, KB(512), 5) && scope_is_zero(s + KB(512), KB(512)));
	CHECK(!memcmp(a, b, MB(1)));
	strcpy(a + KB(300), "seen there");
	CHECK(!strcmp(b + KB(300), "seen there"));
	CHECK(pread(fd, s, 11, (off_t)KB(300)) == 11 && !strcmp(s, "seen there"));
	CHECK(!strcmp(file + KB(64), "through the mapping"));
	CHECK(pwrite(file_fd, "by the call", 12, (off_t)KB(128)) == 12 && !strcmp(file + KB(128), "by the call"));
}

/* Content of shared memory that this process's page tables do not show: a child wrote it, or its pages were let go of. scope_memory.sh does
 * this also without the right to open the memory itself.
 *
 * Bug: then only pages were read that the page tables showed, and the others were zeros. */
static void run_shared_unseen(void)
{
	char *s = map(MB(4), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	int status;
	pid_t child = fork();

	if (child == 0) {
		scope_fill(s + KB(256), KB(256), 18);
		_exit(0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child && !status);
	scope_fill(s + KB(512), KB(256), 19);
	CHECK(!madvise(s + KB(512), KB(256), MADV_DONTNEED));
	scope_fill(s + KB(768), KB(4), 20);
	scope_point();
	CHECK(scope_is_zero(s, KB(256)) && scope_is_filled(s + KB(256), KB(256), 18) && scope_is_filled(s + KB(512), KB(256), 19));
	CHECK(scope_is_filled(s + KB(768), KB(4), 20) && scope_is_zero(s + KB(772), MB(4) - KB(772)));
}

/* Shared memory that this process itself may not read: likewise. */
static void run_shared_none(void)
{
	char *p = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	scope_fill(p, MB(1), 17);
	CHECK(!mprotect(p, KB(128), PROT_NONE));
	scope_point();
	CHECK(scope_is_filled(p + KB(128), KB(896), 17) && scope_faults(p, false));
	CHECK(!mprotect(p, KB(128), PROT_READ) && scope_is_filled(p, KB(128), 17));
}

/* What cannot be read or written now still has its content. */
static void run_protections(void)
{
	char *none = anon(MB(1)), *ro = anon(MB(1)), *code = anon(PAGE), *guarded = anon(MB(1));
	static const unsigned char ret42[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	int (*fn)(void) = (int (*)(void))code;

	scope_fill(none, MB(1), 6);
	scope_fill(ro, MB(1), 7);
	memcpy(code, ret42, sizeof(ret42));
	CHECK(!mprotect(none, MB(1), PROT_NONE) && !mprotect(ro, MB(1), PROT_READ));
	CHECK(!mprotect(code, PAGE, PROT_READ | PROT_EXEC));
	scope_fill(guarded, KB(512), 8);
	CHECK(!mprotect(guarded + KB(512), PAGE, PROT_NONE));
	scope_point();
	CHECK(scope_faults(none + KB(20), false) && scope_faults(ro + KB(20), true) && scope_faults(code, true));
	CHECK(scope_faults(guarded + KB(512), false) && !scope_faults(guarded + KB(516), true));
	CHECK(scope_is_filled(ro, MB(1), 7) && scope_is_filled(guarded, KB(512), 8));
	CHECK_IS(fn(), 42);
	CHECK(!mprotect(none, MB(1), PROT_READ | PROT_WRITE) && scope_is_filled(none, MB(1), 6));
	CHECK(!mprotect(ro, MB(1), PROT_READ | PROT_WRITE) && !scope_faults(ro, true));
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* Guard pages without a mapping of their own (Linux 6.13), in every kind of mapping (6.15). Those of a private mapping discard what is
 * below them, those of a shared one hide it.
 *
 * Bug: they were asked for in private mappings only, and only where smaps marks them, which not every kernel does that has them. */
static void run_guard_regions(void)
{
	enum { PRIVATE, SHARED, MEMFD, FILE_SHARED, FILE_READ, FILE_PRIVATE, N };
	static const char *const names[N] = { "private memory", "shared memory", "a memfd", "a shared file", "a file that is only read",
					      "a private file" };
	int fd = temp_file(MB(1)), ro, memfd = memfd_create("scope", MFD_CLOEXEC);
	bool have[N];
	char *p[N];

	scope_enter();
	ro = open("read", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(ro >= 0 && !ftruncate(ro, (off_t)MB(1)));
	close(ro);
	ro = open("read", O_RDONLY | O_CLOEXEC);
	CHECK(memfd >= 0 && !ftruncate(memfd, (off_t)MB(1)));
	p[PRIVATE] = anon(MB(1));
	p[SHARED] = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	p[MEMFD] = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
	p[FILE_SHARED] = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	p[FILE_READ] = map(MB(1), PROT_READ, MAP_SHARED, ro);
	p[FILE_PRIVATE] = map(MB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE, temp_file(MB(1)));
	for (int i = 0; i < N; i++) {
		if (i != FILE_READ)
			scope_fill(p[i], MB(1), 9);
		have[i] = !madvise(p[i] + KB(64), KB(16), MADV_GUARD_INSTALL);
		if (!have[i])
			scope_without("guard pages in ", names[i]);
	}
	scope_point();
	for (int i = 0; i < N; i++) {
		CHECK(i == FILE_READ || (scope_is_filled(p[i], KB(64), 9) && scope_is_filled(p[i] + KB(80), KB(944), 9)));
		if (have[i])
			CHECK(scope_faults(p[i] + KB(64), false) && scope_faults(p[i] + KB(79), i != FILE_READ));
	}
	for (int i = SHARED; i <= FILE_SHARED; i++)
		CHECK(!have[i] || (!madvise(p[i], MB(1), MADV_GUARD_REMOVE) && scope_is_filled(p[i], MB(1), 9)));
}

/* Below a guard page there may be content, which scope_memory.sh sees refused without the right to open the memory. */
static void run_shared_guard(void)
{
	char *p = map(MB(1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	bool have;

	scope_fill(p, MB(1), 21);
	have = !madvise(p + KB(64), KB(16), MADV_GUARD_INSTALL);
	if (!have)
		scope_without("guard pages in ", "shared memory");
	scope_point();
	CHECK(!have || (scope_faults(p + KB(64), false) && !madvise(p, MB(1), MADV_GUARD_REMOVE)));
	CHECK(scope_is_filled(p, MB(1), 21));
}

static void run_advice(void)
{
	static const int advice[] = { MADV_DONTDUMP, MADV_DONTFORK, MADV_WIPEONFORK, MADV_NOHUGEPAGE, MADV_HUGEPAGE,
				      MADV_SEQUENTIAL, MADV_RANDOM, MADV_MERGEABLE };
	enum { N = sizeof(advice) / sizeof(advice[0]) };
	char before[N][256], after[256], *p[N], *at;

	for (int i = 0; i < N; i++) {
		p[i] = anon(KB(64)); /* a gap between, or equal neighbours would be one mapping */
		munmap(p[i], KB(16));
		p[i] += KB(16);
		scope_fill(p[i], KB(48), 10);
		madvise(p[i], KB(48), advice[i]); /* not every kernel is built with all */
		scope_smaps(p[i], "VmFlags", before[i], sizeof(before[i]));
	}
	scope_point();
	for (int i = 0; i < N; i++) {
		CHECK(scope_is_filled(p[i], KB(48), 10));
		scope_smaps(p[i], "VmFlags", after, sizeof(after));
		at = strstr(after, " um"); /* userfaultfd's own mark, while the monitor serves it */
		if (at)
			memmove(at, at + 3, strlen(at + 3) + 1);
		if ((at = strstr(after, " sd"))) /* soft-dirty: the kernel's book-keeping */
			memmove(at, at + 3, strlen(at + 3) + 1);
		if ((at = strstr(before[i], " sd")))
			memmove(at, at + 3, strlen(at + 3) + 1);
		if (strcmp(before[i], after))
			fprintf(stderr, "advice %d: before %safter  %s", advice[i], before[i], after);
		CHECK(!strcmp(before[i], after));
	}
}

/* Came back as ordinary memory, which the kernel could not drop any more. It is empty, as it may be at any time. */
static void run_droppable(void)
{
	char *p = mmap(NULL, KB(64), PROT_READ | PROT_WRITE, 8 /* MAP_DROPPABLE, Linux 6.11 */ | MAP_ANONYMOUS, -1, 0), flags[256];
	bool has = p != MAP_FAILED;

	if (has)
		scope_fill(p, KB(64), 3);
	scope_point();
	if (!has)
		return;
	scope_smaps(p, "VmFlags", flags, sizeof(flags));
	CHECK(strstr(flags, " dp"));
	CHECK(scope_is_filled(p, KB(64), 3) || scope_is_zero(p, KB(64)));
}

static void run_locked(void)
{
	char *p = anon(MB(2)), *q = anon(MB(1)), kb[128];

	scope_fill(p, MB(1), 11);
	scope_fill(q, KB(256), 12);
	CHECK(!mlock(p, MB(2)) && !mlock2(q, MB(1), MLOCK_ONFAULT));
	scope_point();
	scope_smaps(p, "Locked:", kb, sizeof(kb));
	CHECK_IS(atoi(kb + 7), 2048);
	scope_smaps(q, "VmFlags", kb, sizeof(kb));
	CHECK(strstr(kb, " lo"));
	CHECK(scope_is_filled(p, MB(1), 11) && scope_is_zero(p + MB(1), MB(1)) && scope_is_filled(q, KB(256), 12));
}

/* Nothing is left for the monitor; and what nobody may touch is locked all the same. */
static void run_all_locked(void)
{
	char *none = anon(MB(1)), kb[128];

	scope_fill(none, KB(64), 15);
	CHECK(!mprotect(none, MB(1), PROT_NONE) && !mlockall(MCL_CURRENT | MCL_FUTURE));
	scope_point();
	scope_smaps(none, "VmFlags", kb, sizeof(kb));
	CHECK(strstr(kb, " lo"));
	CHECK(!mprotect(none, MB(1), PROT_READ) && scope_is_filled(none, KB(64), 15) && scope_is_zero(none + KB(64), KB(960)));
	scope_smaps(anon(MB(1)), "VmFlags", kb, sizeof(kb));
	CHECK(strstr(kb, " lo"));
}

static void run_heap(void)
{
	char *p = sbrk(MB(1)), *q;

	CHECK(p != (void *)-1);
	scope_fill(p, MB(1), 13);
	scope_point();
	CHECK(sbrk(0) == p + MB(1));
	q = sbrk(MB(1));
	CHECK(q == p + MB(1) && scope_is_zero(q, MB(1)));
	scope_fill(q, MB(1), 14);
	CHECK(scope_is_filled(p, MB(1), 13) && scope_is_filled(q, MB(1), 14));
	CHECK(!brk(p + KB(512)) && sbrk(0) == p + KB(512) && scope_is_filled(p, KB(512), 13));
	CHECK(sbrk(KB(512)) == p + KB(512) && scope_is_zero(p + KB(512), KB(512)));
}

static uint64_t deep(int level)
{
	volatile char room[KB(16)];

	room[0] = room[KB(16) - 1] = (char)level;
	return level ? deep(level - 1) + (uint64_t)room[0] - (uint64_t)room[KB(16) - 1] + 1 : 0;
}

static void run_stack(void)
{
	volatile uint64_t local[KB(8)];

	scope_fill((void *)local, sizeof(local), 15);
	scope_point();
	CHECK_IS(deep(300), 300); /* 4.7 MiB below where the stack ended */
	CHECK(scope_is_filled((void *)local, sizeof(local), 15));
}

/* As many mappings as a large program has, neighbours with different protections. */
static void run_many(void)
{
	enum { N = 3000 };
	char *p = map(N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	for (size_t i = 0; i < N; i++) {
		scope_fill(p + i * PAGE, PAGE, i);
		CHECK(!mprotect(p + i * PAGE, PAGE, i % 3 == 0 ? PROT_READ : i % 3 == 1 ? PROT_NONE : PROT_READ | PROT_WRITE));
	}
	scope_point();
	for (size_t i = N; i-- > 0;) {
		if (i % 3 == 1)
			CHECK(!mprotect(p + i * PAGE, PAGE, PROT_READ));
		CHECK(scope_is_filled(p + i * PAGE, PAGE, i));
	}
}

static int wake[2];

static void *wait_on_stack(void *arg)
{
	char byte;

	return read(wake[0], &byte, 1) == 1 ? arg : NULL;
}

/* Huge pages that hold a thread's stack and data beside it.
 *
 * Bug: the stack's page was written before the memory was registered, the kernel gave a whole huge page of zeros for it, and the
 * data passed for being in. */
static void run_huge(void)
{
	enum { STACK = KB(256) };
	char *p = anon(MB(10)), *huge = (char *)(((uintptr_t)p + MB(2) - 1) & ~(uintptr_t)(MB(2) - 1));
	pthread_attr_t attr;
	pthread_t thread;
	void *got;

	CHECK(!madvise(huge, MB(8), MADV_HUGEPAGE));
	scope_fill(huge, MB(8), 16);
	CHECK(!pipe(wake) && !pthread_attr_init(&attr) && !pthread_attr_setstack(&attr, huge + MB(5), STACK));
	CHECK(!pthread_create(&thread, &attr, wait_on_stack, huge));
	usleep(100000); /* it waits by then, mostly; anywhere else is as good */
	scope_point();
	CHECK(write(wake[1], "g", 1) == 1 && !pthread_join(thread, &got) && got == huge);
	CHECK(scope_is_filled(huge, MB(5), 16));
	CHECK(scope_is_filled(huge + MB(5) + STACK, MB(3) - STACK, 16));
}

const struct scope_item scope_memory[] = {
	{ "anon", run_anon },
	{ "private-file", run_private_file },
	{ "zero-page", run_zero_page },
	{ "private-above-shared", run_private_above_shared },
	{ "shared", run_shared },
	{ "shared-unseen", run_shared_unseen },
	{ "shared-none", run_shared_none },
	{ "shared-guard", run_shared_guard },
	{ "protections", run_protections },
	{ "guard-regions", run_guard_regions },
	{ "advice", run_advice },
	{ "droppable", run_droppable },
	{ "locked", run_locked },
	{ "all-locked", run_all_locked },
	{ "heap", run_heap },
	{ "stack", run_stack },
	{ "many-mappings", run_many },
	{ "huge", run_huge },
	{ 0 },
};
