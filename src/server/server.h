/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* server/server.h - pages for whoever asks, for any number of clients at once and one after another.
 *
 * Each client has a thread of its own: one that is slow, or silent, or whose pages come from a slow disk, is nobody else's
 * trouble. A client that asks for what there is not is disconnected, and a line says why; the others do not notice.
 * Pages are sent out of the page cache; a session needs its stack, and under TLS a buffer.
 *
 * Rule      what a client sends is hostile; its thread runs under a system call filter
 * Threads   run, stop: the owner; say: called by sessions, several at once
 * Lifetime  run returns when every session has ended
 * Errors    -errno with a sentence */
#ifndef THAW_SERVER_SERVER_H
#define THAW_SERVER_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "kern/net.h"
#include "kern/sandbox.h"
#include "kern/tls.h"
#include "server/store.h"
#include "util/lock.h"

#define THAW_SERVER_SESSIONS 1024

struct thaw_server {
	/* The owner's to set; immutable afterwards */
	struct thaw_store store;
	enum thaw_frame_layout protocol; /* UNKNOWN: each client's first request tells */
	struct thaw_tls *tls;            /* NULL: none */
	/* level 0: worth a line always; 1, 2: details */
	void (*say)(unsigned level, const char *line);
	/* The server's */
	int listener, stop_fd;           /* stop_fd: an eventfd, readable for good once it is to end */
	unsigned port;
	struct thaw_filter *filter;
	bool attached;
	struct thaw_lock lock;           /* THAW_RANK_IO */
	struct thaw_cond ended;
	unsigned sessions;               /* lock: that run */
	uint64_t last_id;                /* lock */
	uint64_t told_ns;                /* lock: lines about misbehaviour, of this second */
	unsigned told;                   /* lock */
	_Atomic uint64_t served, refused, pages;
};

int thaw_server_init(struct thaw_server *s);
/* Listens: s->listener, s->port. */
int thaw_server_listen(struct thaw_server *s, const char *address, unsigned port);
/* All that may fail before it serves: its sessions' system call filter. Also before a fork, when the child is to serve. */
int thaw_server_prepare(struct thaw_server *s);
/* Until `stop_fd` is readable; a descriptor of the caller's ends it as well (signals). */
int thaw_server_run(struct thaw_server *s, int signal_fd);
void thaw_server_free(struct thaw_server *s);

/* One client, on this thread, under the filter. fd is closed. session.c */
struct thaw_session_start {
	struct thaw_server *server;
	int fd;
	uint64_t id;
	char peer[80];
};
void thaw_server_session(const struct thaw_session_start *start);
/* A line about a client that did wrong; not more than some in a second. */
void thaw_server_complain(struct thaw_server *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void thaw_server_tell(struct thaw_server *s, unsigned level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
