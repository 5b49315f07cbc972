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
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/dump.h"
#include "checkpoint/dump_dir.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/inject.h"

#define LOOK_MS 1000
#define GIVE_UP_MS 8000
#define END_MS 20000      /* more than naming the image and ending the process may take */
#define SILENCE_MS 300000
#define REAP_MS 10000
#define REAP_TICK_MS 10

/* What the worker says when it is done. */
struct verdict {
	int code;
	char sentence[1024];
	struct thaw_dump_result result;
};

/* The worker has a session of its own and no signals: a ^C is for the caller, who asks it to give up by closing `abandon`,
 * as its death does. */
static _Noreturn void worker(const struct thaw_dump_options *o, struct thaw_dump_dir *dir, int abandon, int answer,
			     struct thaw_dump_pulse *pulse)
{
	struct verdict v;
	sigset_t all;

	memset(&v, 0, sizeof(v));
	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL); /* SIGXFSZ and SIGPIPE too: their calls fail with an errno */
	signal(SIGCHLD, SIG_DFL); /* ignored, as it may be inherited, it would take our children away from us */
	prctl(PR_SET_NAME, "thaw-worker");
	prctl(PR_SET_TIMERSLACK, 1000); /* it waits for stops in short naps, while the process stands still */
	prctl(PR_SET_DUMPABLE, 0); /* it holds another's memory */
	while (THAW_INJECT("dump.worker"))
		pause();
	v.code = thaw_dump_dir_make(dir);
	if (v.code == 0)
		v.code = thaw_dump_work(o, dir, abandon, pulse, &v.result);
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
	struct thaw_dump_pulse *pulse;
	unsigned beat;
	uint64_t moved_at, asked_at; /* asked_at 0: it was not asked to give up */
	bool killed;
};

static void ask_to_give_up(struct conversation *c)
{
	struct signalfd_siginfo si;

	if (read(c->signals, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	if (!c->asked_at)
		c->asked_at = thaw_sys_now_ns();
	if (c->abandon >= 0)
		close(c->abandon);
	c->abandon = -1;
}

/* A worker that does not answer is killed, which harms the process no more than our own death would: the kernel lets its
 * threads go, and a borrowed one finds its way back. */
static bool is_over(struct conversation *c)
{
	unsigned beat = atomic_load_explicit(&c->pulse->beat, memory_order_relaxed); /* nothing goes with it */
	enum thaw_dump_phase phase = atomic_load_explicit(&c->pulse->phase, memory_order_relaxed);
	uint64_t now = thaw_sys_now_ns(), patience = phase == THAW_DUMP_ENDING ? END_MS : GIVE_UP_MS;

	if (beat != c->beat || phase != THAW_DUMP_QUICK)
		c->moved_at = now;
	c->beat = beat;
	return (c->asked_at && now - c->asked_at > patience * 1000000) || now - c->moved_at > SILENCE_MS * 1000000ULL;
}

/* 1: there is a verdict; 0: the worker has died without one, or is to be killed. */
static int hear(struct conversation *c, struct verdict *v)
{
	struct pollfd p[2] = { { c->answer, POLLIN, 0 }, { c->signals, POLLIN, 0 } };
	size_t got = 0;

	c->moved_at = thaw_sys_now_ns();
	while (got < sizeof(*v)) {
		ssize_t n;

		if (poll(p, 2, LOOK_MS) < 0 && errno != EINTR)
			return 0;
		if (p[1].revents)
			ask_to_give_up(c);
		if (p[0].revents) {
			n = read(c->answer, (char *)v + got, sizeof(*v) - got);
			if (n <= 0)
				return 0;
			got += (size_t)n;
		} else if (is_over(c)) {
			c->killed = true;
			return 0;
		}
	}
	return 1;
}

/* A worker in the kernel's hands (a disk that does not answer) may be gone only later. */
static void reap(const struct conversation *c)
{
	pid_t r = 0;

	if (c->killed)
		kill(c->worker, SIGKILL);
	for (int ms = 0; r == 0 && ms < REAP_MS; ms += REAP_TICK_MS) {
		r = waitpid(c->worker, NULL, WNOHANG);
		if (r == 0)
			usleep(ms ? REAP_TICK_MS * 1000 : 500);
		if (r < 0 && errno == EINTR)
			r = 0;
	}
}

static int without_verdict(const struct thaw_dump_options *o, const struct conversation *c)
{
	if (atomic_load(&c->pulse->phase) == THAW_DUMP_ENDING)
		return o->leave_running ?
			thaw_err_set(-EIO, "the worker was killed while %s got its name: unless that is absent or empty, the image is "
				     "complete; process %d runs on", o->dir, o->pid) :
			thaw_err_set(-EIO, "the worker was killed while %s got its name or process %d was ended: unless that is absent or "
				     "empty, the image is complete; look whether the process still runs", o->dir, o->pid);
	if (!c->killed)
		return thaw_err_set(-EIO, "process %d: the worker that checkpoints it was killed; the process runs on", o->pid);
	if (c->asked_at)
		return thaw_err_set(-EINTR, "interrupted: the worker did not answer for %d s and was killed; process %d runs on",
				    GIVE_UP_MS / 1000, o->pid);
	return thaw_err_set(-ETIMEDOUT, "process %d: the worker that checkpoints it got no further for %d s and was killed; the "
			    "process runs on", o->pid, SILENCE_MS / 1000);
}

static int conclude(const struct thaw_dump_options *o, struct conversation *c, struct thaw_dump_dir *dir,
		    struct thaw_dump_result *r)
{
	struct verdict v;
	int heard = hear(c, &v);

	reap(c);
	if (!heard) {
		thaw_dump_dir_remove(dir);
		return without_verdict(o, c);
	}
	*r = v.result;
	if (v.code == -ECANCELED && c->asked_at)
		return thaw_err_set(-EINTR, "interrupted: process %d runs on", o->pid);
	return v.code < 0 ? thaw_err_set(v.code, "%s", v.sentence) : 0;
}

static struct thaw_dump_pulse *make_pulse(void)
{
	void *m = mmap(NULL, sizeof(struct thaw_dump_pulse), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return m == MAP_FAILED ? NULL : m;
}

static int with_worker(const struct thaw_dump_options *o, struct thaw_dump_dir *dir, struct thaw_dump_result *r,
		       const sigset_t *watched)
{
	struct conversation c = { .signals = signalfd(-1, watched, SFD_CLOEXEC | SFD_NONBLOCK), .pulse = make_pulse() };
	int abandon[2] = { -1, -1 }, answer[2] = { -1, -1 };
	int rc;

	if (c.signals < 0 || !c.pulse || pipe2(abandon, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0) {
		rc = thaw_err_set(-errno, "pipes to the worker: %s", strerror(errno));
	} else {
		fflush(NULL);
		c.worker = fork();
		if (c.worker == 0) {
			close(abandon[1]);
			close(answer[0]);
			worker(o, dir, abandon[0], answer[1], c.pulse);
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
	if (c.pulse)
		munmap(c.pulse, sizeof(*c.pulse));
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
