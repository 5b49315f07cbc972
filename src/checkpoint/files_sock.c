// SPDX-License-Identifier: LGPL-2.1-or-later
// Sockets: which kind one is, TCP sockets that listen or are fresh, and options changed from their defaults.
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "checkpoint/files_priv.h"

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#endif
#ifndef SO_PASSPIDFD /* Linux 6.5 */
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS /* Linux 6.16 */
#define SO_PASSRIGHTS 83
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

void thaw_sock_text(const void *addr, size_t len, char *buf, size_t room)
{
	const struct sockaddr_un *un = addr;
	const struct sockaddr_in *in = addr;
	const struct sockaddr_in6 *in6 = addr;
	size_t n = len > offsetof(struct sockaddr_un, sun_path) ? len - offsetof(struct sockaddr_un, sun_path) : 0;
	char ip[INET6_ADDRSTRLEN] = "?";

	if (len < sizeof(sa_family_t))
		snprintf(buf, room, "no address");
	else if (un->sun_family == AF_INET && inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip)))
		snprintf(buf, room, "%s:%u", ip, ntohs(in->sin_port));
	else if (un->sun_family == AF_INET6 && inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip)))
		snprintf(buf, room, "[%s]:%u", ip, ntohs(in6->sin6_port));
	else if (un->sun_family == AF_UNIX && n && un->sun_path[0])
		snprintf(buf, room, "%.*s", (int)n, un->sun_path);
	else if (un->sun_family == AF_UNIX && n)
		snprintf(buf, room, "@%.*s", (int)n - 1, un->sun_path + 1);
	else
		snprintf(buf, room, "no name");
}

/* ---- options ---- */

struct option {
	int level, name;
	int domain;            /* 0: any */
	int protocol;          /* 0: any */
};

static const struct option options[] = {
	{ SOL_SOCKET, SO_REUSEADDR, 0, 0 }, { SOL_SOCKET, SO_REUSEPORT, 0, IPPROTO_TCP }, { SOL_SOCKET, SO_KEEPALIVE, 0, 0 },
	{ SOL_SOCKET, SO_SNDBUF, 0, 0 }, { SOL_SOCKET, SO_RCVBUF, 0, 0 }, { SOL_SOCKET, SO_LINGER, 0, 0 },
	{ SOL_SOCKET, SO_OOBINLINE, 0, 0 }, { SOL_SOCKET, SO_RCVLOWAT, 0, 0 }, { SOL_SOCKET, SO_RCVTIMEO, 0, 0 },
	{ SOL_SOCKET, SO_SNDTIMEO, 0, 0 }, { SOL_SOCKET, SO_PRIORITY, 0, 0 }, { SOL_SOCKET, SO_MARK, 0, 0 },
	{ SOL_SOCKET, SO_BINDTODEVICE, 0, IPPROTO_TCP }, { SOL_SOCKET, SO_DONTROUTE, 0, 0 },
	{ SOL_SOCKET, SO_PASSCRED, AF_UNIX, 0 }, { SOL_SOCKET, SO_PASSSEC, AF_UNIX, 0 },
	{ SOL_SOCKET, SO_PASSPIDFD, AF_UNIX, 0 }, { SOL_SOCKET, SO_PASSRIGHTS, AF_UNIX, 0 },
	/* the old ones first: setting them takes the mark of the new ones away */
	{ SOL_SOCKET, SO_TIMESTAMP_OLD, 0, 0 }, { SOL_SOCKET, SO_TIMESTAMPNS_OLD, 0, 0 },
	{ SOL_SOCKET, SO_TIMESTAMPING_OLD, 0, 0 }, { SOL_SOCKET, SO_TIMESTAMP_NEW, 0, 0 },
	{ SOL_SOCKET, SO_TIMESTAMPNS_NEW, 0, 0 }, { SOL_SOCKET, SO_TIMESTAMPING_NEW, 0, 0 },
	{ SOL_SOCKET, SO_ZEROCOPY, 0, 0 }, { SOL_SOCKET, SO_RXQ_OVFL, 0, 0 }, { SOL_SOCKET, SO_SELECT_ERR_QUEUE, 0, 0 },
	{ SOL_SOCKET, SO_BUSY_POLL, 0, 0 }, { SOL_SOCKET, SO_PREFER_BUSY_POLL, 0, 0 },
	{ SOL_SOCKET, SO_INCOMING_CPU, 0, IPPROTO_TCP }, { SOL_SOCKET, SO_MAX_PACING_RATE, 0, 0 },
	{ SOL_SOCKET, SO_PEEK_OFF, AF_UNIX, 0 },
	{ IPPROTO_IPV6, IPV6_V6ONLY, AF_INET6, 0 }, { IPPROTO_IPV6, IPV6_TCLASS, AF_INET6, 0 },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, AF_INET6, 0 }, { IPPROTO_IPV6, IPV6_FREEBIND, AF_INET6, 0 },
	{ IPPROTO_IPV6, IPV6_TRANSPARENT, AF_INET6, 0 }, { IPPROTO_IPV6, IPV6_RECVPKTINFO, AF_INET6, 0 },
	{ IPPROTO_IP, IP_TOS, 0, IPPROTO_TCP }, { IPPROTO_IP, IP_TTL, 0, IPPROTO_TCP },
	{ IPPROTO_IP, IP_MTU_DISCOVER, 0, IPPROTO_TCP }, { IPPROTO_IP, IP_FREEBIND, 0, IPPROTO_TCP },
	{ IPPROTO_IP, IP_TRANSPARENT, 0, IPPROTO_TCP }, { IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0, IPPROTO_TCP },
	{ IPPROTO_IP, IP_MINTTL, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_NODELAY, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_CORK, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_KEEPINTVL, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_KEEPCNT, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_SYNCNT, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_LINGER2, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_USER_TIMEOUT, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_FASTOPEN, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_CONGESTION, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_SAVE_SYN, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_QUICKACK, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_MAXSEG, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0, IPPROTO_TCP },
	{ IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 0, IPPROTO_TCP }, { IPPROTO_TCP, TCP_INQ, 0, IPPROTO_TCP },
};

static bool has_option(const ThawState__Socket *s, const struct option *o)
{
	return (!o->domain || o->domain == s->domain) && (!o->protocol || o->protocol == s->protocol);
}

static int keep_option(ThawState__Socket *s, const struct option *o, const void *value, size_t len)
{
	ThawState__Option **more = reallocarray(s->options, s->n_options + 1, sizeof(*more));
	ThawState__Option *n = malloc(sizeof(*n));

	if (more)
		s->options = more;
	if (!more || !n) {
		free(n);
		return thaw_nomem();
	}
	thaw_state__option__init(n);
	n->level = o->level;
	n->name = o->name;
	s->options[s->n_options++] = n;
	return thaw_bytes(&n->value, value, len) ? 0 : thaw_nomem();
}

/* Compared with a socket fresh from the kernel, so that defaults stay those of the restoring machine. */
static int changed_options(int fd, int num, ThawState__Socket *s)
{
	int fresh = socket(s->domain, s->type | SOCK_CLOEXEC, s->protocol), rc = 0;

	if (fresh < 0)
		return thaw_err_set(-errno, "fd %d: no socket to compare options with: %s", num, strerrordesc_np(errno));
	for (size_t i = 0; i < sizeof(options) / sizeof(*options) && !rc; i++) {
		const struct option *o = &options[i];
		char a[64] = { 0 }, b[64] = { 0 };
		socklen_t la = sizeof(a), lb = sizeof(b);

		if (!has_option(s, o) || getsockopt(fd, o->level, o->name, a, &la) || getsockopt(fresh, o->level, o->name, b, &lb))
			continue;
		if (la != lb || memcmp(a, b, la))
			rc = keep_option(s, o, a, la);
	}
	close(fresh);
	return rc;
}

/* The kernel shows double of what was set; beyond wmem_max only root may go. */
static int set_buffer(int fd, int name, const ThawState__Option *o)
{
	int v;

	if (o->value.len != sizeof(v))
		return -1;
	memcpy(&v, o->value.data, sizeof(v));
	v /= 2;
	if (!setsockopt(fd, SOL_SOCKET, name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &v, sizeof(v)))
		return 0;
	return setsockopt(fd, SOL_SOCKET, name, &v, sizeof(v));
}

int thaw_sock_set_options(const ThawState__Socket *s, int fd, int num)
{
	for (size_t i = 0; i < s->n_options; i++) {
		const ThawState__Option *o = s->options[i];
		int rc;

		if (o->level == SOL_SOCKET && (o->name == SO_SNDBUF || o->name == SO_RCVBUF))
			rc = set_buffer(fd, o->name, o);
		else
			rc = setsockopt(fd, o->level, o->name, o->value.data, (socklen_t)o->value.len);
		if (rc)
			return thaw_err_set(-errno, "fd %d: socket option %d of level %d cannot be set: %s", num, o->name, o->level,
					    strerrordesc_np(errno));
	}
	return 0;
}

static int check_filter(const struct thaw_dt *t)
{
	socklen_t len = 0;

	if (!getsockopt(t->dup, SOL_SOCKET, SO_GET_FILTER, NULL, &len) && !len)
		return 0;
	if (errno == ENOPROTOOPT)
		return 0;
	return thaw_refuse(t->fd->num, "socket with a filter (SO_ATTACH_FILTER): not supported; detach it before the checkpoint");
}

int thaw_sock_new(struct thaw_dt *t, File *f)
{
	ThawState__Socket *s = malloc(sizeof(*s));
	struct sockaddr_storage addr;
	socklen_t len = sizeof(int), alen = sizeof(addr);
	int rc;

	if (!s)
		return thaw_nomem();
	thaw_state__socket__init(s);
	f->socket = s;
	f->pos = 0;
	if (getsockopt(t->dup, SOL_SOCKET, SO_DOMAIN, &s->domain, &len) ||
	    getsockopt(t->dup, SOL_SOCKET, SO_TYPE, &s->type, &len) ||
	    getsockopt(t->dup, SOL_SOCKET, SO_PROTOCOL, &s->protocol, &len) ||
	    getsockname(t->dup, (struct sockaddr *)&addr, &alen))
		return thaw_err_set(-errno, "fd %d: socket cannot be looked at: %s", t->fd->num, strerrordesc_np(errno));
	s->has_address = true;
	if (!thaw_bytes(&s->address, &addr, alen < sizeof(addr) ? alen : sizeof(addr)))
		return thaw_nomem();
	rc = check_filter(t);
	return rc ? rc : changed_options(t->dup, t->fd->num, s);
}

/* ---- kinds ---- */

static void names(int fd, char *own, char *peer, size_t room)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	own[0] = peer[0] = 0;
	if (!getsockname(fd, (struct sockaddr *)&a, &len))
		thaw_sock_text(&a, len, own, room);
	len = sizeof(a);
	if (!getpeername(fd, (struct sockaddr *)&a, &len))
		thaw_sock_text(&a, len, peer, room);
}

static int refuse_kind(const struct thaw_dt *t, const char *kind)
{
	char own[200], peer[200];

	names(t->dup, own, peer, sizeof(own));
	if (peer[0])
		return thaw_refuse(t->fd->num, "%s socket %s connected to %s: not supported; close it before the checkpoint", kind, own, peer);
	return thaw_refuse(t->fd->num, "%s socket %s: not supported; close it before the checkpoint", kind, own);
}

static int sock_int(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) ? -1 : v;
}

static int refuse_family(const struct thaw_dt *t, int family, int protocol)
{
	switch (family) {
	case AF_NETLINK:
		return thaw_refuse(t->fd->num, "netlink socket (protocol %d): not supported; close it before the checkpoint", protocol);
	case AF_PACKET:
		return thaw_refuse(t->fd->num, "packet socket: not supported; close it before the checkpoint");
	case AF_VSOCK:
		return thaw_refuse(t->fd->num, "vsock socket: not supported; close it before the checkpoint");
	case AF_ALG:
		return thaw_refuse(t->fd->num, "crypto (AF_ALG) socket: not supported; close it before the checkpoint");
	default:
		return thaw_refuse(t->fd->num, "socket of address family %d: not supported; close it before the checkpoint", family);
	}
}

int thaw_dump_socket(struct thaw_dt *t, File *f)
{
	int family = sock_int(t->dup, SO_DOMAIN), type = sock_int(t->dup, SO_TYPE), protocol = sock_int(t->dup, SO_PROTOCOL);

	if (family == AF_UNIX)
		return thaw_dump_unix(t, f);
	if (family != AF_INET && family != AF_INET6)
		return refuse_family(t, family, protocol);
	if (type == SOCK_STREAM && protocol == IPPROTO_TCP)
		return thaw_dump_tcp(t, f);
	if (protocol == IPPROTO_MPTCP)
		return refuse_kind(t, "MPTCP");
	if (type == SOCK_RAW)
		return refuse_kind(t, "raw");
	if (protocol == IPPROTO_UDP)
		return refuse_kind(t, "UDP");
	if (protocol == IPPROTO_UDPLITE)
		return refuse_kind(t, "UDP-Lite");
	return refuse_kind(t, protocol == IPPROTO_SCTP ? "SCTP" : protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ? "ping" : "IP");
}

static int tcp_info(const struct thaw_dt *t, struct tcp_info *ti)
{
	socklen_t len = sizeof(*ti);

	memset(ti, 0, sizeof(*ti));
	if (!getsockopt(t->dup, IPPROTO_TCP, TCP_INFO, ti, &len))
		return 0;
	return thaw_err_set(-errno, "fd %d: TCP_INFO: %s", t->fd->num, strerrordesc_np(errno));
}

static int refuse_connection(const struct thaw_dt *t, int state)
{
	static const char *const words[] = {
		[TCP_ESTABLISHED] = "established", [TCP_SYN_SENT] = "starting", [TCP_SYN_RECV] = "starting",
		[TCP_CLOSE_WAIT] = "half-closed", [TCP_FIN_WAIT1] = "closing", [TCP_FIN_WAIT2] = "closing",
		[TCP_LAST_ACK] = "closing", [TCP_CLOSING] = "closing", [TCP_TIME_WAIT] = "closing", [TCP_CLOSE] = "ended",
	};
	const char *word = (size_t)state < sizeof(words) / sizeof(*words) && words[state] ? words[state] : "unknown";
	char own[200], peer[200];

	names(t->dup, own, peer, sizeof(own));
	return thaw_refuse(t->fd->num, "%s TCP connection %s %s: not supported; close it or use CRIU with thaw lazy-pages", word,
			   peer[0] ? "to" : "from", peer[0] ? peer : own);
}

/* 1: a connection, and so with somebody outside. */
static int tcp_leads_out(const struct thaw_dt *t)
{
	struct tcp_info ti;
	int rc = tcp_info(t, &ti);

	return rc ? rc : ti.tcpi_state != TCP_LISTEN && ti.tcpi_state != TCP_CLOSE;
}

int thaw_dump_tcp(struct thaw_dt *t, File *f)
{
	struct pollfd pfd = { .fd = t->dup, .events = POLLIN | POLLRDHUP };
	struct tcp_info ti;
	char own[200], peer[200];
	int rc = tcp_info(t, &ti);

	if (rc)
		return rc;
	if (ti.tcpi_state != TCP_LISTEN && ti.tcpi_state != TCP_CLOSE)
		return refuse_connection(t, ti.tcpi_state);
	poll(&pfd, 1, 0);
	if (ti.tcpi_state == TCP_CLOSE && (pfd.revents & (POLLIN | POLLRDHUP | POLLERR)))
		return refuse_connection(t, TCP_CLOSE);  /* it was a connection once: reads give end of file */
	names(t->dup, own, peer, sizeof(own));
	if (t->desc->other.pid)
		return thaw_refuse(t->fd->num, "TCP socket %s that process %d (%s) also has open: not supported; close it in one of the two",
				   own, t->desc->other.pid, t->desc->other.comm);
	/* for a listening socket: unacked is the queue of accept, sacked its limit */
	if (ti.tcpi_state == TCP_LISTEN && ti.tcpi_unacked)
		return thaw_refuse(t->fd->num, "listening TCP socket %s with %u connection%s waiting to be accepted: not supported; accept them first",
				   own, ti.tcpi_unacked, ti.tcpi_unacked == 1 ? "" : "s");
	f->kind = ti.tcpi_state == TCP_LISTEN ? KIND(TCP_LISTEN) : KIND(SOCKET);
	rc = thaw_sock_new(t, f);
	if (rc)
		return rc;
	f->socket->has_backlog = f->kind == KIND(TCP_LISTEN);
	f->socket->backlog = (int32_t)ti.tcpi_sacked;
	return 0;
}

int thaw_socket_leads_out(struct thaw_dt *t)
{
	int family = sock_int(t->dup, SO_DOMAIN);
	struct thaw_unix u;
	int rc;

	if ((family == AF_INET || family == AF_INET6) && sock_int(t->dup, SO_PROTOCOL) == IPPROTO_TCP)
		return tcp_leads_out(t);
	if (family != AF_UNIX)
		return 1;
	rc = thaw_unix_diag(t->fd->num, t->fd->st.st_ino, &u);
	if (rc)
		return rc;
	if (!u.has_peer)
		return 0;
	for (size_t i = 0; u.peer && i < t->d->n_descs; i++)
		if (S_ISSOCK(t->d->descs[i].fd->st.st_mode) && t->d->descs[i].fd->st.st_ino == u.peer)
			return 0;
	return 1;
}

/* ---- restore ---- */

static bool is_bound(const ThawState__Socket *s)
{
	const struct sockaddr_in *in = (const void *)s->address.data;
	const struct sockaddr_in6 *in6 = (const void *)s->address.data;

	if (s->domain == AF_INET)
		return s->address.len >= sizeof(*in) && in->sin_port;
	if (s->domain == AF_INET6)
		return s->address.len >= sizeof(*in6) && in6->sin6_port;
	return s->address.len > offsetof(struct sockaddr_un, sun_path);
}

static int bind_it(struct thaw_fr *r, const File *f, int fd)
{
	const ThawState__Socket *s = f->socket;
	char text[200];
	int e;

	if (s->domain == AF_UNIX)
		return thaw_unix_bind(r, f, fd);
	if (!bind(fd, (const struct sockaddr *)s->address.data, (socklen_t)s->address.len))
		return 0;
	e = errno;
	thaw_sock_text(s->address.data, s->address.len, text, sizeof(text));
	return thaw_err_set(-e, "fd %d: TCP socket %s: cannot be bound: %s%s", thaw_fr_num(r, f), text, strerrordesc_np(e),
			    e == EADDRINUSE ? "; end the program that uses it, or wait until old connections have timed out" : "");
}

int thaw_restore_socket(struct thaw_fr *r, const File *f)
{
	const ThawState__Socket *s = f->socket;
	int num = thaw_fr_num(r, f), rc, fd = socket(s->domain, s->type | SOCK_CLOEXEC, s->protocol);

	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: no socket of family %d: %s", num, s->domain, strerrordesc_np(errno));
	rc = thaw_sock_set_options(s, fd, num);
	if (!rc && is_bound(s))
		rc = bind_it(r, f, fd);
	if (!rc && (f->kind == KIND(TCP_LISTEN) || f->kind == KIND(UNIX_LISTEN)) && listen(fd, s->backlog))
		rc = thaw_err_set(-errno, "fd %d: socket cannot listen: %s", num, strerrordesc_np(errno));
	if (!rc)
		rc = thaw_fr_setfl(r, f, fd);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}
