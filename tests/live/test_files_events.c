// SPDX-License-Identifier: LGPL-2.1-or-later
// Descriptors of events: eventfd, timerfd, signalfd, epoll with all ways an entry can stand, inotify.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "support/files_rig.h"
#include "support/patience.h"

static void make_eventfd(void)
{
	rig_put(eventfd(0, 0), 10);
	rig_put(eventfd(12345, EFD_NONBLOCK), 11);
	rig_put(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), 12);
	rig_put(eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK), 13);
	rig_put(eventfd(0, EFD_NONBLOCK), 14);
	uint64_t v = 0xfffffffffffffffeULL;

	CHECK(write(14, &v, 8) == 8);
}

static void verify_eventfd(void)
{
	uint64_t v;

	CHECK(read(11, &v, 8) == 8 && v == 12345 && read(11, &v, 8) < 0 && errno == EAGAIN);
	for (int i = 0; i < 3; i++)
		CHECK(read(12, &v, 8) == 8 && v == 1);
	CHECK(read(12, &v, 8) < 0 && read(13, &v, 8) < 0);
	v = 2;
	CHECK(write(13, &v, 8) == 8 && read(13, &v, 8) == 8 && v == 1);
	CHECK(read(14, &v, 8) == 8 && v == 0xfffffffffffffffeULL);
}

static void arm(int fd, int flags, double value, double interval)
{
	struct itimerspec its = {
		.it_value = { (time_t)value, (long)((value - (double)(time_t)value) * 1e9) },
		.it_interval = { (time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9) },
	};

	CHECK(!timerfd_settime(fd, flags, &its, NULL));
}

static double now(clockid_t c)
{
	struct timespec ts;

	clock_gettime(c, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void make_timerfd(void)
{
	rig_put(timerfd_create(CLOCK_MONOTONIC, 0), 10);
	arm(10, 0, 1000, 60);
	rig_put(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK), 11);
	arm(11, TFD_TIMER_ABSTIME, now(CLOCK_REALTIME) + 5000, 0);
	rig_put(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK), 12);
	rig_put(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 13);
	arm(13, 0, 0.001, 0.01);
	rig_put(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 14);
	arm(14, 0, 0.001, 0);
	usleep(60000);
	rig_share(0, (long)now(CLOCK_REALTIME));
}

static void verify_timerfd(void)
{
	struct itimerspec its;
	struct pollfd p = { .fd = 13, .events = POLLIN };
	uint64_t n;

	CHECK(!timerfd_gettime(10, &its) && its.it_interval.tv_sec == 60);
	CHECK(its.it_value.tv_sec >= 990 && its.it_value.tv_sec < 1000);
	CHECK(!timerfd_gettime(11, &its));
	CHECK(its.it_value.tv_sec + (long)now(CLOCK_REALTIME) >= rig_shared(0) + 4998 &&
	      its.it_value.tv_sec + (long)now(CLOCK_REALTIME) <= rig_shared(0) + 5001);
	CHECK(!timerfd_gettime(12, &its) && its.it_value.tv_sec == 0 && its.it_value.tv_nsec == 0);
	CHECK(read(12, &n, 8) < 0 && errno == EAGAIN);
	CHECK(read(13, &n, 8) == 8 && n >= 6);
	CHECK(poll(&p, 1, patience(2000)) == 1 && read(13, &n, 8) == 8);  /* it goes on */
	CHECK(read(14, &n, 8) == 8 && n == 1 && read(14, &n, 8) < 0);
}

static void make_signalfd(void)
{
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGRTMAX);
	sigprocmask(SIG_BLOCK, &s, NULL);
	rig_put(signalfd(-1, &s, SFD_NONBLOCK), 10);
}

static void verify_signalfd(void)
{
	struct signalfd_siginfo si;
	sigset_t s;

	sigfillset(&s);
	sigprocmask(SIG_BLOCK, &s, NULL);
	CHECK(read(10, &si, sizeof(si)) < 0 && errno == EAGAIN);
	raise(SIGUSR2);
	CHECK(read(10, &si, sizeof(si)) < 0 && errno == EAGAIN);
	raise(SIGUSR1);
	CHECK(read(10, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR1);
	raise(SIGRTMAX);
	CHECK(read(10, &si, sizeof(si)) == sizeof(si) && (int)si.ssi_signo == SIGRTMAX);
}

/* ---- epoll ---- */

static void watch(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static int ready(int ep, uint64_t data)
{
	struct epoll_event e[16];
	int n = epoll_wait(ep, e, 16, 0);

	for (int i = 0; i < n; i++)
		if (e[i].data.u64 == data)
			return 1;
	return 0;
}

static void poke(int fd)
{
	uint64_t one = 1;

	CHECK(write(fd, &one, 8) == 8);
}

static void calm(int fd)
{
	uint64_t v;

	CHECK(read(fd, &v, 8) == 8);
}

/* 10: the list. 30, 31 one eventfd twice; 32 oneshot, fired; 33 was 34 when it was added; 35 number reused; 36 nested. */
static void make_epoll(void)
{
	struct epoll_event e;
	int p[2];

	rig_put(epoll_create1(EPOLL_CLOEXEC), 10);
	rig_put(eventfd(0, EFD_NONBLOCK), 30);
	CHECK(dup2(30, 31) == 31);
	watch(10, 30, EPOLLIN, 0x1122334455667788ULL);
	watch(10, 31, EPOLLIN | EPOLLET, 2);
	rig_put(eventfd(1, EFD_NONBLOCK), 32);
	watch(10, 32, EPOLLIN | EPOLLONESHOT, 3);
	CHECK(epoll_wait(10, &e, 1, 0) == 1 && e.data.u64 == 3);
	rig_put(eventfd(0, EFD_NONBLOCK), 34);
	watch(10, 34, EPOLLIN, 4);
	CHECK(dup2(34, 33) == 33 && !close(34));
	rig_put(eventfd(0, EFD_NONBLOCK), 35);
	watch(10, 35, EPOLLIN, 5);
	CHECK(dup2(35, 37) == 37);
	CHECK(!pipe(p));
	rig_put(p[0], 35);                  /* closes nothing of the eventfd: 37 holds it */
	rig_put(p[1], 38);
	watch(10, 35, EPOLLIN, 6);
	rig_put(epoll_create1(0), 36);
	rig_put(eventfd(1, EFD_NONBLOCK), 39);
	watch(36, 39, EPOLLIN, 7);
	watch(10, 36, EPOLLIN, 8);
	/* made before the list that it watches */
	rig_put(epoll_create1(0), 9);
	watch(9, 10, EPOLLIN, 9);
}

static void verify_epoll(void)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 33 };

	CHECK(ready(10, 8) && !ready(10, 3) && !ready(10, 4));
	CHECK(ready(9, 9));
	CHECK(!ready(10, 2));
	poke(30);
	CHECK(ready(10, 0x1122334455667788ULL));
	poke(30);
	CHECK(ready(10, 2) && !ready(10, 2) && ready(10, 0x1122334455667788ULL));
	calm(30);
	CHECK(!ready(10, 0x1122334455667788ULL));
	CHECK(!epoll_ctl(10, EPOLL_CTL_MOD, 32, &e) && ready(10, 33) && !ready(10, 33));
	poke(33);
	CHECK(ready(10, 4));
	poke(37);
	CHECK(ready(10, 5) && !ready(10, 6));
	CHECK(write(38, "x", 1) == 1 && ready(10, 6));
	calm(39);
	CHECK(!ready(10, 8) && !ready(36, 7));
	CHECK(!epoll_ctl(10, EPOLL_CTL_DEL, 35, NULL) && !ready(10, 6));
}

static void hold_eventfd(void *arg)
{
	(void)arg;
}

static void make_shared_eventfd(void)
{
	rig_put(eventfd(7, 0), 10);
	rig_put(eventfd(8, 0), 11);
	rig_helper(hold_eventfd, NULL);
	close(10);
}

/* The entry lives on because another process holds the description. */
static void make_lost_entry(void)
{
	int p[2];

	CHECK(!pipe(p));
	rig_put(p[0], 20);
	rig_put(p[1], 21);
	rig_helper(hold_eventfd, NULL);
	rig_put(epoll_create1(0), 10);
	watch(10, 20, EPOLLIN, 1);
	close(20);
	close(21);
}

/* ---- inotify ---- */

static void make_inotify(void)
{
	int wd[4];

	CHECK(!mkdir("a", 0700) && !mkdir("b", 0700));
	rig_write("a/file", "x");
	rig_put(inotify_init1(IN_NONBLOCK), 10);
	wd[0] = inotify_add_watch(10, "a", IN_CREATE | IN_DELETE);
	wd[1] = inotify_add_watch(10, ".", IN_OPEN);
	wd[2] = inotify_add_watch(10, "b", IN_MOVED_TO | IN_ONLYDIR);
	wd[3] = inotify_add_watch(10, "a/file", IN_MODIFY | IN_ONESHOT);
	CHECK(!inotify_rm_watch(10, wd[1]));
	while (read(10, (char[4096]){ 0 }, 4096) > 0)
		;
	CHECK(!rename("b", "b renamed"));
	rig_share(0, wd[0]);
	rig_share(1, wd[2]);
	rig_share(2, wd[3]);
	rig_put(open("a", O_RDONLY), 11);
	rig_put(open("b renamed", O_RDONLY), 12);
	rig_put(open("a/file", O_RDONLY), 13);
}

static struct inotify_event *next_event(void)
{
	static union { struct inotify_event e; char room[4096]; } u;

	return read(10, &u, sizeof(u)) > 0 ? &u.e : NULL;
}

static void verify_inotify(void)
{
	struct inotify_event *e;

	CHECK(!next_event());
	rig_write("a/new", "");
	e = next_event();
	CHECK(e && e->wd == rig_shared(0) && e->mask == IN_CREATE && !strcmp(e->name, "new") && !next_event());
	CHECK(!rename("a/new", "b renamed/new"));
	e = next_event();
	CHECK(e && e->wd == rig_shared(1) && e->mask == IN_MOVED_TO && !next_event());
	rig_write("a/file", "yy");
	e = next_event();
	CHECK(e && e->wd == rig_shared(2) && e->mask == IN_MODIFY);
	CHECK(inotify_add_watch(10, ".", IN_OPEN) > rig_shared(2));
}

static void make_unread(void)
{
	rig_put(inotify_init1(0), 10);
	CHECK(inotify_add_watch(10, ".", IN_CREATE) > 0);
	rig_write("new", "");
}

static void move_watched(pid_t pid)
{
	CHECK(!rename("a", "aa") && !mkdir("a", 0700));
	(void)pid;
}

static void make_watch(void)
{
	CHECK(!mkdir("a", 0700));
	rig_put(inotify_init1(0), 10);
	CHECK(inotify_add_watch(10, "a", IN_CREATE) > 0);
	rig_put(open("a", O_RDONLY | O_PATH), 9);
	close(9);
}

/* ---- kinds that nobody restores ---- */

static void make_userfaultfd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, 1 | O_CLOEXEC);

	CHECK(fd >= 0);
	rig_put(fd, 10);
}

static int no_userfaultfd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, 1 | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static void make_pidfd(void)
{
	rig_put((int)syscall(SYS_pidfd_open, getpid(), 0), 10);
}

static int no_watch_paths(void)
{
	return geteuid() != 0;
}

int main(void)
{
	static const struct rig_case cases[] = {
		{ "eventfd", make_eventfd, verify_eventfd },
		{ "timerfd", make_timerfd, verify_timerfd },
		{ "signalfd", make_signalfd, verify_signalfd },
		{ "epoll", make_epoll, verify_epoll },
		{ "inotify", make_inotify, verify_inotify },
		{ "eventfd of two processes", make_shared_eventfd,
		  .refused = "fd 11: [eventfd] that process * (rig-helper) also has open: not supported; close it in one of the two" },
		{ "epoll entry of a closed file", make_lost_entry,
		  .refused = "fd 10: epoll watches a file that was fd 20 and that this process has open no more: not supported; remove it with EPOLL_CTL_DEL before closing it" },
		{ "unread inotify events", make_unread,
		  .refused = "fd 10: inotify with 32 bytes of events that have not been read: not supported; read them first" },
		{ "watched directory replaced", make_watch, .between = move_watched, .skip = no_watch_paths,
		  .fails = "fd 10: inotify watch on */a: is not the file that was checkpointed (inode *, now *)" },
		{ "userfaultfd", make_userfaultfd, .skip = no_userfaultfd,
		  .refused = "fd 10: anon_inode:[userfaultfd]: not supported; close it before the checkpoint" },
		{ "pidfd", make_pidfd, .refused = "fd 10: *pidfd*: not supported; close it before the checkpoint" },
	};

	return rig_run(cases, sizeof(cases) / sizeof(*cases));
}
