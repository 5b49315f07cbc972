/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/lazystatus.h - the status socket of thaw lazy-pages: who connects gets the document of now, and the end.
 *
 * Rule      never waits for a client: what does not fit into its socket is kept, and a client that does not read makes
 *           room for the next. Only root and the daemon's own user are answered
 * Threads   the main thread
 * Errors    -errno with a sentence */
#ifndef THAW_CLI_LAZYSTATUS_H
#define THAW_CLI_LAZYSTATUS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lazy/session.h"

#define THAW_STATUS_CLIENTS 8
#define THAW_STATUS_POLLFDS (1 + THAW_STATUS_CLIENTS)

struct thaw_status_server {
	int fd;             /* listening; -1: none */
	uint64_t rest_ns;   /* until then nobody is taken: there was no descriptor */
	const char *path;
	dev_t dev;          /* of the socket's file, to know it again */
	ino_t ino;
	struct thaw_status_client {
		int fd;         /* -1: none */
		char *text;
		size_t len, sent;
	} client[THAW_STATUS_CLIENTS];
	unsigned turn;      /* whose place is taken when there is none */
};

/* path: NULL: the usual name in the working directory; then a socket that cannot be had is no failure, and is said. */
int thaw_status_serve(struct thaw_status_server *s, const char *path);
void thaw_status_close(struct thaw_status_server *s); /* the file goes, too */

/* Fills THAW_STATUS_POLLFDS entries. */
void thaw_status_poll(const struct thaw_status_server *s, struct pollfd *p);
/* After poll(2). ps: NULL: local images (or no page server yet, where `remote`). */
void thaw_status_handle(struct thaw_status_server *s, const struct pollfd *p, struct thaw_lazy *z, struct thaw_pageserver *ps,
			const char *remote);

#endif
