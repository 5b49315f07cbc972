/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/holder.h - the process that keeps every userfaultfd open when the monitor dies.
 *
 * It shares the monitor's descriptor table (clone with CLONE_FILES), not its memory, and sleeps. So a userfaultfd
 * that is open in the monitor, even one that a FORK message installed a moment before the end, stays open: readers of
 * absent pages wait, none reads a zero. When the monitor dies without thaw_holder_finish(), the holder writes one line
 * that names the processes and what to do, lets go of everything but userfaultfds, and ends when the processes have.
 *
 * Rule      start before the process has a userfaultfd registered on its own memory, and early: the holder holds
 *           a copy-on-write copy of the monitor's memory as it is then
 * Threads   start and finish: the owner of the handle; add and remove: any
 * Signals   the holder has no exit signal: the application's wait(-1) never sees it
 * Errors    -errno with a sentence */
#ifndef THAW_ENGINE_HOLDER_H
#define THAW_ENGINE_HOLDER_H

#include <stdbool.h>
#include <sys/types.h>

struct thaw_holder;

/* log_fd: gets the line (-1: standard error); must stay open in this process until finish. sandbox: under its
 * filter. */
int thaw_holder_start(struct thaw_holder **out, int log_fd, bool sandbox);

/* A space's process. pidfd (or -1) is duplicated: with it the pid cannot be taken for another's later.
 * Returns a slot for remove, or -errno. More than 1024 at once are held without being named: slot 1024. */
int thaw_holder_add_pid(struct thaw_holder *h, pid_t pid, int pidfd);
void thaw_holder_remove_pid(struct thaw_holder *h, int slot);

bool thaw_holder_is_alive(const struct thaw_holder *h); /* async-signal-safe; under any filter */
pid_t thaw_holder_pid(const struct thaw_holder *h); /* for tests and messages */

/* The clean end: the holder exits without a word and is reaped. Frees h; NULL is fine. */
void thaw_holder_finish(struct thaw_holder *h);

#endif
