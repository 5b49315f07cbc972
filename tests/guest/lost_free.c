// SPDX-License-Identifier: LGPL-2.1-or-later
/* guest/lost_free.c - a page that a process loses because its child has freed it: no userfaultfd is needed for it.
 *
 * MADV_FREE in the child marks the page, which the two share, as freed. That the parent has not given it up shows in the dirty bit of the
 * parent's entry alone; and that is clear where the parent got its own copy of the page by a read that had to unshare it first.
 * Such a page is dropped when it is reclaimed, here by MADV_PAGEOUT. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 16

static pid_t child(char *p)
{
	pid_t pid = fork();

	if (pid < 0)
		HOLE_DIE("fork: %s", strerror(errno));
	if (pid)
		return pid;
	if (p)
		madvise(p, PAGES * hole.page, MADV_FREE);
	else
		pause();
	_exit(0);
}

/* How many of PAGES pages that only a child has given up are lost. `into` is room for them. */
static unsigned long lost(char *into)
{
	size_t len = PAGES * hole.page;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec to = { into, len }, from = { p, len };
	unsigned long n = 0;
	pid_t pid;

	if (p == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	memset(p, 7, len);
	pid = child(NULL); /* shares the pages, so that the read has to unshare them */
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)len)
		HOLE_DIE("process_vm_readv: %s", strerror(errno));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	waitpid(child(p), NULL, 0);
	madvise(p, len, MADV_PAGEOUT);
	for (unsigned i = 0; i < PAGES; i++)
		n += p[i * hole.page] != 7;
	munmap(p, len);
	return n;
}

int main(int argc, char **argv)
{
	unsigned long rounds = 0, bad_rounds = 0, all = 0;
	char *into;

	hole_options(argc, argv, "Counts the pages that a process loses because a child has freed them. No userfaultfd is in it.", "r");
	if (!hole.rounds && !(hole.seconds > 0))
		hole.rounds = 20;
	into = hole_map(PAGES * hole.page, false);
	for (; !hole_over(rounds); rounds++) {
		unsigned long n = lost(into);

		all += n;
		bad_rounds += n != 0;
	}
	hole_count("pages", rounds * PAGES);
	return hole_report(rounds, bad_rounds, "lost_pages", all);
}
