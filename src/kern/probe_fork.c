// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/probe_fork.c - attempts on another process: one that sleeps, and one beside it that tries */
#include "config.h"
#include "kern/probe_impl.h"
#include "kern/procfs.h"
#include "kern/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PTRACE_GET_RSEQ_CONFIGURATION /* Linux 5.13 */
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
struct rseq_configuration {
	uint64_t address;
	uint32_t size, signature, flags, pad;
};

/* The process is forked out of a program that may have threads: only what is async-signal-safe until its end. */
static pid_t start_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid < 0 ? -errno : pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

/* fn in a child, which tells -errno (or WRONG) by its exit status. */
static int in_child(int (*fn)(pid_t other), pid_t other)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		int err;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(10);
		err = fn(other);
		_exit(err == THAW_PROBE_WRONG ? 255 : -err);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFEXITED(status))
		return THAW_PROBE_WRONG;
	return WEXITSTATUS(status) == 255 ? THAW_PROBE_WRONG : -WEXITSTATUS(status);
}

/* The one that tries is the sleeper's sibling, not its parent: as with any process that one may want to checkpoint. */
static int beside_sleeper(int (*fn)(pid_t other))
{
	pid_t other = start_sleeper();
	int err;

	if (other < 0)
		return other;
	err = in_child(fn, other);
	end(other);
	return err;
}

static int seize(pid_t other)
{
	int status;

	if (ptrace(PTRACE_SEIZE, other, NULL, NULL) || ptrace(PTRACE_INTERRUPT, other, NULL, NULL))
		return -errno;
	if (waitpid(other, &status, __WALL) != other)
		return -errno;
	return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP ? 0 : THAW_PROBE_WRONG;
}

static int seize_and_let_go(pid_t other)
{
	int err = seize(other);

	if (err)
		return err;
	return ptrace(PTRACE_DETACH, other, NULL, NULL) ? -errno : 0;
}

int thaw_try_ptrace(char *detail)
{
	return beside_sleeper(seize_and_let_go);
}

static int read_rseq(pid_t other)
{
	struct rseq_configuration c;
	int err = seize(other);

	if (err)
		return err;
	return ptrace(PTRACE_GET_RSEQ_CONFIGURATION, other, sizeof(c), &c) < 0 ? -errno : 0;
}

int thaw_try_rseq(char *detail)
{
	return beside_sleeper(read_rseq);
}

static volatile uint64_t pattern = 0x7468617774686177;

static int read_memory(pid_t other)
{
	uint64_t got = 0, fresh = 0x1234567890abcdef;
	int err = thaw_sys_vm_read(other, (uintptr_t)&pattern, &got, sizeof(got));

	if (!err && got != pattern)
		err = THAW_PROBE_WRONG;
	if (!err)
		err = thaw_sys_vm_write(other, (uintptr_t)&pattern, &fresh, sizeof(fresh));
	if (!err)
		err = thaw_sys_vm_read(other, (uintptr_t)&pattern, &got, sizeof(got));
	return err ? err : got == fresh ? 0 : THAW_PROBE_WRONG;
}

int thaw_try_vm_readv(char *detail)
{
	return beside_sleeper(read_memory);
}

static int get_fd(pid_t other)
{
	int pidfd = thaw_sys_pidfd_open(other), fd;

	if (pidfd < 0)
		return pidfd;
	for (fd = 0; fd < 256; fd++) { /* whichever it has: it was forked off us */
		int got = thaw_sys_pidfd_getfd(pidfd, fd);

		if (got != -EBADF)
			return got < 0 ? got : 0;
	}
	return 0; /* it has none; being told EBADF means being allowed to ask */
}

int thaw_try_pidfd_getfd(char *detail)
{
	return beside_sleeper(get_fd);
}

static int compare_files(pid_t other)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	r = thaw_sys_kcmp_file(getpid(), fds[0], getpid(), fds[1]);
	if (r <= 0)
		return r < 0 ? r : THAW_PROBE_WRONG;
	r = thaw_sys_kcmp_file(getpid(), fds[0], other, 1 << 20);
	return r == -EBADF ? 0 : r < 0 ? r : THAW_PROBE_WRONG;
}

int thaw_try_kcmp(char *detail)
{
	return beside_sleeper(compare_files);
}

static int look_for(void *opaque, pid_t pid)
{
	return pid == *(pid_t *)opaque;
}

int thaw_try_children(char *detail)
{
	pid_t other = start_sleeper();
	int found;

	if (other < 0)
		return other;
	found = thaw_procfs_children(getpid(), look_for, &other);
	end(other);
	return found == 1 ? 0 : -ENOENT;
}

/* A process with an id that we choose: one that was free a moment ago, so that it is tried again when it is not. */
static int make_with_tid(pid_t other)
{
	int tries;

	for (tries = 0; tries < 20; tries++) {
		pid_t want = fork(), pid;
		struct clone_args a = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&want, .set_tid_size = 1 };

		if (want < 0)
			return -errno;
		if (want == 0)
			_exit(0);
		waitpid(want, NULL, 0);
		pid = syscall(SYS_clone3, &a, sizeof(a));
		if (pid == 0)
			_exit(0);
		if (pid > 0) {
			waitpid(pid, NULL, 0);
			return pid == want ? 0 : THAW_PROBE_WRONG;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int thaw_try_set_tid(char *detail)
{
	return in_child(make_with_tid, 0);
}

/* The same values again: they are right for this process. */
static int set_mm_map(pid_t other)
{
	struct thaw_proc_stat s;
	struct prctl_mm_map m;
	unsigned size = 0;
	int err = thaw_procfs_stat(getpid(), &s);

	if (err)
		return err;
	if (prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0))
		return -errno;
	if (size != sizeof(m))
		return -EOPNOTSUPP;
	m = (struct prctl_mm_map){
		.start_code = s.start_code,
		.end_code = s.end_code,
		.start_data = s.start_data,
		.end_data = s.end_data,
		.start_brk = s.start_brk,
		.brk = syscall(SYS_brk, 0),
		.start_stack = s.start_stack,
		.arg_start = s.arg_start,
		.arg_end = s.arg_end,
		.env_start = s.env_start,
		.env_end = s.env_end,
		.exe_fd = -1,
	};
	return prctl(PR_SET_MM, PR_SET_MM_MAP, &m, sizeof(m), 0) ? -errno : 0;
}

int thaw_try_mm_map(char *detail)
{
	return in_child(set_mm_map, 0);
}

static int make_pidns(pid_t other)
{
	return unshare(CLONE_NEWPID) ? -errno : 0;
}

int thaw_try_pidns(char *detail)
{
	return in_child(make_pidns, 0);
}
