/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/receive.h - bytes, descriptors and the sender's pid from a UNIX stream socket.
 *
 * Rule      never more bytes than asked for, so that a descriptor stays with its byte. A descriptor for which there is no number, or that a
 *           security module keeps from us, is gone: the kernel tells only that there was one
 * Threads   any
 * Errors    -errno with a sentence; -EAGAIN without one: nothing is there now */
#ifndef THAW_LAZY_RECEIVE_H
#define THAW_LAZY_RECEIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define THAW_RECEIVE_FDS 8

struct thaw_received {
	size_t len;     /* 0: the stream has ended */
	unsigned n_fds; /* in fds */
	bool cut;       /* there were more, and the kernel has closed those */
	int fds[THAW_RECEIVE_FDS]; /* close-on-exec; the caller's */
	pid_t sender;   /* as seen from here; 0: unknown, or not visible from this pid namespace */
};

/* Before listen(): messages then carry their sender's pid. */
int thaw_receive_prepare(int sock);
int thaw_receive(int sock, void *buf, size_t want, struct thaw_received *r);

#endif
