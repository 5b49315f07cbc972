// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_late_answers.c - an application answers what it was asked for while thaw_close() lets go of it, and after
 *
 * Bug: the last answer freed what thaw_close() was still going through. A debug build makes it last a while there; what is freed is
 * overwritten. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 4096
#define MOST 256

static const struct thaw_range range = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
static struct thaw_request *_Atomic held[MOST]; /* NULL: about to be there */
static _Atomic unsigned n_held;
static useconds_t when_us;

static int later(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	unsigned i = n_held++;

	LIVE_CHECK(i < MOST);
	memset(buf, 1, length);
	held[i] = request;
	return THAW_LATER;
}

static void *answer(void *arg)
{
	usleep(when_us);
	for (unsigned i = 0; i < n_held; i++) {
		while (!held[i])
			usleep(100);
		thaw_complete(held[i], 0);
	}
	return NULL;
}

static int work(void *arg, int sock)
{
	return 0;
}

static void round_of(unsigned i)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(later, NULL);
	struct live l;
	pthread_t t;

	for (n_held = MOST; n_held; n_held--)
		held[n_held - 1] = NULL;
	live_start(&l, &range, 1, work, NULL);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	for (int left = patience(5000); n_held < 8 && left; left--)
		usleep(1000);
	LIVE_CHECK(n_held >= 8);
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	when_us = i * 10000; /* before it closes, while it does, behind it */
	LIVE_CHECK(!pthread_create(&t, NULL, answer, NULL));
	thaw_close(h);
	pthread_join(t, NULL);
}

int main(void)
{
	setenv("THAW_INJECT", "fetch.close:delay=60ms:1+", 1);
	mallopt(M_PERTURB, 0xa5);
	alarm(patience(60));
	for (unsigned i = 0; i < 12; i++)
		round_of(i);
	return 0;
}
