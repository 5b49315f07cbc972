// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/job.c - job control: the terminal's foreground group goes to the process and comes back, as under a shell.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/restore.h"

void thaw_job_open(struct thaw_job *j, pid_t pid)
{
	*j = (struct thaw_job){ .tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC), .pid = pid };
}

/* Can the process's group have our terminal at all? Only in our session; and in our own group it has it already. */
static pid_t other_group(const struct thaw_job *j)
{
	pid_t group = getpgid(j->pid);

	return group > 0 && group != getpgrp() && getsid(j->pid) == getsid(0) ? group : -1;
}

bool thaw_job_is_front(const struct thaw_job *j)
{
	if (j->tty < 0)
		return false;
	pid_t front = tcgetpgrp(j->tty);

	return front > 0 && (front == getpgrp() || front == other_group(j));
}

void thaw_job_modes(struct thaw_job *j, const struct thaw_restored *r)
{
	j->has_modes = j->tty >= 0 && isatty(STDIN_FILENO) && thaw_restore_modes(r, &j->theirs);
}

/* An editor had the terminal in raw mode. Only the job in front sets modes, as under a shell. */
static void modes_in(struct thaw_job *j)
{
	if (!j->has_modes || j->modes_set || !thaw_job_is_front(j) || tcgetattr(j->tty, &j->ours))
		return;
	j->modes_set = !tcsetattr(j->tty, TCSADRAIN, &j->theirs);
}

static void modes_out(struct thaw_job *j)
{
	pid_t front = j->modes_set ? tcgetpgrp(j->tty) : -1;

	/* another job that is in front by now has its own; a group that has died out has none */
	if (front > 0 && (thaw_job_is_front(j) || kill(-front, 0))) {
		tcgetattr(j->tty, &j->theirs);
		tcsetattr(j->tty, TCSADRAIN, &j->ours);
	}
	j->modes_set = false;
}

/* SIGTTOU is blocked here, so a background group may do this. */
bool thaw_job_give(struct thaw_job *j)
{
	modes_in(j);
	if (j->tty < 0 || tcgetpgrp(j->tty) != getpgrp())
		return false;
	pid_t group = other_group(j);
	if (group < 0 || tcsetpgrp(j->tty, group) < 0)
		return false;
	j->given = true;
	return true;
}

/* Back to us when it is (or was, for the group may have died out) the process's; another's is left alone. */
void thaw_job_take(struct thaw_job *j)
{
	modes_out(j);
	if (!j->given)
		return;
	pid_t front = tcgetpgrp(j->tty);
	if (front == getpgrp() || (front > 0 && front != other_group(j) && !kill(-front, 0)))
		j->given = false;
	else if (tcsetpgrp(j->tty, getpgrp()) == 0)
		j->given = false;
}

bool thaw_job_stop(struct thaw_job *j, int sig)
{
	const struct timespec now = { 0, 0 };
	bool whole = j->given; /* the terminal stopped the process's group alone: ours gets the same */
	sigset_t one, cont;

	thaw_job_take(j);
	sigemptyset(&cont);
	sigaddset(&cont, SIGCONT);
	sigtimedwait(&cont, NULL, &now); /* an older one says nothing about this stop */
	kill(whole ? 0 : getpid(), sig);
	if (sig != SIGSTOP) {
		sigemptyset(&one);
		sigaddset(&one, sig);
		sigprocmask(SIG_UNBLOCK, &one, NULL); /* here we stand, unless our group is orphaned */
		sigprocmask(SIG_BLOCK, &one, NULL);
	}
	return sigtimedwait(&cont, NULL, &now) == SIGCONT;
}

void thaw_job_close(struct thaw_job *j)
{
	thaw_job_take(j);
	if (j->tty >= 0)
		close(j->tty);
	j->tty = -1;
}
