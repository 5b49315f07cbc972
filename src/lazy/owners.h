/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/owners.h - which processes the userfaultfds of this process are for.
 *
 * Children are forked, and lose their parents, without anybody telling their numbers. Only their memory tells.
 *
 * Rule      a process is told of only when one of our userfaultfds serves memory of its own: never a stranger. It pays for it: a mapping
 *           of it is split in three for good, and mremap(2) over a border of those fails. So only for those who do not go on
 * Threads   any, none of them below a filter
 * Errors    none: what cannot be looked at is passed over */
#ifndef THAW_LAZY_OWNERS_H
#define THAW_LAZY_OWNERS_H

#include <sys/types.h>

/* Of processes begun since this one. pidfd: closed behind the call; it is of the process that has the memory, whoever has
 * its number by then. Returns how many there are. */
unsigned thaw_owners_each(void (*fn)(void *opaque, pid_t pid, int pidfd), void *opaque);

#endif
