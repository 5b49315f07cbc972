// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/remote_daemon.c - thaw lazy-pages with a page server: both layouts, told by the images or by the option; the end is told
 * to the server when all is in, and not when the restore failed */
#include "config.h"
#include "lazy/restorer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lazy/fake_server.h"
#include "support/patience.h"

#define A LIVE_BASE
#define B (LIVE_BASE + (1ULL << 32))
#define P LIVE_PAGE
#define PID 4711

static const struct rest_vma vmas[] = { { .addr = A, .pages = 1500 }, { .addr = B, .pages = 300 } };
static const struct rest_run runs[] = {
	{ A, 700, REST_REMOTE }, { A + 700 * P, 20, REST_EAGER }, { A + 800 * P, 600, REST_LAZY }, { B + 50 * P, 200, REST_REMOTE },
};

static struct fake_options has(int layout)
{
	return (struct fake_options){
		.layout = layout, .pid = PID, .seed = PID, .n_ranges = 3,
		.ranges = { { A, 700 * P }, { A + 800 * P, 600 * P }, { B + 50 * P, 200 * P } },
	};
}

static void restored(bool wide, const char *option, const char *value, const char *option2)
{
	const struct rest_task task[] = {
		{ .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 }, { .pid = 4712, .zombie = true },
	};
	const bool told_other = option && value && atoi(value) > 20;
	struct fake_options o = has(told_other ? atoi(value) : wide ? 32 : 24);
	struct fake f;
	struct rest r;
	char port[16];

	fake_start(&f, &o);
	snprintf(port, sizeof(port), "%d", f.port);
	rest_begin(&r, task, 2, wide);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--address", "127.0.0.1", "--port", port, "--stats", "stats", option, value,
			       option2, NULL));
	LIVE_CHECK(!f.stats->connections); /* one that comes before the first task could be a source's only one, for nothing */
	rest_restore(&r);
	rest_ended(&r, 0, "pid 4711: ");
	LIVE_CHECK(f.stats->connections == 1 && !f.stats->bad && f.stats->closes == 1 && f.stats->gets);
	LIVE_CHECK(rest_number(&r, "stats", "gets") == f.stats->gets && rest_number(&r, "stats", "lost") == 0);
	rest_end(&r);
	fake_stop(&f);
}

/* A daemon for so many tasks of a page server; the first task arrives. */
static void first_arrives(struct fake *f, struct rest *r, const struct rest_task *task, unsigned n)
{
	struct fake_options o = has(32);
	char port[16];
	int uffd = thaw_uffd_open();

	fake_start(f, &o);
	snprintf(port, sizeof(port), "%d", f->port);
	rest_begin(r, task, n, true);
	LIVE_CHECK(rest_daemon(r, "--page-server", "--address", "127.0.0.1", "--port", port, NULL));
	rest_connect(r);
	rest_send_pid(r, PID);
	rest_send_fds(r, &uffd, 1, 1);
	close(uffd);
}

/* The restorer fails when its task is there: the server must not take it for the end of a migration. */
static void failed(void)
{
	const struct rest_task task[] = {
		{ .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 }, { .pid = 4712, .zombie = true },
	};
	struct fake f;
	struct rest r;

	first_arrives(&f, &r, task, 2);
	rest_hang_up(&r);
	rest_ended(&r, 1, "when 1 of 2 tasks were here");
	LIVE_CHECK(f.stats->connections == 1 && !f.stats->closes);
	rest_end(&r);
	fake_stop(&f);
}

/* A page server that is none turns out as such while the restorer's own code sleeps on a page: the restore has to fail, and not to
 * hang. how: 'e' it ends instead of answering, 'n' nonsense, 's' it is silent, 't' it is not there at all and all that the restorer
 * says has been said */
static void wrong_server(char how)
{
	const struct rest_task task[] = {
		{ .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4, .early = rest_whole },
		{ .pid = 4712, .zombie = true },
	};
	struct fake_options o = has(32);
	struct fake f;
	struct rest r;
	char port[16];

	o.cut = how == 'e' ? FAKE_CUT_BEFORE : FAKE_WHOLE;
	o.stall_at = how == 's';
	o.wrong = how == 'n' ? FAKE_WRONG_COMMAND : FAKE_RIGHT;
	o.at = 1;
	fake_start(&f, &o);
	snprintf(port, sizeof(port), "%d", f.port);
	if (how == 't')
		fake_stop(&f);
	rest_begin(&r, task, 2, true);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--address", "127.0.0.1", "--port", port, NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_ended(&r, 1, how == 't' ? "cannot be connected to" : "estore is given up, before its tasks ran");
	LIVE_CHECK(strstr(r.said, "killed (they have not run yet, and cannot)"));
	LIVE_CHECK(strstr(r.said, ": ended with ") && !strstr(r.said, "the rest is not in")); /* its end is waited for */
	LIVE_CHECK(rest_wait(&r) == 128 + 9);
	if (how != 't') {
		LIVE_CHECK(!f.stats->closes);
		fake_stop(&f);
	}
	rest_end(&r);
}

/* It is not there, and the restorer has said everything before that is known: its tasks run, and wait until it is. Meanwhile a status is
 * given, and a signal answered. */
static void comes_later(void)
{
	const struct rest_task task = { .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 };
	struct fake_options o = has(32);
	char port[16], line[256];
	struct fake f;
	struct rest r;

	fake_start(&f, &o);
	snprintf(port, sizeof(port), "%d", f.port);
	fake_stop(&f);
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--address", "127.0.0.1", "--port", port, "-v", NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	rest_await_said(&r, "is being connected to");
	rest_await_said(&r, "cannot be connected to");
	snprintf(line, sizeof(line), "%s/thaw status -D /nowhere -W %s --json | grep -q '\"state\": *\"connecting\"'",
		 getenv("THAW_BUILDDIR") ? getenv("THAW_BUILDDIR") : ".", r.dir.path);
	LIVE_CHECK(system(line) == 0);
	kill(r.daemon, SIGTERM);
	rest_await_said(&r, "not all memory is in: this daemon stays");
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	fake_start_at(&f, &o, f.port);
	LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, "connected");
	LIVE_CHECK(f.stats->closes == 1 && !f.stats->bad);
	fake_stop(&f);
	rest_end(&r);
}

#ifdef THAW_DEBUG
/* The page server is lost before it has sent anything, and the restorer's last word comes while the daemon looks at that: the tasks
 * run, so nothing can be given up any more, and the page server is waited for. */
static void said_meanwhile(void)
{
	const struct rest_task task = { .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4, .early = rest_whole };
	struct fake_options o = has(32), whole = has(32);
	char port[16];
	struct fake f;
	struct rest r;

	o.cut = FAKE_CUT_BEFORE;
	o.at = 1;
	fake_start(&f, &o);
	snprintf(port, sizeof(port), "%d", f.port);
	rest_begin(&r, &task, 1, true);
	setenv("THAW_INJECT", "lazy.news:delay=5s:1+", 1);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--address", "127.0.0.1", "--port", port, NULL));
	unsetenv("THAW_INJECT");
	rest_connect(&r);
	rest_spawn(&r);
	for (int i = 0; !f.stats->gets && i < patience(10000); i++)
		usleep(1000);
	LIVE_CHECK(f.stats->gets);
	fake_stop(&f);
	rest_send_word(&r, REST_END);
	usleep(5500000);
	fake_start_at(&f, &whole, f.port);
	rest_gather(&r);
	rest_release(&r);
	LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, "the connection is lost");
	LIVE_CHECK(f.stats->closes == 1);
	fake_stop(&f);
	rest_end(&r);
}
#endif

/* A socket that was handed over, and no task comes: an end of stream would let the source kill its processes. how: 's' a signal ends the
 * daemon, 'i' it cannot begin, as there are no images */
static void socket_unused(char how)
{
	const struct rest_task task = { .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), mine, its;
	char number[16], byte;
	struct rest r;

	LIVE_CHECK(!bind(listener, (void *)&a, sizeof(a)) && !listen(listener, 1) && !getsockname(listener, (void *)&a, &len));
	its = socket(AF_INET, SOCK_STREAM, 0);
	LIVE_CHECK(!connect(its, (void *)&a, len));
	mine = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	LIVE_CHECK(mine >= 0);
	snprintf(number, sizeof(number), "%d", its);
	rest_begin(&r, &task, 1, true);
	if (how == 'i')
		LIVE_CHECK(!unlinkat(r.dir.fd, "pstree.img", 0));
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--ps-socket", number, NULL) == (how == 's'));
	close(its);
	if (how == 's')
		kill(r.daemon, SIGTERM);
	rest_ended(&r, 1, how == 's' ? "before a task was here" : "pstree.img");
	LIVE_CHECK(recv(mine, &byte, 1, 0) < 0 && errno == ECONNRESET);
	close(mine);
	close(listener);
	rest_end(&r);
}

/* The restore is given up (no port was given) when everything has been sent: what lies in the socket is a
 * userfaultfd, and closed with it its task, which runs, would read zeros. */
static void ran_already(void)
{
	const struct rest_task task[] = {
		{ .pid = PID, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 },
		{ .pid = 4712, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 },
		{ .pid = 4713, .vma = vmas, .n_vmas = 2, .run = runs, .n_runs = 4 },
	};
	struct rest r;

	rest_begin(&r, task, 3, true);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--address", "127.0.0.1", NULL));
	kill(r.daemon, SIGSTOP); /* until all has been said */
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	kill(r.daemon, SIGCONT);
	rest_ended(&r, 1, ": 0 is no port of a page server (1 to 65535)");
	LIVE_CHECK(!strstr(r.said, "thaw_")); /* no function's name */
	for (unsigned i = 0; i < 3; i++)
		LIVE_CHECK(rest_sleeps(r.pids[i]));
	rest_end(&r);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("remote_daemon: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	restored(true, NULL, NULL, NULL);
	restored(false, NULL, NULL, NULL);
	restored(true, "--page-server-protocol", "24", NULL);
	restored(false, "--page-server-protocol", "32", NULL);
	restored(true, "--read-around", "0", "--stay-lazy");
	failed();
	wrong_server('e');
	wrong_server('n');
	wrong_server('s');
	wrong_server('t');
	socket_unused('s');
	socket_unused('i');
#ifdef THAW_DEBUG
	said_meanwhile();
#endif
	ran_already();
	comes_later();
	return 0;
}
