/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/err.h - one sentence and one errno per thread for the call that failed last.
 * Rule      the function that knows the detail records the sentence; callers add context or nothing
 * Threads   any; the store is thread-local
 * Errors    thaw_err_set() returns the (negative) code that it was given, so `return thaw_err_set(...)` */
#ifndef THAW_UTIL_ERR_H
#define THAW_UTIL_ERR_H

#include <stdarg.h>

/* Records the sentence (no newline, no final stop; name the object, the cause, the remedy). `code` is -errno. */
int thaw_err_set(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the sentence of this thread and returns its code. */
int thaw_err_wrap(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* What is there now, to be put back by a call that succeeded though something on its way had failed. */
struct thaw_err {
	char text[1024];
	int code;
};
void thaw_err_save(struct thaw_err *e);
void thaw_err_restore(const struct thaw_err *e);

void thaw_err_clear(void);
const char *thaw_err_text(void); /* "" when nothing failed; valid until the next failure in this thread */
int thaw_err_code(void);         /* negative errno, 0 when nothing failed */

#endif
