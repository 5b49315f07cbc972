// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/log.c - formats a line and hands it to the sink */
#include "config.h"
#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024 };

void thaw_log_emit(const struct thaw_log *log, enum thaw_log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log->fn(log->opaque, level, line);
	errno = saved;
}

const char *thaw_log_level_name(enum thaw_log_level level)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	return (unsigned)level < sizeof(names) / sizeof(names[0]) ? names[level] : "?";
}

void thaw_log_to_fd(void *opaque, enum thaw_log_level level, const char *line)
{
	char out[LINE_MAX_BYTES + 32];
	const char *name = level == THAW_LOG_INFO ? "" : thaw_log_level_name(level);
	int n = snprintf(out, sizeof(out), "thaw: %s%s%s\n", name, *name ? ": " : "", line);

	if (n >= (int)sizeof(out)) { /* a line that was cut keeps its newline */
		n = sizeof(out) - 1;
		out[n - 1] = '\n';
	}
	if (write(*(const int *)opaque, out, (size_t)n) < 0) {
		/* a log that cannot be written has nobody else to complain to */
	}
}
