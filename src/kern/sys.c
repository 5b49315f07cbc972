// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/sys.c - system calls that the C library does not wrap, or not in the way that is wanted here */
#include "config.h"
#include "kern/sys.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int result(long r)
{
	return r < 0 ? -errno : (int)r;
}

int thaw_sys_pidfd_open(pid_t pid)
{
	int err = THAW_INJECT("pidfd.open");

	if (err)
		return err;
	return result(syscall(SYS_pidfd_open, pid, 0));
}

int thaw_sys_pidfd_getfd(int pidfd, int fd)
{
	int err = THAW_INJECT("pidfd.getfd");

	if (err)
		return err;
	return result(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

int thaw_sys_pidfd_signal(int pidfd, int sig)
{
	int err = THAW_INJECT("pidfd.signal");

	if (err)
		return err;
	return result(syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0));
}

int thaw_sys_pid_of(int pidfd)
{
	char path[48], buf[512], *at;
	ssize_t n;
	int fd, pid;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = THAW_INJECT_ERRNO("procfs.open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EBADF : -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	at = strstr(buf, "\nPid:");
	pid = at ? atoi(at + 5) : 0;
	return !at ? -EINVAL : pid > 0 ? pid : -ESRCH;
}

bool thaw_sys_pidfd_exited(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && p.revents & POLLIN;
}

int thaw_sys_kcmp_file(pid_t a, int fd_a, pid_t b, int fd_b)
{
	int err = THAW_INJECT("process.kcmp");

	if (err)
		return err;
	return result(syscall(SYS_kcmp, a, b, KCMP_FILE, (unsigned long)fd_a, (unsigned long)fd_b));
}

pid_t thaw_sys_gettid(void)
{
	return syscall(SYS_gettid);
}

int thaw_sys_futex_wait(uint32_t *word, uint32_t value, int64_t timeout_ns, bool shared)
{
	struct timespec t = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	int op = FUTEX_WAIT | (shared ? 0 : FUTEX_PRIVATE_FLAG), err = THAW_INJECT("futex.wait");

	if (err)
		return err;
	return result(syscall(SYS_futex, word, op, value, timeout_ns < 0 ? NULL : &t, NULL, 0));
}

int thaw_sys_futex_wake(uint32_t *word, unsigned n, bool shared)
{
	(void)THAW_INJECT("futex.wake");
	return result(syscall(SYS_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), n, NULL, NULL, 0));
}

int thaw_sys_eventfd(bool nonblocking)
{
	int err = THAW_INJECT("eventfd.make");

	return err ? err : result(eventfd(0, EFD_CLOEXEC | (nonblocking ? EFD_NONBLOCK : 0)));
}

int thaw_sys_eventfd_raise(int fd)
{
	int err = THAW_INJECT("eventfd.raise");
	uint64_t one = 1;

	return err ? err : write(fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

/* One iovec each way; the kernel may stop early at a page that it cannot have, and says why only when asked again. */
static int vm_transfer(pid_t pid, uint64_t remote, char *buf, size_t len, bool write)
{
	while (len) {
		const char *point = write ? "process.write" : "process.read";
		size_t most = THAW_INJECT_SHORT(point, len, 1);
		struct iovec local = { buf, most }, far = { (void *)(uintptr_t)remote, most };
		ssize_t n = THAW_INJECT_ERRNO(point) ? -1 : write ? process_vm_writev(pid, &local, 1, &far, 1, 0)
				  : process_vm_readv(pid, &local, 1, &far, 1, 0);

		if (n < 0)
			return -errno;
		if (n == 0)
			return -EFAULT;
		buf += n;
		remote += n;
		len -= n;
	}
	return 0;
}

int thaw_sys_vm_read(pid_t pid, uint64_t remote, void *buf, size_t len)
{
	return vm_transfer(pid, remote, buf, len, false);
}

int thaw_sys_vm_write(pid_t pid, uint64_t remote, const void *buf, size_t len)
{
	return vm_transfer(pid, remote, (char *)buf, len, true);
}

uint64_t thaw_sys_lock_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_MEMLOCK, &r) || r.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return r.rlim_cur;
}

/* The first form of the kernel's struct sched_attr (SCHED_ATTR_SIZE_VER0); the C library has none. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

int thaw_sys_give_way(int nice, uint64_t slice_ns)
{
	struct attr a = { .size = sizeof(a) };
	int err = THAW_INJECT("thread.nice");

	if (!err)
		err = result(syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0));
	if (err)
		return err;
	if (a.policy != SCHED_OTHER)
		return -EINVAL;
	a.nice = a.nice + nice < 19 ? a.nice + nice : 19;
	a.runtime = slice_ns;
	return result(syscall(SYS_sched_setattr, 0, &a, 0));
}

int thaw_sys_name_thread(const char *name)
{
	return result(prctl(PR_SET_NAME, name));
}

int thaw_sys_cpu(void)
{
	return sched_getcpu();
}

int thaw_sys_pin_thread(int cpu)
{
	int err = THAW_INJECT("thread.pin");
	cpu_set_t set;

	if (err)
		return err;
	CPU_ZERO(&set);
	if (cpu >= 0)
		CPU_SET(cpu, &set);
	else
		memset(&set, 0xff, sizeof(set)); /* the kernel cuts it to what the cpuset allows */
	return result(sched_setaffinity(0, sizeof(set), &set));
}

int thaw_sys_move_thread(int cpu)
{
	int err = THAW_INJECT("thread.pin");
	cpu_set_t may, there, now;

	if (!err)
		err = result(sched_getaffinity(0, sizeof(may), &may)); /* EINVAL: more than 1024 CPUs */
	if (err)
		return err;
	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &may))
		return -EINVAL;
	CPU_ZERO(&there);
	CPU_SET(cpu, &there);
	err = result(sched_setaffinity(0, sizeof(there), &there));
	/* Free again: of all, if that is what it was, so that a CPU that comes into the cpuset is among them; else as before. */
	if (!err)
		err = thaw_sys_pin_thread(-1);
	if (err || (!sched_getaffinity(0, sizeof(now), &now) && CPU_EQUAL(&now, &may)))
		return err;
	return result(sched_setaffinity(0, sizeof(may), &may));
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

uint64_t thaw_sys_thread_cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

int64_t thaw_sys_size_in_memory(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &st))
		return -errno;
	return st.stx_mask & STATX_SIZE ? (int64_t)st.stx_size : -EOPNOTSUPP;
}

uint64_t thaw_sys_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void thaw_sys_raise_descriptors(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}
