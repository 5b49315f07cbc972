// SPDX-License-Identifier: LGPL-2.1-or-later
/* test_sandbox.c - a forbidden call dies by its name in every role, work goes on, the application's SIGSYS stays its
 * own */
#include "config.h"
#include "kern/sandbox.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "support/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static int failures;

static void fail(const char *role, const char *what)
{
	fprintf(stderr, "%s: %s\n", role, what);
	failures++;
}

struct trial {
	enum thaw_role role;
	void (*act)(void);
};

static void *in_role(void *arg)
{
	struct trial *t = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL); /* as monitor threads do */
	if (thaw_sandbox_enter(t->role)) {
		fprintf(stderr, "%s\n", thaw_err_text());
		_exit(99);
	}
	t->act();
	return NULL;
}

/* Runs act in a thread of that role in a child; its wait status, and what it wrote. */
static int run(enum thaw_role role, void (*act)(void), char *line, size_t size)
{
	struct trial t = { role, act };
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		exit(1);
	pid = fork();
	if (pid == 0) {
		pthread_t thread;

		alarm(patience(20));
		if (thaw_sandbox_attach(fds[1]))
			_exit(98);
		pthread_create(&thread, NULL, in_role, &t);
		pthread_join(thread, NULL);
		/* The filter was the thread's alone. */
		close(socket(AF_UNIX, SOCK_STREAM, 0));
		thaw_sandbox_detach();
		_exit(0);
	}
	close(fds[1]);
	n = read(fds[0], line, size - 1);
	line[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	waitpid(pid, &status, 0);
	return status;
}

static void call_socket(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
}

static void call_execve(void)
{
	char *argv[] = { "/bin/true", NULL };

	execve(argv[0], argv, argv + 1);
}

static void call_open_write(void)
{
	open("/tmp/thaw-test-sandbox", O_WRONLY | O_CREAT, 0600);
}

static void call_mmap_exec(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_tty_ioctl(void)
{
	char c = 'x';

	ioctl(0, TIOCSTI, &c);
}

static void call_unknown(void)
{
	syscall(1000);
}

/* Of the threads only control may open a file, to read. */
static void work(void)
{
	char *buf = malloc(1 << 20);
	int nothing = open("/dev/null", O_RDONLY);

	memset(buf, 1, 1 << 20);
	free(buf);
	close(nothing);
}

/* The others are told that they may not: the allocator asks for a setting now and then, and does without. */
static void open_is_refused(void)
{
	if (open("/dev/null", O_RDONLY) != -1 || errno != EACCES)
		_exit(97);
}

static void work_without_open(void)
{
	struct uffdio_range range = { 0, 0 };
	struct timespec t = { 0, 1000 };
	char *buf = malloc(1 << 22);

	memset(buf, 1, 1 << 22);
	free(buf);
	ioctl(-1, UFFDIO_WAKE, &range);
	if (write(-1, "", 1) >= 0 || read(-1, &t, 1) >= 0)
		_exit(97);
	nanosleep(&t, NULL);
	close(-1);
}

static const enum thaw_role roles[] = { THAW_ROLE_READER, THAW_ROLE_COPIER, THAW_ROLE_IO, THAW_ROLE_CONTROL,
					THAW_ROLE_HOLDER };

static void forbidden(enum thaw_role role, void (*act)(void), const char *call)
{
	const char *who = role == THAW_ROLE_HOLDER ? "process" : "thread";
	char line[256], want[256];
	int status = run(role, act, line, sizeof(line));

	snprintf(want, sizeof(want), "thaw: %s %s: system call %s is not allowed by its filter\n",
		 thaw_sandbox_role_name(role), who, call);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS) {
		fprintf(stderr, "status %#x after %s\n", status, call);
		fail(thaw_sandbox_role_name(role), "a forbidden call did not end the process by SIGSYS");
	}
	if (strcmp(line, want)) {
		fprintf(stderr, "got: %swant: %s", line, want);
		fail(thaw_sandbox_role_name(role), "the line is not what it should be");
	}
}

static void allowed(enum thaw_role role, void (*act)(void))
{
	char line[256];
	int status = run(role, act, line, sizeof(line));

	if (status || line[0]) {
		fprintf(stderr, "status %#x: %s\n", status, line);
		fail(thaw_sandbox_role_name(role), "allowed calls did not work");
	}
}

static volatile sig_atomic_t own_calls, own_value;

static void own_handler(int sig, siginfo_t *info, void *context)
{
	own_calls++;
	own_value = info->si_code;
}

static void test_own_handler(void)
{
	struct sigaction mine = { .sa_sigaction = own_handler, .sa_flags = SA_SIGINFO }, now;

	sigaction(SIGSYS, &mine, NULL);
	if (thaw_sandbox_attach(-1) || thaw_sandbox_attach(-1))
		fail("attach", thaw_err_text());
	raise(SIGSYS);
	if (own_calls != 1 || own_value != SI_TKILL)
		fail("application", "its SIGSYS did not come to its handler");
	thaw_sandbox_detach();
	raise(SIGSYS);
	thaw_sandbox_detach();
	sigaction(SIGSYS, NULL, &now);
	if (own_calls != 2 || now.sa_sigaction != own_handler)
		fail("application", "its handler was not put back");
	/* And one that is set over ours stays. */
	signal(SIGSYS, SIG_DFL);
	thaw_sandbox_attach(-1);
	sigaction(SIGSYS, &mine, NULL);
	thaw_sandbox_detach();
	sigaction(SIGSYS, NULL, &now);
	if (now.sa_sigaction != own_handler)
		fail("application", "a handler set later was taken away");
	signal(SIGSYS, SIG_DFL);
}

/* The default action is kept too: the process dies. */
static void test_default_action(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		thaw_sandbox_attach(-1);
		raise(SIGSYS);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail("application", "SIGSYS without a handler did not end the process");
}

int main(void)
{
	size_t i;

	for (i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		forbidden(roles[i], call_socket, "socket (41)");
		forbidden(roles[i], call_unknown, "1000");
		if (roles[i] != THAW_ROLE_HOLDER) /* which has no allocator: it is alone in a copy of the memory */
			allowed(roles[i], work_without_open);
		if (SANITIZED)
			continue;
		forbidden(roles[i], call_execve, "execve (59)");
		forbidden(roles[i], call_open_write, "openat (257)");
		forbidden(roles[i], call_mmap_exec, "mmap (9)");
		forbidden(roles[i], call_tty_ioctl, "ioctl (16)");
	}
	allowed(THAW_ROLE_CONTROL, work);
	if (!SANITIZED)
		allowed(THAW_ROLE_READER, open_is_refused);
	test_own_handler();
	test_default_action();
	return failures ? 1 : 0;
}
