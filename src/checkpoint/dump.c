// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump.c - a checkpoint as its caller sees it: a worker does it, and whoever of the two survives cleans up */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/dump.h"
#include "checkpoint/dump_dir.h"
#include "kern/uffd.h"
#include "util/err.h"

/* What the worker says when it is done. */
struct verdict {
	int code;
	char sentence[1024];
	struct thaw_dump_result result;
};

/* The worker has a session of its own and no signals: a ^C is for the caller, who asks it to give up by closing `abandon`,
 * as its death does. */
static _Noreturn void worker(const struct thaw_dump_options *o, struct thaw_dump_dir *dir, int abandon, int answer)
{
	struct verdict v;
	sigset_t all;

	memset(&v, 0, sizeof(v));
	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL); /* SIGXFSZ and SIGPIPE too: their calls fail with an errno */
	prctl(PR_SET_NAME, "thaw-worker");
	prctl(PR_SET_TIMERSLACK, 1000); /* it waits for stops in short naps, while the process stands still */
	prctl(PR_SET_DUMPABLE, 0); /* it holds another's memory */
	v.code = thaw_dump_dir_make(dir);
	if (v.code == 0)
		v.code = thaw_dump_work(o, dir, abandon, &v.result);
	if (v.code < 0) {
		thaw_dump_dir_remove(dir);
		snprintf(v.sentence, sizeof(v.sentence), "%s", thaw_err_text());
	}
	if (write(answer, &v, sizeof(v)) != (ssize_t)sizeof(v))
		_exit(1); /* nobody is there to be told */
	_exit(0);
}

/* ---- the caller's side -------------------------------------------------------------------------------------------- */
struct conversation {
	pid_t worker;
	int abandon; /* closed: give up */
	int answer;
	int signals;
	bool interrupted;
};

static void ask_to_give_up(struct conversation *c)
{
	struct signalfd_siginfo si;

	if (read(c->signals, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	c->interrupted = true;
	if (c->abandon >= 0)
		close(c->abandon);
	c->abandon = -1;
}

/* 1: there is a verdict; 0: the worker has died without one. */
static int hear(struct conversation *c, struct verdict *v)
{
	struct pollfd p[2] = { { c->answer, POLLIN, 0 }, { c->signals, POLLIN, 0 } };
	size_t got = 0;

	while (got < sizeof(*v)) {
		ssize_t n;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 0;
		if (p[1].revents)
			ask_to_give_up(c);
		if (!p[0].revents)
			continue;
		n = read(c->answer, (char *)v + got, sizeof(*v) - got);
		if (n <= 0)
			return 0;
		got += (size_t)n;
	}
	return 1;
}

static int conclude(const struct thaw_dump_options *o, struct conversation *c, struct thaw_dump_dir *dir,
		    struct thaw_dump_result *r)
{
	struct verdict v;
	int heard = hear(c, &v);

	while (waitpid(c->worker, NULL, 0) < 0 && errno == EINTR)
		;
	if (!heard) {
		thaw_dump_dir_remove(dir);
		return thaw_err_set(-EIO, "process %d: the worker that checkpoints it was killed; the process runs on", o->pid);
	}
	*r = v.result;
	if (v.code == -ECANCELED && c->interrupted)
		return thaw_err_set(-EINTR, "interrupted: process %d runs on", o->pid);
	return v.code < 0 ? thaw_err_set(v.code, "%s", v.sentence) : 0;
}

static int with_worker(const struct thaw_dump_options *o, struct thaw_dump_dir *dir, struct thaw_dump_result *r,
		       const sigset_t *watched)
{
	struct conversation c = { .signals = signalfd(-1, watched, SFD_CLOEXEC | SFD_NONBLOCK) };
	int abandon[2] = { -1, -1 }, answer[2] = { -1, -1 };
	int rc;

	if (c.signals < 0 || pipe2(abandon, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0) {
		rc = thaw_err_set(-errno, "pipes to the worker: %s", strerror(errno));
	} else {
		fflush(NULL);
		c.worker = fork();
		if (c.worker == 0) {
			close(abandon[1]);
			close(answer[0]);
			worker(o, dir, abandon[0], answer[1]);
		}
		rc = c.worker < 0 ? thaw_err_set(-errno, "a worker process: %s", strerror(errno)) : 0;
		close(answer[1]);
		answer[1] = -1;
		c.abandon = abandon[1];
		c.answer = answer[0];
		rc = rc < 0 ? rc : conclude(o, &c, dir, r);
		abandon[1] = c.abandon;
	}
	for (int i = 0; i < 2; i++) {
		if (abandon[i] >= 0)
			close(abandon[i]);
		if (answer[i] >= 0)
			close(answer[i]);
	}
	if (c.signals >= 0)
		close(c.signals);
	return rc;
}

int thaw_dump(const struct thaw_dump_options *o, struct thaw_dump_result *r)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct thaw_dump_dir dir;
	sigset_t watched, old;
	size_t i;
	int rc;

	memset(r, 0, sizeof(*r));
	rc = thaw_uffd_check_release(); /* what could not be restored here is not taken apart here */
	if (rc == 0)
		rc = thaw_seize_check(o->pid); /* a wrong pid is told before a wrong directory */
	if (rc < 0)
		return rc;
	sigemptyset(&watched);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&watched, signals[i]);
	sigprocmask(SIG_BLOCK, &watched, &old);
	rc = thaw_dump_dir_choose(&dir, o->dir);
	if (rc == 0) {
		rc = with_worker(o, &dir, r, &watched);
		if (rc < 0)
			thaw_dump_dir_remove(&dir);
		thaw_dump_dir_close(&dir);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return rc;
}
