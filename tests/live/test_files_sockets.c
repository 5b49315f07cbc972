// SPDX-License-Identifier: LGPL-2.1-or-later
// Sockets: listening TCP and UNIX ones with options, pairs with what is on its way, fresh ones; the rest is refused.
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "support/files_rig.h"
#include "support/patience.h"

#define PASSPIDFD 76         /* SO_PASSPIDFD, Linux 6.5 */
#define STAMPS (1 << 3 | 1 << 4) /* SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE */

static int tcp(int family, int number, int bound)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(family, SOCK_STREAM, 0);

	CHECK(fd >= 0);
	rig_put(fd, number);
	if (bound)
		CHECK(!bind(number, family == AF_INET ? (void *)&a4 : (void *)&a6, family == AF_INET ? sizeof(a4) : sizeof(a6)));
	return number;
}

static int port_of(int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	CHECK(!getsockname(fd, (void *)&a, &len));
	return ntohs(a.sin6_port);  /* at the same place in both */
}

static void set(int fd, int level, int name, int v)
{
	CHECK(!setsockopt(fd, level, name, &v, sizeof(v)));
}

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	CHECK(!getsockopt(fd, level, name, &v, &len));
	return v;
}

static int connected(int family, int port)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(family, SOCK_STREAM, 0);

	a4.sin_port = a6.sin6_port = htons((uint16_t)port);
	CHECK(!connect(fd, family == AF_INET ? (void *)&a4 : (void *)&a6, family == AF_INET ? sizeof(a4) : sizeof(a6)));
	return fd;
}

static int no_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int bad = fd < 0 || bind(fd, (void *)&a6, sizeof(a6));

	if (fd >= 0)
		close(fd);
	return bad;
}

/* ---- TCP ---- */

static void make_tcp(void)
{
	struct linger l = { 1, 7 };

	tcp(AF_INET, 10, 0);
	set(10, SOL_SOCKET, SO_REUSEADDR, 1);
	set(10, SOL_SOCKET, SO_REUSEPORT, 1);
	set(10, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(10, IPPROTO_TCP, TCP_NODELAY, 1);
	set(10, IPPROTO_TCP, TCP_KEEPIDLE, 33);
	set(10, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	set(10, IPPROTO_TCP, TCP_MAXSEG, 1000);
	set(10, SOL_SOCKET, SO_ZEROCOPY, 1);
	set(10, SOL_SOCKET, SO_TIMESTAMPING, STAMPS);
	set(10, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	set(10, SOL_SOCKET, SO_RCVBUF, 30000);
	set(10, SOL_SOCKET, SO_SNDBUF, 40000);
	CHECK(!setsockopt(10, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	CHECK(!bind(10, (void *)&a, sizeof(a)) && !listen(10, 17));
	rig_share(0, port_of(10));
	rig_share(2, get(10, SOL_SOCKET, SO_RCVBUF));
	rig_share(3, get(10, IPPROTO_TCP, TCP_DEFER_ACCEPT));
	CHECK(!fcntl(10, F_SETFL, O_NONBLOCK));
	tcp(AF_INET, 12, 0);
	tcp(AF_INET, 13, 1);
	rig_share(4, port_of(13));
}

static void verify_tcp(void)
{
	struct linger l;
	struct tcp_info ti;
	socklen_t len = sizeof(l);
	int a, b;

	CHECK(port_of(10) == rig_shared(0) && get(10, SOL_SOCKET, SO_ACCEPTCONN) && get(10, SOL_SOCKET, SO_REUSEADDR) &&
	      get(10, SOL_SOCKET, SO_REUSEPORT) && get(10, SOL_SOCKET, SO_KEEPALIVE) && get(10, IPPROTO_TCP, TCP_NODELAY));
	CHECK(get(10, IPPROTO_TCP, TCP_KEEPIDLE) == 33 && get(10, IPPROTO_TCP, TCP_DEFER_ACCEPT) == rig_shared(3));
	CHECK(get(10, IPPROTO_TCP, TCP_MAXSEG) == 1000 && get(10, SOL_SOCKET, SO_ZEROCOPY) == 1);
	CHECK(get(10, SOL_SOCKET, SO_TIMESTAMPNS) == 1 && !get(10, SOL_SOCKET, SO_TIMESTAMP));
	CHECK(get(10, SOL_SOCKET, SO_TIMESTAMPING) == STAMPS);
	CHECK(get(10, SOL_SOCKET, SO_RCVBUF) == rig_shared(2) && get(10, SOL_SOCKET, SO_SNDBUF) == 80000);
	CHECK(!getsockopt(10, SOL_SOCKET, SO_LINGER, &l, &len) && l.l_onoff && l.l_linger == 7);
	len = sizeof(ti);
	CHECK(!getsockopt(10, IPPROTO_TCP, TCP_INFO, &ti, &len) && ti.tcpi_sacked == 17);
	a = connected(AF_INET, (int)rig_shared(0));
	CHECK(write(a, "hi", 2) == 2);
	struct pollfd p = { .fd = 10, .events = POLLIN };

	CHECK(poll(&p, 1, patience(2000)) == 1);
	b = accept(10, NULL, NULL);
	CHECK(b >= 0);
	CHECK(port_of(12) == 0 && port_of(13) == rig_shared(4) && !get(13, SOL_SOCKET, SO_ACCEPTCONN));
	CHECK(!get(12, SOL_SOCKET, SO_REUSEADDR) && !listen(13, 1));
}

static void make_tcp6(void)
{
	tcp(AF_INET6, 10, 0);
	set(10, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };

	CHECK(!bind(10, (void *)&a, sizeof(a)) && !listen(10, 5));
	rig_share(0, port_of(10));
}

static void verify_tcp6(void)
{
	CHECK(port_of(10) == rig_shared(0) && get(10, IPPROTO_IPV6, IPV6_V6ONLY));
	int a = connected(AF_INET6, (int)rig_shared(0)), b = accept(10, NULL, NULL);

	CHECK(b >= 0 && write(a, "x", 1) == 1 && read(b, (char[1]){ 0 }, 1) == 1);
}

static void make_established(void)
{
	tcp(AF_INET, 10, 1);
	CHECK(!listen(10, 5));
	rig_put(connected(AF_INET, port_of(10)), 11);
	rig_put(accept(10, NULL, NULL), 12);
}

static void make_pending(void)
{
	tcp(AF_INET, 10, 1);
	CHECK(!listen(10, 5));
	int fd = connected(AF_INET, port_of(10));

	close(fd);
}

static void sleep_on(void *arg)
{
	(void)arg;
}

static void make_shared_listener(void)
{
	tcp(AF_INET, 10, 1);
	CHECK(!listen(10, 5));
	rig_helper(sleep_on, NULL);
}

static void make_udp(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	rig_put(socket(AF_INET, SOCK_DGRAM, 0), 10);
	CHECK(!bind(10, (void *)&a, sizeof(a)));
}

static void make_netlink(void)
{
	rig_put(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), 10);
}

static void make_raw(void)
{
	rig_put(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), 10);
}

static void make_packet(void)
{
	rig_put(socket(AF_PACKET, SOCK_RAW, 0), 10);
}

static int no_raw(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static void make_listener(void)
{
	tcp(AF_INET, 10, 1);
	CHECK(!listen(10, 5));
	rig_share(0, port_of(10));
}

static void take_port(pid_t pid)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)rig_shared(0)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(!bind(fd, (void *)&a, sizeof(a)) && !listen(fd, 1));
	(void)pid;
}

/* ---- UNIX ---- */

static socklen_t name(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(a->sun_path + (*path == '@'), path + (*path == '@'));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (*path != '@'));
}

static void unix_listen(int number, int type, const char *path)
{
	struct sockaddr_un a;
	socklen_t len = name(&a, path);

	rig_put(socket(AF_UNIX, type, 0), number);
	CHECK(!bind(number, (void *)&a, len));
	if (type != SOCK_DGRAM)
		CHECK(!listen(number, 9));
}

static int unix_connected(int type, const char *path)
{
	struct sockaddr_un a;
	socklen_t len = name(&a, path);
	int fd = socket(AF_UNIX, type, 0);

	CHECK(!connect(fd, (void *)&a, len));
	return fd;
}

static void make_unix(void)
{
	char dir[80], full[108];

	CHECK(getcwd(dir, sizeof(dir)));
	snprintf(full, sizeof(full), "%s/absolute.sock", dir);
	unix_listen(10, SOCK_STREAM, full);
	CHECK(!chmod(full, 0622));
	unix_listen(11, SOCK_SEQPACKET, "relative.sock");
	snprintf(full, sizeof(full), "@thaw-test-%d", getpid());
	rig_share(0, getpid());
	unix_listen(12, SOCK_STREAM, full);
	unix_listen(13, SOCK_DGRAM, "datagram.sock");
	rig_put(socket(AF_UNIX, SOCK_STREAM, 0), 14);
	set(14, SOL_SOCKET, SO_PASSCRED, 1);
	rig_share(7, setsockopt(14, SOL_SOCKET, PASSPIDFD, &(int){ 1 }, sizeof(int)));
	set(14, SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1);
}

static void try_stream(int listener, int type, const char *path)
{
	int a = unix_connected(type, path), b = accept(listener, NULL, NULL);
	char c;

	CHECK(a >= 0 && b >= 0 && write(a, "x", 1) == 1 && read(b, &c, 1) == 1 && c == 'x');
	close(a);
	close(b);
}

static void verify_unix(void)
{
	char path[108];
	struct stat s;
	int fd;

	try_stream(10, SOCK_STREAM, "absolute.sock");
	CHECK(!stat("absolute.sock", &s) && (s.st_mode & 07777) == 0622);
	try_stream(11, SOCK_SEQPACKET, "relative.sock");
	snprintf(path, sizeof(path), "@thaw-test-%ld", rig_shared(0));
	try_stream(12, SOCK_STREAM, path);
	fd = unix_connected(SOCK_DGRAM, "datagram.sock");
	CHECK(send(fd, "dg", 2, 0) == 2 && recv(13, path, 10, MSG_DONTWAIT) == 2);
	CHECK(rig_shared(7) || get(14, SOL_SOCKET, PASSPIDFD) == 1);
	CHECK(get(14, SOL_SOCKET, SO_TIMESTAMPNS_NEW) == 1 && !get(14, SOL_SOCKET, SO_TIMESTAMPNS_OLD));
	CHECK(get(14, SOL_SOCKET, SO_PASSCRED) == 1);
	struct sockaddr_un a;
	socklen_t len = sizeof(a);

	CHECK(!getsockname(11, (void *)&a, &len) && !strcmp(a.sun_path, "relative.sock"));
}

static void make_unix_pending(void)
{
	unix_listen(10, SOCK_STREAM, "s");
	close(unix_connected(SOCK_STREAM, "s"));
}

static void make_unix_removed(void)
{
	unix_listen(10, SOCK_STREAM, "s");
	CHECK(!unlink("s"));
}

static void make_unix_one(void)
{
	unix_listen(10, SOCK_STREAM, "s");
}

static void listen_there(pid_t pid)
{
	CHECK(!unlink("s"));
	struct sockaddr_un a;
	socklen_t len = name(&a, "s");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(!bind(fd, (void *)&a, len) && !listen(fd, 1));
	(void)pid;
}

static void file_there(pid_t pid)
{
	CHECK(!unlink("s"));
	rig_write("s", "no socket");
	(void)pid;
}

static void stale_there(pid_t pid)
{
	CHECK(!unlink("s"));
	struct sockaddr_un a;
	socklen_t len = name(&a, "s");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(!bind(fd, (void *)&a, len));
	close(fd);
	(void)pid;
}

/* The socket would be bound again, but a later file fails. */
static void make_unix_and_file(void)
{
	unix_listen(10, SOCK_STREAM, "s");
	rig_write("file", "x");
	rig_put(open("file", O_RDONLY), 11);
}

static void remove_file(pid_t pid)
{
	CHECK(!unlink("file"));
	(void)pid;
}

/* ---- pairs ---- */

static void pair(int type, int a, int b)
{
	int s[2];

	CHECK(!socketpair(AF_UNIX, type, 0, s));
	rig_put(s[0], a);
	rig_put(s[1], b);
}

static void make_pairs(void)
{
	static char big[100000];

	pair(SOCK_STREAM, 10, 11);
	CHECK(write(10, "to eleven", 9) == 9 && write(11, "to ten", 6) == 6);
	pair(SOCK_DGRAM, 12, 13);
	CHECK(send(12, "one", 3, 0) == 3 && send(12, "three", 5, 0) == 5 && send(12, "", 0, 0) == 0 && send(12, "x", 1, 0) == 1);
	pair(SOCK_SEQPACKET | SOCK_NONBLOCK, 14, 15);
	CHECK(send(14, "seq", 3, 0) == 3 && send(14, "packet", 6, 0) == 6);
	pair(SOCK_STREAM, 16, 17);
	CHECK(write(16, "end", 3) == 3 && !shutdown(16, SHUT_WR));
	pair(SOCK_STREAM, 18, 19);
	CHECK(write(18, "left", 4) == 4 && !close(18));
	pair(SOCK_STREAM, 20, 21);
	set(20, SOL_SOCKET, SO_SNDBUF, 200000);
	memset(big, 'q', sizeof(big));
	CHECK(write(20, big, sizeof(big)) == sizeof(big));
	CHECK(dup3(20, 22, O_CLOEXEC) == 22);
}

static void verify_pairs(void)
{
	static char buf[200000];

	CHECK(read(11, buf, 100) == 9 && !memcmp(buf, "to eleven", 9) && read(10, buf, 100) == 6);
	CHECK(write(11, "more", 4) == 4 && read(10, buf, 100) == 4);
	CHECK(recv(13, buf, 100, MSG_DONTWAIT) == 3 && recv(13, buf, 100, MSG_DONTWAIT) == 5 && !memcmp(buf, "three", 5));
	CHECK(recv(13, buf, 100, MSG_DONTWAIT) == 0 && recv(13, buf, 100, MSG_DONTWAIT) == 1);
	CHECK(recv(13, buf, 100, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	CHECK(recv(15, buf, 100, 0) == 3 && recv(15, buf, 100, 0) == 6 && recv(15, buf, 100, 0) < 0 && errno == EAGAIN);
	CHECK(read(17, buf, 100) == 3 && read(17, buf, 100) == 0 && write(17, "back", 4) == 4 && read(16, buf, 100) == 4);
	CHECK(send(16, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	CHECK(read(19, buf, 100) == 4 && read(19, buf, 100) == 0 && send(19, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	size_t n = 0;

	while (n < 100000) {
		ssize_t k = recv(21, buf + n, sizeof(buf) - n, MSG_DONTWAIT);

		CHECK(k > 0);
		n += (size_t)k;
	}
	CHECK(n == 100000 && buf[0] == 'q' && buf[99999] == 'q' && get(20, SOL_SOCKET, SO_SNDBUF) == 400000);
}

/* The dump looks, and takes nothing away: two of them see the same. */
static void make_scm(void)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } c = {
		.h = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { "x", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	int fd = 1;

	memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	pair(SOCK_STREAM, 10, 11);
	CHECK(sendmsg(10, &m, 0) == 1);
}

static void make_peer_outside(void)
{
	pair(SOCK_STREAM, 10, 11);
	rig_helper(sleep_on, NULL);
	close(11);
	rig_share(0, 0);
}

static void connect_there(void *arg)
{
	int fd = unix_connected(SOCK_STREAM, "s");

	rig_share(0, fd >= 0);
	(void)arg;
}

static void make_unix_accepted(void)
{
	unix_listen(10, SOCK_STREAM, "s");
	int l = dup(10);

	close(l);
	rig_helper(connect_there, NULL);
	rig_put(accept(10, NULL, NULL), 11);
	close(10);
}

int main(void)
{
	static const struct rig_case cases[] = {
		{ "listening and fresh TCP", make_tcp, verify_tcp },
		{ "listening TCP on IPv6", make_tcp6, verify_tcp6, .skip = no_ipv6 },
		{ "UNIX listening, datagram, fresh", make_unix, verify_unix },
		{ "UNIX pairs", make_pairs, verify_pairs },
		{ "a stale socket file", make_unix_one, .between = stale_there },
		{ "established TCP", make_established,
		  .refused = "fd 11: established TCP connection to 127.0.0.1:*: not supported; close it or use CRIU with thaw lazy-pages" },
		{ "TCP connection waiting", make_pending,
		  .refused = "fd 10: listening TCP socket 127.0.0.1:* with 1 connection waiting to be accepted: not supported; accept them first" },
		{ "listening TCP of two processes", make_shared_listener,
		  .refused = "fd 10: TCP socket 127.0.0.1:* that process * (rig-helper) also has open: not supported; close it in one of the two" },
		{ "UDP", make_udp, .refused = "fd 10: UDP socket 127.0.0.1:*: not supported; close it before the checkpoint" },
		{ "netlink", make_netlink, .refused = "fd 10: netlink socket (protocol 0): not supported; close it before the checkpoint" },
		{ "raw", make_raw, .skip = no_raw, .refused = "fd 10: raw socket 0.0.0.0:*: not supported; close it before the checkpoint" },
		{ "packet", make_packet, .skip = no_raw, .refused = "fd 10: packet socket: not supported; close it before the checkpoint" },
		{ "UNIX connection waiting", make_unix_pending,
		  .refused = "fd 10: listening UNIX socket s with 1 connection waiting to be accepted: not supported; accept them first" },
		{ "socket file removed", make_unix_removed,
		  .refused = "fd 10: UNIX socket s: its socket file was removed or replaced: not supported; close it before the checkpoint" },
		{ "descriptors on their way", make_scm,
		  .refused = "fd 11: UNIX socket with descriptors (SCM_RIGHTS) waiting in its queue: not supported; receive them first" },
		{ "UNIX pair with another process", make_peer_outside,
		  .refused = "fd 10: UNIX stream socket that process * (rig-helper) also has open: not supported; close it in one of the two" },
		{ "UNIX connection to another process", make_unix_accepted,
		  .refused = "fd 11: UNIX stream socket connected to process * (rig-helper): not supported; close it before the checkpoint" },
		{ "port in use", make_listener, .between = take_port,
		  .fails = "fd 10: TCP socket 127.0.0.1:*: cannot be bound: Address already in use; end the program that uses it, or wait until old connections have timed out" },
		{ "name in use", make_unix_one, .between = listen_there,
		  .fails = "fd 10: UNIX socket s: is in use by another program; end it first" },
		{ "another file at the name", make_unix_one, .between = file_there,
		  .fails = "fd 10: UNIX socket s: is not the socket file that was checkpointed; move it away" },
		{ "a failure leaves no socket file", make_unix_and_file, .between = remove_file,
		  .fails = "fd 11: */file: cannot be opened again: No such file or directory", .gone = "s" },
	};

	signal(SIGPIPE, SIG_IGN);
	return rig_run(cases, sizeof(cases) / sizeof(*cases));
}
