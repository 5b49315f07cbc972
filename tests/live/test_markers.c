// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_markers.c - pages that may not be used stay so: poisoned ones, and guards of the process's own, while zeros are brought
 * in around them; and a page is poisoned for content that is not to be had, not for a moment without memory
 *
 * Bug: zeros for a writer were copied, which goes over both. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define SEED 41
#define PAGES 64
#define AT(i) (LIVE_BASE + (i) * LIVE_PAGE)
#define BAD 20   /* its content cannot be read; around it there is none */
#define GUARD 40
#define GOOD 60
#define NEVER 62 /* stays absent, so that the space is not finished with */

static const struct thaw_range range = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
static sigjmp_buf jump;

static void on_signal(int sig)
{
	siglongjmp(jump, sig);
}

/* The signal that reading a page brings, or 0. */
static int brings(unsigned page)
{
	int sig = sigsetjmp(jump, 1);

	return sig ? sig : (*(volatile char *)AT(page), 0);
}

/* In order and with pauses, so that more and more is brought in ahead. */
static void write_up_to(unsigned page)
{
	for (unsigned i = page - 4; i < page; i++) {
		*(volatile char *)AT(i) = 1;
		usleep(3000);
	}
}

static int work(void *arg, int sock)
{
	bool poisons = *(bool *)arg, guards = !madvise((void *)AT(GUARD), LIVE_PAGE, MADV_GUARD_INSTALL);

	signal(SIGBUS, on_signal);
	signal(SIGSEGV, on_signal);
	if (!live_is(AT(GOOD), 1, SEED, 0))
		return 1;
	if (poisons && brings(BAD) != SIGBUS)
		return 2;
	if (guards && brings(GUARD) != SIGSEGV)
		return 3;
	if (poisons)
		write_up_to(BAD);
	write_up_to(GUARD);
	if (poisons && brings(BAD) != SIGBUS)
		return 4;
	if (guards && brings(GUARD) != SIGSEGV)
		return 5;
	for (unsigned i = GUARD - 4; i < GUARD; i++)
		if (*(volatile char *)AT(i) != 1)
			return 6;
	if (write(sock, guards ? "g" : "-", 1) != 1 || !live_is_zero(AT(GUARD + 1), 8))
		return 7;
	return 0;
}

int main(void)
{
	const struct thaw_range content[] = { { AT(GOOD), LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
					      { AT(NEVER), LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 } };
	struct thaw_memfile_range at[3] = { [2] = { AT(BAD), LIVE_PAGE, 2 * LIVE_PAGE } };
	struct thaw_source *s;
	struct thaw *h;
	struct live l;
	bool poisons;
	char guards;
	int fd, status;

	setenv("THAW_INJECT", "content.read:ENOMEM:1", 1); /* in a debug build: the first page that is asked for, which is GOOD */
	alarm(patience(60));
	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	poisons = !thaw_set_failure(h, THAW_FAILURE_SIGBUS);
	LIVE_OK(thaw_set_log(h, NULL, NULL, THAW_LOG_ERROR));
	live_start(&l, &range, 1, work, &poisons);
	fd = live_file(false, SEED, content, 2, at);
	LIVE_CHECK(!ftruncate(fd, 3 * LIVE_PAGE));
	s = thaw_source_memfile(fd, at, 3);
	LIVE_CHECK(s);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_CHECK(!ftruncate(fd, 2 * LIVE_PAGE));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	if (read(l.sock, &guards, 1) != 1)
		guards = '?';
	status = live_end(&l);
	if (status)
		LIVE_DIE("the worker ended with %d", status);
	printf("%s, %s\n", poisons ? "a poisoned page stays so" : "nothing can be poisoned here",
	       guards == 'g' ? "a guard stays one" : "there are no guards here");
	thaw_close(h);
	close(fd);
	return 0;
}
