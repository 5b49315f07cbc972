// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/remote_regs.c - what a borrowed thread had, and giving it back so that the kernel restarts its system call */
#include "config.h"
#include "checkpoint/remote.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "checkpoint/tracee.h"
#include "util/err.h"

#define STOP_TIMEOUT_MS 10000

/* The kernel's struct rseq and struct rseq_cs, as far as needed. */
#define RSEQ_CS_OFFSET 8
struct rseq_section {
	uint32_t version, flags;
	uint64_t start, length, abort;
};

int thaw_remote_rseq_abort(pid_t tid, struct user_regs_struct *regs)
{
	struct __ptrace_rseq_configuration conf;
	struct rseq_section cs;
	uint64_t where = 0;
	int r;

	r = thaw_tracee_ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(conf), (uintptr_t)&conf);
	if (r == -ESRCH)
		return r;
	if (r < 0 || !conf.rseq_abi_pointer) /* a kernel without rseq, or a thread without it */
		return 0;
	/* Unreadable memory here is the process's own affair: the kernel will tell it with a SIGSEGV. */
	if (thaw_tracee_read(tid, conf.rseq_abi_pointer + RSEQ_CS_OFFSET, &where, sizeof(where)) < 0 || !where)
		return 0;
	if (thaw_tracee_read(tid, where, &cs, sizeof(cs)) < 0)
		return 0;
	if (cs.version == 0 && regs->rip - cs.start < cs.length)
		regs->rip = cs.abort;
	return 0;
}

int thaw_remote_save(pid_t tid, struct thaw_remote_saved *s)
{
	uint64_t all = ~0ULL;
	int r;

	r = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&s->regs);
	if (r < 0)
		return r;
	r = thaw_remote_rseq_abort(tid, &s->regs);
	if (r < 0)
		return r;
	/* Of a thread in sigsuspend or ppoll this is the mask that the call will put back, which is the one to keep: the
	 * call is restarted and sets its own again. */
	r = thaw_tracee_ptrace(PTRACE_GETSIGMASK, tid, sizeof(s->sigmask), (uintptr_t)&s->sigmask);
	if (r < 0)
		return r;
	return thaw_tracee_ptrace(PTRACE_SETSIGMASK, tid, sizeof(all), (uintptr_t)&all);
}

static int pass_over(void *opaque, pid_t tid, int status)
{
	(void)opaque;
	(void)tid;
	(void)status;
	return 0;
}

/* From any stop into a PTRACE_EVENT_STOP. No signal can come in between but SIGSTOP and SIGKILL: all others are blocked. */
static int to_event_stop(pid_t tid)
{
	struct user_regs_struct regs;
	int r, status;

	r = thaw_tracee_in_event_stop(tid);
	if (r)
		return r < 0 ? r : 0;
	/* Whatever call just ended is not to be restarted on the way. */
	r = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&regs);
	if (r < 0)
		return r;
	regs.orig_rax = ~0ULL;
	r = thaw_tracee_ptrace(PTRACE_SETREGS, tid, 0, (uintptr_t)&regs);
	if (r >= 0)
		r = thaw_tracee_ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	if (r >= 0)
		r = thaw_tracee_ptrace(PTRACE_CONT, tid, 0, 0);
	if (r >= 0)
		r = thaw_tracee_halt(tid, &status, STOP_TIMEOUT_MS, pass_over, NULL);
	if (r == -ETIMEDOUT)
		thaw_err_set(r, "thread %d did not stop within %d s", tid, STOP_TIMEOUT_MS / 1000);
	return r < 0 ? r : 0;
}

int thaw_remote_restore(pid_t tid, const struct thaw_remote_saved *s)
{
	int r;

	r = to_event_stop(tid);
	if (r < 0)
		return r;
	r = thaw_tracee_ptrace(PTRACE_SETREGS, tid, 0, (uintptr_t)&s->regs);
	if (r < 0)
		return r;
	return thaw_tracee_ptrace(PTRACE_SETSIGMASK, tid, sizeof(s->sigmask), (uintptr_t)&s->sigmask);
}
