/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/live/scope.h - small programs that a checkpoint interrupts: each sets a state up, waits, and looks whether it is all
 * still there. One table entry each; scope.inc checkpoints and restores them in every way.
 *
 * An item's function does all of it: set up, scope_point() (during which the checkpoint and the restore happen), verify.
 * What does not hold is told by CHECK, which ends the program with 1; the end of the function is success. */
#ifndef THAW_TESTS_SCOPE_H
#define THAW_TESTS_SCOPE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct scope_item {
	const char *name;
	void (*run)(void);
};
extern const struct scope_item scope_memory[], scope_events[], scope_signals[], scope_calls[], scope_timers[],
	scope_threads[], scope_process[], scope_files[];

/* Says that all is set up, and returns when the restored program may go on. */
void scope_point(void);
/* Says that a part of the item is left out, which the kernel has not: a and b are one phrase. */
void scope_without(const char *a, const char *b);
/* Into a directory for the item's own files. They are still there when the image is restored another time. */
void scope_enter(void);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			scope_fail(__FILE__, __LINE__, #cond); \
	} while (0)
#define CHECK_IS(value, wanted) \
	do { \
		long long value_ = (long long)(value), wanted_ = (long long)(wanted); \
		if (value_ != wanted_) { \
			fprintf(stderr, "%s is %lld instead of %lld\n", #value, value_, wanted_); \
			scope_fail(__FILE__, __LINE__, #value); \
		} \
	} while (0)
_Noreturn void scope_fail(const char *file, int line, const char *what);

/* Content of a page: a function of seed and address. */
void scope_fill(void *p, size_t len, uint64_t seed);
bool scope_is_filled(const void *p, size_t len, uint64_t seed);
bool scope_is_zero(const void *p, size_t len);

/* Runs fn in a thread that is known to wait in a system call when this returns. */
pthread_t scope_blocked(void *(*fn)(void *), void *arg);
void scope_until_blocked(pid_t tid);

double scope_now(void); /* CLOCK_MONOTONIC, seconds */
/* The field of /proc/self/smaps's entry that begins at addr: a copy of "VmFlags" or so, "" when there is none. */
void scope_smaps(const void *addr, const char *field, char *buf, size_t size);
/* Does touching it raise SIGSEGV? */
bool scope_faults(volatile char *p, bool write);

#endif
