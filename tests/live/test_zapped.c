// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_zapped.c - pages that are in, and that the kernel takes away again without a message: MADV_WIPEONFORK in a child
 * whose parent's mark the library has not seen. The child reads zero, and waits for nothing.
 *
 * Marks are read from the smaps of the processes that were added, soon after a fork. So they go unseen where the parent takes them back
 * at once (not every time), and in the children of children (always). */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 23
#define PAGES 16
#define ROUNDS 64
#define IN(i) (LIVE_BASE + (i) * (1ULL << 20))
#define NEVER IN(ROUNDS + 1) /* stays absent, so that no space is finished with */

static void *at(uint64_t addr)
{
	return (void *)(uintptr_t)addr;
}

static int status_of(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 100;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The restored process takes its mark back as soon as fork() has returned. */
static int taken_back(uint64_t addr)
{
	pid_t pid;

	if (!live_is(addr, PAGES, SEED, 0) || madvise(at(addr), PAGES * LIVE_PAGE, MADV_WIPEONFORK))
		return 1;
	pid = fork();
	if (!pid)
		_exit(live_finds_zero(addr, PAGES) ? 0 : 3);
	if (madvise(at(addr), PAGES * LIVE_PAGE, MADV_KEEPONFORK))
		return 2;
	return status_of(pid) ? 10 : !live_is(addr, PAGES, SEED, 0);
}

/* The mark is a child's, and its child is wiped: where that has moved the pages to, too. */
static int in_grandchild(uint64_t addr, bool moves)
{
	uint64_t to = moves ? addr + (1ULL << 30) : addr;
	pid_t pid = fork();

	if (!pid) {
		if (!live_is(addr, PAGES, SEED, 0) || madvise(at(addr), PAGES * LIVE_PAGE, MADV_WIPEONFORK))
			_exit(1);
		pid = fork();
		if (!pid && moves &&
		    mremap(at(addr), PAGES * LIVE_PAGE, PAGES * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)) == MAP_FAILED)
			_exit(2);
		if (!pid)
			_exit(live_finds_zero(to, PAGES) ? 0 : 3);
		_exit(status_of(pid) ? 10 : !live_is(addr, PAGES, SEED, 0));
	}
	return status_of(pid) ? 20 : !live_is(addr, PAGES, SEED, 0);
}

static int work(void *arg, int sock)
{
	int got = 0;

	for (unsigned i = 0; i < ROUNDS && !got; i++)
		got = i % 2 ? taken_back(IN(i)) : in_grandchild(IN(i), i % 4);
	return got;
}

static void run(const char *what, enum thaw_io io)
{
	struct thaw_range r[ROUNDS + 1];
	struct thaw_memfile_range in_file[ROUNDS + 1];
	struct thaw *h = live_monitor(io, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_source *s;
	struct live l;
	int fd, status;

	for (unsigned i = 0; i <= ROUNDS; i++)
		r[i] = (struct thaw_range){ i < ROUNDS ? IN(i) : NEVER, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	fd = live_file(false, SEED, r, ROUNDS + 1, in_file);
	s = thaw_source_memfile(fd, in_file, ROUNDS + 1);
	live_start(&l, r, ROUNDS + 1, work, NULL);
	live_add(h, &l, s, r, ROUNDS + 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	printf("%s: %d\n", what, status);
	LIVE_CHECK(status == 0);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	thaw_close(h);
	close(fd);
}

int main(void)
{
	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_zapped: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	run("ring", THAW_IO_AUTO);
	run("pool", THAW_IO_POOL);
	return 0;
}
