// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/seize.c - all threads of a process stopped, and let go again */
#include "config.h"
#include "checkpoint/seize.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/tracee.h"
#include "kern/procfs.h"
#include "util/err.h"

#define STOP_TIMEOUT_MS 5000
#define GONE_TIMEOUT_MS 10000

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- the list of threads ------------------------------------------------------------------------------------ */
struct listing {
	struct thaw_seized *s;
	unsigned fresh;
};

static struct thaw_seized_thread *find(struct thaw_seized *s, pid_t tid)
{
	unsigned i;

	for (i = 0; i < s->n; i++)
		if (s->threads[i].tid == tid)
			return &s->threads[i];
	return NULL;
}

static int add_thread(void *opaque, pid_t tid)
{
	struct listing *l = opaque;
	struct thaw_seized *s = l->s;

	if (find(s, tid))
		return 0;
	if (s->n == s->room) {
		unsigned room = s->room ? 2 * s->room : 16;
		struct thaw_seized_thread *bigger = realloc(s->threads, room * sizeof(*bigger));

		if (!bigger)
			return thaw_err_set(-ENOMEM, "no memory for %u threads", room);
		s->threads = bigger;
		s->room = room;
	}
	s->threads[s->n++] = (struct thaw_seized_thread){ .tid = tid };
	l->fresh++;
	return 0;
}

static void drop_thread(struct thaw_seized *s, struct thaw_seized_thread *t)
{
	size_t i = (size_t)(t - s->threads);

	memmove(t, t + 1, (s->n - i - 1) * sizeof(*t));
	s->n--;
}

/* ---- stopping ------------------------------------------------------------------------------------------------- */
static int refused(pid_t pid, pid_t tid, int err)
{
	struct thaw_proc_status st;

	if (thaw_procfs_status(tid, &st) == 0 && st.tracer && st.tracer != getpid())
		return thaw_err_set(-EBUSY, "process %d: thread %d is traced by process %d (a debugger or strace): "
				    "detach that first", pid, tid, st.tracer);
	if (err == EPERM && thaw_tracee_state(tid) == 'Z')
		return thaw_err_set(-ENOTSUP, "process %d: thread %d has ended but is still there as a zombie: not supported",
				    pid, tid);
	if (err == EPERM)
		return thaw_err_set(-EPERM, "process %d: not permitted to stop it: be its user or root "
				    "(CAP_SYS_PTRACE), and see /proc/sys/kernel/yama/ptrace_scope", pid);
	return thaw_err_set(-err, "process %d: stopping thread %d: %s", pid, tid, strerror(err));
}

/* 1: seized and asked to stop; 0: the thread has ended, forget it. */
static int interrupt(struct thaw_seized *s, struct thaw_seized_thread *t)
{
	if (t->seized)
		return 1;
	/* Should we be killed at a system call stop, the thread is sent the stop's signal number: SYSGOOD makes it an impossible
	 * one in place of SIGTRAP. */
	if (ptrace(PTRACE_SEIZE, t->tid, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0) {
		char state = thaw_tracee_state(t->tid);

		if (errno == ESRCH || state == 0 || (state == 'Z' && t->tid != s->pid) || state == 'X')
			return 0;
		return refused(s->pid, t->tid, errno);
	}
	t->seized = true;
	t->interrupted_at = now_ns();
	if (!s->stopped_at)
		s->stopped_at = t->interrupted_at;
	if (ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL) < 0)
		return errno == ESRCH ? 0 : refused(s->pid, t->tid, errno);
	return 1;
}

static int stuck(struct thaw_seized *s, pid_t tid)
{
	char wchan[64] = "", name[64] = "?", path[64];
	struct thaw_proc_stat st;

	snprintf(path, sizeof(path), "task/%d/wchan", tid);
	if (thaw_procfs_read(s->pid, path, wchan, sizeof(wchan)) < 0 || !wchan[0] || wchan[0] == '0')
		strcpy(wchan, "unknown");
	if (thaw_procfs_task_stat(s->pid, tid, &st) == 0)
		snprintf(name, sizeof(name), "%s", st.comm);
	return thaw_err_set(-ETIMEDOUT, "process %d: thread %d (%s) cannot be stopped within %d s: it waits in the kernel (%s); "
			    "try again when that is over", s->pid, tid, name, STOP_TIMEOUT_MS / 1000, wchan);
}

static bool is_socket(pid_t pid, uint64_t fd)
{
	char path[64], link[16] = "";

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, (int)fd);
	return readlink(path, link, sizeof(link) - 1) > 0 && !strncmp(link, "socket:", 7);
}

/* These calls fail with EINTR when the thread is stopped, although no signal was delivered; those on sockets when a time-out is
 * set (SO_RCVTIMEO, SO_SNDTIMEO), and only with nothing transferred. As a restart-unless-handled they go on, or fail with EINTR
 * if there is a signal with a handler after all. */
static bool fails_when_stopped(pid_t pid, const struct user_regs_struct *regs)
{
	switch (regs->orig_rax) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case 441: /* epoll_pwait2 */
	case SYS_rt_sigtimedwait:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_msgrcv:
	case SYS_msgsnd:
	case SYS_io_getevents:
	case 333: /* io_pgetevents */
	case 426: /* io_uring_enter */
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
		return true;
	case SYS_read: /* of other files: somebody's own EINTR */
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
	case SYS_sendfile:
		return is_socket(pid, regs->rdi);
	}
	return false;
}

/* What the thread had when it was stopped. */
static int look(struct thaw_seized *s, struct thaw_seized_thread *t)
{
	struct user_regs_struct *regs = &t->saved.regs;
	uint64_t rip;
	int r;

	r = thaw_tracee_ptrace(PTRACE_GETREGS, t->tid, 0, (uintptr_t)regs);
	if (r >= 0)
		r = thaw_tracee_ptrace(PTRACE_GETSIGMASK, t->tid, sizeof(t->saved.sigmask), (uintptr_t)&t->saved.sigmask);
	if (r < 0)
		return r;
	if (regs->cs == 0x23)
		return thaw_err_set(-ENOTSUP, "process %d: thread %d runs 32-bit code: not supported", s->pid, t->tid);
	rip = regs->rip;
	r = thaw_remote_rseq_abort(t->tid, regs);
	if (r < 0)
		return r;
	if ((int64_t)regs->rax == -EINTR && fails_when_stopped(s->pid, regs))
		regs->rax = (uint64_t)-514; /* ERESTARTNOHAND */
	else if (regs->rip == rip)
		return 0;
	t->amended = true;
	/* At once, so that it holds even when we are killed from here on. */
	r = thaw_tracee_ptrace(PTRACE_SETREGS, t->tid, 0, (uintptr_t)regs);
	return r < 0 ? r : 0;
}

/* Waits for the PTRACE_EVENT_STOP. A signal that was on its way comes first: it is delivered. 0: the thread has ended. */
static int await_stop(struct thaw_seized *s, struct thaw_seized_thread *t)
{
	int status, r;

	if (t->stopped)
		return 1;
	r = thaw_tracee_halt(t->tid, &status, STOP_TIMEOUT_MS, NULL, NULL);
	if (r == -ESRCH)
		return 0;
	if (r == -ETIMEDOUT)
		return stuck(s, t->tid);
	if (r < 0)
		return r;
	t->stopped = true;
	if (WSTOPSIG(status) != SIGTRAP)
		return thaw_err_set(-EBUSY, "process %d is stopped by a signal (%s): not supported; continue it first "
				    "(kill -CONT %d)", s->pid, strsignal(WSTOPSIG(status)), s->pid);
	r = look(s, t);
	return r < 0 ? r : 1;
}

/* One step with every thread; one that has ended is forgotten. */
static int each(struct thaw_seized *s, int (*step)(struct thaw_seized *s, struct thaw_seized_thread *t))
{
	unsigned i;
	int r;

	for (i = 0; i < s->n;) {
		r = step(s, &s->threads[i]);
		if (r < 0)
			return r;
		if (r)
			i++;
		else
			drop_thread(s, &s->threads[i]);
	}
	return 0;
}

/* One turn: everybody new is interrupted, then awaited, so that all stop at about the same time. */
static int stop_new(struct thaw_seized *s)
{
	int r = each(s, interrupt);

	return r < 0 ? r : each(s, await_stop);
}

static int stop_all(struct thaw_seized *s)
{
	struct listing l = { s, 1 };
	int r;

	while (l.fresh) {
		l.fresh = 0;
		r = thaw_procfs_tasks(s->pid, add_thread, &l);
		if (r == -ENOENT || r == -ESRCH)
			return thaw_err_set(-ESRCH, "process %d has ended meanwhile", s->pid);
		if (r < 0)
			return thaw_err_code() == r ? r : thaw_err_set(r, "process %d: its threads: %s", s->pid, strerror(-r));
		r = stop_new(s);
		if (r < 0)
			return r;
	}
	if (!s->n)
		return thaw_err_set(-ESRCH, "process %d has ended meanwhile", s->pid);
	return 0;
}

int thaw_seize(struct thaw_seized *s, pid_t pid)
{
	int r;

	*s = (struct thaw_seized){ .pid = pid, .pidfd = -1 };
	s->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (s->pidfd < 0)
		return thaw_err_set(-errno, "process %d: %s", pid, errno == ESRCH ? "does not exist" : strerror(errno));
	r = stop_all(s);
	if (r == 0 && s->threads[0].tid != pid) {
		struct thaw_seized_thread *leader = find(s, pid), first = s->threads[0];

		if (leader) {
			s->threads[0] = *leader;
			*leader = first;
		} else {
			r = thaw_err_set(-ENOTSUP, "process %d: its main thread has ended while others run: not supported; "
					 "checkpoint it while that runs", pid);
		}
	}
	if (r < 0)
		thaw_seize_release(s);
	return r;
}

int thaw_seize_borrow(struct thaw_seized *s, struct thaw_seized_thread *t)
{
	uint64_t all = ~0ULL;
	int r;

	if (!t->borrowed) {
		r = thaw_tracee_ptrace(PTRACE_SETSIGMASK, t->tid, sizeof(all), (uintptr_t)&all);
		if (r < 0)
			return r;
		t->borrowed = true;
	}
	s->remote.heal = &t->saved;
	return 0;
}

int thaw_seize_give_back(struct thaw_seized *s, struct thaw_seized_thread *t)
{
	int r = t->borrowed ? thaw_remote_restore(t->tid, &t->saved) : 0;

	t->borrowed = t->borrowed && r < 0;
	s->remote.heal = NULL;
	return r;
}

/* ---- letting go --------------------------------------------------------------------------------------------------- */
/* Errors here have nobody who could act on them but the kernel: a thread that cannot be reached is dying. */
static void release_thread(struct thaw_seized_thread *t)
{
	int status;

	if (!t->seized)
		return;
	if (!t->stopped) { /* it may never have been asked, or may stop any moment */
		ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);
		thaw_tracee_halt(t->tid, &status, STOP_TIMEOUT_MS, NULL, NULL);
	}
	if (t->borrowed)
		thaw_remote_restore(t->tid, &t->saved);
	else if (t->stopped && t->amended)
		ptrace(PTRACE_SETREGS, t->tid, NULL, &t->saved.regs);
	if (ptrace(PTRACE_DETACH, t->tid, NULL, NULL) < 0)
		waitpid(t->tid, &status, __WALL | WNOHANG);
}

void thaw_seize_release(struct thaw_seized *s)
{
	unsigned i;

	for (i = 0; s->remote.area && i < s->n; i++) /* the first one that can do it */
		if (s->threads[i].stopped && thaw_seize_borrow(s, &s->threads[i]) == 0 &&
		    thaw_remote_unmap(&s->remote, s->threads[i].tid) == 0)
			break;
	for (i = 0; i < s->n; i++)
		release_thread(&s->threads[i]);
	if (s->remote.stop_swallowed && s->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, s->pidfd, SIGSTOP, NULL, 0);
	if (s->pidfd >= 0)
		close(s->pidfd);
	free(s->threads);
	*s = (struct thaw_seized){ .pidfd = -1 };
}

int thaw_seize_kill(struct thaw_seized *s)
{
	struct pollfd p = { s->pidfd, POLLIN, 0 };
	uint64_t start = now_ns();
	int status;

	if (syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return thaw_err_set(-errno, "process %d: ending it: %s", s->pid, strerror(errno));
	/* Its threads stay zombies until their tracer, we, has reaped them; only then is the process over for its parent. */
	while (poll(&p, 1, 1) == 0) {
		while (waitpid(-1, &status, __WALL | WNOHANG) > 0)
			;
		if (now_ns() - start > GONE_TIMEOUT_MS * 1000000ULL)
			return thaw_err_set(-ETIMEDOUT, "process %d: killed, but not gone within %d s", s->pid,
					    GONE_TIMEOUT_MS / 1000);
	}
	while (waitpid(-1, &status, __WALL | WNOHANG) > 0)
		;
	free(s->threads);
	s->threads = NULL;
	s->n = 0;
	return 0;
}
