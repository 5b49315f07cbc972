// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_regs.c - registers, extended state, masks, and system calls that go on where they were interrupted */
#include "config.h"
#include "checkpoint/restore.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "checkpoint/tracee.h"
#include "checkpoint/xsave.h"
#include "util/err.h"

#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define SLEEP_TIMEOUT_MS 10000

/* Laid out as this CPU's (thaw_xsave_check), in an area of the size that its kernel takes. States behind its end must be in their
 * initial configuration. */
int thaw_restore_xsave(pid_t tid, const ThawState__Thread *t)
{
	unsigned char now[64u << 10];
	struct iovec iov = { now, sizeof(now) };
	uint64_t in_use, known;
	int err = thaw_tracee_ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, (uintptr_t)&iov);

	if (err < 0)
		return err;
	memcpy(&in_use, t->xsave.data + THAW_XSAVE_IN_USE, sizeof(in_use));
	memcpy(&known, now + 464, sizeof(known)); /* ptrace puts the CPU's enabled states into the software bytes */
	if (t->xsave.len > iov.iov_len && in_use & ~known)
		return thaw_err_set(-ENOTSUP, "thread %d: uses CPU state 0x%llx that this CPU does not have (0x%llx): restore it on a "
				    "CPU with all of them", t->tid, (unsigned long long)in_use, (unsigned long long)known);
	memset(now, 0, iov.iov_len);
	memcpy(now, t->xsave.data, t->xsave.len < iov.iov_len ? t->xsave.len : iov.iov_len);
	err = thaw_tracee_ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, (uintptr_t)&iov);
	if (err < 0 && err != -ESRCH)
		thaw_err_set(err, "thread %d: the CPU refuses its extended state (made on another CPU?): %s", t->tid,
			     strerror(-err));
	return err < 0 ? err : 0;
}

struct left { int64_t sec, nsec; };

/* The call with what was left of its relative time, *time being where that is written for it. False: it has none. */
static bool with_time_left(const ThawState__Thread *t, const struct user_regs_struct *was, uint64_t time,
			   struct user_regs_struct *now)
{
	if (!t->sleep_left || (int64_t)was->rax != -ERESTART_RESTARTBLOCK)
		return false;
	*now = *was;
	switch (was->orig_rax) {
	case SYS_nanosleep:
		now->rdi = time;
		return true;
	case SYS_clock_nanosleep:
		now->rdx = time;
		return was->rsi == 0;
	case SYS_poll:
		/* The kernel told what is left in full; a millisecond too long is allowed, one too short is not. */
		now->rdx = (uint64_t)(t->sleep_left->sec * 1000 + (t->sleep_left->nsec + 999999) / 1000000);
		return t->sleep_left->sec < INT32_MAX / 1000;
	case SYS_futex:
		now->r10 = time;
		return true;
	default:
		return false;
	}
}

/* To the entry of a system call, past an event stop that may come before. */
static int enter_call(pid_t tid)
{
	int status, err;

	do {
		err = thaw_tracee_ptrace(PTRACE_SYSCALL, tid, 0, 0);
		if (err >= 0)
			err = thaw_tracee_wait(tid, &status, SLEEP_TIMEOUT_MS);
	} while (err >= 0 && status >> 16);
	return err;
}

/* A relative sleep goes on for what was left of it: the thread begins its call again with that time and is interrupted, so
 * that the kernel's restart block is the one it had. The program sees nothing of it: the restart keeps its own arguments. */
static int sleep_again(struct thaw_restore *r, pid_t tid, const ThawState__Thread *t, struct user_regs_struct now,
		       struct user_regs_struct *regs)
{
	struct left left = { t->sleep_left->sec, t->sleep_left->nsec };
	int status, err = thaw_tracee_write(tid, r->scratch, &left, sizeof(left));

	if (err < 0)
		return err;
	now.rax = regs->orig_rax;
	now.orig_rax = ~0ULL;
	now.rip = r->remote.syscall_insn;
	err = thaw_tracee_ptrace(PTRACE_SETREGS, tid, 0, (uintptr_t)&now);
	if (err >= 0)
		err = enter_call(tid);
	if (err >= 0)
		err = thaw_tracee_ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	if (err >= 0)
		err = thaw_tracee_ptrace(PTRACE_CONT, tid, 0, 0);
	if (err >= 0)
		err = thaw_tracee_wait(tid, &status, SLEEP_TIMEOUT_MS);
	if (err >= 0)
		err = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&now);
	if (err == -ETIMEDOUT)
		thaw_err_set(err, "thread %d did not go back to its sleep", t->tid);
	if (err < 0)
		return err;
	regs->rax = now.rax; /* interrupted again, or (its time was over, a descriptor was ready) what it came to */
	return 0;
}

/* System calls are restarted by the kernel when the thread leaves its stop, exactly as if it had been interrupted just now.
 * What it cannot restart is a relative timeout: the restart block was in the old process. It is made again, or (when what was
 * left is not known) the call begins anew; EINTR, which the program would not have seen, it never gets. */
static int final_registers(struct thaw_restore *r, size_t i, struct thaw_remote_saved *s)
{
	const ThawState__Thread *t = r->p->threads[i];
	struct user_regs_struct again;
	int err = 0;

	memcpy(&s->regs, t->regs.data, sizeof(s->regs));
	s->sigmask = t->sigmask & ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1));
	if (with_time_left(t, &s->regs, r->scratch, &again))
		err = sleep_again(r, r->tids[i], t, again, &s->regs);
	else if ((int64_t)s->regs.orig_rax >= 0 && (int64_t)s->regs.rax == -ERESTART_RESTARTBLOCK)
		s->regs.rax = (uint64_t)-ERESTARTNOHAND;
	return err;
}

static int put_back(const struct thaw_restore *r, size_t i, const struct thaw_remote_saved *s)
{
	int err = thaw_remote_restore(r->tids[i], s);

	if (err < 0 && err != -ESRCH)
		thaw_err_wrap("thread %d: its registers are not taken", r->p->threads[i]->tid);
	return err;
}

/* The last one away is the leader, which unmaps what the others have worked with. */
int thaw_restore_registers(struct thaw_restore *r)
{
	uint64_t args[6] = { r->remote.area, r->scratch + 2 * THAW_PAGE_SIZE - r->remote.area };
	struct thaw_remote_saved s;
	int64_t result = 0;
	int err = thaw_restore_bring_ahead(r);

	for (size_t i = 1; i < r->p->n_threads && !err; i++) {
		err = final_registers(r, i, &s);
		if (!err)
			err = put_back(r, i, &s);
	}
	if (!err)
		err = final_registers(r, 0, &s);
	if (!err)
		err = thaw_remote_one(&r->remote, r->pid, SYS_munmap, args, &result);
	if (!err && result)
		err = thaw_err_set((int)result, "process %d: unmapping the work area: %s", r->p->pid, strerror((int)-result));
	return err ? err : put_back(r, 0, &s);
}
