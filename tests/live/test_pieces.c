// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_pieces.c - memory of which every other page has content, as pages of one file without holes: so many short runs that the
 * map keeps them together. They are read, discarded, moved and inherited in the middle of that, one by one and by hundreds. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 43
#define PAGES 4096
#define MOVED (LIVE_BASE + (1ULL << 28))
#define DISCARDED 101 /* pages from here on, so many */
#define N_DISCARDED 160
#define TAKEN 600
#define N_TAKEN 1301

static uint64_t at(unsigned page)
{
	return LIVE_BASE + page * LIVE_PAGE;
}

static bool is_discarded(unsigned page)
{
	return page - DISCARDED < N_DISCARDED || page % 1000 == 998; /* and some by themselves */
}

static bool is_right(unsigned page)
{
	bool taken = page - TAKEN < N_TAKEN;
	uint64_t addr = taken ? MOVED + (page - TAKEN) * LIVE_PAGE : at(page);

	return page % 2 || is_discarded(page) ? live_is_zero(addr, 1) : live_moved_is(addr, at(page), 1, SEED, 0);
}

static int all_right(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		if (!is_right(i * 1237 % PAGES))
			return 1;
	return 0;
}

static int work(void *arg, int sock)
{
	int status;
	pid_t pid;

	if (!live_is(at(2000), 1, SEED, 0) || !live_is_zero(at(2001), 1))
		return 2;
	for (unsigned i = 0; i < PAGES; i++)
		if (is_discarded(i) && (i == DISCARDED || i > DISCARDED + N_DISCARDED) &&
		    madvise((void *)at(i), (i == DISCARDED ? N_DISCARDED : 1) * LIVE_PAGE, MADV_DONTNEED))
			return 3;
	if (mremap((void *)at(TAKEN), N_TAKEN * LIVE_PAGE, N_TAKEN * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)MOVED) == MAP_FAILED)
		return 4;
	pid = fork();
	if (pid == 0)
		_exit(all_right());
	if (all_right())
		return 5;
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 6;
}

static void round_of(enum thaw_background policy)
{
	static struct thaw_range piece[PAGES / 2];
	static struct thaw_memfile_range where[PAGES / 2];
	const struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct thaw_source *s;
	struct thaw *h;
	struct live l;
	int fd, status;

	for (unsigned i = 0; i < PAGES / 2; i++)
		piece[i] = (struct thaw_range){ at(2 * i), LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	fd = live_file(false, SEED, piece, PAGES / 2, where);
	s = thaw_source_memfile(fd, where, PAGES / 2);
	LIVE_CHECK(s);
	close(fd);
	h = live_monitor(THAW_IO_AUTO, 2, policy);
	live_start(&l, &r, 1, work, NULL);
	live_add(h, &l, s, &r, 1);
	thaw_source_close(s); /* what it knew of its runs is in the map by now: it is no good for another space */
	LIVE_CHECK(thaw_add_space(h, &(struct thaw_space){ .size = sizeof(struct thaw_space), .uffd = l.uffd, .pidfd = -1, .source = s,
							   .ranges = &r, .n_ranges = 1 }) == -1 &&
		   thaw_get_errno() == EINVAL && strstr(thaw_get_error(), "has been closed"));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	if (status)
		LIVE_DIE("policy %d: %d", policy, status);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	thaw_close(h);
}

int main(void)
{
	alarm(patience(120));
	if (thaw_probe() < 0) {
		printf("test_pieces: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	round_of(THAW_BACKGROUND_STAY_LAZY);
	round_of(THAW_BACKGROUND_RUN);
	return 0;
}
