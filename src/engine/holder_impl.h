/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/holder_impl.h - what the monitor and its holder share, and the holder's own code.
 * Rule      the page is written by the monitor, read by the holder (`ready` the other way); atomics only
 * Threads   run is the holder's only thread, in a copy of the monitor's memory in which any lock may be held by a
 *           thread that does not exist there: no allocator, no stdio, no locks, system calls only */
#ifndef THAW_ENGINE_HOLDER_IMPL_H
#define THAW_ENGINE_HOLDER_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define THAW_HOLDER_SLOTS 1024

struct thaw_filter;

/* A process that waits when the monitor dies. pid is stored last and cleared first; -1: taken, being filled. */
struct thaw_holder_slot {
	int32_t pid;
	int32_t pidfd;
};

/* MAP_SHARED between the two. */
struct thaw_holder_page {
	int32_t ready; /* 0: not yet; 1: it sleeps; else -errno of its set-up */
	uint32_t done; /* the clean end */
	struct thaw_holder_slot slots[THAW_HOLDER_SLOTS];
};

struct thaw_holder_args {
	struct thaw_holder_page *page;
	pid_t monitor;
	int monitor_fd;                   /* pidfd */
	int wake_fd;                      /* eventfd */
	int log_fd;
	int maps_fd;                      /* the monitor's /proc/PID/maps, or -1 */
	const struct thaw_filter *filter; /* or NULL */
};

void thaw_holder_run(const struct thaw_holder_args *a) __attribute__((noreturn));

/* Writes the line for the processes that wait, if there are any. */
void thaw_holder_report(const struct thaw_holder_args *a);

bool thaw_holder_is_uffd(int fd);
/* Directory entries of `path` whose names are numbers, without an allocator. fn's nonzero result ends the walk. */
int thaw_holder_each_number(const char *path, int (*fn)(void *opaque, int number), void *opaque);
/* "/proc/" number tail; size must do. */
void thaw_holder_path(char *buf, const char *head, unsigned number, const char *tail);

#endif
