/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/assert.h - what must hold, checked in debug builds only.
 * Rule      the condition has no side effect: release builds do not evaluate it
 * Threads   any
 * Errors    a condition that does not hold ends the program with abort(3) and names itself */
#ifndef THAW_UTIL_ASSERT_H
#define THAW_UTIL_ASSERT_H

/* Writes "thaw: SENTENCE" to descriptor 2 without allocating and aborts. The library speaks here only
 * because it cannot go on. */
_Noreturn void thaw_panic(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#ifdef THAW_DEBUG
#define THAW_ASSERT(cond) \
	((cond) ? (void)0 : thaw_panic("%s:%d: %s: does not hold: %s", __FILE__, __LINE__, __func__, #cond))
#else
#define THAW_ASSERT(cond) ((void)sizeof(!!(cond)))
#endif

#endif
