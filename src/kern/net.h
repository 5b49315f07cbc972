/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/net.h - TCP: names made into addresses, connections begun, bytes in and out.
 *
 * A socket of ours is reset, not closed, when it goes away: by close(), by the death of the process. Who is at its other end may take
 * an end of stream for "all is done", and kill the processes whose memory is still needed (kern/net.c says how).
 * thaw_net_end_well() changes that.
 *
 * Threads   any; a socket belongs to its thread
 * Errors    -errno; resolve, listen and prepare with a sentence */
#ifndef THAW_KERN_NET_H
#define THAW_KERN_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define THAW_NET_ADDRESSES 16

struct thaw_net_address {
	socklen_t len;
	struct sockaddr_storage at;
};
struct thaw_net_addresses {
	unsigned n;
	struct thaw_net_address address[THAW_NET_ADDRESSES];
};

/* host: a name or a number, of either family; passive: NULL stands for all addresses of this machine. */
int thaw_net_resolve(const char *host, unsigned port, bool passive, struct thaw_net_addresses *out);
/* "192.0.2.1:1234", "[2001:db8::1]:1234" */
const char *thaw_net_name(const struct sockaddr_storage *at, char *buf, size_t size);

/* The descriptor of a connection that is being made: non-blocking, close-on-exec, prepared. */
int thaw_net_connect(const struct thaw_net_address *to);
int thaw_net_connected(int fd); /* after POLLOUT: 0 or why not */
/* A connected TCP socket made ours: non-blocking, its loss noticed, reset at its end. */
int thaw_net_prepare(int fd);
/* From here on its end is an end of stream. */
int thaw_net_end_well(int fd);

/* > 0: bytes; 0: the other side has closed; -EAGAIN: not now. */
ssize_t thaw_net_receive(int fd, const struct iovec *iov, int n);
ssize_t thaw_net_send(int fd, const void *buf, size_t len, bool more);
/* Waits until fd is what is asked for (READABLE, WRITABLE), or `wake` is readable; timeout_ms -1: for ever. What it is; 0: time is
 * over. */
enum { THAW_NET_READABLE = 1, THAW_NET_WRITABLE = 2, THAW_NET_WOKEN = 4 };
int thaw_net_wait(int fd, int what, int wake, int timeout_ms);

/* ---- servers ----------------------------------------------------------------------------------------------- */
int thaw_net_listen(const struct thaw_net_address *at, unsigned *port); /* *port: the one it got */
int thaw_net_accept(int listener, struct sockaddr_storage *peer); /* non-blocking, close-on-exec */

#endif
