// SPDX-License-Identifier: LGPL-2.1-or-later
/* subject.c - the process whose memory is brought in: it touches pages when told and clocks each that was missing */
#include "config.h"
#include "bench.h"
#include "thaw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum order { NONE, FAULT, DROP, VERIFY, WARM };

struct subject_page {
	uint32_t order;  /* futex: set by the bench, NONE again when it is done */
	uint32_t n, seed;
	int32_t cpu;     /* to run on; -1: any */
	int32_t uffd;    /* -1: not open yet */
	uint64_t base;
	uint32_t count;  /* of latencies */
	uint64_t wrong;  /* page + 1 */
	char error[256];
	uint32_t latency[MOST_FAULTS]; /* nanoseconds */
};

static void futex_wait(uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* ---- in the subject -------------------------------------------------------------------------------------- */

static long faults_so_far(void)
{
	struct rusage r;

	getrusage(RUSAGE_THREAD, &r);
	return r.ru_minflt + r.ru_majflt;
}

static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0) {
		memset(&set, 0xff, sizeof(set));
	} else {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	sched_setaffinity(0, sizeof(set), &set);
}

/* Visits all pages in a scattered order (an odd step through a power of two), until n were missing. */
static void fault(struct subject_page *p, size_t pages)
{
	uint64_t mask = 1, at = p->seed * 2654435761u, step = (p->seed * 40503u | 1) * 77777u | 1, i;
	long before, after;

	while (mask < pages)
		mask <<= 1;
	mask--;
	pin(p->cpu);
	p->count = 0;
	before = faults_so_far();
	for (i = 0; i <= mask && p->count < p->n; i++) {
		uint64_t page, t;

		at += step;
		page = at & mask;
		if (page >= pages)
			continue;
		t = now_ns();
		if (*(volatile uint64_t *)(p->base + page * PG) != page_word(page) && !p->wrong)
			p->wrong = page + 1;
		t = now_ns() - t;
		after = faults_so_far();
		if (after == before)
			continue; /* it was there */
		before = after;
		p->latency[p->count++] = t;
	}
	pin(-1);
}

static void verify(struct subject_page *p, size_t pages)
{
	uint64_t page, i;

	for (page = 0; page < pages; page++) {
		const volatile uint64_t *w = (const uint64_t *)(p->base + page * PG);

		for (i = 0; i < PG / sizeof(*w); i++)
			if (w[i] != page_word(page) + i && !p->wrong)
				p->wrong = page + 1;
	}
}

/* All of it is there for a moment, so that the pages that are free next are ones that the host has given us. */
static void warm(char *base, size_t size)
{
	for (size_t at = 0; at < size; at += PG)
		*(volatile char *)(base + at) = 1;
	madvise(base, size, MADV_DONTNEED);
}

static int bare_uffd(struct subject_page *p, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { p->base, size }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg)) {
		snprintf(p->error, sizeof(p->error), "userfaultfd: %s", strerror(errno));
		return -2;
	}
	return fd;
}

static int library_uffd(struct subject_page *p)
{
	int fd = thaw_uffd_open();

	if (fd >= 0)
		return fd;
	snprintf(p->error, sizeof(p->error), "%s", thaw_get_error());
	return -2;
}

static void subject(struct subject_page *p, size_t size, bool events)
{
	char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	madvise(base, size, MADV_NOHUGEPAGE);
	p->base = (uintptr_t)base;
	fd = events ? library_uffd(p) : bare_uffd(p, size);
	__atomic_store_n(&p->uffd, fd, __ATOMIC_RELEASE);
	futex_wake((uint32_t *)&p->uffd);
	if (fd < 0)
		_exit(1);
	for (;;) {
		uint32_t order = __atomic_load_n(&p->order, __ATOMIC_ACQUIRE);

		if (order == NONE) {
			futex_wait(&p->order, NONE);
			continue;
		}
		if (order == FAULT)
			fault(p, size / PG);
		else if (order == VERIFY)
			verify(p, size / PG);
		else if (order == WARM)
			warm(base, size);
		else
			madvise(base, size, MADV_DONTNEED);
		__atomic_store_n(&p->order, NONE, __ATOMIC_RELEASE);
		futex_wake(&p->order);
	}
}

/* ---- in the bench ---------------------------------------------------------------------------------------- */

void subject_start(struct subject *s, const struct bench *b, bool events)
{
	int pidfd, fd;

	s->page =
		mmap(NULL, sizeof(*s->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s->page == MAP_FAILED)
		die("no memory");
	s->page->uffd = -1;
	s->pid = fork();
	if (s->pid < 0)
		die("fork: %s", strerror(errno));
	if (s->pid == 0)
		subject(s->page, b->size, events);
	while ((fd = __atomic_load_n(&s->page->uffd, __ATOMIC_ACQUIRE)) == -1)
		futex_wait((uint32_t *)&s->page->uffd, -1);
	if (fd < 0)
		die("%s", s->page->error);
	pidfd = syscall(SYS_pidfd_open, s->pid, 0);
	s->uffd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (s->uffd < 0)
		die("pidfd_getfd: %s", strerror(errno));
	close(pidfd);
	s->base = s->page->base;
}

void subject_stop(struct subject *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	munmap(s->page, sizeof(*s->page));
	if (s->uffd >= 0)
		close(s->uffd);
}

static void give(struct subject *s, enum order order)
{
	__atomic_store_n(&s->page->order, order, __ATOMIC_RELEASE);
	futex_wake(&s->page->order);
}

void subject_fault(struct subject *s, unsigned n, unsigned seed, int cpu)
{
	s->page->n = n < MOST_FAULTS ? n : MOST_FAULTS;
	s->page->seed = seed;
	s->page->cpu = cpu;
	give(s, FAULT);
}

bool subject_busy(const struct subject *s)
{
	return __atomic_load_n(&s->page->order, __ATOMIC_ACQUIRE) != NONE;
}

unsigned subject_wait(struct subject *s)
{
	uint32_t order;

	while ((order = __atomic_load_n(&s->page->order, __ATOMIC_ACQUIRE)) != NONE)
		futex_wait(&s->page->order, order);
	if (s->page->wrong)
		die("page %llu of the subject does not hold its content", (unsigned long long)s->page->wrong - 1);
	return s->page->count;
}

void subject_drop(struct subject *s)
{
	give(s, DROP);
	subject_wait(s);
}

void subject_warm(struct subject *s)
{
	give(s, WARM);
	subject_wait(s);
}

void subject_verify(struct subject *s, const struct bench *b)
{
	give(s, VERIFY);
	subject_wait(s);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

double subject_latency(struct subject *s, double p)
{
	uint32_t n = s->page->count;

	if (!n)
		return 0;
	qsort(s->page->latency, n, sizeof(s->page->latency[0]), compare);
	return s->page->latency[(uint32_t)((n - 1) * p)] / 1e3;
}
