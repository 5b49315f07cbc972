// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/pageserver_layouts.c - CRIU 4.2 changed the header of its page-server protocol without a word on the wire: the images tell
 * which one is spoken, an option overrules them; pages arrive over both, copied ahead or asked for one by one */
#include "config.h"
#include "lazy/remote_rig.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void run(bool wide, unsigned flags, int protocol, unsigned most, enum thaw_background policy)
{
	struct thaw_pageserver_stats st = { .size = sizeof(st) };
	struct fake_options o;
	struct fake f;
	struct rig r;
	int status;

	rig_begin(&r, 1000, wide);
	r.flags = flags;
	r.options.protocol = protocol;
	rig_images(&r);
	o = rig_fake(&r);
	o.most = most;
	if (protocol)
		o.layout = protocol;
	fake_start(&f, &o);
	rig_worker(&r, rig_read_threads, &r);
	rig_open(&r, f.port);
	rig_start(&r, 2, policy);
	live_go(&r.live);
	status = live_end(&r.live);
	if (status)
		LIVE_DIE("wide %d, flags %u, protocol %d, %u at most: the worker ended with %d", wide, flags, protocol, most, status);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	LIVE_OK(thaw_pageserver_get_stats(r.ps, &st));
	LIVE_CHECK(st.state == THAW_PAGESERVER_CONNECTED && st.lost == 0 && st.bytes >= 1000 * LIVE_PAGE);
	if (most)
		LIVE_CHECK(st.short_answers > 0 || policy == THAW_BACKGROUND_STAY_LAZY);
	rig_end(&r, true);
	RIG_AWAIT(f.stats->end != FAKE_OPEN);
	printf("%d bytes, flags %u, %u at most, policy %d: %u requests, %lu pages, %lu of them twice\n", o.layout, flags, most, policy,
	       f.stats->gets, f.stats->pages, f.stats->twice);
	LIVE_CHECK(f.stats->bad == 0 && f.stats->connections == 1 && f.stats->closes == 1 && f.stats->forced == 0);
	LIVE_CHECK(f.stats->end == FAKE_CLOSED && f.stats->pages >= 1000);
	fake_stop(&f);
}

/* Two processes whose images are of different kinds cannot both be right. */
static void test_mixed(void)
{
	struct fake_options o;
	struct fake f;
	struct rig r;

	rig_begin(&r, 10, true);
	rig_images(&r);
	o = rig_fake(&r);
	fake_start(&f, &o);
	rig_open(&r, f.port);
	r.wide = false;
	rig_images(&r);
	LIVE_CHECK(!thaw_source_pageserver(r.ps, r.dir.fd, RIG_PID, 0) && thaw_get_errno() == EBADMSG);
	thaw_source_close(r.source);
	thaw_pageserver_close(r.ps);
	RIG_AWAIT(f.stats->end != FAKE_OPEN);
	LIVE_CHECK(f.stats->end == FAKE_RESET); /* nothing was told */
	scratch_end(&r.dir);
	fake_stop(&f);
}

int main(void)
{
	alarm(200);
	for (unsigned wide = 0; wide < 2; wide++) {
		run(wide, 2, 0, 0, THAW_BACKGROUND_RUN);
		run(wide, 2, 0, 0, THAW_BACKGROUND_STAY_LAZY);
		run(wide, 6, 0, 3, THAW_BACKGROUND_RUN); /* whose content lies in the images as well, as far as these tell */
		run(wide, 2, wide ? 24 : 32, 0, THAW_BACKGROUND_RUN);
	}
	test_mixed();
	return 0;
}
