// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/tls.c - GnuTLS */
#include "config.h"
#include "kern/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"

#define TURNS 16 /* of answers that say to try again, before somebody else has a turn */

struct thaw_tls {
	gnutls_certificate_credentials_t cred;
};

struct thaw_tls_session {
	gnutls_session_t session;
	char *host;
	bool server;
};

/* ---- credentials ------------------------------------------------------------------------------------------- */
static int unreadable(const char *what, const char *path, const char *option, const char *why)
{
	return thaw_err_set(-ENOENT, "TLS: the %s %s cannot be used (%s): name another with %s", what, path, why, option);
}

/* err: how many were read, or a code of GnuTLS's. */
static int check(int err, const char *what, const char *path, const char *option)
{
	if (err < 0 && access(path, R_OK))
		return unreadable(what, path, option, strerror(errno));
	if (err < 0)
		return unreadable(what, path, option, gnutls_strerror(err));
	return err ? 0 : unreadable(what, path, option, "nothing is in it");
}

static int load(struct thaw_tls *t, const struct thaw_tls_files *f)
{
	const char *cacert = f->cacert ? f->cacert : THAW_TLS_CACERT, *cacrl = f->cacrl ? f->cacrl : THAW_TLS_CACRL;
	const char *cert = f->cert ? f->cert : THAW_TLS_CERT, *key = f->key ? f->key : THAW_TLS_KEY;
	int err;

	err = check(gnutls_certificate_set_x509_trust_file(t->cred, cacert, GNUTLS_X509_FMT_PEM),
		    "certificate of the authority", cacert, "--tls-cacert");
	if (!err && (f->cacrl || !access(cacrl, F_OK)))
		err = check(gnutls_certificate_set_x509_crl_file(t->cred, cacrl, GNUTLS_X509_FMT_PEM),
			    "list of revoked certificates", cacrl, "--tls-cacrl");
	if (err)
		return err;
	if (access(cert, R_OK))
		return unreadable("certificate", cert, "--tls-cert", strerror(errno));
	if (access(key, R_OK))
		return unreadable("key", key, "--tls-key", strerror(errno));
	err = gnutls_certificate_set_x509_key_file(t->cred, cert, key, GNUTLS_X509_FMT_PEM);
	if (err < 0)
		return thaw_err_set(-ENOENT, "TLS: the certificate %s and the key %s cannot be used (%s): name others with --tls-cert"
				    " and --tls-key", cert, key, gnutls_strerror(err));
	return 0;
}

int thaw_tls_new(struct thaw_tls **out, const struct thaw_tls_files *files)
{
	struct thaw_tls *t = calloc(1, sizeof(*t));
	int err;

	if (!t || gnutls_certificate_allocate_credentials(&t->cred)) {
		free(t);
		return thaw_err_set(-ENOMEM, "TLS: no memory");
	}
	err = load(t, files);
	if (err)
		thaw_tls_free(t);
	else
		*out = t;
	return err;
}

void thaw_tls_free(struct thaw_tls *t)
{
	if (t)
		gnutls_certificate_free_credentials(t->cred);
	free(t);
}

/* ---- sessions ---------------------------------------------------------------------------------------------- */
static int set_up(struct thaw_tls_session *s, const struct thaw_tls *t, int fd, const char *host)
{
	int err = gnutls_init(&s->session, (s->server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

	if (err)
		return err;
	err = gnutls_set_default_priority(s->session);
	if (!err)
		err = gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, t->cred);
	if (err)
		return err;
	if (s->server)
		gnutls_certificate_server_set_request(s->session, GNUTLS_CERT_REQUIRE);
	if (host) {
		s->host = strdup(host); /* it is looked at during the handshake */
		if (!s->host)
			return GNUTLS_E_MEMORY_ERROR;
	}
	gnutls_session_set_verify_cert(s->session, s->host, 0);
	gnutls_transport_set_int(s->session, fd);
	gnutls_handshake_set_timeout(s->session, 0); /* the caller has its own */
	return 0;
}

int thaw_tls_begin(struct thaw_tls_session **out, const struct thaw_tls *t, int fd, bool server, const char *host)
{
	struct thaw_tls_session *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return thaw_err_set(-ENOMEM, "TLS: no memory");
	s->server = server;
	err = set_up(s, t, fd, host);
	if (err) {
		thaw_tls_end(s);
		return thaw_err_set(err == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EPROTO, "TLS: %s", gnutls_strerror(err));
	}
	*out = s;
	return 0;
}

void thaw_tls_end(struct thaw_tls_session *s)
{
	if (!s)
		return;
	if (s->session)
		gnutls_deinit(s->session);
	free(s->host);
	free(s);
}

/* Why a certificate was refused, in the library's words. */
static int refused(struct thaw_tls_session *s)
{
	unsigned status = gnutls_session_get_verify_cert_status(s->session);
	gnutls_datum_t words = { 0 };
	unsigned len;
	int err;

	if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
		return thaw_err_set(-EACCES, "TLS: the certificate of the other side is not one for %s: connect to the name that it"
				    " is made for, or allow any with --tls-no-cn-verify", s->host ? s->host : "it");
	err = gnutls_certificate_verification_status_print(status, gnutls_certificate_type_get(s->session), &words, 0);
	for (len = err ? 0 : (unsigned)strlen((const char *)words.data); len && strchr(" .\n", words.data[len - 1]); len--)
		;
	thaw_err_set(-EACCES, "TLS: the certificate of the other side is refused: %.*s", err ? 21 : (int)len,
		     err ? "it cannot be verified" : (const char *)words.data);
	if (!err)
		gnutls_free(words.data);
	return -EACCES;
}

static int failed(struct thaw_tls_session *s, int err)
{
	switch (err) {
	case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
	case GNUTLS_E_CERTIFICATE_ERROR:
		return refused(s);
	case GNUTLS_E_NO_CERTIFICATE_FOUND:
	case GNUTLS_E_CERTIFICATE_REQUIRED:
		return thaw_err_set(-EACCES, "TLS: the other side has no certificate");
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		return thaw_err_set(-EACCES, "TLS: the other side refused with \"%s\"",
				    gnutls_alert_get_name(gnutls_alert_get(s->session)));
	case GNUTLS_E_PREMATURE_TERMINATION:
		return thaw_err_set(-ECONNRESET, "TLS: the other side closed the connection within the handshake; does it speak TLS?");
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR:
		return thaw_err_set(-ECONNRESET, "TLS: the connection was lost within the handshake");
	default:
		return thaw_err_set(-EPROTO, "TLS: %s", gnutls_strerror(err));
	}
}

/* Worth another try at once? Not without end: an other side that sends nothing but warnings would keep us from everything else. What is
 * left lies in the socket, which is readable. */
static bool may_go_on(ssize_t n, unsigned *turns)
{
	return n == GNUTLS_E_INTERRUPTED || (n < 0 && n != GNUTLS_E_AGAIN && !gnutls_error_is_fatal((int)n) && ++*turns < TURNS);
}

int thaw_tls_handshake(struct thaw_tls_session *s, bool *write)
{
	unsigned turns = 0;
	int err;

	do
		err = gnutls_handshake(s->session);
	while (may_go_on(err, &turns));
	if (!err)
		return 0;
	if (err == GNUTLS_E_AGAIN || turns == TURNS) {
		*write = gnutls_record_get_direction(s->session);
		return -EAGAIN;
	}
	failed(s, err);
	/* So that the other side can say why; if it cannot be told, it sees the connection end. */
	(void)gnutls_alert_send_appropriate(s->session, err);
	return thaw_err_code();
}

static ssize_t outcome(ssize_t n)
{
	switch (n) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED:
		return -EAGAIN;
	case GNUTLS_E_PREMATURE_TERMINATION:
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR:
		return -ECONNRESET;
	case GNUTLS_E_TIMEDOUT:
		return -ETIMEDOUT;
	default:
		return n < 0 ? -EPROTO : n;
	}
}

ssize_t thaw_tls_receive(struct thaw_tls_session *s, void *buf, size_t len)
{
	unsigned turns = 0;
	ssize_t n;

	do
		n = gnutls_record_recv(s->session, buf, len);
	while (n != GNUTLS_E_REHANDSHAKE && may_go_on(n, &turns));
	return turns == TURNS ? -EAGAIN : outcome(n);
}

ssize_t thaw_tls_send(struct thaw_tls_session *s, const void *buf, size_t len)
{
	return outcome(gnutls_record_send(s->session, buf, len));
}

int thaw_tls_bye(struct thaw_tls_session *s)
{
	return (int)outcome(gnutls_bye(s->session, GNUTLS_SHUT_WR));
}
