// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/standin.c - thaw restore in the foreground: to its parent it looks like the process that it restored.
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/restore.h"
#include "kern/procfs.h"
#include "util/err.h"

#define TICK_MS 50

struct standin {
	struct thaw_arrival arrival;
	struct thaw_job job;
	struct thaw_line line;
	int signals; /* signalfd */
	int stopping; /* the terminal's signal for which we have stopped the process; 0: none */
};

/* ---- signals ---------------------------------------------------------------------------------------------- */
/* A signal that came from the terminal reached the process by itself when it is in our group. */
static bool has_it_already(const struct standin *s, const struct signalfd_siginfo *i)
{
	return i->ssi_code == SI_KERNEL && getpgid(s->arrival.process.pid) == getpgrp();
}

static bool is_terminal_stop(int sig)
{
	return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

/* The kernel does not stop a group that has no shell above it, which is that of a process in a session of its own. Where such a
 * process leaves the signal to the kernel, we stop it as ^Z on a shell's job would. */
static bool stops_in_its_place(struct standin *s, const struct signalfd_siginfo *i)
{
	pid_t pid = s->arrival.process.pid, group = getpgid(pid);
	uint64_t bit = 1ull << (i->ssi_signo - 1);
	struct thaw_proc_status p;

	if (!is_terminal_stop(i->ssi_signo) || i->ssi_code != SI_KERNEL || getsid(pid) == getsid(0) || group <= 0)
		return false;
	if (thaw_procfs_status(pid, &p) || ((p.sig_caught | p.sig_ignored | p.sig_blocked) & bit))
		return false;
	s->stopping = (int)i->ssi_signo;
	kill(-group, SIGSTOP);
	return true;
}

static void forward(struct standin *s, const struct signalfd_siginfo *i)
{
	const struct thaw_restored *p = &s->arrival.process;
	siginfo_t info = { .si_signo = i->ssi_signo, .si_code = SI_QUEUE };

	if (i->ssi_pid == (uint32_t)getpid() || has_it_already(s, i)) /* our own SIGPIPE stays ours */
		return;
	if (stops_in_its_place(s, i))
		return;
	info.si_pid = i->ssi_pid;
	info.si_uid = i->ssi_uid;
	info.si_ptr = (void *)(uintptr_t)i->ssi_ptr;
	/* The value of a sigqueue(3) goes along; a process that is gone needs nothing any more. */
	syscall(SYS_pidfd_send_signal, p->pidfd, i->ssi_signo, i->ssi_code == SI_QUEUE ? &info : NULL, 0);
}

/* ---- stop and go ------------------------------------------------------------------------------------------ */
static void go_on(struct standin *s)
{
	pid_t group = getpgid(s->arrival.process.pid);

	thaw_job_give(&s->job);
	if (group > 0 && group != getpgrp())
		kill(-group, SIGCONT);
	else
		syscall(SYS_pidfd_send_signal, s->arrival.process.pidfd, SIGCONT, NULL, 0);
}

/* The process stopped. From the terminal's point of view we are the job, so we stop too; but a SIGSTOP out of job
 * control's sight is between its sender and the process, and its memory goes on arriving. */
static void stopped(struct standin *s, int sig)
{
	if ((sig == SIGTTIN || sig == SIGTTOU) && !s->job.given && thaw_job_is_front(&s->job)) {
		go_on(s); /* it was brought to the front in the meantime */
		return;
	}
	if (sig == SIGSTOP && s->stopping) {
		thaw_line_hide(&s->line);
		thaw_job_stop(&s->job, s->stopping);
		s->stopping = 0;
		go_on(s); /* nobody else will, even if there is no shell above us either and we did not stop */
		return;
	}
	if (!is_terminal_stop(sig) && !(sig == SIGSTOP && s->job.given))
		return;
	thaw_line_hide(&s->line);
	if (thaw_job_stop(&s->job, sig))
		go_on(s);
}

static void child(struct standin *s)
{
	struct thaw_arrival *a = &s->arrival;
	int status;

	while (!a->reaped && waitpid(a->process.pid, &status, WNOHANG | WUNTRACED | WCONTINUED) == a->process.pid) {
		if (WIFSTOPPED(status)) {
			stopped(s, WSTOPSIG(status));
		} else if (!WIFCONTINUED(status)) {
			a->wait_status = status;
			a->reaped = true;
		}
	}
}

/* The process has ended; what keeps us are children that it left, whose memory is still arriving. */
static void left_over(const struct standin *s, int sig)
{
	struct thaw_progress p = { .size = sizeof(p) };

	if ((sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT) && s->arrival.monitor &&
	    !thaw_get_progress(s->arrival.monitor, 0, &p) && p.spaces > 1)
		thaw_say(0, "%s: the process has ended, but memory of %llu children that it left is still arriving: "
			 "thaw stays for it", strsignal(sig), (unsigned long long)(p.spaces - p.spaces_done));
}

static void signals(struct standin *s)
{
	struct signalfd_siginfo i;

	while (read(s->signals, &i, sizeof(i)) == sizeof(i)) {
		if (i.ssi_signo == SIGCHLD)
			child(s);
		else if (!s->arrival.reaped)
			forward(s, &i);
		else
			left_over(s, i.ssi_signo);
		if (i.ssi_signo == SIGWINCH)
			thaw_line_hide(&s->line);
	}
}

/* ---- the loop --------------------------------------------------------------------------------------------- */
static void progress(struct standin *s)
{
	struct thaw_progress p = { .size = sizeof(p) };

	if (s->line.how != THAW_LINE_OFF && !thaw_get_progress(s->arrival.monitor, 0, &p))
		thaw_line_update(&s->line, &p, thaw_job_is_front(&s->job));
}

/* Eagerly the arrival is over before there is a process, and thaw alone is in front. */
static void written(void *opaque, uint64_t done, uint64_t all)
{
	struct standin *s = opaque;
	uint64_t took = thaw_now_ns() - s->arrival.start_ns;
	struct thaw_progress p = { .bytes_total = all, .bytes_placed = done, .left_ns = UINT64_MAX };

	if (s->line.how == THAW_LINE_OFF)
		return;
	p.rate = took ? done * 1e9 / took : 0;
	if (p.rate)
		p.left_ns = (all - done) * 1e9 / p.rate;
	thaw_line_update(&s->line, &p, tcgetpgrp(STDERR_FILENO) == getpgrp());
}

static int arrived(struct standin *s)
{
	thaw_line_close(&s->line, &s->arrival);
	if (thaw_arrival_report(&s->arrival) < 0)
		return thaw_say_failure();
	return 0;
}

static void loop(struct standin *s)
{
	struct pollfd p = { .fd = s->signals, .events = POLLIN };
	bool arriving = true;

	while (arriving || !s->arrival.reaped) {
		poll(&p, 1, arriving ? TICK_MS : -1);
		signals(s);
		if (!arriving)
			continue;
		if (thaw_arrival_ended(&s->arrival)) {
			arriving = false;
			child(s);
			arrived(s);
		} else {
			progress(s);
		}
	}
}

static int status_of(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static int give_up(struct standin *s)
{
	int r;

	thaw_line_hide(&s->line);
	r = thaw_say_failure();
	thaw_arrival_abort(&s->arrival);
	return r;
}

int thaw_standin_run(const struct thaw_restore_command *cmd)
{
	struct thaw_restore_command mine = *cmd;
	struct standin s = { .signals = -1 };
	sigset_t all;

	thaw_signals_block();
	if (cmd->core.eager) {
		thaw_line_open(&s.line, cmd->progress);
		mine.core.written = written;
		mine.core.written_opaque = &s;
	}
	if (thaw_arrival_prepare(&s.arrival, &mine, thaw_cli.log_fd) < 0)
		return give_up(&s);
	thaw_line_hide(&s.line);
	sigfillset(&all);
	s.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s.signals < 0) {
		thaw_err_set(-errno, "signalfd: %s", strerror(errno));
		return give_up(&s);
	}
	thaw_job_open(&s.job, s.arrival.process.pid);
	thaw_job_modes(&s.job, &s.arrival.process);
	thaw_job_give(&s.job);
	if (thaw_arrival_resume(&s.arrival) < 0) {
		thaw_job_close(&s.job);
		return give_up(&s);
	}
	thaw_line_open(&s.line, cmd->progress);
	child(&s); /* what it did before the first signal could tell */
	loop(&s);
	thaw_job_close(&s.job);
	thaw_restore_free(&s.arrival.process);
	return s.arrival.orphans ? THAW_EXIT_FAILURE : status_of(s.arrival.wait_status);
}
