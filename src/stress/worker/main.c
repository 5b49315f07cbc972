// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/main.c - makes the memory that is to be restored, hands its userfaultfd over, and lets the tracks loose in it */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW /* Linux 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define BRK_PAGES 64

static struct stress_shared *s;
static unsigned process;
static __thread struct stress_task *self;

/* ---- memory ------------------------------------------------------------------------------------------------------ */
static void reserve(uint64_t addr, uint64_t len)
{
	if (mmap((void *)(uintptr_t)addr, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0) != (void *)(uintptr_t)addr)
		thaw_stress_trouble(s, "cannot map %llu bytes at %#llx: %s", (unsigned long long)len, (unsigned long long)addr,
				    strerror(errno));
	if (s->variety % 2)
		madvise((void *)(uintptr_t)addr, len, MADV_NOHUGEPAGE);
}

static uint64_t base_of(unsigned arena)
{
	return arena == STRESS_BRK ? atomic_load(&s->brk[process]) : s->base + arena * s->stride;
}

static void map_ranges(int uffd)
{
	for (uint32_t i = 0; i < s->n_ranges; i++) {
		const struct stress_range *g = &s->ranges[i];
		uint64_t addr = base_of(g->arena) + g->page * STRESS_PAGE, len = g->pages * STRESS_PAGE;
		struct uffdio_register u = { .range = { addr, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };

		if (g->process != process)
			continue;
		if (g->arena != STRESS_BRK)
			reserve(addr, len);
		if (g->flags & 1 && madvise((void *)(uintptr_t)addr, len, MADV_WIPEONFORK))
			thaw_stress_trouble(s, "MADV_WIPEONFORK: %s", strerror(errno));
		if (g->flags & 2 && madvise((void *)(uintptr_t)addr, len, MADV_DONTFORK))
			thaw_stress_trouble(s, "MADV_DONTFORK: %s", strerror(errno));
		if (!s->by_library && ioctl(uffd, UFFDIO_REGISTER, &u))
			thaw_stress_trouble(s, "UFFDIO_REGISTER of %llu bytes at %#llx: %s", (unsigned long long)len,
					    (unsigned long long)addr, strerror(errno));
	}
}

/* The break's own memory, from a page on; the C library keeps away from it (mallopt). */
static void make_brk(void)
{
	uint64_t now = syscall(SYS_brk, 0), from = (now + STRESS_PAGE - 1) & ~(STRESS_PAGE - 1);

	if ((uint64_t)syscall(SYS_brk, from + BRK_PAGES * STRESS_PAGE) != from + BRK_PAGES * STRESS_PAGE)
		thaw_stress_trouble(s, "brk: %s", strerror(errno));
	atomic_store(&s->brk[process], from);
}

/* ---- the userfaultfd ----------------------------------------------------------------------------------------------- */
static int open_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
			    (s->numbers ? UFFD_FEATURE_EVENT_SEQ : 0),
	};
	int node = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;

	if (node >= 0) {
		fd = ioctl(node, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(node);
	}
	if (fd < 0)
		fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		thaw_stress_trouble(s, "userfaultfd: %s", strerror(errno));
	return fd;
}

static void hand_over(int fd)
{
	char byte = 'u', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(STRESS_SOCKET_FD, &msg, MSG_NOSIGNAL) != 1)
		_exit(3); /* the program is gone */
	close(fd); /* the library ends by closing it: nobody else may hold it open */
}

/* ---- threads ------------------------------------------------------------------------------------------------------- */
/* Memory that is there, and cannot be had. */
static void caught(int sig, siginfo_t *si, void *context)
{
	struct stress_task *t = self;

	if (!t)
		thaw_stress_failure(s, "signal %d at %p outside of any track", sig, si->si_addr);
	thaw_stress_violation(t, STRESS_FAILED_CALL, (uintptr_t)si->si_addr, "memory", sig == SIGBUS ? "SIGBUS" : "SIGSEGV",
			      "an access failed");
}

static void *thread(void *arg)
{
	struct stress_task *t = arg;

	self = t;
	thaw_stress_enter_track(t, t->number);
	thaw_stress_run(t);
	if (!atomic_load(&s->stop))
		thaw_stress_final(t, s->look);
	thaw_stress_reap(t, 0);
	atomic_store(&t->track->state, STRESS_ENDED);
	return NULL;
}

static void big_new(struct stress_task *t)
{
	struct stress_big *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (b == MAP_FAILED)
		thaw_stress_trouble(s, "no memory");
	b->base = base_of(STRESS_BIG);
	b->other = b->base + 2 * STRESS_BIG_PAGES * STRESS_PAGE;
	for (unsigned i = 0; i < STRESS_BIG_SPOTS; i++)
		b->spot[i].holds = STRESS_ZERO;
	for (uint32_t i = 0; i < s->n_runs; i++)
		if (s->runs[i].process == process && s->runs[i].arena == STRESS_BIG)
			thaw_stress_set_content(&b->spot[s->runs[i].page / STRESS_BIG_STEP],
						process * s->initial_pages + s->runs[i].first, 0);
	t->big = b;
}

static struct stress_task *make_tasks(void)
{
	struct stress_task *t = mmap(NULL, sizeof(*t) * s->threads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct stress_arena *common = thaw_stress_arena_new(s, process, STRESS_COMMON, base_of(STRESS_COMMON));
	unsigned n = 0;

	if (t == MAP_FAILED)
		thaw_stress_trouble(s, "no memory");
	if (common)
		common->owned = false;
	for (uint32_t i = 0; i < s->n_tracks && n < s->threads; i++) {
		if (s->tracks[i].process != process || s->tracks[i].depth)
			continue;
		t[n].s = s;
		t[n].number = i;
		t[n].track = &s->tracks[i];
		t[n].common = common;
		t[n].arena = thaw_stress_arena_new(s, process, n, base_of(n));
		if (!t[n].arena)
			thaw_stress_trouble(s, "no memory for what is known of thread %u's memory", n);
		n++;
	}
	t[0].brk = thaw_stress_arena_new(s, process, STRESS_BRK, base_of(STRESS_BRK));
	for (uint32_t i = 0; i < s->n_ranges && !t[0].big; i++)
		if (s->ranges[i].process == process && s->ranges[i].arena == STRESS_BIG)
			big_new(&t[0]);
	return t;
}

static void run(struct stress_task *t)
{
	pthread_t id[STRESS_MAX_THREADS];
	unsigned started = 1;

	for (; started < s->threads; started++)
		if (pthread_create(&id[started], NULL, thread, &t[started]))
			thaw_stress_trouble(s, "no thread: %s", strerror(errno));
	thread(&t[0]);
	while (--started)
		pthread_join(id[started], NULL);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO };
	char byte;
	int uffd;

	if (argc == 2 && !strcmp(argv[1], "--end"))
		return 0; /* exec was all that it was about */
	if (argc == 2 && !strcmp(argv[1], "--end-when-told"))
		return read(STRESS_SOCKET_FD, &byte, 1) < 0; /* or when the program is gone */
	if (argc != 3) {
		fprintf(stderr, "thaw-stress-worker: is run by thaw-stress only\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != atoi(argv[2]))
		return 3;
	process = atoi(argv[1]);
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, STRESS_SHARED_FD, 0);
	if (s == MAP_FAILED)
		return 3;
	mallopt(M_MMAP_THRESHOLD, 0); /* the break is not malloc's here */
	mallopt(M_TRIM_THRESHOLD, -1);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	uffd = open_uffd();
	make_brk();
	map_ranges(uffd);
	struct stress_task *tasks = make_tasks();
	hand_over(uffd);
	if (read(STRESS_SOCKET_FD, &byte, 1) != 1)
		return 3;
	run(tasks);
	return atomic_load(&s->stop) != 0;
}
