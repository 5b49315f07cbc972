// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/stale_fork.c - a UFFDIO_COPY in flight while the process forks.
 *
 * The child has the pages that were present in its parent at the time. When the copy and the fork exclude each other, the parent has no
 * page of that copy that its child lacks: the copy is all before, or answers EAGAIN and is repeated for both. A copy that has dropped its
 * locks to wait for a source page goes on in the parent alone, and its success says nothing about the child. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static const char *const sources[] = { "resident", "cold", "slow" };
	static const char *const rules[] = { "none", "gate", "number" };
	unsigned long rounds = 0, bad_rounds = 0, lacking = 0, full = 0;
	atomic_ulong *childs;
	char *r, *s;
	int uffd;

	hole.pages = 1024;
	hole.seconds = 5;
	hole.source = HOLE_SLOW;
	hole_options(argc, argv, "Counts the pages that a copy in flight gives the parent after the child was made.", "rpsu");
	uffd = hole_uffd(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMOVE |
			 (hole.rule == HOLE_NUMBER ? HOLE_FEATURE_EVENT_SEQ : 0));
	s = hole_source_make();
	childs = mmap(NULL, hole.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r = hole_map(hole.pages * hole.page, false);
	if (childs == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	hole_register(uffd, r, hole.pages * hole.page);
	hole_monitor_start(uffd);
	for (; !hole_over(rounds); rounds++) {
		unsigned long ours;
		int status;
		pid_t pid;

		if (madvise(r, hole.pages * hole.page, MADV_DONTNEED))
			HOLE_DIE("madvise: %s", strerror(errno));
		hole_source_reset(s);
		hole_copy_start(r, s);
		pid = fork();
		if (!pid) {
			atomic_store(childs, hole_count_present(r, hole.pages));
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			HOLE_DIE("the child: %s", pid < 0 ? strerror(errno) : "it did not end well");
		hole_source_release();
		full += hole_copy_wait(NULL) == 0;
		ours = hole_count_present(r, hole.pages);
		if (ours < atomic_load(childs))
			HOLE_DIE("the child has %lu pages, its parent %lu", atomic_load(childs), ours);
		lacking += ours - atomic_load(childs);
		bad_rounds += ours != atomic_load(childs);
	}
	hole_monitor_stop();
	hole_text("source", sources[hole.source]);
	hole_text("rule", rules[hole.rule]);
	hole_count("pages", hole.pages);
	hole_count("copies_complete", full);
	return hole_report(rounds, bad_rounds, "pages_after_fork", lacking);
}
