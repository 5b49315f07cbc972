// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/sandbox_trap.c - SIGSYS: a forbidden call is named, then the process dies by it */
#include "config.h"
#include "kern/sandbox_impl.h"
#include "util/err.h"

#include <errno.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code */
#endif
#define NO_SUCH_CALL 1023 /* in no table: a filter traps it */
#define NAMES 512

/* Initial-exec: the handler must find it without the loader allocating. */
static _Thread_local enum thaw_role my_role __attribute__((tls_model("initial-exec")));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* attach and detach */
static unsigned users;
static struct sigaction before; /* the application's; written before our handler is in */
static int line_fd = 2;
static char names[NAMES][28]; /* resolved before: the handler may have interrupted malloc */

void thaw_sandbox_set_role(enum thaw_role role)
{
	my_role = role;
}

static char *append(char *at, char *end, const char *text)
{
	while (*text && at < end)
		*at++ = *text++;
	return at;
}

static char *append_number(char *at, char *end, unsigned n)
{
	char digits[12], *d = digits + sizeof(digits) - 1;

	*d = '\0';
	do
		*--d = '0' + n % 10;
	while (n /= 10);
	return append(at, end, d);
}

static void say(unsigned nr)
{
	char line[160], *at = line, *end = line + sizeof(line);

	at = append(at, end, "thaw: ");
	at = append(at, end, thaw_sandbox_role_name(my_role));
	at = append(at, end, my_role == THAW_ROLE_HOLDER ? " process: system call " : " thread: system call ");
	if (nr < NAMES && names[nr][0]) {
		at = append(at, end, names[nr]);
		at = append(at, end, " (");
		at = append_number(at, end, nr);
		at = append(at, end, ")");
	} else {
		at = append_number(at, end, nr);
	}
	at = append(at, end, " is not allowed by its filter\n");
	if (write(line_fd, line, at - line) < 0)
		return; /* the process ends in a moment; there is nobody to tell */
}

/* SIGSYS is blocked in its handler, so that the kernel ends the process when another call is trapped. */
static void die(void)
{
	syscall(NO_SUCH_CALL);
	abort(); /* not reached under a filter */
}

/* A SIGSYS that is not ours: as if our handler were not there. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
	if (before.sa_flags & SA_SIGINFO) {
		pthread_sigmask(SIG_BLOCK, &before.sa_mask, NULL);
		before.sa_sigaction(sig, info, context);
		return;
	}
	if (before.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		pthread_sigmask(SIG_BLOCK, &before.sa_mask, NULL);
		before.sa_handler(sig);
		return;
	}
	/* The default action: the same signal again, to be taken when this handler returns. */
	signal(sig, SIG_DFL);
	syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), sig);
}

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	/* An application's own filter may trap in our threads too: what our table allows was not trapped by ours. */
	if (my_role != THAW_ROLE_NONE && info->si_code == SYS_SECCOMP &&
	    !thaw_sandbox_in_table(my_role, info->si_syscall)) {
		say(info->si_syscall);
		die();
	}
	pass_on(sig, info, context);
	errno = saved;
}

static void resolve_names(void)
{
	unsigned nr;

	for (nr = 0; nr < NAMES; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);

		snprintf(names[nr], sizeof(names[nr]), "%s", name ? name : "");
		free(name);
	}
}

static bool handler_is_ours(const struct sigaction *sa)
{
	return sa->sa_flags & SA_SIGINFO && sa->sa_sigaction == on_sigsys;
}

int thaw_sandbox_attach(int fd)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	int err = 0;

	pthread_mutex_lock(&lock);
	if (users++ == 0) {
		if (!names[0][0])
			resolve_names();
		sigaction(SIGSYS, NULL, &before);
		if (handler_is_ours(&before))
			before = (struct sigaction){ .sa_handler = SIG_DFL };
		if (sigaction(SIGSYS, &sa, NULL))
			err = -errno;
	}
	line_fd = fd < 0 ? 2 : fd;
	if (err)
		users--;
	pthread_mutex_unlock(&lock);
	return err ? thaw_err_set(err, "sandbox: the handler of SIGSYS cannot be set: %s", strerror(-err)) : 0;
}

void thaw_sandbox_detach(void)
{
	struct sigaction now;

	pthread_mutex_lock(&lock);
	/* When the application has put its own handler over ours meanwhile, that one stays. */
	if (--users == 0 && !sigaction(SIGSYS, NULL, &now) && handler_is_ours(&now))
		sigaction(SIGSYS, &before, NULL);
	pthread_mutex_unlock(&lock);
}
