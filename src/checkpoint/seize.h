/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/seize.h - all threads of a process stopped, and let go again as if nothing had been.
 *
 * Rule      never PTRACE_O_EXITKILL: when we die the kernel lets the threads go on
 * Threads   the one thread that seized (ptrace)
 * Lifetime  thaw_seize() fills, thaw_seize_release() lets go and frees, also after a failure in between
 * Errors    -errno with a sentence that names the process, the cause, the remedy; -ESRCH: it ended by itself */
#ifndef THAW_CHECKPOINT_SEIZE_H
#define THAW_CHECKPOINT_SEIZE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "checkpoint/remote.h"

struct thaw_seized_thread {
	pid_t tid;
	bool seized, stopped;
	bool borrowed;                  /* remote calls were made in it: saved has to be put back */
	bool amended;                   /* saved.regs differ from the stop's: an EINTR that only we caused is a restart */
	struct thaw_remote_saved saved; /* valid when stopped */
	uint64_t interrupted_at;        /* CLOCK_MONOTONIC just before PTRACE_INTERRUPT */
};

struct thaw_seized {
	pid_t pid;
	int pidfd;
	struct thaw_seized_thread *threads; /* the leader first */
	unsigned n, room;
	struct thaw_remote remote;      /* found by the caller; stop_swallowed is acted upon by release */
	uint64_t stopped_at;            /* CLOCK_MONOTONIC of the first PTRACE_INTERRUPT, nanoseconds */
};

/* Can it be seized at all? Looked at before anything is touched. */
int thaw_seize_check(pid_t pid);
/* Stops all threads; on failure all of them run again. */
int thaw_seize(struct thaw_seized *s, pid_t pid);
/* For remote calls: blocks the thread's signals and marks it borrowed. One thread at a time: should we be killed, the work
 * area has a way back for one. */
int thaw_seize_borrow(struct thaw_seized *s, struct thaw_seized_thread *t);
int thaw_seize_give_back(struct thaw_seized *s, struct thaw_seized_thread *t); /* it stays stopped */
/* Puts registers and masks back, removes the work area, detaches, and frees. The process runs on. */
void thaw_seize_release(struct thaw_seized *s);
/* SIGKILL, then waits until the process is gone. 0; 1: it is a zombie that its parent does not reap. */
int thaw_seize_kill(struct thaw_seized *s);

#endif
