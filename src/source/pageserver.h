/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source/pageserver.h - inside a connection to a page server: who owns what.
 *
 * One thread has the connection and everything about it (pageserver_thread.c); reads are handed to it under the lock, and
 * answered from it. It sleeps in poll(2) on the socket and an eventfd, to which is written only when it has said that it
 * sleeps.
 *
 * Rule      a want is in `fresh` (lock) or in `gets` (thread); its request's done() is called once, by the thread, or by whoever
 *           closes the connection after that has ended
 * Threads   see the fields
 * Rank      lock: THAW_RANK_RING; not held across a system call that waits, nor a callback
 * Lifetime  counted: the application's handle, each source
 * Errors    -errno with a sentence */
#ifndef THAW_SOURCE_PAGESERVER_H
#define THAW_SOURCE_PAGESERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "kern/net.h"
#include "kern/tls.h"
#include "proto/gets.h"
#include "source/source.h"
#include "util/lock.h"
#include "util/log.h"

/* The bytes of one connection. Owned by the thread (before it runs: by open). */
struct thaw_link {
	int fd; /* -1: none */
	struct thaw_tls_session *tls;
	bool write_wanted;               /* POLLOUT would help */
	size_t out_len;
	unsigned char out[64 * THAW_FRAME_MOST];
	size_t header_have;
	unsigned char header[THAW_FRAME_MOST];
};

struct thaw_remote_read {
	struct thaw_want want;
	struct thaw_request *request;
	struct thaw_remote_read *next; /* fresh */
};

enum thaw_finish { THAW_FINISH_NOT, THAW_FINISH_ASKED, THAW_FINISH_OVER };

struct thaw_pageserver {
	_Atomic unsigned refs;
	/* immutable after open */
	char *name;                  /* "host:port", or "the inherited socket": for sentences */
	char *host;                  /* what a certificate must name; NULL: nothing */
	struct thaw_net_addresses addresses;
	bool inherited, sandbox, fail_reads;
	bool told;                   /* the layout was given: the images are not asked */
	uint64_t reconnect_ns;       /* 0: for ever */
	struct thaw_tls *tls;        /* NULL: none */
	struct thaw_log log;
	thaw_pageserver_fn *changed;
	void *opaque;
	int wake_fd;
	pthread_t thread;
	bool running, attached;

	_Atomic int layout;          /* enum thaw_frame_layout: set once, by the first source at the latest */
	_Atomic bool asleep, stop;
	_Atomic uint32_t standing;   /* 1: the thread has begun; else -errno. A futex */

	struct thaw_lock lock;
	struct thaw_cond over;       /* finish has its answer */
	struct thaw_remote_read *fresh, **fresh_last; /* lock */
	bool closed;                 /* lock: no read is taken any more */
	enum thaw_finish finish;     /* lock */
	int finish_error;            /* lock */
	char finish_text[256];       /* lock */
	int *pids;                   /* lock: of the sources there are */
	unsigned n_pids;             /* lock */
	struct thaw_pageserver_stats stats; /* lock: written by the thread */

	/* the thread's */
	struct thaw_gets gets;
	struct thaw_link link;
	enum thaw_pageserver_state state;
	bool beginning;              /* there has not been a connection yet (state: LOST) */
	uint64_t lost_ns;            /* since when nothing has come in; 0: all is well */
	uint64_t up_ns;              /* when the connection was made */
	uint64_t retry_ns, backoff_ns;
	bool last_tried;             /* it was to finish, and an attempt to connect has failed since */
	uint64_t heard_ns;           /* when bytes came last */
	uint64_t quiet_told_ns;      /* since when it has been quiet, when that has been told; 0: it has not */
	uint64_t progress;           /* gets.bytes when the connection was made */
	unsigned n_wrong;            /* answers that were none, in a row */
	uint64_t n_lost, bytes_shown;
};

/* thaw_pageserver_open() that does not wait for the connection: that is made on the thread, again and again. The event says when there
 * is one; until then each attempt that fails is told by one that stays LOST, with `lost` 0 in the figures. Sentences do not name a
 * function. (An inherited socket is there at once.) */
struct thaw_pageserver *thaw_pageserver_begin(const struct thaw_pageserver_options *o);

/* A socket that is going to be inherited: from here on its end is a reset, and the holder has a use for it, unless good-bye is said. What
 * it is no socket for is said when it is used. */
void thaw_pageserver_guard(int fd);

/* ---- pageserver_link.c ------------------------------------------------------------------------------------- */
/* A new connection, TLS and all; gives up at deadline_ns, or when ps->stop is set. With a sentence. */
int thaw_link_open(struct thaw_pageserver *ps, uint64_t deadline_ns);
/* The handshake over a socket that is there. */
int thaw_link_secure(struct thaw_pageserver *ps, uint64_t deadline_ns);
void thaw_link_close(struct thaw_link *l); /* resets it, unless it is to end well */
int thaw_link_send(struct thaw_link *l);   /* what is in `out`, as far as it goes; -errno */
/* > 0, 0: closed by the other side; -EAGAIN. Into iov[0], then iov[1]. */
ssize_t thaw_link_receive(struct thaw_link *l, struct iovec iov[2]);

/* ---- pageserver_thread.c ----------------------------------------------------------------------------------- */
void *thaw_pageserver_main(void *ps);
void thaw_pageserver_wake(struct thaw_pageserver *ps);
/* Ends everything that is wanted; after the thread has ended, or never ran. */
void thaw_pageserver_cancel(struct thaw_pageserver *ps);

struct thaw_pageserver *thaw_pageserver_get(struct thaw_pageserver *ps);
void thaw_pageserver_put(struct thaw_pageserver *ps);

#endif
