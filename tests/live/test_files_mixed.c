// SPDX-License-Identifier: LGPL-2.1-or-later
// Descriptors of all kinds at random low numbers: whatever the restore has open for itself must never meet one of them.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "support/files_rig.h"

enum { LOWEST = 3, HIGHEST = 40 };
enum kind { NONE, REGULAR, DELETED, MEMFD, EVENTFD, PIPE, PAIR, EPOLL, LISTEN, INOTIFY, TIMERFD, DIRECTORY, KINDS, SECOND = 64 };

static unsigned seed;

/* A number that nothing has yet, high ones and low ones alike. */
static int number(void)
{
	int n;

	do
		n = LOWEST + (int)((unsigned)random() % (HIGHEST - LOWEST));
	while (fcntl(n, F_GETFD) >= 0);
	return n;
}

static void at(int fd, int n, long what)
{
	CHECK(fd > HIGHEST && dup2(fd, n) == n);
	close(fd);
	rig_share(n, what);
}

/* Above all of them, so that numbers are only taken on purpose. */
static int up(int fd)
{
	int n;

	CHECK(fd >= 0);
	n = fcntl(fd, F_DUPFD, HIGHEST + 1);
	CHECK(n > HIGHEST);
	close(fd);
	return n;
}

static void two(int fd[2], enum kind kind)
{
	int a = number(), b, c = up(fd[0]), d = up(fd[1]);

	at(c, a, kind);
	b = number();
	at(d, b, kind | SECOND | (long)a << 8);
	CHECK(write(b, &b, sizeof(b)) == sizeof(b));
}

static int named(const char *format, int n, int flags)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), format, n);
	fd = up(open(name, O_RDWR | O_CREAT | flags, 0600));
	CHECK(write(fd, &n, sizeof(n)) == sizeof(n));
	if (*format == 'x')
		CHECK(!unlink(name));
	return fd;
}

static int watching(int n)
{
	uint64_t one = 1;
	int ep = up(epoll_create1(0)), e = up(eventfd(0, 0)), t = number();
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)n };

	at(e, t, NONE);
	CHECK(write(t, &one, 8) == 8 && !epoll_ctl(ep, EPOLL_CTL_ADD, t, &ev));
	return ep;
}

static void make_one(enum kind kind)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int p[2], n = number(), fd = -1;
	struct itimerspec its = { .it_value.tv_sec = 100 + n };

	switch (kind) {
	case REGULAR: fd = named("f%d", n, 0); break;
	case DELETED: fd = named("x%d", n, 0); break;
	case MEMFD:
		fd = up(memfd_create("mixed", 0));
		CHECK(write(fd, &n, sizeof(n)) == sizeof(n));
		break;
	case EVENTFD: fd = up(eventfd((unsigned)n, EFD_NONBLOCK)); break;
	case PIPE:
		CHECK(!pipe2(p, O_NONBLOCK));
		two(p, kind);
		return;
	case PAIR:
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
		two(p, kind);
		return;
	case EPOLL:
		fd = watching(n);
		if (fcntl(n, F_GETFD) >= 0) {  /* what it watches got the number */
			close(fd);
			return;
		}
		break;
	case LISTEN:
		fd = up(socket(AF_INET, SOCK_STREAM, 0));
		CHECK(!bind(fd, (void *)&a, sizeof(a)) && !listen(fd, n));
		break;
	case INOTIFY:
		fd = up(inotify_init1(IN_NONBLOCK));
		CHECK(inotify_add_watch(fd, ".", IN_ATTRIB) == 1);
		break;
	case TIMERFD:
		fd = up(timerfd_create(CLOCK_MONOTONIC, 0));
		CHECK(!timerfd_settime(fd, 0, &its, NULL));
		break;
	default: fd = up(open(".", O_RDONLY | O_DIRECTORY)); kind = DIRECTORY;
	}
	at(fd, n, kind);
}

static void make(void)
{
	srandom(seed);
	for (int i = 0; i < 16; i++)
		make_one((enum kind)(1 + (unsigned)random() % (KINDS - 1)));
	for (int i = 0; i < 4; i++) {
		int of = LOWEST + (int)((unsigned)random() % (HIGHEST - LOWEST)), n = number();

		if (fcntl(of, F_GETFD) >= 0)
			CHECK(dup2(of, n) == n);
	}
}

static void verify_content(int fd, unsigned kind, int of)
{
	struct epoll_event ev[4];
	struct itimerspec its;
	struct stat s;
	uint64_t v;
	int n = -1;

	switch (kind) {
	case REGULAR:
	case DELETED:
	case MEMFD:
		CHECK(pread(fd, &n, sizeof(n), 0) == sizeof(n) && n == fd && !fstat(fd, &s) && (s.st_nlink != 0) == (kind == REGULAR));
		break;
	case EVENTFD: CHECK(read(fd, &v, 8) == 8 && v == (uint64_t)fd); break;
	case PIPE | SECOND:
	case PAIR | SECOND:
		CHECK(read(of, &n, sizeof(n)) == sizeof(n) && n == fd && read(of, &n, 1) < 0 && errno == EAGAIN);
		break;
	case EPOLL: CHECK(epoll_wait(fd, ev, 4, 0) == 1 && ev[0].data.u64 == (uint64_t)fd); break;
	case LISTEN:
		CHECK(!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &n, &(socklen_t){ sizeof(n) }) && n == 1);
		break;
	case INOTIFY:
		CHECK(!chmod(".", 0700) && read(fd, &(union { struct inotify_event e; char room[512]; }){ { 0 } }, 512) > 0);
		break;
	case TIMERFD: CHECK(!timerfd_gettime(fd, &its) && its.it_value.tv_sec <= 100 + fd && its.it_value.tv_sec > 60 + fd); break;
	case DIRECTORY: CHECK(!fstat(fd, &s) && S_ISDIR(s.st_mode)); break;
	default: break;
	}
}

static void verify(void)
{
	for (int fd = LOWEST; fd < HIGHEST; fd++)
		verify_content(fd, (unsigned)rig_shared(fd) & 0xff, (int)(rig_shared(fd) >> 8));
}

int main(void)
{
	int bad = 0;

	for (seed = 1; seed <= 40 && !bad; seed++) {
		char name[32];
		struct rig_case c = { .name = name, .make = make, .verify = verify };

		snprintf(name, sizeof(name), "seed %u", seed);
		bad = rig_run(&c, 1);
	}
	return bad;
}
