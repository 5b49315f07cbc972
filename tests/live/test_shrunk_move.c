// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_shrunk_move.c - mremap() that moves and shrinks at once, onto the first pages of other content, or down by less than
 * its old length.
 *
 * Older kernels (6.1, 6.12) tell of such a move with the length that the mapping had before it shrank. What lies behind the moved pages
 * is not theirs, and what of the old pages did not move is gone. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEED 17
#define WAS 10
#define IS 4
#define OTHER 20
#define ROUNDS 8
#define FROM(i) (LIVE_BASE + (i) * (1ULL << 24))
#define TO(i) (FROM(i) + (1ULL << 23))
#define LOW(i) (FROM(i) + (1ULL << 22))
#define DOWN 6

static int work(void *arg, int sock)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		/* not onto anything every other time: then no UNMAP of the destination comes first */
		unsigned onto = i % 2 ? IS : 0;
		uint64_t to = TO(i) + (i % 2 ? 0 : -IS * LIVE_PAGE);

		if (mremap((void *)FROM(i), WAS * LIVE_PAGE, IS * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) == MAP_FAILED)
			return 1;
		if (!live_moved_is(to, FROM(i), IS, SEED, 0))
			return 2;
		if (!live_is(TO(i) + onto * LIVE_PAGE, OTHER - onto, SEED, 0))
			return 3;
		to = LOW(i) - DOWN * LIVE_PAGE;
		if (mremap((void *)LOW(i), WAS * LIVE_PAGE, IS * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) == MAP_FAILED)
			return 4;
		if (!live_moved_is(to, LOW(i), IS, SEED, 0))
			return 5;
	}
	return 0;
}

static void run(enum thaw_background policy)
{
	struct thaw_range r[3 * ROUNDS];
	struct thaw_memfile_range at[3 * ROUNDS];
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, policy);
	struct thaw_source *s;
	struct live l;
	int64_t id;
	int fd, status;

	for (unsigned i = 0; i < ROUNDS; i++) {
		r[3 * i] = (struct thaw_range){ FROM(i), WAS * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
		r[3 * i + 1] = (struct thaw_range){ TO(i), OTHER * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
		r[3 * i + 2] = (struct thaw_range){ LOW(i), WAS * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	}
	fd = live_file(false, SEED, r, 3 * ROUNDS, at);
	s = thaw_source_memfile(fd, at, 3 * ROUNDS);
	live_start(&l, r, 3 * ROUNDS, work, NULL);
	id = live_add(h, &l, s, r, 3 * ROUNDS);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	printf("policy %d: %d\n", policy, status);
	LIVE_CHECK(status == 0);
	LIVE_OK(thaw_wait(h, id, patience(10000)));
	thaw_close(h);
	close(fd);
}

int main(void)
{
	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_shrunk_move: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	run(THAW_BACKGROUND_STAY_LAZY);
	run(THAW_BACKGROUND_RUN);
	return 0;
}
