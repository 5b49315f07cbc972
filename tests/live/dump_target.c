// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/dump_target.c - a program that would notice: it sleeps, waits, computes and is signalled in every way, and
 * checks all of it. SIGTERM ends it with 0; whatever is odd ends it at once with 1 and a line. Its name (comm) is
 * "busy" once it is up; SIGUSR1 makes it name itself "alive-N". */
#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <linux/futex.h>
#include <time.h>
#include <unistd.h>

#define ODD(...) (fprintf(stderr, "target: " __VA_ARGS__), fputc('\n', stderr), _exit(1))
#define MEMORY_PAGES 8192

static atomic_uint beats[16]; /* of each thread */
static atomic_uint pongs;
static int pipe_fd[2];
static uint64_t *mem;

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *naps(void *arg)
{
	unsigned *me = arg;

	for (;; atomic_fetch_add(&beats[*me], 1)) {
		struct timespec want = { 0, 30000000 };
		int64_t t0 = now_us();

		if (syscall(SYS_nanosleep, &want, NULL))
			ODD("nanosleep: errno %d", errno);
		if (now_us() - t0 < 30000)
			ODD("nanosleep was %lld us too short", (long long)(30000 - (now_us() - t0)));
	}
	return NULL;
}

static void *polls(void *arg)
{
	unsigned *me = arg;

	for (;; atomic_fetch_add(&beats[*me], 1)) {
		int64_t t0 = now_us();
		int r = poll(NULL, 0, 20);

		if (r)
			ODD("poll: %d errno %d", r, errno);
		if (now_us() - t0 < 19900)
			ODD("poll was too short: %lld us", (long long)(now_us() - t0));
	}
	return NULL;
}

static void *epolls(void *arg)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev;
	unsigned *me = arg;

	for (;; atomic_fetch_add(&beats[*me], 1)) {
		int64_t t0 = now_us();
		int r = epoll_wait(ep, &ev, 1, 25);

		if (r)
			ODD("epoll_wait: %d errno %d", r, errno);
		if (now_us() - t0 < 24000)
			ODD("epoll_wait was too short: %lld us", (long long)(now_us() - t0));
	}
	return NULL;
}

static void *futexes(void *arg)
{
	unsigned *me = arg;
	uint32_t word = 7;

	for (;; atomic_fetch_add(&beats[*me], 1)) {
		struct timespec want = { 0, 15000000 };
		int64_t t0 = now_us();
		long r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &want, NULL, 0);

		if (r != -1 || errno != ETIMEDOUT)
			ODD("futex: %ld errno %d", r, errno);
		if (now_us() - t0 < 15000)
			ODD("futex was too short");
	}
	return NULL;
}

static void *waits(void *arg)
{
	unsigned *me = arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	for (;; atomic_fetch_add(&beats[*me], 1)) {
		struct timespec want = { 0, 10000000 };
		int r = sigtimedwait(&set, NULL, &want);

		if (r != -1 || errno != EAGAIN)
			ODD("sigtimedwait: %d errno %d", r, errno);
	}
	return NULL;
}

static void *writes(void *arg)
{
	unsigned *me = arg;
	uint32_t n;

	for (n = 0;; n++) {
		if (write(pipe_fd[1], &n, sizeof(n)) != (ssize_t)sizeof(n))
			ODD("write to a pipe: errno %d", errno);
		usleep(3000);
		atomic_fetch_add(&beats[*me], 1);
	}
	return NULL;
}

static void *reads(void *arg)
{
	unsigned *me = arg;
	uint32_t n, got;

	for (n = 0;; n++) {
		if (read(pipe_fd[0], &got, sizeof(got)) != (ssize_t)sizeof(got))
			ODD("read from a pipe: errno %d", errno);
		if (got != n)
			ODD("read %u in place of %u", got, n);
		atomic_fetch_add(&beats[*me], 1);
	}
	return NULL;
}

/* Vector registers, flags and the stack's red zone, over a loop that makes no system call. */
static void *computes(void *arg)
{
	static const uint64_t seed[4] = { 0x0123456789abcdefULL, 0xfedcba9876543210ULL, 0x5555aaaa5555aaaaULL, 42 };
	bool avx = __builtin_cpu_supports("avx");
	unsigned *me = arg;
	uint64_t out[4];

	for (;; atomic_fetch_add(&beats[*me], 1)) {
		if (avx)
			__asm__ volatile("vmovdqu (%0), %%ymm3\n vmovdqu (%0), %%ymm14\n movl $300000, %%ecx\n"
					 "1: dec %%ecx\n jnz 1b\n"
					 "vpxor %%xmm0, %%xmm0, %%xmm0\n vmovdqu %%ymm14, (%1)\n vmovdqu %%ymm3, (%1)\n vzeroupper\n"
					 : : "r"(seed), "r"(out) : "xmm0", "xmm3", "xmm14", "rcx", "memory", "cc");
		else
			__asm__ volatile("movdqu (%0), %%xmm3\n movdqu 16(%0), %%xmm14\n movl $300000, %%ecx\n"
					 "1: dec %%ecx\n jnz 1b\n movdqu %%xmm3, (%1)\n movdqu %%xmm14, 16(%1)\n"
					 : : "r"(seed), "r"(out) : "xmm3", "xmm14", "rcx", "memory", "cc");
		if (memcmp(seed, out, sizeof(out)))
			ODD("a vector register has changed");
		if (atomic_load(&beats[*me]) % 8 == 0)
			usleep(4000); /* others have work to do too */
	}
	return NULL;
}

static void on_alarm(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (sig != SIGALRM || si->si_signo != SIGALRM)
		ODD("a wrong signal: %d", sig);
	atomic_fetch_add(&beats[14], 1);
}

/* Signals every few milliseconds, on an alternate stack, while memory is written and checked. */
static void *is_signalled(void *arg)
{
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 }, now;
	struct sigaction sa = { .sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	struct itimerval it = { { 0, 7000 }, { 0, 7000 } };
	unsigned *me = arg, at = 0, round = 0;
	sigset_t set;

	sigaltstack(&ss, NULL);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	for (;; at++) {
		uint64_t *page = mem + (size_t)(at % MEMORY_PAGES) * 512;

		if (at % MEMORY_PAGES == 0)
			round++;
		if (round > 1 && page[17] != ((uint64_t)(round - 1) << 32 | at % MEMORY_PAGES))
			ODD("page %u holds %llx", at % MEMORY_PAGES, (unsigned long long)page[17]);
		page[17] = (uint64_t)round << 32 | at % MEMORY_PAGES;
		if (at % 256)
			continue;
		sigaltstack(NULL, &now);
		if (now.ss_sp != ss.ss_sp || now.ss_size != ss.ss_size || now.ss_flags & SS_ONSTACK)
			ODD("the alternate stack has changed");
		usleep(1000);
		atomic_fetch_add(&beats[*me], 1);
	}
	return NULL;
}

static void on_user(int sig)
{
	char name[16];

	(void)sig;
	snprintf(name, sizeof(name), "alive-%u", atomic_fetch_add(&pongs, 1) + 1);
	prctl(PR_SET_NAME, name);
}

static void on_term(int sig)
{
	(void)sig;
	_exit(0);
}

int main(void)
{
	static void *(*const body[])(void *) = { naps, polls, epolls, futexes, waits, writes, reads, computes, is_signalled };
	static unsigned index[sizeof(body) / sizeof(body[0])];
	size_t i, n = sizeof(body) / sizeof(body[0]);
	unsigned before[16] = { 0 };
	sigset_t all, main_set;
	pthread_t t;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mem = mmap(NULL, MEMORY_PAGES * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pipe(pipe_fd) || mem == MAP_FAILED)
		ODD("pipe or memory");
	memset(mem, 1, MEMORY_PAGES * 4096UL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (i = 0; i < n; i++) {
		index[i] = (unsigned)i;
		if (pthread_create(&t, NULL, body[i], &index[i]))
			ODD("pthread_create");
	}
	signal(SIGUSR1, on_user);
	signal(SIGTERM, on_term);
	sigemptyset(&main_set);
	sigaddset(&main_set, SIGALRM);
	sigaddset(&main_set, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &main_set, NULL);
	prctl(PR_SET_NAME, "busy");
	for (;;) { /* nobody may stand still */
		int64_t until = now_us() + 8000000;

		while (now_us() < until)
			usleep(100000);
		for (i = 0; i < 16; i++) {
			unsigned b = atomic_load(&beats[i]);

			if ((i < n || i == 14) && b == before[i])
				ODD("thread %zu stands still", i);
			before[i] = b;
		}
	}
}
