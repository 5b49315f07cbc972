// SPDX-License-Identifier: LGPL-2.1-or-later
// What waits to be read in a UNIX socket, looked at with MSG_PEEK and a peek offset: nothing is consumed.
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "checkpoint/files_priv.h"

enum { MESSAGE_MAX = 4 << 20 };

/* Peeking at a message with descriptors gives us duplicates of them. */
static bool carries_fds(struct msghdr *m)
{
	bool found = m->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			close(fd);
		}
		found = true;
	}
	return found;
}

static int keep(ThawState__Socket *s, const void *data, size_t len)
{
	ProtobufCBinaryData *more = reallocarray(s->queue, s->n_queue + 1, sizeof(*more));

	if (!more)
		return thaw_nomem();
	s->queue = more;
	return thaw_bytes(&s->queue[s->n_queue++], data, len) ? 0 : thaw_nomem();
}

/* One more message. 1: there are no more. */
static int peek_one(struct thaw_dt *t, ThawState__Socket *s, char *buf)
{
	union {
		struct cmsghdr align;
		char room[4096];
	} control;
	struct iovec iov = { buf, MESSAGE_MAX };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(t->dup, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN ? 1 : thaw_err_set(-errno, "fd %d: UNIX socket cannot be peeked at: %s", t->fd->num,
							  strerrordesc_np(errno));
	if (carries_fds(&m))
		return thaw_refuse(t->fd->num, "UNIX socket with descriptors (SCM_RIGHTS) waiting in its queue: not supported; receive them first");
	if (m.msg_flags & MSG_TRUNC)
		return thaw_refuse(t->fd->num, "UNIX socket with a message above %d bytes waiting: not supported; receive it first", MESSAGE_MAX);
	if (n == 0 && (s->type == SOCK_STREAM || (s->shut & 1)))
		return 1;  /* end of file */
	return keep(s, buf, (size_t)n);
}

static bool has_urgent(const struct thaw_dt *t)
{
	char c;

	return recv(t->dup, &c, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) == 1;
}

int thaw_dump_queue(struct thaw_dt *t, ThawState__Socket *s)
{
	int off, zero = 0, rc = has_urgent(t) ? thaw_refuse(t->fd->num, "UNIX socket with urgent data (MSG_OOB) waiting: not "
							    "supported; receive it first") : 0;
	socklen_t len = sizeof(off);
	char *buf = rc ? NULL : malloc(MESSAGE_MAX);

	if (!buf)
		return rc ? rc : thaw_nomem();
	if (getsockopt(t->dup, SOL_SOCKET, SO_PEEK_OFF, &off, &len) ||
	    setsockopt(t->dup, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero))) {
		free(buf);
		return thaw_err_set(-errno, "fd %d: UNIX socket: SO_PEEK_OFF: %s", t->fd->num, strerrordesc_np(errno));
	}
	while (!rc)
		rc = peek_one(t, s, buf);
	setsockopt(t->dup, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off));
	free(buf);
	return rc < 0 ? rc : 0;
}
