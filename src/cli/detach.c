// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/detach.c - thaw restore --detach: a monitor process of its own, and a caller that returns when the process runs.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/restore.h"
#include "util/err.h"

#define TICK_MS 50
#define HIGH_FD 100

/* The system's log, a datagram a line: whoever reads it is not waited for. */
static int system_log(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), fd = -1;

	if (s >= 0 && !connect(s, (struct sockaddr *)&to, sizeof(to)))
		fd = fcntl(s, F_DUPFD_CLOEXEC, HIGH_FD);
	if (s >= 0)
		close(s);
	return fd;
}

/* Where a monitor without a caller speaks, and the holder, whose line is all that is left when the monitor is killed: the log file; else
 * standard error, unless that is a pipe or a socket whose reader waits for its end; then the system's log, if there is one. */
static int voice(void)
{
	struct stat st;
	int fd;

	if (thaw_cli.log_fd >= 0)
		return thaw_cli.log_fd;
	if (fstat(STDERR_FILENO, &st) == 0 && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, HIGH_FD);
	fd = system_log();
	thaw_say(1, fd >= 0 ? "the monitor's messages go to the system's log" :
			      "the monitor's messages are lost: standard error is not to be kept, and there is no log (-o FILE, /dev/log)");
	return fd >= 0 ? fd : open("/dev/null", O_WRONLY | O_CLOEXEC);
}

/* Descriptors that the caller has besides the standard three are not for a monitor to keep open. */
static void drop_others(int one, int other)
{
	int keep[2] = { one < other ? one : other, one < other ? other : one };
	unsigned next = STDERR_FILENO + 1;

	for (int i = 0; i < 2; i++) {
		if (keep[i] < (int)next)
			continue;
		if (keep[i] > (int)next)
			close_range(next, keep[i] - 1, 0);
		next = keep[i] + 1;
	}
	close_range(next, ~0u, 0);
}

static void let_go(int log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	thaw_say_redirect(log == thaw_cli.log_fd ? -1 : log);
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
}

static void tell(int ready, int status)
{
	unsigned char byte = status;

	/* A caller that is gone does not need to know. */
	if (write(ready, &byte, 1) < 0)
		thaw_say(1, "the caller is gone");
	close(ready);
}

/* A caller that was killed meanwhile did not get what it asked for: then nothing shall run. */
static bool is_unwanted(void *opaque)
{
	const int *ready = opaque;
	struct pollfd p = { .fd = *ready };

	return (poll(&p, 1, 0) == 1 && (p.revents & POLLERR)) || thaw_signals_want_end();
}

static int caller_is_there(int ready)
{
	if (is_unwanted(&ready))
		return thaw_err_set(-EINTR, "thaw restore was ended before the process ran: it was not restored");
	return 0;
}

/* Until the last page is in. Nobody's signal ends it before: the process would wait for its memory for ever. */
static void watch(struct thaw_arrival *a)
{
	static const struct timespec tick = { 0, TICK_MS * 1000000l };
	sigset_t all;
	int sig;

	sigfillset(&all);
	while (!thaw_arrival_ended(a)) {
		sig = sigtimedwait(&all, NULL, &tick);
		thaw_arrival_reap(a);
		if (sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT)
			thaw_say(0, "monitor of process %d: %s: it stays until the last page is in", (int)a->process.pid,
				 strsignal(sig));
	}
	thaw_arrival_reap(a);
}

static int monitor(const struct thaw_restore_command *cmd, int ready)
{
	struct thaw_restore_command mine = *cmd;
	struct thaw_arrival a;
	int log = voice();

	mine.core.interrupted = is_unwanted;
	mine.core.opaque = &ready;
	thaw_say_redirect(-1); /* it may have a descriptor of its own */
	drop_others(ready, log);
	thaw_say_redirect(STDERR_FILENO);
	if (thaw_arrival_prepare(&a, &mine, log) < 0 || caller_is_there(ready) < 0 || thaw_arrival_resume(&a) < 0) {
		int r = thaw_say_failure();

		thaw_arrival_abort(&a);
		return r;
	}
	/* The process stays in the caller's session if it belongs there; we do not. */
	setsid();
	let_go(log);
	tell(ready, THAW_EXIT_OK);
	watch(&a);
	int r = thaw_arrival_report(&a) < 0 ? thaw_say_failure() : THAW_EXIT_OK;
	thaw_restore_free(&a.process);
	return r;
}

/* What became of the monitor that closed the pipe without a word. */
static int died(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status); /* it has said why */
	thaw_say_error("the monitor process was killed by signal %d before the process ran", WTERMSIG(status));
	return THAW_EXIT_FAILURE;
}

int thaw_await_ready(int ready)
{
	unsigned char status;
	ssize_t n;

	do
		n = read(ready, &status, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? status : -1;
}

int thaw_detach_run(const struct thaw_restore_command *cmd)
{
	sigset_t before;
	int ready[2], status;

	if (pipe2(ready, O_CLOEXEC) < 0) {
		thaw_say_error("pipe: %s", strerror(errno));
		return THAW_EXIT_FAILURE;
	}
	sigprocmask(SIG_SETMASK, NULL, &before);
	thaw_signals_block();
	pid_t pid = fork();
	if (pid < 0) {
		thaw_say_error("fork: %s", strerror(errno));
		return THAW_EXIT_FAILURE;
	}
	if (!pid) {
		close(ready[0]);
		exit(monitor(cmd, ready[1]));
	}
	close(ready[1]);
	sigprocmask(SIG_SETMASK, &before, NULL);
	status = thaw_await_ready(ready[0]);
	return status < 0 ? died(pid) : status;
}
