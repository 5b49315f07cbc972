// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/holder_child.c - the holder: sleeps beside the monitor, and keeps userfaultfds open behind it */
#include "config.h"
#include "engine/holder_impl.h"
#include "kern/keep.h"
#include "kern/sandbox.h"
#include "kern/uffd.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How often it looks whether the monitor has called exec, which a pidfd does not tell. */
#define LOOK_MS 2000

static void set_ready(struct thaw_holder_page *p, int32_t value)
{
	__atomic_store_n(&p->ready, value, __ATOMIC_RELEASE);
	syscall(SYS_futex, &p->ready, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Handlers are the application's code: none may ever run here. SIGSYS stays with the filter's handler. */
static void reset_signals(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} deflt = { 0 };
	int sig;

	for (sig = 1; sig <= 64; sig++)
		if (sig != SIGSYS)
			syscall(SYS_rt_sigaction, sig, &deflt, NULL, sizeof(deflt.mask));
}

void thaw_holder_path(char *buf, const char *head, unsigned number, const char *tail)
{
	char digits[12], *d = digits + sizeof(digits) - 1;

	*d = '\0';
	do
		*--d = '0' + number % 10;
	while (number /= 10);
	while (*head)
		*buf++ = *head++;
	while (*d)
		*buf++ = *d++;
	while (*tail)
		*buf++ = *tail++;
	*buf = '\0';
}

struct entry { /* linux_dirent64 */
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static int number_of(const char *s)
{
	int n = 0;

	if (!*s)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || n > 100000000)
			return -1;
		n = n * 10 + (*s - '0');
	}
	return n;
}

int thaw_holder_each_number(const char *path, int (*fn)(void *opaque, int number), void *opaque)
{
	char buf[4096] __attribute__((aligned(8)));
	int dir = THAW_INJECT_ERRNO("holder.list") ? -1 :
		  syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int stop = 0;
	long n = 0, at;

	if (dir < 0)
		return -errno;
	while (!stop && (n = THAW_INJECT_ERRNO("holder.entries") ? -1 : syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (at = 0; !stop && at < n;) {
			struct entry *e = (struct entry *)(buf + at);
			int number = number_of(e->name);

			if (number >= 0 && number != dir)
				stop = fn(opaque, number);
			at += e->reclen;
		}
	if (n < 0)
		stop = -errno;
	syscall(SYS_close, dir);
	return stop;
}

bool thaw_holder_is_uffd(int fd)
{
	static const char want[] = "anon_inode:[userfaultfd]";
	char path[40], link[64];
	long n;

	thaw_holder_path(path, "/proc/self/fd/", fd, "");
	n = THAW_INJECT_ERRNO("holder.link") ? -1 : syscall(SYS_readlink, path, link, sizeof(link));
	if (n < 0)
		return errno != ENOENT; /* it cannot be asked: not to be closed, as what it may be */
	return n == sizeof(want) - 1 && !memcmp(link, want, n);
}

static int drop_other(void *opaque, int fd)
{
	if (!thaw_holder_is_uffd(fd) && !thaw_keep_has(fd))
		syscall(SYS_close, fd);
	return 0;
}

struct living {
	unsigned n;
};

static int drop_dead(void *opaque, int fd)
{
	struct living *l = opaque;
	struct uffdio_zeropage z = { .range = { 0, 4096 } };
	bool over;

	if (thaw_keep_has(fd))
		return 0; /* nobody waits for a connection */
	/* Page 0 is in no registered range. EINVAL: it was never initialised, so nothing is registered with it. ENOTTY: it is
	 * something else. */
	over = !THAW_INJECT("holder.probe") && syscall(SYS_ioctl, fd, UFFDIO_ZEROPAGE, &z) < 0 &&
	       (errno == ESRCH || errno == EINVAL || errno == ENOTTY);

	if (over)
		syscall(SYS_close, fd);
	else
		l->n++;
	return 0;
}

/* Closing while the directory is read can hide an entry: until a walk closes nothing. What cannot be looked at may live. */
static unsigned count_living(void)
{
	struct living l = { 0 }, again;

	if (thaw_holder_each_number("/proc/self/fd", drop_dead, &l))
		return 1;
	for (;;) {
		again.n = 0;
		if (thaw_holder_each_number("/proc/self/fd", drop_dead, &again))
			return 1;
		if (again.n == l.n)
			return l.n;
		l = again;
	}
}

/* All that was sent before this moment, and nothing behind it: who sends later is told (EPIPE), and keeps what he has. What is not
 * a userfaultfd is dropped with the rest. */
static void take_in(int sock)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(253 * sizeof(int))]; /* SCM_MAX_FD */
	} control;
	char bytes[4096];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct msghdr msg;
	long n;

	syscall(SYS_shutdown, sock, SHUT_RD);
	do {
		msg = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
		n = syscall(SYS_recvmsg, sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n > 0 || (n < 0 && errno == EINTR));
}

static bool is_same(int a, int b)
{
	char path[40], one[64], other[64];
	long n;

	thaw_holder_path(path, "/proc/self/fd/", a, "");
	n = syscall(SYS_readlink, path, one, sizeof(one));
	thaw_holder_path(path, "/proc/self/fd/", b, "");
	return n > 0 && n == syscall(SYS_readlink, path, other, sizeof(other)) && !memcmp(one, other, n);
}

/* What others have open as well, a shell that was given a socket by sshd for instance: its end would be theirs. */
static bool is_shared(const struct thaw_holder_args *a, int fd)
{
	for (int i = 0; i <= STDERR_FILENO; i++)
		if (is_same(fd, i))
			return true;
	return is_same(fd, a->log_fd);
}

/* Whatever is no socket refuses all of it. */
static int take_in_by(void *opaque, int fd)
{
	int conn;

	if (thaw_keep_has(fd) || (!thaw_keep_is_arrivals(fd) && is_shared(opaque, fd)))
		return 0;
	take_in(fd);
	/* If it listens, nobody connects any more, and who has is accepted. */
	while ((conn = syscall(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		take_in(conn);
	return 0;
}

static void sleep_ms(int ms)
{
	syscall(SYS_poll, NULL, 0, ms);
}

/* The monitor is dead: say who waits, let go of everything else, stay until the last of them has gone. */
static void hold(const struct thaw_holder_args *a)
{
	int i, tries;

	/* The monitor may have died with as many descriptors as there may be: then nothing more could be opened here. */
	syscall(SYS_close, a->monitor_fd);
	syscall(SYS_close, a->wake_fd);
	syscall(SYS_close, a->maps_fd);
	for (tries = 0; thaw_keep_has_arrivals() && tries < 100; tries++) {
		if (thaw_holder_each_number("/proc/self/fd", take_in_by, (void *)a) >= 0)
			break;
		sleep_ms(10); /* what has arrived and is not taken in is lost with its socket */
	}
	thaw_holder_report(a);
	for (i = tries = 0; i < 3 && tries < 100; tries++)
		if (thaw_holder_each_number("/proc/self/fd", drop_other, NULL))
			sleep_ms(10);
		else
			i++;
	while (count_living())
		sleep_ms(200);
}

/* An open maps file of an address space that is gone reads as empty. */
static bool memory_gone(int maps)
{
	char c;

	return maps >= 0 && syscall(SYS_pread64, maps, &c, 1, 0) == 0;
}

void thaw_holder_run(const struct thaw_holder_args *a)
{
	struct pollfd p[2] = { { .fd = a->monitor_fd, .events = POLLIN }, { .fd = a->wake_fd, .events = POLLIN } };
	int err;

	syscall(SYS_setsid);
	syscall(SYS_prctl, PR_SET_NAME, "uffd-holder", 0, 0, 0);
	syscall(SYS_chdir, "/");
	reset_signals();
	err = a->filter ? thaw_sandbox_install(a->filter) : 0;
	set_ready(a->page, err ? err : 1);
	while (!err && !__atomic_load_n(&a->page->done, __ATOMIC_ACQUIRE)) {
		long n = THAW_INJECT("holder.poll") ? -1 : syscall(SYS_poll, p, 2, LOOK_MS);

		if (n > 0 && p[1].revents && __atomic_load_n(&a->page->done, __ATOMIC_ACQUIRE))
			break;
		if ((n > 0 && p[0].revents) || memory_gone(a->maps_fd)) {
			hold(a);
			break;
		}
	}
	for (;;)
		syscall(SYS_exit_group, 0);
}
