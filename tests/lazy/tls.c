// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/tls.c - pages over TLS, from a fake server and from thaw page-server, also after the connection was lost; and every proof
 * that is none: another authority, another name, too old, revoked, none at all, no TLS: refused with its reason, by both sides */
#include "config.h"
#include "lazy/certs.h"
#include "lazy/page_server.h"
#include "lazy/remote_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 300

static void use_tls(struct rig *r, const char *ca, const char *who)
{
	char name[64];

	r->options.tls = 1;
	r->options.tls_cacert = certs_file(ca);
	snprintf(name, sizeof(name), "%s.pem", who);
	r->options.tls_cert = certs_file(name);
	snprintf(name, sizeof(name), "%s.key", who);
	r->options.tls_key = certs_file(name);
}

static void restore(struct rig *r, int port)
{
	rig_worker(r, rig_read_threads, r);
	rig_open(r, port);
	rig_start(r, 2, THAW_BACKGROUND_RUN);
	live_go(&r->live);
	LIVE_CHECK(live_end(&r->live) == 0);
	LIVE_OK(thaw_wait(r->h, 0, 60000));
}

static void test_good(bool cut)
{
	struct fake_options o;
	struct fake f;
	struct rig r;

	rig_begin(&r, PAGES, true);
	rig_images(&r);
	use_tls(&r, "ca.pem", "client");
	o = rig_fake(&r);
	certs_serve(&o, "server");
	if (cut) {
		o.cut = FAKE_CUT_PAGE;
		o.at = 3;
		o.once = true;
	}
	fake_start(&f, &o);
	restore(&r, f.port);
	rig_end(&r, true);
	RIG_AWAIT(f.stats->end != FAKE_OPEN);
	LIVE_CHECK(f.stats->bad == 0 && f.stats->closes == 1 && f.stats->connections == (cut ? 2 : 1) && f.stats->end == FAKE_CLOSED);
	fake_stop(&f);
}

/* who: the server's certificate, NULL: it does not speak TLS. 0: it is good; else what the client's error must be. */
static void test_server(const char *who, const char *ca, const char *crl, bool no_cn_verify, const char *why)
{
	struct thaw_pageserver *ps;
	struct fake_options o;
	struct fake f;
	struct rig r;

	rig_begin(&r, 10, true);
	rig_images(&r);
	use_tls(&r, ca, "client");
	r.options.tls_cacrl = crl ? certs_file(crl) : NULL;
	r.options.tls_no_cn_verify = no_cn_verify;
	o = rig_fake(&r);
	if (who)
		certs_serve(&o, who);
	fake_start(&f, &o);
	r.options.port = f.port;
	ps = thaw_pageserver_open(&r.options);
	if (why && ps)
		LIVE_DIE("a server that is %s was accepted", who ? who : "plain");
	if (why && !strstr(thaw_get_error(), why))
		LIVE_DIE("a server that is %s: %s (should name: %s)", who ? who : "plain", thaw_get_error(), why);
	if (!why && !ps)
		LIVE_DIE("%s: %s", who, thaw_get_error());
	if (why)
		printf("%s\n", thaw_get_error());
	thaw_pageserver_close(ps);
	scratch_end(&r.dir);
	fake_stop(&f);
}

static void test_files(void)
{
	struct rig r;

	rig_begin(&r, 10, true);
	use_tls(&r, "nothing.pem", "client");
	r.options.port = 1;
	LIVE_CHECK(!thaw_pageserver_open(&r.options) && thaw_get_errno() == ENOENT && strstr(thaw_get_error(), "--tls-cacert"));
	use_tls(&r, "ca.pem", "nobody");
	LIVE_CHECK(!thaw_pageserver_open(&r.options) && thaw_get_errno() == ENOENT && strstr(thaw_get_error(), "--tls-cert"));
	use_tls(&r, "ca.pem", "client");
	r.options.tls_key = certs_file("server.key");
	LIVE_CHECK(!thaw_pageserver_open(&r.options) && thaw_get_errno() == ENOENT);
	use_tls(&r, "ca.tmpl", "client");
	LIVE_CHECK(!thaw_pageserver_open(&r.options) && thaw_get_errno() == ENOENT);
	scratch_end(&r.dir);
}

/* ---- thaw page-server -------------------------------------------------------------------------------------- */
static void put_checkpoint(struct rig *r)
{
	r->flags = 6;
	rig_images(r);
	rig_index(r, 1);
	rig_pages_file(&r->dir, r->range.address, r->pages);
}

static void test_refused(struct page_server *s, const char *dir_ca, const char *who, const char *why)
{
	unsigned before = page_server_said(s, "is disconnected");
	struct thaw_pageserver *ps;
	struct rig r;

	rig_begin(&r, 10, true);
	use_tls(&r, dir_ca, who);
	r.options.port = s->port;
	ps = thaw_pageserver_open(&r.options); /* with TLS 1.3 the refusal may come after the client's handshake */
	thaw_pageserver_close(ps);
	RIG_AWAIT(page_server_said(s, "is disconnected") > before);
	if (!page_server_said(s, why))
		LIVE_DIE("a client that is %s was not refused with \"%s\"", who, why);
	scratch_end(&r.dir);
}

static void test_page_server(void)
{
	const char *options[] = { "--tls", "--tls-cacert", certs_file("ca.pem"), "--tls-cert", certs_file("server.pem"), "--tls-key",
				  certs_file("server.key"), "--tls-cacrl", certs_file("crl.pem"), NULL };
	struct page_server s;
	struct rig images, r;
	unsigned before;
	int fd;

	rig_begin(&images, PAGES, true);
	put_checkpoint(&images);
	page_server_start(&s, images.dir.path, options);
	test_refused(&s, "ca.pem", "stranger", "has no certificate"); /* it shows none that it knows to be no use */
	test_refused(&s, "ca.pem", "expired", "is refused");
	test_refused(&s, "ca.pem", "revoked", "is refused");
	before = page_server_said(&s, "is disconnected");
	fd = raw_connect(s.port); /* no TLS at all */
	raw_send(fd, 32, 7, 1, LIVE_BASE, RIG_PID);
	while (!raw_ended(fd))
		; /* an alert, then the end */
	close(fd);
	RIG_AWAIT(page_server_said(&s, "is disconnected") > before);
	rig_begin(&r, PAGES, true);
	rig_images(&r);
	r.options.address = "localhost";
	use_tls(&r, "ca.pem", "client");
	restore(&r, s.port);
	rig_end(&r, true);
	RIG_AWAIT(page_server_said(&s, "is done") == 1);
	LIVE_CHECK(page_server_stop(&s) == 0);
	scratch_end(&images.dir);
}

/* Warnings without end. With TLS 1.2, where there are such. */
static void warn_without_end(int fd)
{
	gnutls_certificate_credentials_t cred;
	gnutls_session_t t;
	int err;

	LIVE_CHECK(!gnutls_certificate_allocate_credentials(&cred));
	LIVE_CHECK(!gnutls_certificate_set_x509_key_file(cred, certs_file("client.pem"), certs_file("client.key"), GNUTLS_X509_FMT_PEM));
	LIVE_CHECK(!gnutls_init(&t, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL));
	LIVE_CHECK(!gnutls_priority_set_direct(t, "NORMAL:-VERS-TLS1.3", NULL));
	LIVE_CHECK(!gnutls_credentials_set(t, GNUTLS_CRD_CERTIFICATE, cred));
	gnutls_transport_set_int(t, fd);
	err = gnutls_handshake(t);
	if (err)
		LIVE_DIE("handshake: %s", gnutls_strerror(err));
	while (!gnutls_alert_send(t, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED))
		;
}

/* Bug: a session that was sent nothing but warnings looked at nothing else, not even whether the server ends. */
static void test_warnings(void)
{
	const char *options[] = { "--tls", "--tls-cacert", certs_file("ca.pem"), "--tls-cert", certs_file("server.pem"), "--tls-key",
				  certs_file("server.key"), NULL };
	pid_t test = getpid(), client;
	struct page_server s;
	struct rig images;
	int status;

	rig_begin(&images, PAGES, true);
	put_checkpoint(&images);
	page_server_start(&s, images.dir.path, options);
	client = fork();
	LIVE_CHECK(client >= 0);
	if (!client) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != test)
			_exit(99);
		alarm(FLOOD_S);
		warn_without_end(raw_connect(s.port));
		_exit(0);
	}
	usleep(1000000);
	LIVE_CHECK(!waitpid(client, &status, WNOHANG)); /* it goes on */
	page_server_stop_busy(&s);
	waitpid(client, &status, 0);
	scratch_end(&images.dir);
}

int main(void)
{
	alarm(250);
	if (!certs_make()) {
		printf("tls: SKIPPED: certtool (gnutls-bin) is not installed\n");
		return 77;
	}
	test_good(false);
	test_good(true);
	test_server("server", "ca.pem", NULL, false, NULL);
	test_server("server", "ca.pem", "crl.pem", false, NULL);
	test_server("server", "other.pem", NULL, false, "is refused");
	test_server("stranger", "ca.pem", NULL, false, "is refused");
	test_server("name", "ca.pem", NULL, false, "--tls-no-cn-verify");
	test_server("name", "ca.pem", NULL, true, NULL);
	test_server("expired", "ca.pem", NULL, false, "is refused");
	test_server("revoked", "ca.pem", "crl.pem", false, "is refused");
	test_server(NULL, "ca.pem", NULL, false, "TLS");
	test_files();
	test_page_server();
	test_warnings();
	certs_remove();
	return 0;
}
