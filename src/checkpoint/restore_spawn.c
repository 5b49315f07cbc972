// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_spawn.c - a process with the wanted number, held by ptrace; and how to be rid of it */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/tracee.h"
#include "kern/procfs.h"
#include "kern/sys.h"
#include "util/err.h"

#define CHILD_POLL_NS 20000000
#define SEIZE_TIMEOUT_MS 10000
#define ZOMBIE_WAIT_MS 3000
#define ZOMBIE_TICK_MS 10

static int taken(pid_t tid)
{
	struct thaw_proc_status st;

	if (thaw_procfs_status(tid, &st) < 0)
		return thaw_err_set(-EEXIST, "process number %d is still in use (as the group or session of other processes): "
				    "end them, or restore with --pidns", (int)tid);
	if (st.state == 'Z')
		return thaw_err_set(-EEXIST, "number %d is taken by %.63s, which has ended but was not waited for by its parent %d: "
				    "end that one, or restore with --pidns", (int)tid, st.name, (int)st.ppid);
	if (st.tgid != tid)
		return thaw_err_set(-EEXIST, "number %d is taken by a thread of process %d (%.63s, state %c): end it, or restore "
				    "with --pidns", (int)tid, (int)st.tgid, st.name, st.state);
	return thaw_err_set(-EEXIST, "number %d is taken by %.63s (state %c): end it, or restore with --pidns", (int)tid, st.name,
			    st.state);
}

/* The checkpointed process itself may be it: ended, and not yet waited for by a parent (some inits take a second). */
static bool is_free(pid_t tid)
{
	const struct timespec tick = { 0, ZOMBIE_TICK_MS * 1000000L };
	struct thaw_proc_status st;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d", tid);
	for (int waited = 0; !access(path, F_OK); waited += ZOMBIE_TICK_MS) {
		if (waited >= ZOMBIE_WAIT_MS || thaw_procfs_status(tid, &st) < 0 || st.state != 'Z')
			return access(path, F_OK);
		nanosleep(&tick, NULL);
	}
	return true;
}

/* Not a reservation: the clone of each thread is what decides. But most collisions are seen before anything is made. */
static int check_free(const struct thaw_restore *r)
{
	if (r->o.pidns)
		return 0;
	for (size_t i = 0; i < r->p->n_threads; i++)
		if (!is_free(r->p->threads[i]->tid))
			return taken(r->p->threads[i]->tid);
	return 0;
}

static int clone_failed(int error, pid_t want, bool newns)
{
	switch (error) {
	case EEXIST:
		return taken(want);
	case EPERM:
		return newns ? thaw_err_set(-EPERM, "no pid namespace could be made: it takes CAP_SYS_ADMIN: run as root") :
			       thaw_err_set(-EPERM, "no process with number %d could be made: choosing a number takes "
					    "CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN): run as root, or setcap "
					    "cap_checkpoint_restore,cap_sys_ptrace+ep on thaw", (int)want);
	case EINVAL:
		return thaw_err_set(-EINVAL, "no process with number %d could be made: is it above kernel.pid_max? Raise that, "
				    "or restore with --pidns", (int)want);
	default:
		return thaw_err_set(-error, "making process %d: %s", (int)want, strerror(error));
	}
}

/* A fork that may choose its number (want > 0). Returns as fork does, in the child with all signals blocked; -errno with a
 * sentence. */
static pid_t fork_as(pid_t want, bool newns, int *pidfd)
{
	uint64_t all = ~0ULL, old;
	struct clone_args a = {
		.flags = CLONE_PIDFD | (newns ? CLONE_NEWPID : 0),
		.pidfd = (uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
		.set_tid = want > 0 ? (uintptr_t)&want : 0,
		.set_tid_size = want > 0,
	};
	long pid;
	int error;

	/* The child starts with everything blocked, so that none of our own handlers runs in it. */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	pid = syscall(SYS_clone3, &a, sizeof(a));
	error = errno;
	if (pid)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	return pid < 0 ? clone_failed(error, want, newns) : (pid_t)pid;
}

static int make_process(struct thaw_restore *r, bool newns)
{
	pid_t parent = getpid(), pid;

	pid = fork_as(newns ? 0 : r->p->pid, newns, &r->pidfd);
	if (pid == 0)
		thaw_restore_child(r, newns || r->init ? 0 : parent);
	if (pid < 0)
		return pid;
	r->pid = pid;
	return 0;
}

static int make_init(struct thaw_restore *r)
{
	int ends[2];
	pid_t init;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return thaw_err_set(-errno, "no sockets to start a process: %s", strerror(errno));
	init = fork_as(0, false, &r->init_pidfd);
	if (init == 0) {
		close(ends[1]);
		thaw_restore_init(ends[0]);
	}
	close(ends[0]);
	r->control = ends[1];
	if (init < 0)
		return init;
	r->init = init;
	return 0;
}

/* The process is our child all the same, so that its exit status comes to us; process 1 of its namespace is one of ours. */
static int spawn_in_namespace(struct thaw_restore *r)
{
	int old = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC), err;

	if (old < 0)
		return thaw_err_set(-errno, "/proc/self/ns/pid_for_children: %s", strerror(errno));
	if (unshare(CLONE_NEWPID)) {
		err = clone_failed(errno, r->p->pid, true);
		close(old);
		return err;
	}
	err = make_init(r);
	if (!err)
		err = make_process(r, false);
	if (setns(old, CLONE_NEWPID) && !err) /* else we could not make threads any more */
		err = thaw_err_set(-errno, "leaving the new pid namespace again: %s", strerror(errno));
	close(old);
	return err;
}

/* The init needs to know when its only purpose has ended. */
int thaw_restore_release_init(struct thaw_restore *r)
{
	union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } c = { 0 };
	struct iovec iov = { "g", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	if (r->control < 0)
		return 0;
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &r->pidfd, sizeof(int));
	if (sendmsg(r->control, &m, MSG_NOSIGNAL) != 1)
		return thaw_err_set(-errno, "the init of process %d has ended: %s", r->p->pid, strerror(errno));
	return 0;
}

_Noreturn void thaw_restore_init(int control)
{
	union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } c;
	char go;
	struct iovec iov = { &go, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	struct pollfd end = { .events = POLLIN };

	signal(SIGCHLD, SIG_IGN); /* who is left to us is reaped by that */
	thaw_sys_name_thread("thaw-init");
	/* A descriptor of the process: the restore is complete. End of file: the restorer is gone, and all goes with us. */
	if (recvmsg(control, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		_exit(1);
	memcpy(&end.fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	if (end.fd > 0)
		close_range(0, (unsigned)end.fd - 1, 0);
	close_range((unsigned)end.fd + 1, ~0U, 0);
	while (poll(&end, 1, -1) != 1)
		;
	_exit(0);
}

static int make_report(struct thaw_restore *r)
{
	void *m;

	r->report_len = sizeof(*r->report) + r->p->n_mappings * sizeof(r->report->map[0]);
	m = mmap(NULL, r->report_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return thaw_err_set(-errno, "no memory to start a process: %s", strerror(errno));
	r->report = m;
	r->report->uffd = r->report->exe_fd = -1;
	return 0;
}

static int child_error(const struct thaw_restore *r, int code)
{
	char text[sizeof(r->report->text)];

	memcpy(text, r->report->text, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	return thaw_err_set(code, "%s", text);
}

/* Until the child has done its first phase. It dies, or reports; both are looked for every so often. */
static int await_child(struct thaw_restore *r)
{
	struct thaw_child_report *rep = r->report;

	for (;;) {
		bool over = thaw_sys_pidfd_exited(r->pidfd); /* before the report: that may have been its last deed */
		int code;

		code = __atomic_load_n(&rep->code, __ATOMIC_ACQUIRE);
		if (code)
			return child_error(r, code);
		if (__atomic_load_n((uint32_t *)&rep->ready, __ATOMIC_ACQUIRE))
			return 0;
		if (over)
			return thaw_err_set(-ECHILD, "process %d was killed while it was made", r->p->pid);
		code = thaw_restore_interrupted(r); /* it may wait for a file system that does not answer */
		if (code)
			return code;
		thaw_sys_futex_wait((uint32_t *)&rep->ready, 0, CHILD_POLL_NS, true);
	}
}

int thaw_restore_spawn(struct thaw_restore *r)
{
	int err = check_free(r);

	if (!err)
		err = make_report(r);
	if (err)
		return err;
	if (r->o.pidns && r->p->pid != 1)
		err = spawn_in_namespace(r);
	else
		err = make_process(r, r->o.pidns);
	return err ? err : await_child(r);
}

int thaw_restore_seize(struct thaw_restore *r)
{
	int status, err;

	if (ptrace(PTRACE_SEIZE, r->pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD))
		return thaw_err_set(-errno, "process %d: ptrace: %s%s", (int)r->pid, strerror(errno),
				    errno == EPERM ? ": is thaw itself being traced, or kernel.yama.ptrace_scope 3?" : "");
	r->seized = true;
	err = thaw_tracee_ptrace(PTRACE_INTERRUPT, r->pid, 0, 0);
	if (err >= 0)
		err = thaw_tracee_wait(r->pid, &status, SEIZE_TIMEOUT_MS);
	if (err == -ETIMEDOUT)
		return thaw_err_set(err, "process %d did not stop within %d s", (int)r->pid, SEIZE_TIMEOUT_MS / 1000);
	return err < 0 ? err : 0;
}

static int reap_task(void *opaque, pid_t tid)
{
	int status;

	if (tid != *(pid_t *)opaque)
		waitpid(tid, &status, __WALL | WNOHANG); /* no tracee yet, or reaped: not ours to wait for */
	return 0;
}

/* The process is certain to end: SIGKILL is on its way. Its threads are reported to us as we trace them, even those that
 * we have not heard of yet, and the leader only when they have been reaped. */
static void reap(pid_t pid)
{
	struct timespec nap = { .tv_nsec = 200000 };
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, __WALL | WNOHANG);

		if ((got == pid && !WIFSTOPPED(status)) || (got < 0 && errno != EINTR))
			return;
		thaw_procfs_tasks(pid, reap_task, &pid); /* fails when it is gone: the next turn sees that, too */
		nanosleep(&nap, NULL);
	}
}

void thaw_restore_kill(struct thaw_restore *r)
{
	if (r->pidfd >= 0)
		thaw_sys_pidfd_signal(r->pidfd, SIGKILL);
	if (r->init_pidfd >= 0)
		thaw_sys_pidfd_signal(r->init_pidfd, SIGKILL);
	if (r->pid > 0)
		reap(r->pid);
	if (r->init > 0)
		reap(r->init);
	r->pid = r->init = 0;
}
