/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/remote.h - system calls made by a stopped thread of another process.
 *
 * Two ways. remote_one() borrows a system call instruction that the process has anyway (in its vdso): one call, no memory
 * needed. A batch runs many calls with one stop: a small code page in the process reads a table of calls, makes
 * them one after the other, raises a flag that we poll, and sleeps until PTRACE_INTERRUPT. (No int3: SIGTRAP, forced while it
 * is blocked or ignored, would reset the process's own action for it.)
 *
 * If we are killed in the middle of a batch, the code page puts the thread back by itself after a few seconds, provided
 * that `heal` was set: rt_sigreturn to a frame that holds what thaw_remote_save() saw.
 *
 * Rule      the thread is in a ptrace stop when a function is called and when it returns, with the registers that
 *           the caller finds there saved and put back by the caller (thaw_remote_save/restore)
 * Threads   the one thread that seized the process
 * Errors    -errno with a sentence for failures of the mechanism; the remote call's own result is in the table */
#ifndef THAW_CHECKPOINT_REMOTE_H
#define THAW_CHECKPOINT_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct thaw_remote {
	pid_t pid;             /* thread group */
	uint64_t syscall_insn; /* address of a "syscall" instruction (vdso) */
	uint64_t syscall_ret;  /* of "syscall; ret", and of the C library's signal return: with both and `heal`, a single */
	uint64_t sigreturn;    /* call of a thread on the stack below finds its way back without us as well; 0: not found */
	uint64_t stack_start;  /* a writable mapping that grows downwards: what is below the stack pointer in there belongs */
	uint64_t stack_end;    /* to nobody, as in no other (coroutines have their stacks side by side); 0: there is none */
	uint64_t area;         /* the work area: code page, then data; 0: none */
	size_t area_len;
	const struct thaw_remote_saved *heal; /* of the thread that runs the next batch; NULL: it needs no way back */
	bool stop_swallowed;   /* a SIGSTOP came while a thread was borrowed: send it again when all is back */
	int (*give_up)(void *opaque); /* asked while a batch takes long: -errno with a sentence ends the wait; NULL: nobody */
	void *opaque;
	unsigned long event_msg; /* PTRACE_GETEVENTMSG of the last PTRACE_EVENT_* (the new tid as we see it) */
};

/* What a thread had before it was used: registers and signal mask. The registers are those of the stop, before the kernel's
 * restart fix-up; a thread inside an rseq critical section is at its abort handler, where any preemption would put it. */
struct thaw_remote_saved {
	struct user_regs_struct regs;
	uint64_t sigmask;
};
int thaw_remote_save(pid_t tid, struct thaw_remote_saved *s);    /* also blocks every signal in the thread */
/* Brings the thread into a PTRACE_EVENT_STOP (where the kernel still does system call restarts) and puts all back. */
int thaw_remote_restore(pid_t tid, const struct thaw_remote_saved *s);
/* Moves regs->rip to the abort handler if it is in the thread's rseq critical section. */
int thaw_remote_rseq_abort(pid_t tid, struct user_regs_struct *regs);

/* One call through r->syscall_insn. *result: as the kernel returned it (-errno in [-4095,-1]). */
int thaw_remote_one(struct thaw_remote *r, pid_t tid, long nr, const uint64_t args[6], int64_t *result);

/* Finds the syscall instruction in the [vdso] of pid. */
int thaw_remote_find(struct thaw_remote *r, pid_t pid, uint64_t vdso_start, size_t vdso_len);
/* Looks for syscall_ret and sigreturn in code of the process; call it for one mapping after the other until both are there. */
void thaw_remote_find_way_back(struct thaw_remote *r, uint64_t start, size_t len);
/* Makes the work area: mmap (hint 0: anywhere; else exactly there) through remote_one, code written. len: whole pages,
 * at least 64 KiB. The new mapping may merge with a neighbour while it is there. */
int thaw_remote_map(struct thaw_remote *r, pid_t tid, uint64_t hint, size_t len);
int thaw_remote_unmap(struct thaw_remote *r, pid_t tid);

enum { THAW_CALL_STOP = 1 }; /* flag: end the batch here when this call fails */
struct thaw_call {
	int64_t nr;
	uint64_t args[6];
	int64_t result;
	uint64_t flags;
};
/* A batch under construction: calls plus data that their pointer arguments refer to. */
struct thaw_batch;
struct thaw_batch *thaw_batch_new(struct thaw_remote *r);
void thaw_batch_free(struct thaw_batch *b);
/* Puts data (may be NULL: zeroed room for output) into the work area; returns its remote address, 0 when full
 * (then run the batch and start the next one). */
uint64_t thaw_batch_data(struct thaw_batch *b, const void *data, size_t len);
/* Adds a call; returns its index, or -ENOSPC when the table is full. */
int thaw_batch_call(struct thaw_batch *b, unsigned flags, long nr, uint64_t a0, uint64_t a1, uint64_t a2,
		    uint64_t a3, uint64_t a4, uint64_t a5);
/* Runs it on the thread, as long as the thread works: only standing still is limited. 0, or -errno (mechanism). Then results
 * and output data can be read; the batch is empty again after thaw_batch_reset(). *failed: index of the call that ended it
 * (THAW_CALL_STOP), else -1. */
int thaw_batch_run(struct thaw_batch *b, pid_t tid, int *failed);
int64_t thaw_batch_result(const struct thaw_batch *b, int index);
int thaw_batch_read(struct thaw_batch *b, uint64_t remote, void *buf, size_t len);
void thaw_batch_reset(struct thaw_batch *b);

#endif
