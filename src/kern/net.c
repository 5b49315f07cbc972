// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/net.c - sockets */
#include "config.h"
#include "kern/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"
#include "util/inject.h"

/* A peer that is gone without a word is noticed after about half a minute, asked or not. */
#define IDLE_SECONDS 10
#define PROBE_SECONDS 5
#define PROBES 4
#define UNANSWERED_MS 30000

/* ---- names ------------------------------------------------------------------------------------------------- */
int thaw_net_resolve(const char *host, unsigned port, bool passive, struct thaw_net_addresses *out)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0),
	};
	struct addrinfo *list;
	char service[16];
	int err;

	out->n = 0;
	snprintf(service, sizeof(service), "%u", port);
	err = getaddrinfo(host, service, &hints, &list);
	if (err)
		return thaw_err_set(err == EAI_MEMORY ? -ENOMEM : err == EAI_SYSTEM && errno ? -errno : -ENOENT,
				    "%s: there is no such address: %s", host ? host : "*", gai_strerror(err));
	for (struct addrinfo *a = list; a && out->n < THAW_NET_ADDRESSES; a = a->ai_next) {
		struct thaw_net_address *to = &out->address[out->n];

		if (a->ai_addrlen > sizeof(to->at))
			continue;
		to->len = a->ai_addrlen;
		memcpy(&to->at, a->ai_addr, a->ai_addrlen);
		out->n++;
	}
	freeaddrinfo(list);
	return out->n ? 0 : thaw_err_set(-ENOENT, "%s: has no address that can be used", host ? host : "*");
}

const char *thaw_net_name(const struct sockaddr_storage *at, char *buf, size_t size)
{
	char number[INET6_ADDRSTRLEN] = "?";

	if (at->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;

		inet_ntop(AF_INET, &v4->sin_addr, number, sizeof(number));
		snprintf(buf, size, "%s:%u", number, ntohs(v4->sin_port));
	} else if (at->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;

		inet_ntop(AF_INET6, &v6->sin6_addr, number, sizeof(number));
		snprintf(buf, size, "[%s]:%u", number, ntohs(v6->sin6_port));
	} else {
		snprintf(buf, size, "a socket of family %d", at->ss_family);
	}
	return buf;
}

/* ---- connections ------------------------------------------------------------------------------------------- */
static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

int thaw_net_prepare(int fd)
{
	/* close(2) and exit then send a reset at once, and so does the kernel for a process that is killed: the other side's
	 * read fails, it does not end. */
	struct linger reset = { 1, 0 };
	int flags = fcntl(fd, F_GETFL), err = THAW_INJECT("net.prepare");

	if (err)
		return err;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		return -errno;
	/* What follows is TCP's; a socket of another kind that was handed over does without. */
	(void)set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	(void)set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	(void)set(fd, IPPROTO_TCP, TCP_KEEPIDLE, IDLE_SECONDS);
	(void)set(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_SECONDS);
	(void)set(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
	(void)set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNANSWERED_MS);
	return 0;
}

int thaw_net_end_well(int fd)
{
	struct linger off = { 0, 0 };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) ? -errno : 0;
}

int thaw_net_connect(const struct thaw_net_address *to)
{
	int err = THAW_INJECT("net.connect"), fd;

	if (err)
		return err;
	fd = socket(to->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = thaw_net_prepare(fd);
	if (!err && connect(fd, (const struct sockaddr *)&to->at, to->len) && errno != EINPROGRESS && errno != EINTR)
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

int thaw_net_connected(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
		return -errno;
	return -err;
}

/* ---- bytes ------------------------------------------------------------------------------------------------- */
ssize_t thaw_net_receive(int fd, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	int err = THAW_INJECT("net.receive");
	ssize_t got;

	if (err)
		return err;
	do
		got = recvmsg(fd, &msg, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

ssize_t thaw_net_send(int fd, const void *buf, size_t len, bool more)
{
	int err = THAW_INJECT("net.send");
	ssize_t n;

	if (err)
		return err;
	do
		n = send(fd, buf, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int thaw_net_wait(int fd, int what, int wake, int timeout_ms)
{
	short events = (what & THAW_NET_READABLE ? POLLIN : 0) | (what & THAW_NET_WRITABLE ? POLLOUT : 0);
	struct pollfd p[2] = { { .fd = fd, .events = events }, { .fd = wake, .events = POLLIN } };
	int n = poll(p, 2, timeout_ms);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	/* An error is for whoever reads or writes next to find out. */
	if (p[0].revents & ~events)
		return what | (p[1].revents ? THAW_NET_WOKEN : 0);
	return (p[0].revents & POLLIN ? THAW_NET_READABLE : 0) | (p[0].revents & POLLOUT ? THAW_NET_WRITABLE : 0) |
	       (p[1].revents ? THAW_NET_WOKEN : 0);
}

/* ---- servers ----------------------------------------------------------------------------------------------- */
int thaw_net_listen(const struct thaw_net_address *at, unsigned *port)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof(own);
	char name[80];
	int err = 0, fd = THAW_INJECT_ERRNO("net.listen") ? -1 :
			  socket(at->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return thaw_err_set(-errno, "no socket: %s", strerror(errno));
	(void)set(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* connections that have ended lately do not matter */
	if (bind(fd, (const struct sockaddr *)&at->at, at->len) || listen(fd, 128) ||
	    getsockname(fd, (struct sockaddr *)&own, &len))
		err = thaw_err_set(-errno, "%s: cannot be listened on: %s", thaw_net_name(&at->at, name, sizeof(name)),
				   strerror(errno));
	if (err) {
		close(fd);
		return err;
	}
	*port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port :
						  ((struct sockaddr_in *)&own)->sin_port);
	return fd;
}

int thaw_net_accept(int listener, struct sockaddr_storage *peer)
{
	socklen_t len = sizeof(*peer);
	int fd = THAW_INJECT_ERRNO("net.accept") ? -1 :
		 accept4(listener, (struct sockaddr *)peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return -errno;
	(void)set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	(void)set(fd, SOL_SOCKET, SO_KEEPALIVE, 1); /* a client that is gone without a word */
	(void)set(fd, IPPROTO_TCP, TCP_KEEPIDLE, IDLE_SECONDS);
	(void)set(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_SECONDS);
	(void)set(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
	return fd;
}
