// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_landlock.c - is a thread in a Landlock sandbox? /proc does not tell, but what it may not do does.
 *
 * Whoever is in a sandbox may look at no process outside of it (Linux 5.13), not even at one of its own user without any
 * privilege. So there is one of those, a child of ours that has ended and is not waited for: it has credentials and nothing
 * else, no memory to be looked at and no program to be disturbed. The thread is asked to compare it with itself: kcmp(2)
 * wants the right to read both. Another process with the same credentials has asked before, so that a refusal has no other
 * reason. A sandbox that we are in as well is none, as with namespaces. */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/err.h"

#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_VERSION 1u

/* Real ids are what the kernel compares. No capability: whoever asks needs none either. */
static int become(uint32_t uid, uint32_t gid)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };

	if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0 ||
	    syscall(SYS_capset, &head, none) < 0)
		return errno;
	return 0;
}

/* The one who is looked at. A kernel may ask of an ended process, too, whether it was dumpable: then it is, for the moment
 * between that call and its end. */
static pid_t make_subject(uint32_t uid, uint32_t gid, bool dumpable)
{
	siginfo_t end;
	pid_t pid = fork();

	if (pid == 0) {
		int err = become(uid, gid);

		if (err == 0 && dumpable)
			prctl(PR_SET_DUMPABLE, 1);
		_exit(err);
	}
	if (pid < 0 || waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT) < 0)
		return -errno;
	return end.si_code == CLD_EXITED && end.si_status == 0 ? pid : -(end.si_code == CLD_EXITED ? end.si_status : EINTR);
}

/* The same question from outside of every sandbox but ours: 0, or the errno. */
static int control(pid_t subject, uint32_t uid, uint32_t gid)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int err = become(uid, gid);

		if (err == 0 && syscall(SYS_kcmp, subject, subject, KCMP_VM, 0, 0) != 0)
			err = errno;
		_exit(err);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

void thaw_dump_landlock_end(struct thaw_dumper *d)
{
	if (d->landlock.subject > 0)
		waitpid(d->landlock.subject, NULL, 0);
	d->landlock.subject = 0;
}

int thaw_dump_landlock_prepare(struct thaw_dumper *d, uint32_t uid, uint32_t gid)
{
	struct thaw_dump_landlock *l = &d->landlock;
	int err = 0;

	if (syscall(LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION) < 1)
		return 0; /* a kernel without it, or started without it: nobody is in a sandbox */
	if (l->subject && l->uid == uid && l->gid == gid)
		return 0;
	for (int dumpable = 0; dumpable < 2; dumpable++) {
		thaw_dump_landlock_end(d);
		l->subject = make_subject(uid, gid, dumpable);
		if (l->subject < 0) {
			err = -l->subject;
			l->subject = 0;
			break;
		}
		err = control(l->subject, uid, gid);
		if (err != EPERM)
			break;
	}
	l->uid = uid;
	l->gid = gid;
	if (err == 0)
		return 0;
	return thaw_err_set(-err, "process %d: whether it is in a Landlock sandbox cannot be found out: a process of user %u and "
			    "group %u: %s%s", d->pid, uid, gid, strerror(err), err == EPERM ? "; be its user, or root" : "");
}

/* A security module may be the one who refuses, if it has other rules for the thread than for us. */
static bool same_label(const struct thaw_dumper *d, pid_t tid, char *label, size_t size)
{
	char path[64], ours[256] = "";
	ssize_t n;

	label[0] = '\0';
	snprintf(path, sizeof(path), "task/%d/attr/current", tid);
	n = thaw_procfs_read(d->pid, path, label, size);
	if (n < 0 || thaw_procfs_read(getpid(), "attr/current", ours, sizeof(ours)) < 0)
		return n < 0;
	label[strcspn(label, "\n")] = ours[strcspn(ours, "\n")] = '\0';
	return !strcmp(label, ours);
}

int thaw_dump_landlock_check(const struct thaw_dumper *d, pid_t tid, int64_t answer)
{
	char label[256];

	if (!d->landlock.subject || answer == 0)
		return 0;
	if (answer != -EPERM)
		return thaw_err_set((int)answer, "process %d: thread %d: whether it is in a Landlock sandbox cannot be found out: %s",
				    d->pid, tid, strerror((int)-answer));
	if (same_label(d, tid, label, sizeof(label)))
		return thaw_err_set(-ENOTSUP, "process %d: thread %d is in a Landlock sandbox: not supported", d->pid, tid);
	return thaw_err_set(-ENOTSUP, "process %d: thread %d is in a Landlock sandbox, or confined by a security module (as %s): "
			    "not supported", d->pid, tid, label);
}
