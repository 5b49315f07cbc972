/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/tracee.h - waiting for a traced thread, and its memory.
 *
 * A traced thread that dies may not be reported at once: the leader of a group is a zombie nobody is told of until the
 * other threads have been reaped. So waiting looks at /proc too, and never blocks for good.
 *
 * Threads   the one thread that seized the process
 * Errors    -errno with a sentence; -ESRCH: the thread has ended */
#ifndef THAW_CHECKPOINT_TRACEE_H
#define THAW_CHECKPOINT_TRACEE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Waits for the next stop of tid. timeout_ms -1: as long as it lives. -ETIMEDOUT has no sentence: the caller knows what
 * the thread was asked to do. */
int thaw_tracee_wait(pid_t tid, int *status, int timeout_ms);
int thaw_tracee_poll(pid_t tid, int *status); /* 1: a stop, 0: none yet, or -errno */

/* Gives the CPU away for a moment. False: others had it for long, so that sleeping, which is rewarded with being woken soon,
 * is better than to go on yielding. */
bool thaw_tracee_yield(void);

/* Takes a thread that was sent PTRACE_INTERRUPT to its PTRACE_EVENT_STOP, past the stops that come before, in timeout_ms all in
 * all. other: what the thread goes on with after such a stop: a signal or 0, or -errno to leave it there; NULL: with the signal
 * that it was about to take. Errors as thaw_tracee_wait. */
typedef int thaw_tracee_other(void *opaque, pid_t tid, int status);
int thaw_tracee_halt(pid_t tid, int *status, int timeout_ms, thaw_tracee_other *other, void *opaque);

/* Is the status a PTRACE_EVENT_STOP (PTRACE_INTERRUPT, group stop, new thread)? */
bool thaw_tracee_is_event_stop(int status);
/* Is the thread, in a ptrace stop now, in a PTRACE_EVENT_STOP? 1, 0 or -errno. */
int thaw_tracee_in_event_stop(pid_t tid);

/* ptrace(2) with -errno; ESRCH gets the sentence "thread N has ended". */
int thaw_tracee_ptrace(int request, pid_t tid, uintptr_t addr, uintptr_t data);

/* The state letter of /proc/TID/stat ('Z', 'X' or 0: it is gone). */
char thaw_tracee_state(pid_t tid);

/* All of it or an error. */
int thaw_tracee_read(pid_t pid, uint64_t addr, void *buf, size_t len);
int thaw_tracee_write(pid_t pid, uint64_t addr, const void *buf, size_t len);

#endif
