// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_refuse.c - what a process may have, beside mappings and files, that cannot be restored */
#include "config.h"
#include "checkpoint/dump.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/err.h"

static int name_child(void *opaque, pid_t child)
{
	const struct thaw_dumper *d = opaque;
	struct thaw_proc_stat st = { 0 };

	if (thaw_procfs_stat(child, &st) < 0)
		return 0; /* gone already */
	if (st.state == 'Z')
		return thaw_err_set(-ENOTSUP, "process %d (%s) has a child that has ended and is not waited for, %d (%s): "
				    "not supported; checkpoint it when it has waited for that", d->pid, d->status.name, child, st.comm);
	return thaw_err_set(-ENOTSUP, "process %d (%s) has a child, %d (%s): not supported; checkpoint it when the child has "
			    "ended", d->pid, d->status.name, child, st.comm);
}

static int check_children(struct thaw_dumper *d)
{
	int r = thaw_procfs_children(d->pid, name_child, d);

	if (r == -ESRCH || r == -ENOENT)
		return thaw_err_set(-ESRCH, "process %d has ended meanwhile", d->pid);
	return r < 0 && thaw_err_code() != r ? thaw_err_set(r, "process %d: its children: %s", d->pid, strerror(-r)) : r;
}

static int refuse_namespace(const struct thaw_dumper *d, const char *name)
{
	const char *mark = strstr(name, "_for_children");

	if (mark)
		return thaw_err_set(-ENOTSUP, "process %d has a %.*s namespace of its own for its children (unshare): not supported; "
				    "run it without, or use CRIU with thaw lazy-pages", d->pid, (int)(mark - name), name);
	if (!strcmp(name, "pid"))
		return thaw_err_set(-ENOTSUP, "process %d is in another pid namespace than thaw: not supported; run thaw inside a container "
				    "that has its own /proc (nsenter -t %d -a), or use CRIU with thaw lazy-pages; what was restored with "
				    "--pidns cannot be checkpointed again", d->pid, d->pid);
	return thaw_err_set(-ENOTSUP, "process %d is in another %s namespace than thaw: not supported; run thaw inside "
			    "(nsenter -t %d -a), or use CRIU with thaw lazy-pages", d->pid, name, d->pid);
}

/* Namespaces must be ours, and those of all threads. In which control group the process is, is left to who restores. A pid
 * namespace for children cannot be named before it has its first one, while the process is there. */
static int check_namespaces(struct thaw_dumper *d, pid_t tid)
{
	static const char *const names[] = { "user", "mnt", "pid", "pid_for_children", "net", "ipc", "uts", "time",
					     "time_for_children", "cgroup" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *its = thaw_dump_readlink("/proc/%d/task/%d/ns/%s", d->pid, tid, names[i]);
		int err = errno;
		char *ours = thaw_dump_readlink("/proc/self/ns/%s", names[i]);
		bool same = its && ours && !strcmp(its, ours);
		bool absent = !its && !ours;

		free(its);
		free(ours);
		if (!its && !absent && err == ENOENT && !strcmp(names[i], "pid_for_children"))
			return refuse_namespace(d, names[i]);
		if (!its && !absent && (err == ENOENT || err == ESRCH))
			return thaw_err_set(-ESRCH, "process %d has ended meanwhile", d->pid);
		if (!its && (err == EACCES || err == EPERM))
			return thaw_err_set(-EPERM, "process %d: no permission to look at it: be its user, or root", d->pid);
		if (!same && !absent)
			return refuse_namespace(d, names[i]);
	}
	return 0;
}

static bool same(int type, pid_t a, pid_t b)
{
	return syscall(SYS_kcmp, a, b, type, 0, 0) == 0;
}

static bool has_ended(pid_t pid)
{
	struct thaw_proc_stat st;

	return thaw_procfs_stat(pid, &st) < 0 || st.state == 'Z' || st.state == 'X';
}

/* What clone() can let two processes have together, whatever they are to each other: parent and child, brothers (CLONE_PARENT), or
 * strangers, when whoever stood between them has ended. It would be two things after a restore. */
static int check_sharing(const struct thaw_dumper *d, pid_t other)
{
	static const struct {
		int type;
		const char *what, *how;
	} shared[] = {
		{ KCMP_VM, "memory", "vfork or clone" },
		{ KCMP_FILES, "file descriptors", "clone" },
		{ KCMP_FS, "working directory", "clone" },
	};
	struct thaw_proc_stat st = { 0 };

	for (size_t i = 0; i < sizeof(shared) / sizeof(*shared); i++) {
		if (!same(shared[i].type, d->pid, other))
			continue;
		if (has_ended(d->pid)) /* then it has none of them, like a kernel thread */
			return thaw_err_set(-ESRCH, "process %d has ended meanwhile", d->pid);
		if (thaw_procfs_stat(other, &st) < 0)
			snprintf(st.comm, sizeof(st.comm), "?");
		return thaw_err_set(-ENOTSUP, "process %d shares its %s with %s %d (%s; %s): not supported; end that process first", d->pid,
				    shared[i].what, other == d->stat.ppid ? "its parent" : "process", other, st.comm, shared[i].how);
	}
	return 0;
}

/* Those that may not be compared with (another user's) are passed over: nobody gets as far as here who may not look at this one, and
 * whoever shares its memory shares its credentials too, but for what was changed since. */
static int check_others(const struct thaw_dumper *d)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	int r = 0;

	if (!proc)
		return thaw_err_set(-errno, "/proc: %s", strerror(errno));
	while (r == 0 && (e = readdir(proc))) {
		pid_t other = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;

		if (other && other != d->pid)
			r = check_sharing(d, other);
	}
	closedir(proc);
	return r;
}

/* Tables that unshare() can make a thread's own. */
static int check_tables(const struct thaw_dumper *d)
{
	for (size_t i = 1; i < d->sz.n; i++) {
		pid_t tid = d->sz.threads[i].tid;

		if (syscall(SYS_kcmp, d->pid, tid, KCMP_FILES, 0, 0) > 0)
			return thaw_err_set(-ENOTSUP, "process %d: thread %d has its own file descriptors (unshare): "
					    "not supported", d->pid, tid);
		if (syscall(SYS_kcmp, d->pid, tid, KCMP_FS, 0, 0) > 0)
			return thaw_err_set(-ENOTSUP, "process %d: thread %d has its own working directory (unshare): "
					    "not supported", d->pid, tid);
	}
	return 0;
}

static int check_thread(struct thaw_dumper *d, pid_t tid)
{
	struct thaw_proc_status s;
	int r = thaw_procfs_task_status(d->pid, tid, &s);

	if (r < 0)
		return thaw_err_set(r, "process %d: thread %d: its status: %s", d->pid, tid, strerror(-r));
	if (s.seccomp)
		return thaw_err_set(-ENOTSUP, "process %d: thread %d (%s) %s: not supported; use CRIU with thaw lazy-pages", d->pid,
				    tid, s.name, s.seccomp == 1 ? "is in seccomp's strict mode" : "has a seccomp filter");
	return check_namespaces(d, tid);
}

int thaw_dump_refuse_process(struct thaw_dumper *d)
{
	size_t i;
	int r;

	r = check_children(d);
	if (r == 0)
		r = check_others(d);
	if (r == 0)
		r = check_tables(d);
	for (i = 0; r == 0 && i < d->sz.n; i++)
		r = check_thread(d, d->sz.threads[i].tid);
	return r;
}
