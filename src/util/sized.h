/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/sized.h - structures of the caller that begin with their size: those of programs older and newer than the library.
 * Rule      a structure never ends before the last member of its first release; members are added at its end, and 0 in one
 *           means what the library did before it was there
 * Threads   any
 * Errors    -EINVAL with a sentence */
#ifndef THAW_UTIL_SIZED_H
#define THAW_UTIL_SIZED_H

#include <stddef.h>

/* The least size of a structure: what it was when `last` was its last member. */
#define THAW_SIZED_UPTO(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/* May a structure be this long? `name` for the sentence. */
int thaw_sized_check(size_t size, size_t least, const char *name);

/* What a caller passes: into ours, what theirs has not 0. What ours has not must be 0 in theirs: it asks for something unknown. */
int thaw_sized_take(void *ours, size_t own, size_t least, const void *theirs, const char *name);

/* What the caller gets: what theirs has not is left out, what ours has not is 0. Its size stays as it is; it has been checked. */
void thaw_sized_give(void *theirs, const void *ours, size_t own);

#endif
