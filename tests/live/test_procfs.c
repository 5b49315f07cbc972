// SPDX-License-Identifier: LGPL-2.1-or-later
/* test_procfs.c - mappings, flags, pages, ids and children are read as they were made */
#include "config.h"
#include "kern/procfs.h"
#include "support/patience.h"
#include "util/inject.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			failures++; \
		} \
	} while (0)

static int failures;

struct find {
	uint64_t addr;
	struct thaw_vma v;
	char path[4200];
	unsigned seen, total;
};

static int find_vma(void *opaque, const struct thaw_vma *v)
{
	struct find *f = opaque;

	f->total++;
	if (v->start <= f->addr && f->addr < v->end) {
		f->v = *v;
		snprintf(f->path, sizeof(f->path), "%s", v->path);
		f->seen++;
	}
	return 0;
}

static void test_maps(void)
{
	char dir[] = "/tmp/thaw-procfs-XXXXXX", path[128];
	struct find f = { 0 };
	FILE *file;
	char *p;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/a b\nc\\d", dir);
	file = fopen(path, "w+");
	CHECK(file && !ftruncate(fileno(file), 65536));
	p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fileno(file), 16384);
	f.addr = (uintptr_t)p;
	CHECK(thaw_procfs_maps(getpid(), find_vma, &f) == 0);
	CHECK(f.seen == 1 && f.total > 5);
	CHECK(f.v.start == (uintptr_t)p && f.v.end == (uintptr_t)p + 8192 && f.v.off == 16384);
	CHECK(f.v.shared && f.v.prot == PROT_READ && f.v.ino);
	CHECK(!strcmp(f.path, path));
	munmap(p, 8192);
	fclose(file);
	unlink(path);
	rmdir(dir);
	CHECK(thaw_procfs_maps(0x3ffffff, find_vma, &f) == -ESRCH);
}

static void test_flags(void)
{
	char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct find f = { .addr = (uintptr_t)p };

	madvise(p, 65536, MADV_WIPEONFORK);
	madvise(p, 65536, MADV_DONTDUMP);
	madvise(p, 65536, MADV_NOHUGEPAGE);
	memset(p, 1, 16384);
	CHECK(thaw_procfs_smaps(getpid(), find_vma, &f) == 0);
	CHECK(f.seen == 1);
	CHECK(f.v.flags & THAW_VM_WIPEONFORK && f.v.flags & THAW_VM_DONTDUMP && f.v.flags & THAW_VM_NORESERVE);
	CHECK(!(f.v.flags & (THAW_VM_DONTCOPY | THAW_VM_LOCKED | THAW_VM_UFFD_MISSING | THAW_VM_HUGEPAGE)));
	CHECK(f.v.anon_kb == 16 && f.v.swap_kb == 0 && !f.v.shared);
	munmap(p, 65536);
}

static int collect(void *opaque, uint64_t start, uint64_t end)
{
	char *at = (char *)opaque + strlen(opaque);

	sprintf(at, "%llu-%llu ", (unsigned long long)start >> 12 & 0xfffff, (unsigned long long)end >> 12 & 0xfffff);
	return 0;
}

typedef int pages_fn(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque);

enum { SCAN, WORDS, SCAN_WITHOUT_GUARD }; /* how pages are found: the last as in a kernel that tells guard pages by word only */

static void check_runs(pages_fn *own, int how, const char *base, size_t len, const char *want)
{
	struct thaw_pagemap_file *f;
	char got[512] = "", expect[512] = "";
	unsigned a, b;
	int used;

#ifdef THAW_DEBUG
	if (how == SCAN_WITHOUT_GUARD) /* elsewhere it is the first once more */
		CHECK(thaw_inject_arm("pagemap.scan:ENOTTY:2") == 0);
#endif
	CHECK(thaw_procfs_pagemap_open(getpid(), &f) == 0);
	if (how == WORDS)
		thaw_procfs_pagemap_no_scan(f);
	for (; sscanf(want, "%u-%u %n", &a, &b, &used) == 2; want += used)
		collect(expect, (uintptr_t)base + a * 4096, (uintptr_t)base + b * 4096);
	CHECK(own(f, (uintptr_t)base, (uintptr_t)base + len, collect, got) == 0);
	if (strcmp(got, expect)) {
		fprintf(stderr, "pages (%s, found in way %d): got %s, want %s\n",
			own == thaw_procfs_own_pages ? "own" : "changed or guard", how, got, expect);
		failures++;
	}
	thaw_procfs_pagemap_close(f);
#ifdef THAW_DEBUG
	if (how == SCAN_WITHOUT_GUARD)
		CHECK(thaw_inject_arm(NULL) == 0);
#endif
}

/* Some guests' kernels are told to do without the zero page: then a page that was only read is one of the process's own. */
static bool reads_zero_page(void)
{
	char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct find f = { .addr = (uintptr_t)p };

	madvise(p, 65536, MADV_NOHUGEPAGE);
	madvise(p, 65536, MADV_WIPEONFORK); /* a mapping of its own */
	(void)*(volatile char *)p;
	CHECK(thaw_procfs_smaps(getpid(), find_vma, &f) == 0);
	munmap(p, 65536);
	return f.v.anon_kb == 0;
}

static void test_pages(void)
{
	bool zero = reads_zero_page();
	size_t len = 2000 * 4096;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("x", 0), i;
	char *q, *s;

	madvise(p, len, MADV_NOHUGEPAGE);
	for (i = 3; i < 7; i++)
		p[i * 4096] = 1;
	for (i = 1000; i < 2000; i += 2)
		if (i < 1004)
			p[i * 4096] = 1;
	(void)*(volatile char *)(p + 20 * 4096); /* the zero page */
	for (i = 0; i < 2; i++)
		check_runs(thaw_procfs_own_pages, i, p, len,
			   !zero || (geteuid() && i) ? "3-7 20-21 1000-1001 1002-1003" : "3-7 1000-1001 1002-1003");
	if (!madvise(p + 40 * 4096, 3 * 4096, 102 /* MADV_GUARD_INSTALL, Linux 6.13 */)) {
		for (i = 0; i < 3; i++) {
			check_runs(thaw_procfs_guard_pages, i, p, len, "40-43");
			check_runs(thaw_procfs_changed_pages, i, p, len, "3-7 20-21 1000-1001 1002-1003");
		}
	}
	for (i = 0; i < 2; i++)
		check_runs(thaw_procfs_changed_pages, i, p, len, "3-7 20-21 1000-1001 1002-1003");
	CHECK(!ftruncate(fd, 64 * 4096));
	q = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	s = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	s[0] = s[4096] = s[8192] = 1;
	q[4096] = 2;
	(void)*(volatile char *)q;
	for (i = 0; i < 2; i++) {
		check_runs(thaw_procfs_own_pages, i, q, 64 * 4096, "1-2");
		check_runs(thaw_procfs_changed_pages, i, q, 64 * 4096, "1-2");
		check_runs(thaw_procfs_own_pages, i, s, 64 * 4096, "");
	}
	munmap(p, len);
	munmap(q, 64 * 4096);
	munmap(s, 64 * 4096);
	close(fd);
}

/* A frame that was seen while the zero page was looked for, and that is a page of the process a moment later. */
static void test_no_zero_page(void)
{
	struct thaw_pagemap_file *f;
	char got[64], want[64];
	char *p;

	for (int i = 0; i < 200; i++) {
		CHECK(thaw_procfs_pagemap_open(getpid(), &f) == 0);
		thaw_procfs_pagemap_no_scan(f);
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		p[0] = 1;
		got[0] = want[0] = '\0';
		collect(want, (uintptr_t)p, (uintptr_t)p + 4096);
		CHECK(thaw_procfs_own_pages(f, (uintptr_t)p, (uintptr_t)p + 4096, collect, got) == 0);
		if (strcmp(got, want))
			fprintf(stderr, "round %d: a page of ours counts as the zero page\n", i);
		failures += strcmp(got, want) != 0;
		munmap(p, 4096);
		thaw_procfs_pagemap_close(f);
	}
}

static int count_pid(void *opaque, pid_t pid)
{
	(*(int *)opaque)++;
	return 0;
}

static int keep_pid(void *opaque, pid_t pid)
{
	pid_t *list = opaque;

	while (*list)
		list++;
	*list = pid;
	return 0;
}

static void *sleeper(void *arg)
{
	pause();
	return NULL;
}

static void test_ids(void)
{
	struct thaw_proc_status s;
	struct thaw_proc_stat st;
	int n = 0, fds[2];
	pid_t list[8] = { 0 };
	pthread_t t;
	sigset_t set;
	pid_t child;
	char c;

	prctl(PR_SET_NAME, "a) b (c");
	umask(027);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR2);
	pthread_create(&t, NULL, sleeper, NULL);
	CHECK(!pipe(fds));
	child = fork();
	if (!child) {
		if (fork() == 0) {
			CHECK(write(fds[1], "x", 1) == 1);
			pause();
		}
		pause();
	}
	CHECK(read(fds[0], &c, 1) == 1);
	CHECK(thaw_procfs_status(getpid(), &s) == 0);
	CHECK(s.pid == getpid() && s.tgid == getpid() && s.ppid == getppid() && s.threads >= 2 && s.umask == 027);
	CHECK(s.uid[1] == geteuid() && s.gid[1] == getegid() && s.ns_depth >= 1 && !s.tracer);
	CHECK(s.n_groups == (unsigned)getgroups(0, NULL));
	CHECK(s.sig_blocked == 1ULL << (SIGUSR2 - 1) && (s.sig_pending | s.shared_pending) == 1ULL << (SIGUSR2 - 1));
	CHECK(thaw_procfs_stat(getpid(), &st) == 0);
	CHECK(!strcmp(st.comm, "a) b (c") && st.ppid == getppid() && st.session == getsid(0) && st.pgrp == getpgrp());
	CHECK(st.env_end >= st.env_start && st.env_start >= st.arg_end && st.start_brk &&
	      st.start_brk <= (uintptr_t)sbrk(0));
	CHECK(thaw_procfs_tasks(getpid(), count_pid, &n) == 0 && n == (int)s.threads);
	n = 0;
	CHECK(thaw_procfs_children(getpid(), count_pid, &n) == 0 && n == 1);
	n = 0;
	CHECK(thaw_procfs_descendants(getpid(), count_pid, &n) == 0 && n == 2);
	CHECK(thaw_procfs_descendants(getpid(), keep_pid, list) == 0 && list[0] == child && list[1]);
	for (n = 0; list[n]; n++)
		kill(list[n], SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

int main(void)
{
	alarm(patience(60));
	test_maps();
	test_flags();
	test_pages();
	test_no_zero_page();
	test_ids();
	return failures ? 1 : 0;
}
