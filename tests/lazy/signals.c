// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/signals.c - SIGTERM while somebody waits ended the daemon as if nobody were there, when only forked children of a task
 * that had ended were left: it stays, and names who waits */
#include "config.h"
#include "lazy/restorer.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 400
#define KEPT 100

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

enum { CHILD, GO };

static int waits(const struct rest_task *t)
{
	if (!rest_await(GO, 1))
		return 1;
	return rest_whole(t);
}

/* Leaves a child behind, which waits for nothing yet but has all its memory to come. */
static int leaves(const struct rest_task *t)
{
	pid_t pid = fork();

	if (pid < 0)
		return 2;
	if (!pid) {
		rest_words[CHILD] = getpid();
		if (!rest_await(GO, 1))
			_exit(1);
		_exit(rest_whole(t));
	}
	return rest_await(CHILD, 1) ? 0 : 3;
}

static _Noreturn int waits_for_ever(const struct rest_task *t)
{
	for (;;)
		pause();
}

/* What the restorer's own code touches cannot be had: it sleeps. */
static void cut(struct rest *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_WRONLY | O_CLOEXEC);

	LIVE_CHECK(fd >= 0 && !ftruncate(fd, KEPT * P));
	close(fd);
}

static void stays(rest_body *body, int sig)
{
	const struct rest_task task = { .pid = 81, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body };
	char want[64];
	struct rest r;
	pid_t who;

	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--stay-lazy", NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	who = r.pids[0];
	if (body == leaves) {
		LIVE_CHECK(rest_await(CHILD, 1));
		LIVE_CHECK(rest_wait(&r) == 0);
		usleep(600000); /* its end is noticed by looking, four times a second */
		who = rest_words[CHILD];
	}
	kill(r.daemon, sig);
	snprintf(want, sizeof(want), ": pid %d: not all memory is in", (int)who);
	rest_await_said(&r, want);
	LIVE_CHECK(!kill(r.daemon, 0) && waitpid(r.daemon, NULL, WNOHANG) == 0);
	rest_words[GO] = 1;
	if (body != leaves)
		LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, want);
	rest_end(&r);
}

/* While the tree is arriving a signal ends the restore: what has come and sleeps ends too, and has not run. */
static void ends(void)
{
	const struct rest_task task[] = {
		{ .pid = 82, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .early = rest_whole, .before = NULL },
		{ .pid = 83, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .before = waits_for_ever },
	};
	struct rest r;

	rest_begin(&r, task, 2, true);
	LIVE_CHECK(rest_daemon(&r, "-v", NULL));
	cut(&r);
	rest_connect(&r);
	rest_spawn(&r);
	rest_await_said(&r, "pid 82: is here (1 of 2)");
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	kill(r.daemon, SIGTERM);
	rest_ended(&r, 1, "ended by signal 15 (Terminated) when 1 of 2 tasks were here");
	kill(r.pids[1], SIGKILL);
	LIVE_CHECK(rest_wait(&r) == 128 + SIGKILL);
	rest_end(&r);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("signals: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	stays(waits, SIGTERM);
	stays(waits, SIGINT);
	stays(leaves, SIGTERM);
	ends();
	return 0;
}
