// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/say.c - the program's own messages: one line, one write, to standard error or the log file.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"
#include "thaw.h"
#include "util/err.h"
#include "util/lock.h"

struct thaw_cli thaw_cli = { .log_fd = -1 };

#define NOTICE 96       /* room for the sentence about lines that were lost */
#define PATIENCE_MS 2000 /* for the words that a command ends with */
#define STEP_MS 20
#define HIGH_FD 100

/* Where lines go. Threads that serve faults write them, some while a space is excluded: nobody may wait for a reader that has stopped. */
struct sink {
	int fd;        /* -1: nowhere */
	int own;       /* a terminal or a pipe, opened again: what is non-blocking there is so for us alone. Else -1 */
	bool socket;   /* of which a write can be told not to wait */
	unsigned lost; /* lines since the last that could be written */
	bool cut;      /* the end of the last is missing */
};
static struct thaw_lock lock = THAW_LOCK_INIT(lock, THAW_RANK_LOG);
static struct sink standard = { .fd = STDERR_FILENO, .own = -1 }; /* lock */
static struct sink file = { .fd = -1, .own = -1 };                /* lock; fd is thaw_cli.log_fd, and there to the end */
static _Atomic(const char *) erase = "";

/* What is another user's may not be opened: then it is written to when there is room, and nobody else is supposed to fill that. The
 * master of a terminal would be another terminal. */
static int open_again(int fd)
{
	char path[32];
	struct stat st;
	unsigned number;
	int again, high;

	if (fd < 0 || fstat(fd, &st) || (!S_ISFIFO(st.st_mode) && (!isatty(fd) || !ioctl(fd, TIOCGPTN, &number))))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	high = again < 0 ? -1 : fcntl(again, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high < 0)
		return again;
	close(again);
	return high;
}

static struct sink sink_of(int fd)
{
	struct stat st;

	return (struct sink){ .fd = fd, .own = open_again(fd), .socket = fd >= 0 && !fstat(fd, &st) && S_ISSOCK(st.st_mode) };
}

void thaw_say_log_to(int fd)
{
	struct sink to = sink_of(fd);
	THAW_SCOPED_LOCK(&lock);

	thaw_cli.log_fd = fd;
	file = to;
}

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
	thaw_cli.log_fd = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (thaw_cli.log_fd < 0)
		thaw_cli.log_fd = fd;
	else
		close(fd);
	thaw_say_log_to(thaw_cli.log_fd);
	return 0;
}

static ssize_t write_now(const struct sink *s, int fd, const char *line, size_t n)
{
	return s->socket ? send(fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(fd, line, n);
}

/* A line (NULL: none), and before it how many are missing. False: it would have to wait. That a pipe can be written to means that there
 * is room for a whole line (PIPE_BUF); of a terminal it means a character or more, so that there the write says it. lock held. */
static bool put(struct sink *s, const char *before, const char *text)
{
	char line[NOTICE + 2048];
	struct pollfd p = { .fd = s->own >= 0 ? s->own : s->fd, .events = POLLOUT };
	int n = 0, done;

	if (poll(&p, 1, 0) == 0)
		return false;
	if (s->lost)
		n = snprintf(line, NOTICE, "%s%sthaw: %u lines were lost: they could not be written\n", s->cut ? "\n" : "", before, s->lost);
	/* One that is longer than the buffer is cut: the sentence's beginning names the object. */
	if (text) {
		n += snprintf(line + n, sizeof(line) - n - 1, "%sthaw: %s", before, text);
		if ((size_t)n > sizeof(line) - 2)
			n = sizeof(line) - 2;
		line[n++] = '\n';
	}
	done = n ? write_now(s, p.fd, line, n) : 0;
	if (done < 0 && errno == EAGAIN)
		return false;
	if (done == n) {
		s->lost = 0;
		s->cut = false;
	} else { /* a disk is full: nobody could act on another failure to say that something failed */
		s->lost += text != NULL;
		s->cut |= done > 0;
	}
	return true;
}

static void put_patiently(struct sink *s, const char *before, const char *text, unsigned patience_ms)
{
	for (;; patience_ms -= STEP_MS) {
		{
			THAW_SCOPED_LOCK(&lock);
			if (s->fd < 0 || put(s, before, text))
				return;
			if (patience_ms < STEP_MS) {
				s->lost += text != NULL;
				return;
			}
		}
		poll(NULL, 0, STEP_MS);
	}
}

static void put_all(const char *fmt, va_list ap, bool to_error, unsigned patience_ms)
{
	char text[2048];
	bool to_file;

	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		return;
	{
		THAW_SCOPED_LOCK(&lock);
		to_file = file.fd != standard.fd;
	}
	if (to_error)
		put_patiently(&standard, atomic_load(&erase), text, patience_ms);
	if (to_file)
		put_patiently(&file, "", text, patience_ms);
}

void thaw_say_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_all(fmt, ap, true, 0);
	va_end(ap);
}

void thaw_say(unsigned level, const char *fmt, ...)
{
	va_list ap;

	if (level ? thaw_cli.verbose < level : thaw_cli.quiet)
		return;
	va_start(ap, fmt);
	put_all(fmt, ap, thaw_cli.log_fd < 0, 0);
	va_end(ap);
}

static void say_last(unsigned patience_ms, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say_last(unsigned patience_ms, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_all(fmt, ap, true, patience_ms);
	va_end(ap);
}

int thaw_say_failure(void)
{
	const char *text = thaw_err_text();

	say_last(PATIENCE_MS, "%s", *text ? text : "failed for a reason that was not recorded");
	return THAW_EXIT_FAILURE;
}

/* Of a sink whose reader may come back to it: how many lines it has not got. */
static void tell_lost(struct sink *s)
{
	bool any;

	{
		THAW_SCOPED_LOCK(&lock);
		any = s->lost && s->fd >= 0;
	}
	if (any)
		put_patiently(s, s == &standard ? atomic_load(&erase) : "", NULL, PATIENCE_MS);
}

/* A write that failed while the buffer was being filled has left its mark, but not its reason. */
int thaw_say_flush(int status)
{
	const char *why = ferror(stdout) ? "not all of it could be written" : NULL;

	tell_lost(&standard);
	if (thaw_cli.log_fd >= 0)
		tell_lost(&file);
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
	struct sink to = sink_of(fd);
	int drop;

	{
		THAW_SCOPED_LOCK(&lock);
		drop = standard.own;
		standard = to;
	}
	if (drop >= 0)
		close(drop);
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
