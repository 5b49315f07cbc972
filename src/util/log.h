/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/log.h - one line to whoever wants to hear it; the library itself has no stderr.
 * Rule      log once, at the place that knows, and name the object ("space 3: ..."), never a pointer; nothing is
 *           formatted below the wanted level; no newline and no final stop in the line
 * Threads   the struct is immutable once threads run; thaw_log() from any thread, lines of several threads may
 *           reach the sink at the same time
 * Lifetime  belongs to the monitor (or the command) whose lines it takes; a NULL log or sink swallows everything */
#ifndef THAW_UTIL_LOG_H
#define THAW_UTIL_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "thaw.h"

struct thaw_log {
	thaw_log_fn *fn;
	void *opaque;
	enum thaw_log_level most; /* lines above this level are not made */
};

static inline bool thaw_log_wants(const struct thaw_log *log, enum thaw_log_level level)
{
	return log && log->fn && level <= log->most;
}

/* Formats and delivers without asking the level; use the macros. errno is left as it was. */
void thaw_log_emit(const struct thaw_log *log, enum thaw_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define thaw_log(log, level, ...) \
	do { \
		const struct thaw_log *log_ = (log); \
		if (__builtin_expect(thaw_log_wants(log_, (level)), 0)) \
			thaw_log_emit(log_, (level), __VA_ARGS__); \
	} while (0)
#define thaw_log_error(log, ...) thaw_log(log, THAW_LOG_ERROR, __VA_ARGS__)
#define thaw_log_warning(log, ...) thaw_log(log, THAW_LOG_WARNING, __VA_ARGS__)
#define thaw_log_info(log, ...) thaw_log(log, THAW_LOG_INFO, __VA_ARGS__)
#define thaw_log_debug(log, ...) thaw_log(log, THAW_LOG_DEBUG, __VA_ARGS__)

const char *thaw_log_level_name(enum thaw_log_level level); /* "error", "warning", "info", "debug" */

/* A ready sink: opaque is an int holding a descriptor; each line goes out as "thaw: LEVEL: line\n" (no LEVEL for
 * info) in one write(2), so that lines of several threads do not mix. */
void thaw_log_to_fd(void *opaque, enum thaw_log_level level, const char *line);

#endif
