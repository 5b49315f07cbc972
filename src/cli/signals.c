// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/signals.c - the signals of thaw restore: all blocked, read when there is time for them.
#include "config.h"

#include <signal.h>

#include "cli/restore.h"

void thaw_signals_block(void)
{
	struct sigaction old, standard = { .sa_handler = SIG_DFL };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	/* A shell starts background jobs with SIGINT and SIGQUIT ignored, and an ignored signal cannot be forwarded.
	 * nohup's SIGHUP is meant to be lost. */
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP || (sig > SIGSYS && sig < SIGRTMIN))
			continue;
		if (sig == SIGHUP && !sigaction(sig, NULL, &old) && old.sa_handler == SIG_IGN)
			continue;
		sigaction(sig, &standard, NULL);
	}
}

bool thaw_signals_want_end(void)
{
	static const int end[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t waiting;

	sigpending(&waiting);
	for (unsigned i = 0; i < sizeof(end) / sizeof(*end); i++)
		if (sigismember(&waiting, end[i]))
			return true;
	return false;
}
