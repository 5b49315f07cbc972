// SPDX-License-Identifier: LGPL-2.1-or-later
// Pipes and FIFOs within the process with their content, standard I/O of the restoring program, refusals.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/files_rig.h"

static void two(int a, int b, int flags)
{
	int p[2];

	CHECK(!pipe2(p, flags));
	rig_put(p[0], a);
	rig_put(p[1], b);
}

static void sleep_on(void *arg)
{
	(void)arg;
}

static void make_pipes(void)
{
	static char big[65536];

	two(10, 11, 0);
	CHECK(write(11, "hello pipe", 10) == 10);
	two(12, 13, O_NONBLOCK);
	memset(big, 'b', sizeof(big));
	CHECK(write(13, big, sizeof(big)) == sizeof(big));
	CHECK(read(12, big, 100) == 100);
	two(14, 15, 0);
	CHECK(fcntl(15, F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	rig_put(open("/proc/self/fd/14", O_RDONLY | O_NONBLOCK), 16); /* a second description of the read end */
	rig_put(open("/proc/self/fd/14", O_RDWR), 17);
	CHECK(write(17, "rw", 2) == 2);
	CHECK(dup3(15, 18, O_CLOEXEC) == 18);
}

static void verify_pipes(void)
{
	static char big[70000];

	CHECK(read(10, big, 100) == 10 && !memcmp(big, "hello pipe", 10));
	CHECK(write(11, "again", 5) == 5 && read(10, big, 100) == 5);
	CHECK(read(12, big, sizeof(big)) == 65436 && big[0] == 'b' && big[65435] == 'b' && read(12, big, 1) < 0);
	CHECK(fcntl(14, F_GETPIPE_SZ) == 1 << 18);
	CHECK(read(16, big, 10) == 2 && !memcmp(big, "rw", 2) && read(16, big, 1) < 0 && errno == EAGAIN);
	close(15);
	close(18);
	close(17);
	CHECK(read(14, big, 1) == 0);  /* nobody else has a write end */
}

static void make_packets(void)
{
	two(10, 11, O_DIRECT | O_NONBLOCK);
	CHECK(write(11, "one", 3) == 3 && write(11, "two!", 4) == 4);
	two(12, 13, O_DIRECT | O_NONBLOCK);
	CHECK(write(13, "single", 6) == 6);
}

static void verify_packets(void)
{
	char buf[100];

	CHECK(write(11, "3", 1) == 1 && write(13, "next", 4) == 4);
	CHECK(read(10, buf, 100) == 3 && !memcmp(buf, "one", 3) && read(10, buf, 2) == 2 && read(10, buf, 100) == 1 && buf[0] == '3');
	CHECK(read(12, buf, 100) == 6 && read(12, buf, 100) == 4);
}

static void make_ends(void)
{
	two(10, 11, 0);
	CHECK(write(11, "last", 4) == 4 && !close(11));
	two(12, 13, 0);
	CHECK(!close(12));
}

static void verify_ends(void)
{
	char buf[10];

	CHECK(read(10, buf, 10) == 4 && !memcmp(buf, "last", 4) && read(10, buf, 10) == 0);
	signal(SIGPIPE, SIG_IGN);
	CHECK(write(13, "x", 1) < 0 && errno == EPIPE);
}

static void make_fifo(void)
{
	CHECK(!mkfifo("fifo", 0600));
	rig_put(open("fifo", O_RDONLY | O_NONBLOCK), 10);
	rig_put(open("fifo", O_WRONLY), 11);
	CHECK(write(11, "through", 7) == 7);
	CHECK(!mkfifo("lonely", 0600));
	rig_put(open("lonely", O_RDWR), 12);
	CHECK(write(12, "kept", 4) == 4);
	CHECK(!mkfifo("unlinked", 0600));
	rig_put(open("unlinked", O_RDWR), 13);
	CHECK(write(13, "nameless", 8) == 8 && !unlink("unlinked"));
	CHECK(!mkfifo("silent", 0600));
	rig_put(open("silent", O_RDONLY | O_NONBLOCK), 14);
	rig_put(open("silent", O_PATH), 15);
}

static void verify_fifo(void)
{
	struct stat s, t;
	char buf[20];

	CHECK(read(10, buf, 20) == 7 && !memcmp(buf, "through", 7) && read(10, buf, 1) < 0 && errno == EAGAIN);
	CHECK(!fstat(10, &s) && !stat("fifo", &t) && s.st_ino == t.st_ino);
	CHECK(read(12, buf, 20) == 4 && !memcmp(buf, "kept", 4) && read(13, buf, 20) == 8);
	int w = open("silent", O_WRONLY | O_NONBLOCK);

	CHECK(w >= 0 && write(w, "x", 1) == 1 && read(14, buf, 20) == 1);
}

/* ---- standard I/O ---- */

/* 0: a pipe from a helper; 1 and 2: one pipe to a helper; 7 a copy of 1, 8 a description of its own of the same pipe */
static void make_stdio(void)
{
	int in[2], out[2];

	CHECK(!pipe(in) && !pipe(out));
	rig_helper(sleep_on, NULL);
	rig_put(in[0], 0);
	rig_put(out[1], 1);
	CHECK(dup2(1, 2) == 2 && dup2(1, 7) == 7);
	rig_put(open("/proc/self/fd/1", O_WRONLY), 8);
	CHECK(close_range(20, ~0U, 0) == 0);
	close(in[1]);
	close(out[0]);
}

static int same_file(int a, int b)
{
	struct stat s, t;

	CHECK(!fstat(a, &s) && !fstat(b, &t));
	return s.st_ino == t.st_ino && s.st_dev == t.st_dev;
}

/* The test's own 0, 1, 2 are three files: so it shows which came from where. */
static void verify_stdio(void)
{
	struct stat s;

	CHECK(!fstat(0, &s) && (long)s.st_ino == rig_shared(10));
	CHECK(!fstat(1, &s) && (long)s.st_ino == rig_shared(11));
	CHECK(!fstat(2, &s) && (long)s.st_ino == rig_shared(12));
	CHECK(same_file(7, 1) && rig_same(7, 1) && same_file(8, 1));
}

static void make_socket_stdio(void)
{
	int s[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	rig_helper(sleep_on, NULL);
	rig_put(s[0], 1);
	close(s[1]);
	close(2);
	CHECK(dup2(1, 5) == 5);
}

static void verify_socket_stdio(void)
{
	struct stat s;

	CHECK(!fstat(1, &s) && (long)s.st_ino == rig_shared(11) && rig_same(5, 1));
	CHECK(fcntl(2, F_GETFD) < 0);
}

/* Nobody writes any more, but something is left to be read. */
static void make_stdin_rest(void)
{
	int in[2];

	CHECK(!pipe(in));
	CHECK(write(in[1], "rest", 4) == 4 && !close(in[1]));
	rig_put(in[0], 0);
}

static void verify_stdin_rest(void)
{
	char buf[10];

	CHECK(read(0, buf, 10) == 4 && !memcmp(buf, "rest", 4) && read(0, buf, 10) == 0);
}

static void make_tty(void)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), s;

	CHECK(m >= 0 && !grantpt(m) && !unlockpt(m));
	s = open(ptsname(m), O_RDWR | O_NOCTTY);
	CHECK(s >= 0);
	rig_helper(sleep_on, NULL);
	rig_put(open(ptsname(m), O_RDONLY | O_NOCTTY), 9);
	rig_put(s, 1);
	CHECK(dup2(1, 2) == 2 && dup2(1, 255) == 255);
	close(m);
	close(0);
	CHECK(open("/dev/null", O_RDONLY) == 0);
}

static void verify_tty(void)
{
	struct stat s;

	CHECK(!fstat(1, &s) && (long)s.st_ino == rig_shared(11) && rig_same(255, 1));
	CHECK(!fstat(9, &s) && (long)s.st_ino == rig_shared(11));
	CHECK(!fstat(0, &s) && S_ISCHR(s.st_mode));
}

/* ---- refusals ---- */

static void make_shared(void)
{
	two(10, 11, 0);
	rig_helper(sleep_on, NULL);
}

static void make_half(void)
{
	two(10, 11, 0);
	rig_helper(sleep_on, NULL);
	close(11);
}

static void make_both_on_stdin(void)
{
	int p[2];

	CHECK(!pipe(p));
	rig_helper(sleep_on, NULL);
	rig_put(p[0], 0);
	rig_put(p[1], 11);
}

static void make_shared_fifo(void)
{
	CHECK(!mkfifo("fifo", 0600));
	rig_put(open("fifo", O_RDWR), 10);
	rig_helper(sleep_on, NULL);
}

static void use_fifo(pid_t pid)
{
	int fd = open("lonely", O_RDWR);

	CHECK(fd >= 0 && write(fd, "mine", 4) == 4);
	(void)pid;
}

static void remember_stdio(void)
{
	for (int i = 0; i < 3; i++) {
		struct stat s;

		CHECK(!fstat(i, &s));
		rig_share(10 + i, (long)s.st_ino);
	}
}

static void before_stdio(pid_t pid)
{
	remember_stdio();
	(void)pid;
}

int main(void)
{
	static const struct rig_case cases[] = {
		{ "pipes", make_pipes, verify_pipes },
		{ "packets", make_packets, verify_packets },
		{ "one end only", make_ends, verify_ends },
		{ "FIFOs", make_fifo, verify_fifo },
		{ "standard I/O on pipes", make_stdio, verify_stdio, .between = before_stdio },
		{ "standard I/O on a socket", make_socket_stdio, verify_socket_stdio, .between = before_stdio },
		{ "standard I/O on a terminal", make_tty, verify_tty, .between = before_stdio },
		{ "rest of standard input", make_stdin_rest, verify_stdin_rest },
		{ "pipe of two processes", make_shared,
		  .refused = "fd 10: pipe:[*] that process * (rig-helper) also has open: not supported; end that process, or if this one only inherited it start it with *>&-" },
		{ "pipe to another process", make_half,
		  .refused = "fd 10: pipe:[*] that process * (rig-helper) also has open: not supported; end that process, or if this one only inherited it start it with *>&-" },
		{ "both ends, one of them standard input", make_both_on_stdin,
		  .refused = "fd 0: pipe:[*] that process * (rig-helper) also has open: not supported; end that process, or if this one only inherited it start it with *>&-" },
		{ "FIFO of two processes", make_shared_fifo,
		  .refused = "fd 10: FIFO */fifo that process * (rig-helper) also has open: not supported; end that process, or if this one only inherited it start it with *>&-" },
		{ "FIFO in use", make_fifo, .between = use_fifo,
		  .fails = "fd 12: FIFO */lonely: another program is using it" },
	};

	return rig_run(cases, sizeof(cases) / sizeof(*cases));
}
