// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/say.c - the program's own messages: one line, one write, to standard error or the log file.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "thaw.h"
#include "util/err.h"

struct thaw_cli thaw_cli = { .log_fd = -1 };

static atomic_int error_fd = STDERR_FILENO;
static _Atomic(const char *) erase = "";

int thaw_say_open_log(void)
{
	if (!thaw_cli.log_path)
		return 0;
	int fd = open(thaw_cli.log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0) {
		thaw_say_error("log file %s: cannot be opened: %s", thaw_cli.log_path, strerror(errno));
		return THAW_EXIT_FAILURE;
	}
	/* Above the numbers that a shell gives out, so that the restored process's own never collide with it by accident. */
	thaw_cli.log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	if (thaw_cli.log_fd < 0)
		thaw_cli.log_fd = fd;
	else
		close(fd);
	return 0;
}

/* A line longer than the buffer is cut: the sentence's beginning names the object. */
static void put(int fd, const char *before, const char *fmt, va_list ap)
{
	char line[2048];
	int n = snprintf(line, sizeof(line), "%sthaw: ", before);
	int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);

	if (m < 0)
		return;
	n += m;
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* Nobody could act on a failure to say that something failed. */
	if (write(fd, line, n) < 0)
		return;
}

static void put_all(const char *fmt, va_list ap, bool to_error)
{
	int fd = atomic_load(&error_fd);

	if (to_error && fd >= 0) {
		va_list copy;

		va_copy(copy, ap);
		put(fd, atomic_load(&erase), fmt, copy);
		va_end(copy);
	}
	if (thaw_cli.log_fd >= 0 && thaw_cli.log_fd != fd)
		put(thaw_cli.log_fd, "", fmt, ap);
}

void thaw_say_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_all(fmt, ap, true);
	va_end(ap);
}

void thaw_say(unsigned level, const char *fmt, ...)
{
	va_list ap;

	if (level ? thaw_cli.verbose < level : thaw_cli.quiet)
		return;
	va_start(ap, fmt);
	put_all(fmt, ap, thaw_cli.log_fd < 0);
	va_end(ap);
}

int thaw_say_failure(void)
{
	const char *text = thaw_err_text();

	thaw_say_error("%s", *text ? text : "failed for a reason that was not recorded");
	return THAW_EXIT_FAILURE;
}

/* A write that failed while the buffer was being filled has left its mark, but not its reason. */
int thaw_say_flush(int status)
{
	const char *why = ferror(stdout) ? "not all of it could be written" : NULL;

	if (fflush(stdout))
		why = strerror(errno);
	if (!why)
		return status;
	thaw_say_error("standard output: %s", why);
	__fpurge(stdout); /* nothing is left to fail again */
	clearerr(stdout);
	return THAW_EXIT_FAILURE;
}

void thaw_say_redirect(int fd)
{
	atomic_store(&error_fd, fd);
}

void thaw_say_erase(const char *sequence)
{
	atomic_store(&erase, sequence);
}

void thaw_say_log(void *opaque, int level, const char *line)
{
	(void)opaque;
	switch (level) {
	case THAW_LOG_ERROR:
		thaw_say_error("%s", line);
		break;
	case THAW_LOG_WARNING:
		thaw_say(0, "%s", line);
		break;
	case THAW_LOG_INFO:
		thaw_say(1, "%s", line);
		break;
	default:
		thaw_say(2, "%s", line);
	}
}

const char *thaw_say_bytes(char *buf, size_t len, uint64_t bytes)
{
	static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 1 < sizeof(unit) / sizeof(*unit)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, len, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return buf;
}

const char *thaw_say_time(char *buf, size_t len, uint64_t ns)
{
	if (ns < 1000 * 1000)
		snprintf(buf, len, "%.2f ms", ns / 1e6);
	else if (ns < 1000ull * 1000 * 1000)
		snprintf(buf, len, "%.0f ms", ns / 1e6);
	else if (ns < 120ull * 1000 * 1000 * 1000)
		snprintf(buf, len, "%.1f s", ns / 1e9);
	else
		snprintf(buf, len, "%.0f min", ns / 6e10);
	return buf;
}
