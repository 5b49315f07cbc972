/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/tls.h - TLS over a socket, with both sides' certificates checked: GnuTLS, TLS 1.2 and 1.3.
 *
 * Rule      files are read when the credentials are made, before any filter; sessions then need the socket only
 * Threads   credentials: immutable, any; a session belongs to its thread
 * Errors    -errno with a sentence: -EACCES who is at the other end could not be proven, -EPROTO no TLS or another failure of it;
 *           receive and send without one: -EAGAIN, -ECONNRESET, -EPROTO, -ETIMEDOUT */
#ifndef THAW_KERN_TLS_H
#define THAW_KERN_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define THAW_TLS_CACERT "/etc/pki/CA/cacert.pem"
#define THAW_TLS_CACRL "/etc/pki/CA/cacrl.pem"
#define THAW_TLS_CERT "/etc/pki/criu/cert.pem"
#define THAW_TLS_KEY "/etc/pki/criu/private/key.pem"

struct thaw_tls_files {
	const char *cacert, *cacrl, *cert, *key; /* NULL: the paths above; a list of revoked ones need not be there then */
};

struct thaw_tls;
struct thaw_tls_session;

int thaw_tls_new(struct thaw_tls **out, const struct thaw_tls_files *files);
void thaw_tls_free(struct thaw_tls *t); /* NULL is fine */

/* A client (host: what its certificate must name; NULL: not looked at) or, with `server`, a server. The socket stays the
 * caller's. */
int thaw_tls_begin(struct thaw_tls_session **out, const struct thaw_tls *t, int fd, bool server, const char *host);
void thaw_tls_end(struct thaw_tls_session *s); /* NULL is fine */
/* 0: done; -EAGAIN: when the socket is readable (writable: *write) again. */
int thaw_tls_handshake(struct thaw_tls_session *s, bool *write);
ssize_t thaw_tls_receive(struct thaw_tls_session *s, void *buf, size_t len); /* 0: a proper end */
ssize_t thaw_tls_send(struct thaw_tls_session *s, const void *buf, size_t len);
int thaw_tls_bye(struct thaw_tls_session *s); /* says that nothing more will be sent */

#endif
