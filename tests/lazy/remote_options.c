// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/remote_options.c - what thaw lazy-pages is told about its page server arrives there: TLS, a socket that it inherits, and for
 * how long a lost server is waited for and what becomes of the tasks then */
#include "config.h"
#include "lazy/certs.h"
#include "lazy/restorer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "support/patience.h"

#define A LIVE_BASE
#define P LIVE_PAGE
#define PID 4711
#define PAGES 1200

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_REMOTE } };
static const struct rest_task task = { .pid = PID, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1 };

static struct fake_options server(void)
{
	return (struct fake_options){ .layout = 32, .pid = PID, .seed = PID, .n_ranges = 1, .ranges = { { A, PAGES * P } } };
}

/* ---- TLS --------------------------------------------------------------------------------------------------------- */
/* The daemon trusts `ca`; the server's certificate is for `whom` and by the first authority. why: NULL, it is a restore like any other. */
static void with_tls(const char *ca, const char *whom, bool any_name, const char *why)
{
	const struct rest_task two[] = {
		{ .pid = PID, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .early = why ? rest_whole : NULL },
		{ .pid = 4712, .zombie = true },
	};
	struct fake_options o = server();
	char port[16];
	struct fake f;
	struct rest r;

	certs_serve(&o, whom);
	fake_start(&f, &o);
	snprintf(port, sizeof(port), "%d", f.port);
	rest_begin(&r, two, 2, true);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--address", "127.0.0.1", "--port", port, "--tls", "--tls-cacert", certs_file(ca), "--tls-cert",
			       certs_file("client.pem"), "--tls-key", certs_file("client.key"), any_name ? "--tls-no-cn-verify" : NULL, NULL));
	if (!why) {
		rest_restore(&r);
		rest_ended(&r, 0, "pid 4711: ");
		LIVE_CHECK(f.stats->closes == 1 && !f.stats->bad && f.stats->gets);
	} else { /* whoever it is, it is not asked for a page; and the restore fails before its tasks have run */
		rest_connect(&r);
		rest_spawn(&r);
		rest_ended(&r, 1, why);
		LIVE_CHECK(strstr(r.said, "killed (they have not run yet, and cannot)"));
		LIVE_CHECK(rest_wait(&r) == 128 + SIGKILL);
		LIVE_CHECK(!f.stats->gets && !f.stats->closes);
	}
	rest_end(&r);
	fake_stop(&f);
}

/* ---- a socket that it inherits ----------------------------------------------------------------------------------- */
static void inherited(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct fake_options o = server();
	char number[16];
	struct fake f;
	struct rest r;
	int fd;

	fake_start(&f, &o);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	at.sin_port = htons((uint16_t)f.port);
	LIVE_CHECK(fd >= 0 && !connect(fd, (void *)&at, sizeof(at)));
	snprintf(number, sizeof(number), "%d", fd);
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--page-server", "--ps-socket", number, NULL));
	close(fd);
	rest_restore(&r);
	rest_ended(&r, 0, "pid 4711: ");
	LIVE_CHECK(f.stats->connections == 1 && f.stats->closes == 1 && !f.stats->bad && f.stats->gets);
	rest_end(&r);
	fake_stop(&f);
}

/* ---- lost -------------------------------------------------------------------------------------------------------- */
static int body(const struct rest_task *t)
{
	signal(SIGBUS, SIG_DFL); /* a sanitizer has its own ideas */
	return rest_whole(t);
}

static bool is_before_6_6(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	LIVE_CHECK(!uname(&u) && sscanf(u.release, "%u.%u", &major, &minor) == 2);
	return major < 6 || (major == 6 && minor < 6);
}

/* The server is lost while its task runs, before all is in. how: its --on-failure; NULL: there is no --reconnect-timeout either, and it
 * comes back. */
static void lost(const char *how, int status)
{
	const struct rest_task runs_on = { .pid = PID, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body };
	struct fake_options o = server();
	char port[16], seconds[16];
	struct fake f;
	struct rest r;
	int at;

	snprintf(seconds, sizeof(seconds), "%u", patience(1000) / 1000);
	o.most = 8;
	o.stall_at = 20; /* it cannot be over before it is killed */
	fake_start(&f, &o);
	at = f.port;
	snprintf(port, sizeof(port), "%d", at);
	rest_begin(&r, &runs_on, 1, true);
	if (!rest_daemon(&r, "--page-server", "--address", "127.0.0.1", "--port", port, "--stay-lazy",
			 how ? "--reconnect-timeout" : NULL, seconds, "--on-failure", how, NULL)) {
		rest_ended(&r, 1, "UFFDIO_POISON");
		LIVE_CHECK(status == 128 + SIGBUS && is_before_6_6());
		rest_end(&r);
		fake_stop(&f);
		return;
	}
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	for (unsigned i = 0; i < 60000 && f.stats->pages < 19; i++)
		usleep(1000);
	LIVE_CHECK(f.stats->pages >= 19);
	fake_stop(&f);
	rest_await_said(&r, "the connection is lost");
	rest_await_said(&r, "pid 4711 will wait for what they touch");
	o.stall_at = 0;
	if (status) { /* what it touches cannot be had */
		LIVE_CHECK(rest_wait(&r) == status);
		rest_ended(&r, 1, "given up (");
		rest_end(&r);
		return;
	}
	if (how) /* freeze: told, and tried on */
		rest_await_said(&r, "will wait for memory that is not in yet and can only come from there");
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	fake_start_at(&f, &o, at);
	LIVE_CHECK(rest_wait(&r) == 0); /* every byte is right */
	rest_ended(&r, 0, "pid 4711: ");
	LIVE_CHECK(!f.stats->bad && f.stats->closes == 1);
	rest_end(&r);
	fake_stop(&f);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("remote_options: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	if (certs_make()) {
		with_tls("ca.pem", "server", false, NULL);
		with_tls("ca.pem", "name", true, NULL);
		with_tls("other.pem", "server", false, "estore is given up, before its tasks ran");
		with_tls("ca.pem", "name", false, "estore is given up, before its tasks ran");
		certs_remove();
	} else {
		printf("remote_options: without TLS: certtool (gnutls-bin) is not installed\n");
	}
	inherited();
	lost(NULL, 0);
	lost("freeze", 0);
	lost("kill", 128 + SIGKILL);
	lost("sigbus", 128 + SIGBUS);
	return 0;
}
