// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/receive.c - recvmsg with what comes beside the bytes */
#include "config.h"
#include "lazy/receive.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "util/err.h"

int thaw_receive_prepare(int sock)
{
	int on = 1;

	if (setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)))
		return thaw_err_set(-errno, "SO_PASSCRED: %s", strerror(errno));
	return 0;
}

static void take_control(struct thaw_received *r, struct cmsghdr *c)
{
	if (c->cmsg_level != SOL_SOCKET)
		return;
	if (c->cmsg_type == SCM_RIGHTS) {
		unsigned n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (unsigned i = 0; i < n && r->n_fds < THAW_RECEIVE_FDS; i++)
			memcpy(&r->fds[r->n_fds++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	} else if (c->cmsg_type == SCM_CREDENTIALS) {
		struct ucred u;

		memcpy(&u, CMSG_DATA(c), sizeof(u));
		r->sender = u.pid;
	}
}

int thaw_receive(int sock, void *buf, size_t want, struct thaw_received *r)
{
	union {
		char bytes[CMSG_SPACE(THAW_RECEIVE_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, want };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n;

	*r = (struct thaw_received){ 0 };
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -EAGAIN;
	if (n < 0 && errno == ECONNRESET)
		n = 0; /* it ended with something of ours unread, which cannot be: an end all the same */
	if (n < 0)
		return thaw_err_set(-errno, "the restorer's connection: %s", strerror(errno));
	for (struct cmsghdr *c = n ? CMSG_FIRSTHDR(&msg) : NULL; c; c = CMSG_NXTHDR(&msg, c))
		take_control(r, c);
	r->cut = n && msg.msg_flags & MSG_CTRUNC;
	r->len = n;
	return 0;
}
