// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/peers/subject.c - what another program dumps and restores: fills its memory with a pattern, waits, and then checks
 * every byte of it while it forks, moves, discards and splits it: subject MODE DIR MIB
 *
 *	calm      one process that only reads; CRIU's own daemon can be at a loss with the others
 *	single    one process
 *	threads   four threads that check while a fifth changes the mappings beside them
 *	tree      processes with memory of their own, children of theirs, and one that is a zombie when it is dumped
 *
 * It says DIR/ready when it is to be dumped, and goes on when DIR/go is there. The last line of its output is "ok" or what it
 * found. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define HOME 0x300000000000UL
#define AWAY 0x310000000000UL

#define DIE(...) (printf(__VA_ARGS__), printf(" (process %d)\n", getpid()), fflush(stdout), _exit(1))

static const char *dir;
static uint64_t pages, kept[8]; /* kept: beside the memory, what it has to be */

/* Every eighth page is never touched and every 16th holds nothing but zeros; the others are words of (seed, page, word). */
static uint64_t word(uint64_t seed, uint64_t page, uint64_t w)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15UL + page * 0xd1342543de82ef95UL + w * 0x2545f4914f6cdd1dUL;

	if (page % 8 == 3 || page % 16 == 7)
		return 0;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9UL;
	return x ^ x >> 32;
}

static void fill(uint64_t base, uint64_t seed)
{
	uint64_t p, w, *at;

	for (p = 0; p < pages; p++) {
		if (p % 8 == 3)
			continue;
		at = (uint64_t *)(base + p * PAGE);
		for (w = 0; w < PAGE / 8; w++)
			at[w] = word(seed, p, w);
	}
}

static void check_page(uint64_t base, uint64_t p, uint64_t seed)
{
	const volatile uint64_t *at = (uint64_t *)(base + p * PAGE);

	for (uint64_t w = 0; w < PAGE / 8; w++)
		if (at[w] != word(seed, p, w))
			DIE("wrong: page %lu of seed %lu at %p, word %lu: %016lx instead of %016lx", p, seed, (void *)at, w, at[w],
			    word(seed, p, w));
}

/* In an order that no read-ahead expects: a step that has no factor in common with the number of pages. */
static void check(uint64_t base, uint64_t from, uint64_t n, uint64_t seed)
{
	uint64_t step = 7919, i, p = 0;

	while (n % step == 0)
		step += 2;
	for (i = 0; i < n; i++, p = (p + step) % n)
		check_page(base, from + p, seed);
}

static void map(uint64_t base)
{
	if (mmap((void *)base, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
	    (void *)base)
		DIE("mmap: %s", strerror(errno));
	madvise((void *)base, pages * PAGE, MADV_NOHUGEPAGE);
}

static void say_ready(void)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/ready.new", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	close(fd);
	char to[4096];

	snprintf(to, sizeof(to), "%s/ready", dir);
	if (fd < 0 || rename(path, to))
		DIE("%s: %s", to, strerror(errno));
}

static void await_go(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/go", dir);
	while (access(path, F_OK))
		usleep(10000);
}

static void reap(pid_t pid, int want)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		DIE("waitpid %d: %s", pid, strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
		DIE("child %d ended with %#x instead of %d", pid, status, want);
}

/* ---- one process --------------------------------------------------------------------------------------------------- */
/* A child has all of its parent's memory, whatever the parent does to it meanwhile. */
static void forked(uint64_t base, uint64_t seed)
{
	pid_t pid = fork();

	if (pid < 0)
		DIE("fork: %s", strerror(errno));
	if (pid == 0) {
		check(base, pages / 2, pages / 2, seed);
		_exit(0);
	}
	madvise((void *)(base + (pages - 64) * PAGE), 64 * PAGE, MADV_DONTNEED);
	for (uint64_t p = pages - 64; p < pages; p++)
		for (uint64_t w = 0; w < PAGE / 8; w++)
			if (((volatile uint64_t *)(base + p * PAGE))[w])
				DIE("page %lu is not zero after MADV_DONTNEED", p);
	reap(pid, 0);
}

static void moved(uint64_t base, uint64_t seed)
{
	uint64_t n = pages / 8, to = AWAY + (base - HOME);

	if (mremap((void *)base, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) != (void *)to)
		DIE("mremap: %s", strerror(errno));
	check(to, 0, n, seed);
	if (mremap((void *)to, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)base) != (void *)base)
		DIE("mremap back: %s", strerror(errno));
}

/* Protection that changes every other page splits the mapping, and nobody is told. */
static void split(uint64_t base, uint64_t seed)
{
	uint64_t from = pages / 4, n = pages / 8, p;

	for (p = from; p < from + n; p += 2)
		if (mprotect((void *)(base + p * PAGE), PAGE, PROT_READ))
			DIE("mprotect: %s", strerror(errno));
	check(base, from, n, seed);
	if (mprotect((void *)(base + from * PAGE), n * PAGE, PROT_READ | PROT_WRITE))
		DIE("mprotect: %s", strerror(errno));
}

static void one(uint64_t base, uint64_t seed)
{
	char by_kernel[PAGE];
	int fds[2];

	if (kept[0] != seed)
		DIE("a variable is %lu instead of %lu", kept[0], seed);
	/* the kernel's own access to a page that may be missing */
	if (pipe(fds) || write(fds[1], (void *)(base + 9 * PAGE), PAGE) != (ssize_t)PAGE ||
	    read(fds[0], by_kernel, PAGE) != (ssize_t)PAGE)
		DIE("pipe: %s", strerror(errno));
	for (uint64_t w = 0; w < PAGE / 8; w++)
		if (((uint64_t *)by_kernel)[w] != word(seed, 9, w))
			DIE("the kernel read something else");
	moved(base, seed);
	split(base, seed);
	forked(base, seed);
	check(base, 0, pages - 64, seed);
}

static void calm(void)
{
	map(HOME);
	fill(HOME, kept[0] = 1);
	say_ready();
	await_go();
	check(HOME, 0, pages, 1);
}

static void single(void)
{
	map(HOME);
	fill(HOME, kept[0] = 1);
	say_ready();
	await_go();
	one(HOME, 1);
}

/* ---- threads ------------------------------------------------------------------------------------------------------- */
static _Atomic int going, checked;

static void *checker(void *arg)
{
	uint64_t quarter = pages / 4, t = (uint64_t)arg;

	while (!going)
		usleep(5000);
	check(HOME, t * quarter, quarter, 2);
	checked++;
	return NULL;
}

static void *changer(void *arg)
{
	uint64_t spare = HOME + 2 * pages * PAGE;

	while (!going)
		usleep(5000);
	while (checked < 4) {
		if (mmap((void *)spare, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    (void *)spare)
			DIE("mmap: %s", strerror(errno));
		memset((void *)spare, 1, 64 * PAGE);
		madvise((void *)spare, 32 * PAGE, MADV_DONTNEED);
		if (*(volatile char *)spare || *(volatile char *)(spare + 40 * PAGE) != 1)
			DIE("MADV_DONTNEED of the thread's own memory");
		munmap((void *)spare, 64 * PAGE);
		usleep(1000);
	}
	return arg;
}

static void threads(void)
{
	pthread_t t[5];

	map(HOME);
	fill(HOME, kept[0] = 2);
	for (uint64_t i = 0; i < 5; i++)
		if (pthread_create(&t[i], NULL, i < 4 ? checker : changer, (void *)i))
			DIE("pthread_create");
	say_ready();
	await_go();
	going = 1;
	for (int i = 0; i < 5; i++)
		pthread_join(t[i], NULL);
	one(HOME, 2);
}

/* ---- a tree -------------------------------------------------------------------------------------------------------- */
static _Atomic int *up;

static void leaf(uint64_t seed)
{
	map(HOME + seed * 0x1000000000UL);
	fill(HOME + seed * 0x1000000000UL, kept[0] = seed);
	(*up)++;
	await_go();
	one(HOME + seed * 0x1000000000UL, seed);
	check(HOME, 0, pages, 3); /* inherited */
	_exit(20 + (int)seed);
}

static void tree(void)
{
	pid_t dead, child[2];

	map(HOME);
	fill(HOME, kept[0] = 3);
	up = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dead = fork();
	if (dead == 0)
		_exit(7);
	siginfo_t si;

	waitid(P_PID, (id_t)dead, &si, WEXITED | WNOWAIT);
	for (uint64_t i = 0; i < 2; i++) {
		child[i] = fork();
		if (child[i] == 0) {
			pid_t grandchild = fork();

			if (grandchild == 0)
				leaf(10 + i);
			map(HOME + (4 + i) * 0x1000000000UL);
			fill(HOME + (4 + i) * 0x1000000000UL, kept[0] = 4 + i);
			(*up)++;
			await_go();
			one(HOME + (4 + i) * 0x1000000000UL, 4 + i);
			check(HOME, 0, pages, 3);
			reap(grandchild, 30 + (int)i);
			_exit(20 + (int)i);
		}
	}
	while (*up < 4)
		usleep(1000);
	say_ready();
	await_go();
	one(HOME, 3);
	reap(dead, 7);
	reap(child[0], 20);
	reap(child[1], 21);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	dir = argv[2];
	pages = strtoul(argv[3], NULL, 10) * 256;
	if (!strcmp(argv[1], "calm"))
		calm();
	else if (!strcmp(argv[1], "single"))
		single();
	else if (!strcmp(argv[1], "threads"))
		threads();
	else if (!strcmp(argv[1], "tree"))
		tree();
	else
		return 2;
	puts("ok");
	return 0;
}
