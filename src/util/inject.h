/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/inject.h - named points at which a debug build can be told to fail.
 *
 * A wrapper of a kernel call asks before it calls:
 *
 *	int err = THAW_INJECT("uffd.copy");
 *	if (err)
 *		return err;
 *
 * and THAW_INJECT=uffd.copy:EAGAIN:3 in the environment makes the third call answer -EAGAIN. The count may be
 *	N	the Nth call only
 *	N+	the Nth call and every one after it
 *	N/M	N of M calls, drawn at random (THAW_INJECT_SEED makes the draw repeatable for one thread)
 * Several points are separated by commas. The errno is a name or a number. A specification that cannot be read ends
 * the program: a test that injects nothing by mistake would pass.
 *
 * Rule      compiled only into debug builds; elsewhere the macro is the constant 0 and costs nothing
 * Threads   any; counting is atomic
 * Errors    a negative errno that the caller returns as if the kernel had said it, or 0 */
#ifndef THAW_UTIL_INJECT_H
#define THAW_UTIL_INJECT_H

#ifdef THAW_DEBUG
#include <stdint.h>

int thaw_inject_fail(const char *point);

/* Replaces what the environment said (tests); NULL or "": nothing fails. No thread may be in THAW_INJECT meanwhile.
 * 0, or -EINVAL with a sentence (and nothing armed). */
int thaw_inject_arm(const char *spec);

uint64_t thaw_inject_hits(const char *point); /* how often an armed point has failed so far */

#define THAW_INJECT(point) thaw_inject_fail(point)
#else
#define THAW_INJECT(point) 0
#endif

#endif
