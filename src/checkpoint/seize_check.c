// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/seize_check.c - processes that cannot be stopped, or should not be, by name */
#include "config.h"
#include "checkpoint/seize.h"

#include <errno.h>
#include <fcntl.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kern/procfs.h"
#include "util/err.h"

#define PF_KTHREAD 0x00200000

static int check_ancestors(pid_t pid, const char *name)
{
	struct thaw_proc_stat st;
	pid_t up = getpid();

	if (pid == up)
		return thaw_err_set(-EINVAL, "process %d is thaw itself", pid);
	while (up > 1 && thaw_procfs_stat(up, &st) == 0) {
		up = st.ppid;
		if (up == pid)
			return thaw_err_set(-EBUSY, "process %d (%s) is waiting for this thaw, which is its child: "
					    "run thaw from somewhere else", pid, name);
	}
	return 0;
}

/* The class of the program file: a 32-bit process is one even while it runs 64-bit code, and the other way round. */
static int check_class(pid_t pid)
{
	unsigned char ident[EI_NIDENT] = { 0 };
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int err = errno;

		if (err == EACCES || err == EPERM)
			return thaw_err_set(-EPERM, "process %d: no permission to look at it: be its user, or root", pid);
		return err == ENOENT || err == ESRCH ? thaw_err_set(-ESRCH, "process %d has no program: it has ended", pid) :
						       thaw_err_set(-err, "%s: %s", path, strerror(err));
	}
	n = read(fd, ident, sizeof(ident));
	close(fd);
	if (n == (ssize_t)sizeof(ident) && !memcmp(ident, ELFMAG, SELFMAG) && ident[EI_CLASS] == ELFCLASS32)
		return thaw_err_set(-ENOTSUP, "process %d is a 32-bit program: not supported", pid);
	return 0;
}

static int check_state(pid_t pid, const struct thaw_proc_status *s, const struct thaw_proc_stat *st)
{
	if (st->flags & PF_KTHREAD)
		return thaw_err_set(-ENOTSUP, "process %d (%s) is a kernel thread: it has no memory to checkpoint", pid, s->name);
	if (s->tgid != pid)
		return thaw_err_set(-EINVAL, "%d is a thread of process %d: use -t %d", pid, s->tgid, s->tgid);
	switch (s->state) {
	case 'Z':
	case 'X':
		if (s->threads > 1)
			return thaw_err_set(-ENOTSUP, "process %d (%s): its main thread has ended while others run: "
					    "not supported; checkpoint it while that runs", pid, s->name);
		return thaw_err_set(-ESRCH, "process %d (%s) has ended already: it is a zombie", pid, s->name);
	case 'T':
		return thaw_err_set(-EBUSY, "process %d (%s) is stopped by a signal: not supported; continue it first "
				    "(kill -CONT %d)", pid, s->name, pid);
	}
	if (s->tracer)
		return thaw_err_set(-EBUSY, "process %d (%s) is traced by process %d (a debugger or strace): detach that first",
				    pid, s->name, s->tracer);
	return 0;
}

int thaw_seize_check(pid_t pid)
{
	struct thaw_proc_status s;
	struct thaw_proc_stat st;
	int r;

	if (pid <= 0)
		return thaw_err_set(-EINVAL, "%d is not a process", pid);
	r = thaw_procfs_status(pid, &s);
	if (r == 0)
		r = thaw_procfs_stat(pid, &st);
	if (r == -ENOENT || r == -ESRCH)
		return thaw_err_set(-ESRCH, "process %d does not exist", pid);
	if (r < 0)
		return thaw_err_set(r, "process %d: /proc/%d/status: %s", pid, pid, strerror(-r));
	r = check_state(pid, &s, &st);
	if (r == 0)
		r = check_ancestors(pid, s.name);
	return r < 0 ? r : check_class(pid);
}
