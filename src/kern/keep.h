/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/keep.h - descriptors that the holder has a use for when the monitor dies, besides userfaultfds: connections to page servers, and
 * sockets by which userfaultfds arrive.
 *
 * A connection that goes away, however, tells its source something: that its processes may run again. As long as processes
 * restored from it wait here, that would be two of each. So the holder keeps it, unread, until the last of them has ended.
 *
 * A userfaultfd that has been sent and not received yet is open only as long as the socket that it is queued in. Whoever sent it has
 * not waited for an answer: its process runs already, and would read zeros. So the holder receives what has arrived: as long as one
 * such socket is on the list by all sockets of the process, since one that has just been accepted is not on it yet.
 *
 * Rule      the list is one a process, in memory that a holder shares: init before the holder is made
 * Threads   any; atomics. has: async-signal-safe
 * Errors    -ENOMEM; a list that is full (64) forgets: the connection is then reset at once, what has arrived is lost */
#ifndef THAW_KERN_KEEP_H
#define THAW_KERN_KEEP_H

#include <stdbool.h>

int thaw_keep_init(void);
void thaw_keep_add(int fd);
void thaw_keep_add_arrivals(int fd); /* a UNIX stream socket, connected or listening */
void thaw_keep_remove(int fd); /* either, before it is closed */
bool thaw_keep_has(int fd);    /* a connection to a page server */

bool thaw_keep_has_arrivals(void); /* async-signal-safe */
bool thaw_keep_is_arrivals(int fd); /* async-signal-safe */

#endif
