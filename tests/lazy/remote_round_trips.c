// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/remote_round_trips.c - each remote chunk cost a round trip, one after another: here many requests are under way on a long
 * way, and the memory comes in a fraction of the trips; a fault does not wait until the queue of the background is empty */
#include "config.h"
#include "lazy/remote_rig.h"

#include <unistd.h>

#define PAGES 4000

static int sleep_only(void *arg, int sock)
{
	char byte;

	return read(sock, &byte, 1) != 1;
}

/* The whole memory, nobody touches it. */
static void test_background(void)
{
	struct fake_options o;
	struct fake f;
	struct rig r;

	rig_begin(&r, PAGES, true);
	rig_images(&r);
	o = rig_fake(&r);
	o.delay_us = 20000;
	fake_start(&f, &o);
	rig_worker(&r, sleep_only, NULL);
	rig_open(&r, f.port);
	rig_start(&r, 2, THAW_BACKGROUND_RUN);
	live_go(&r.live);
	LIVE_OK(thaw_wait(r.h, 0, 120000));
	printf("%u requests, %u at once at most, it was idle %u times\n", f.stats->gets, f.stats->most_waiting, f.stats->turns);
	LIVE_CHECK(f.stats->gets >= PAGES / 64);
	LIVE_CHECK(f.stats->most_waiting >= 4);
	LIVE_CHECK(f.stats->turns < f.stats->gets / 2); /* one a request, if they were sent one by one */
	live_go(&r.live);
	LIVE_CHECK(live_end(&r.live) == 0);
	rig_end(&r, true);
	fake_stop(&f);
}

/* Faults of four threads beside the background: none of them is behind more than what the window lets out. */
static void test_faults(void)
{
	struct thaw_pageserver_stats st = { .size = sizeof(st) };
	struct fake_options o;
	struct fake f;
	struct rig r;

	rig_begin(&r, PAGES, false);
	rig_images(&r);
	o = rig_fake(&r);
	o.delay_us = 3000;
	fake_start(&f, &o);
	rig_worker(&r, rig_read_threads, &r);
	rig_open(&r, f.port);
	rig_start(&r, 2, THAW_BACKGROUND_RUN);
	live_go(&r.live);
	while (thaw_wait(r.h, 0, 1)) {
		LIVE_OK(thaw_pageserver_get_stats(r.ps, &st));
		LIVE_CHECK(st.in_flight_bytes <= st.window || st.in_flight_bytes <= 128 * 1024);
	}
	LIVE_CHECK(live_end(&r.live) == 0);
	LIVE_OK(thaw_pageserver_get_stats(r.ps, &st));
	printf("%llu requests for %u pages, window %llu KiB, %llu us a trip, %llu found what they wanted under way\n",
	       (unsigned long long)st.gets, PAGES, (unsigned long long)st.window >> 10, (unsigned long long)st.rtt_ns / 1000,
	       (unsigned long long)st.shared);
	LIVE_CHECK(st.rtt_ns >= 3000000 && st.bytes >= PAGES * LIVE_PAGE);
	rig_end(&r, true);
	fake_stop(&f);
}

int main(void)
{
	alarm(250);
	test_background();
	test_faults();
	return 0;
}
