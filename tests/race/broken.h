/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/race/broken.h - a test that is built once more with each rule of its subject left out, and must find that.
 *
 * The broken builds race on purpose: what shows it is volatile, and unseen by ThreadSanitizer, which would end the test before it has
 * seen for itself. */
#ifndef TESTS_RACE_BROKEN_H
#define TESTS_RACE_BROKEN_H

#if defined(THAW_GATE_BREAK_CLOSE) || defined(THAW_GATE_BREAK_ENTER) || defined(THAW_OWNER_BREAK_DOZE) || defined(THAW_OWNER_BREAK_NOTE)
#define MUST_BREAK 1
#else
#define MUST_BREAK 0
#endif
#if MUST_BREAK && defined(__SANITIZE_THREAD__)
#define UNSEEN __attribute__((no_sanitize("thread")))
#else
#define UNSEEN
#endif

#endif
