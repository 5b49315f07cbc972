// SPDX-License-Identifier: LGPL-2.1-or-later
/* guest/lost_free.c - a page that a process loses because its child has freed it: no userfaultfd is needed for it.
 *
 * MADV_FREE in the child marks the page, which the two share, as freed. That the parent has not given it up shows in the dirty bit of the
 * parent's entry alone; and that is clear where the parent got its own copy of the page by a read that had to unshare it first.
 * Such a page is dropped when it is reclaimed, here by MADV_PAGEOUT. Prints how many pages were lost; 0 whatever the count is. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 16
#define ROUNDS 20
#define BYTES (PAGES * 4096UL)

static void fail(const char *what)
{
	fprintf(stderr, "lost_free: %s: %s\n", what, strerror(errno));
	exit(1);
}

static pid_t child(char *p)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid)
		return pid;
	if (p)
		madvise(p, BYTES, MADV_FREE);
	else
		pause();
	_exit(0);
}

static unsigned lost(void)
{
	static char into[BYTES];
	char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec to = { into, BYTES }, from = { p, BYTES };
	unsigned n = 0;
	pid_t pid;

	if (p == MAP_FAILED)
		fail("mmap");
	memset(p, 7, BYTES);
	pid = child(NULL); /* shares the pages, so that the read has to unshare them */
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)BYTES)
		fail("process_vm_readv");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	waitpid(child(p), NULL, 0);
	madvise(p, BYTES, MADV_PAGEOUT);
	for (unsigned i = 0; i < PAGES; i++)
		n += p[i * 4096UL] != 7;
	munmap(p, BYTES);
	return n;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	if (argc > 1) {
		fprintf(strcmp(argv[1], "--help") ? stderr : stdout,
			"usage: lost_free\nCounts pages that a process loses because a child has freed them.\n");
		return strcmp(argv[1], "--help") ? 2 : 0;
	}
	for (unsigned i = 0; i < ROUNDS; i++)
		n += lost();
	printf("lost_free: %u of %u pages that only a child had given up were lost\n", n, ROUNDS * PAGES);
	return 0;
}
