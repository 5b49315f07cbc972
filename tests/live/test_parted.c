// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_parted.c - a process that forks and is gone, or calls exec, or unmaps or moves what it has marked, before the library has
 * asked it for its marks: what was MADV_WIPEONFORK since its restore is zero in the child, the rest is content.
 *
 * Bugs: the mappings of a process that has ended just end when they are read, and so no marks were seen; nor were those of a mapping that
 * was not there any more. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 31
#define ROUNDS 15
#define PAGES 8
#define WIPED LIVE_BASE
#define KEPT (LIVE_BASE + (1ULL << 24))

enum how { EXIT, EXEC, UNMAP, MOVE, HOWS };
static const char *const names[] = { "exits", "calls exec", "unmaps", "moves" };

/* The end of file comes when the parent's memory is gone: it has the writing end alone, close-on-exec. */
static char child(int sock, const int *gone)
{
	char byte;

	close(gone[1]);
	if (read(gone[0], &byte, 1))
		return '1';
	if (!live_is_zero(WIPED, PAGES))
		return '2';
	return live_is(KEPT, PAGES, SEED, 0) ? '0' : '3';
}

static int work(void *arg, int sock)
{
	int gone[2];
	pid_t pid;
	char said;

	/* As the library was told that it is. */
	if (pipe2(gone, O_CLOEXEC) || madvise((void *)WIPED, PAGES * LIVE_PAGE, MADV_WIPEONFORK))
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, 0); /* it is ended through `sock` if it hangs: its test ends then */
		said = child(sock, gone);
		_exit(write(sock, &said, 1) != 1);
	}
	switch (*(enum how *)arg) {
	case EXEC:
		execl("/bin/sleep", "sleep", "0.05", (char *)NULL);
		break;
	case UNMAP:
		munmap((void *)WIPED, PAGES * LIVE_PAGE);
		break;
	case MOVE: /* and something else comes to its place */
		mremap((void *)WIPED, PAGES * LIVE_PAGE, PAGES * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(WIPED + (1ULL << 25)));
		mmap((void *)WIPED, PAGES * LIVE_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	default:
		_exit(0);
	}
	close(gone[1]);
	waitpid(pid, NULL, 0);
	_exit(0);
}

static void round_of(enum how how)
{
	const struct thaw_range r[] = {
		{ WIPED, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, THAW_RANGE_WIPEONFORK },
		{ KEPT, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
	};
	struct thaw_memfile_range at[2];
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct pollfd p;
	struct thaw_source *s;
	struct live l;
	char said = '-';
	int fd;

	fd = live_file(false, SEED, r, 2, at);
	s = thaw_source_memfile(fd, at, 2);
	live_start(&l, r, 2, work, &how);
	live_add(h, &l, s, r, 2);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	p = (struct pollfd){ .fd = l.sock, .events = POLLIN };
	if (poll(&p, 1, patience(10000)) != 1 || read(l.sock, &said, 1) != 1 || said != '0')
		LIVE_DIE("a parent that %s: the child says %c", names[how], said);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	thaw_close(h);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? atoi(argv[1]) : ROUNDS;

	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_parted: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < rounds; i++)
		for (enum how how = 0; how < HOWS; how++)
			round_of(how);
	printf("%u rounds\n", rounds);
	return 0;
}
