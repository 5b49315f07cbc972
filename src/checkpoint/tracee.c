// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/tracee.c - waiting for a traced thread, and its memory */
#include "config.h"
#include "checkpoint/tracee.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kern/procfs.h"
#include "util/err.h"

#define YIELD_LONG_NS 100000

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

static int ended(pid_t tid)
{
	return thaw_err_set(-ESRCH, "thread %d has ended meanwhile", tid);
}

int thaw_tracee_ptrace(int request, pid_t tid, uintptr_t addr, uintptr_t data)
{
	long r = ptrace((enum __ptrace_request)request, tid, (void *)addr, (void *)data);

	if (r >= 0)
		return (int)r;
	if (errno == ESRCH)
		return ended(tid);
	return thaw_err_set(-errno, "thread %d: ptrace request 0x%x: %s", tid, request, strerror(errno));
}

char thaw_tracee_state(pid_t tid)
{
	struct thaw_proc_stat st;

	return thaw_procfs_stat(tid, &st) == 0 ? st.state : 0;
}

int thaw_tracee_poll(pid_t tid, int *status)
{
	pid_t r;

	do {
		r = waitpid(tid, status, __WALL | WNOHANG);
	} while (r < 0 && errno == EINTR);
	if (r == tid)
		return WIFSTOPPED(*status) ? 1 : ended(tid);
	if (r < 0)
		return errno == ECHILD ? ended(tid) : thaw_err_set(-errno, "thread %d: wait: %s", tid, strerror(errno));
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

bool thaw_tracee_yield(void)
{
	uint64_t start = now_ns();

	sched_yield();
	return now_ns() - start < YIELD_LONG_NS;
}

int thaw_tracee_wait(pid_t tid, int *status, int timeout_ms)
{
	uint64_t start = now_ns(), looked = start;
	struct timespec nap = { 0, 10000 };
	bool quick = true;
	unsigned turn;
	int r;

	/* A stop that was asked for comes within microseconds: give the CPU away first, sleep only then. */
	for (turn = 0;; turn++) {
		uint64_t now;

		r = thaw_tracee_poll(tid, status);
		if (r)
			return r < 0 ? r : 0;
		if (turn < 200 && quick) {
			quick = thaw_tracee_yield();
			continue;
		}
		now = now_ns();
		if (timeout_ms >= 0 && now - start > (uint64_t)timeout_ms * 1000000)
			return -ETIMEDOUT;
		if (now - looked > 20000000) {
			char state = thaw_tracee_state(tid);

			looked = now;
			if (state == 0 || state == 'Z' || state == 'X')
				return ended(tid);
		}
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < 1000000)
			nap.tv_nsec *= 2;
	}
}

static int deliver(void *opaque, pid_t tid, int status)
{
	(void)opaque;
	(void)tid;
	return status >> 16 ? 0 : WSTOPSIG(status);
}

int thaw_tracee_halt(pid_t tid, int *status, int timeout_ms, thaw_tracee_other *other, void *opaque)
{
	uint64_t end = now_ns() + (uint64_t)timeout_ms * 1000000, now;
	int r, sig;

	for (;;) {
		now = now_ns();
		r = now < end ? thaw_tracee_wait(tid, status, (int)((end - now) / 1000000)) : -ETIMEDOUT;
		if (r < 0 || thaw_tracee_is_event_stop(*status))
			return r;
		sig = other ? other(opaque, tid, *status) : deliver(NULL, tid, *status);
		if (sig < 0)
			return sig;
		/* Whatever a thread stops for, it forgets the request that was pending. It may have come while the thread was
		 * taking a signal already (for a POSIX timer's the kernel lets requests in meanwhile), and then the stop for that
		 * signal was all that came of it: the next would be the one for the next signal, and so on. A request that is
		 * still pending is not doubled. Errors: it is being killed, which the next wait tells. */
		ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
		ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)sig);
	}
}

bool thaw_tracee_is_event_stop(int status)
{
	return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
}

int thaw_tracee_in_event_stop(pid_t tid)
{
	siginfo_t si;
	int r;

	memset(&si, 0, sizeof(si));
	r = thaw_tracee_ptrace(PTRACE_GETSIGINFO, tid, 0, (uintptr_t)&si);
	if (r == -EINVAL) /* a group stop has no siginfo: it is a PTRACE_EVENT_STOP of a seized thread */
		return 1;
	return r < 0 ? r : si.si_code >> 8 == PTRACE_EVENT_STOP;
}

static int move(pid_t pid, uint64_t addr, void *buf, size_t len, bool out)
{
	size_t done = 0;

	while (done < len) {
		struct iovec local = { (char *)buf + done, len - done };
		struct iovec remote = { (void *)(uintptr_t)(addr + done), len - done };
		ssize_t n = out ? process_vm_writev(pid, &local, 1, &remote, 1, 0) :
				  process_vm_readv(pid, &local, 1, &remote, 1, 0);

		if (n < 0 && errno == ESRCH)
			return ended(pid);
		if (n <= 0)
			return thaw_err_set(n ? -errno : -EFAULT, "process %d: %s %zu bytes at %llx: %s", pid,
					    out ? "writing" : "reading", len - done, (unsigned long long)(addr + done),
					    n ? strerror(errno) : "short");
		done += (size_t)n;
	}
	return 0;
}

int thaw_tracee_read(pid_t pid, uint64_t addr, void *buf, size_t len)
{
	return move(pid, addr, buf, len, false);
}

int thaw_tracee_write(pid_t pid, uint64_t addr, const void *buf, size_t len)
{
	return move(pid, addr, (void *)(uintptr_t)buf, len, true);
}
