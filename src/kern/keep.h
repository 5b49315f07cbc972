/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/keep.h - descriptors that the holder keeps open when the monitor dies, besides userfaultfds: connections to page servers.
 *
 * A connection that goes away, however, tells its source something: that its processes may run again. As long as processes
 * restored from it wait here, that would be two of each. So the holder keeps it, unread, until the last of them has ended.
 *
 * Rule      the list is one a process, in memory that a holder shares: init before the holder is made
 * Threads   any; atomics. has: async-signal-safe
 * Errors    -ENOMEM; a list that is full (64) forgets: the connection is then reset at once */
#ifndef THAW_KERN_KEEP_H
#define THAW_KERN_KEEP_H

#include <stdbool.h>

int thaw_keep_init(void);
void thaw_keep_add(int fd);
void thaw_keep_remove(int fd); /* before it is closed */
bool thaw_keep_has(int fd);

#endif
