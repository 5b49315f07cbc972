// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/page_server_death.c - criu lazy-pages ended with its page server, and a process of 1 GiB read 80,896 of its pages as zeros:
 * here its readers wait, the loss is told once with their numbers, and when the server is back all goes on where it was. It
 * is lost at every point of an answer, by an end and by a reset; and for good, by time, by an inherited socket, by nonsense */
#include "config.h"
#include "lazy/remote_rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PAGES 1500

static void reset_counts(void)
{
	rig_lost = rig_found = rig_failed = rig_errors = 0;
	rig_line[0] = '\0';
}

/* ---- killed, and back --------------------------------------------------------------------------------------- */
static void test_killed(enum thaw_background policy)
{
	struct fake_options o;
	unsigned long before;
	struct fake f;
	struct rig r;
	int port;

	reset_counts();
	rig_begin(&r, PAGES, true);
	rig_images(&r);
	o = rig_fake(&r);
	o.delay_us = 2000; /* so that it takes a while */
	o.most = 8;
	o.stall_at = 20;   /* and cannot be over before it is killed */
	fake_start(&f, &o);
	port = f.port;
	rig_worker(&r, rig_read_threads, &r);
	rig_open(&r, port);
	rig_start(&r, 1, policy);
	live_go(&r.live);
	RIG_AWAIT(f.stats->pages >= 19);
	before = f.stats->pages;
	fake_stop(&f);
	RIG_AWAIT(rig_lost == 1);
	LIVE_CHECK(thaw_wait(r.h, 0, 300) == -1 && thaw_get_errno() == ETIMEDOUT); /* they wait */
	LIVE_CHECK(rig_errors == 1 && strstr(rig_line, "4711") && strstr(rig_line, "is lost"));
	o.delay_us = 0;
	o.stall_at = 0;
	fake_start_at(&f, &o, port);
	LIVE_CHECK(live_end(&r.live) == 0); /* every byte is right */
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	LIVE_CHECK(rig_lost == 1 && rig_found == 1 && rig_failed == 0 && rig_errors == 1);
	if (f.stats->pages + before >= PAGES * 3 / 2) /* it went on: not from the beginning */
		LIVE_DIE("%lu pages were sent before, %lu afterwards, of %d", before, (unsigned long)f.stats->pages, PAGES);
	LIVE_CHECK(f.stats->bad == 0);
	rig_end(&r, true);
	fake_stop(&f);
}

/* ---- hung ---------------------------------------------------------------------------------------------------- */
/* A server that is stopped answers nothing, and its connection is there all the same: told after a while; and it goes on. */
static void test_hung(void)
{
	struct thaw_pageserver_stats st = { .size = sizeof(st) };
	struct fake_options o;
	struct fake f;
	struct rig r;

	reset_counts();
	rig_begin(&r, 300, true);
	rig_images(&r);
	o = rig_fake(&r);
	fake_start(&f, &o);
	rig_worker(&r, rig_read_all, &r);
	rig_open(&r, f.port);
	RIG_AWAIT(f.stats->open);
	kill(f.pid, SIGSTOP);
	rig_start(&r, 1, THAW_BACKGROUND_STAY_LAZY);
	live_go(&r.live);
	RIG_AWAIT(rig_errors == 1);
	LIVE_CHECK(strstr(rig_line, "it has not answered for 10 s") && strstr(rig_line, "4711"));
	RIG_AWAIT(!thaw_pageserver_get_stats(r.ps, &st) && st.silent_since_ns);
	kill(f.pid, SIGCONT);
	LIVE_CHECK(live_end(&r.live) == 0);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	RIG_AWAIT(!thaw_pageserver_get_stats(r.ps, &st) && !st.silent_since_ns);
	LIVE_CHECK(rig_lost == 0 && rig_failed == 0 && rig_errors == 1);
	rig_end(&r, true);
	fake_stop(&f);
}

/* With a time for reconnecting it counts as lost after so long. Here each connection brings some answers. */
static void test_hung_is_lost(void)
{
	struct fake_options o;
	struct fake f;
	struct rig r;

	reset_counts();
	rig_begin(&r, 60, false);
	rig_images(&r);
	o = rig_fake(&r);
	o.stall_at = 20;
	fake_start(&f, &o);
	rig_worker(&r, rig_read_all, &r);
	r.options.reconnect_timeout = 2;
	rig_open(&r, f.port);
	r.h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	LIVE_OK(thaw_set_read_around(r.h, 0));
	live_add(r.h, &r.live, r.source, &r.range, 1);
	thaw_source_close(r.source);
	LIVE_OK(thaw_start(r.h));
	live_go(&r.live);
	LIVE_CHECK(live_end(&r.live) == 0);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	LIVE_CHECK(rig_lost >= 1 && rig_found >= 1 && rig_failed == 0 && strstr(rig_line, "it has not answered for 2 s"));
	rig_end(&r, true);
	fake_stop(&f);
}

/* ---- cut at every point -------------------------------------------------------------------------------------- */
static void test_cut(enum fake_cut cut, bool reset, unsigned at)
{
	struct fake_options o;
	struct fake f;
	struct rig r;

	reset_counts();
	rig_begin(&r, 300, cut & 1);
	rig_images(&r);
	o = rig_fake(&r);
	o.cut = cut;
	o.at = at;
	o.reset = reset;
	o.once = true;
	fake_start(&f, &o);
	rig_worker(&r, rig_read_all, &r);
	rig_open(&r, f.port);
	rig_start(&r, 1, cut % 3 ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY);
	live_go(&r.live);
	if (live_end(&r.live))
		LIVE_DIE("cut %d, reset %d, answer %u", cut, reset, at);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	LIVE_CHECK(f.stats->connections == 2 && f.stats->bad == 0 && rig_lost == 1 && rig_found == 1 && rig_failed == 0);
	rig_end(&r, true);
	fake_stop(&f);
}

/* ---- for good ------------------------------------------------------------------------------------------------ */
static sigjmp_buf jump;

static void on_sigbus(int sig)
{
	siglongjmp(jump, 1);
}

/* 'r': right, 'w': wrong, 'b': SIGBUS; of the first page, then of the last */
static int read_two(void *arg, int sock)
{
	const struct rig *r = arg;
	char said[2];

	signal(SIGBUS, on_sigbus);
	for (volatile unsigned i = 0; i < 2; i++) {
		uint64_t addr = r->range.address + (i ? r->pages - 1 : 0) * LIVE_PAGE;
		char go;

		if (i && read(sock, &go, 1) != 1)
			return 2;
		if (sigsetjmp(jump, 1))
			said[i] = 'b';
		else
			said[i] = live_is(addr, 1, RIG_SEED, 0) ? 'r' : 'w';
		if (write(sock, &said[i], 1) != 1)
			return 3;
	}
	return 0;
}

static char next(const struct live *l, int timeout_ms)
{
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	char c = 0;

	setsockopt(l->sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	while (read(l->sock, &c, 1) < 0 && errno == EINTR)
		;
	return c;
}

static int connected_to(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		LIVE_DIE("connect: %s", strerror(errno));
	return fd;
}

/* how: 't' the time is over, 's' the socket was inherited, 'n' nonsense is answered */
static void test_given_up(char how, bool sigbus)
{
	struct fake_options o;
	struct fake f;
	struct rig r;
	char said;
	int port;

	reset_counts();
	rig_begin(&r, 100, true);
	rig_images(&r);
	o = rig_fake(&r);
	if (how == 'n') {
		o.wrong = FAKE_WRONG_ADDRESS;
		o.at = 2; /* of every connection */
	}
	fake_start(&f, &o);
	port = f.port;
	rig_worker(&r, read_two, &r);
	r.options.reconnect_timeout = how == 't' ? 1 : 0;
	r.options.fail_reads = sigbus;
	r.options.socket = how == 's' ? connected_to(f.port) : -1;
	rig_open(&r, f.port);
	r.h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	LIVE_OK(thaw_set_failure(r.h, sigbus ? THAW_FAILURE_SIGBUS : THAW_FAILURE_WAIT));
	LIVE_OK(thaw_set_read_around(r.h, 0));
	live_add(r.h, &r.live, r.source, &r.range, 1);
	thaw_source_close(r.source);
	LIVE_OK(thaw_start(r.h));
	live_go(&r.live);
	LIVE_CHECK(next(&r.live, 60000) == 'r');
	if (how != 'n')
		fake_stop(&f);
	live_go(&r.live);
	if (how == 'n') { /* the first answer of each connection is right: nothing is given up */
		LIVE_CHECK(next(&r.live, 60000) == 'r');
		LIVE_CHECK(rig_failed == 0);
		fake_stop(&f);
	} else {
		RIG_AWAIT(rig_failed == 1);
		LIVE_CHECK(strstr(rig_line, "given up") && strstr(rig_line, "4711"));
		/* What a refusal does to it is not the connection's to know: SIGBUS, or its end. */
		LIVE_CHECK(strstr(rig_line, sigbus ? "will be refused memory" : how == 't' ? "will wait for memory" : "will wait for ever for memory"));
		said = next(&r.live, sigbus ? 60000 : 300);
		LIVE_CHECK(said == (sigbus ? 'b' : 0)); /* never a zero */
		if (how == 't' && !sigbus) { /* nobody was refused anything: late is better than never */
			fake_start_at(&f, &o, port);
			LIVE_CHECK(next(&r.live, 60000) == 'r');
			LIVE_CHECK(rig_found == 1 && rig_failed == 1);
			fake_stop(&f);
		} else {
			/* Also with somebody's page still wanted: that will not come, and is not waited for. */
			LIVE_CHECK(thaw_pageserver_finish(r.ps, 60000) == -1 && thaw_get_errno() == ENOTCONN);
		}
	}
	live_kill(&r.live);
	live_end(&r.live);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	rig_end(&r, false);
}

/* It is lost when all is in, and the end is to be told: the next attempt finds it. */
static void test_lost_at_end(void)
{
	struct fake_options o;
	struct fake f;
	struct rig r;
	int port;

	reset_counts();
	rig_begin(&r, 100, true);
	rig_images(&r);
	o = rig_fake(&r);
	fake_start(&f, &o);
	port = f.port;
	rig_worker(&r, rig_read_threads, &r);
	rig_open(&r, port);
	rig_start(&r, 1, THAW_BACKGROUND_RUN);
	live_go(&r.live);
	LIVE_CHECK(live_end(&r.live) == 0);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	fake_stop(&f);
	fake_start_at(&f, &o, port);
	RIG_AWAIT(rig_lost == 1);
	rig_end(&r, true);
	LIVE_CHECK(f.stats->closes == 1);
	fake_stop(&f);
}

/* An answer that is none, again and again: nothing of it is taken, and it ends. */
static void test_nonsense(enum fake_wrong wrong)
{
	struct fake_options o;
	struct fake f;
	struct rig r;

	reset_counts();
	rig_begin(&r, 100, wrong & 1);
	rig_images(&r);
	o = rig_fake(&r);
	o.wrong = wrong;
	o.at = 1;
	fake_start(&f, &o);
	rig_worker(&r, read_two, &r);
	rig_open(&r, f.port);
	rig_start(&r, 1, THAW_BACKGROUND_STAY_LAZY);
	live_go(&r.live);
	if (wrong == FAKE_UNASKED) { /* the first of the two was right */
		LIVE_CHECK(next(&r.live, 60000) == 'r');
	} else {
		RIG_AWAIT(rig_failed == 1);
		LIVE_CHECK(next(&r.live, 100) == 0);
		LIVE_CHECK(f.stats->connections == 5);
	}
	live_kill(&r.live);
	live_end(&r.live);
	LIVE_OK(thaw_wait(r.h, 0, 60000));
	rig_end(&r, false);
	fake_stop(&f);
}

int main(void)
{
	struct thaw *h = thaw_create();
	bool can_sigbus = !thaw_set_failure(h, THAW_FAILURE_SIGBUS);

	thaw_close(h);
	alarm(280);
	test_killed(THAW_BACKGROUND_RUN);
	test_killed(THAW_BACKGROUND_STAY_LAZY);
	test_hung();
	test_hung_is_lost();
	for (enum fake_cut cut = FAKE_CUT_BEFORE; cut <= FAKE_CUT_BEHIND; cut++)
		for (unsigned reset = 0; reset < 2; reset++)
			test_cut(cut, reset, cut % 2 ? 1 : 4);
	test_lost_at_end();
	test_given_up('t', false);
	test_given_up('s', false);
	test_given_up('n', false);
	if (can_sigbus) {
		test_given_up('t', true);
		test_given_up('s', true);
	}
	for (enum fake_wrong wrong = FAKE_WRONG_ADDRESS; wrong <= FAKE_UNASKED; wrong++)
		test_nonsense(wrong);
	return 0;
}
