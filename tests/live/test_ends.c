// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_ends.c - exec, exit and death in the middle of a restore end the space; a child outlives its parent */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED 21
#define PAGES 8192

static const struct thaw_range range = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };

static int do_exec(void *arg, int sock)
{
	if (!live_is(LIVE_BASE + 77 * LIVE_PAGE, 1, SEED, 0))
		return 1;
	execl("/bin/sleep", "sleep", "0.3", (char *)NULL);
	return 2;
}

static int do_exit(void *arg, int sock)
{
	return !live_is(LIVE_BASE + 55 * LIVE_PAGE, 3, SEED, 0);
}

static int do_touch_for_ever(void *arg, int sock)
{
	uint64_t rnd = 4;

	for (;;)
		if (!live_is(LIVE_BASE + live_random(&rnd) % PAGES * LIVE_PAGE, 1, SEED, 0))
			return 1;
}

/* The parent is gone while its child has yet to read most of its memory. */
static int do_orphan(void *arg, int sock)
{
	pid_t pid = fork();
	char verdict;

	if (pid < 0)
		return 2;
	if (pid)
		return 0;
	alarm(patience(60));
	usleep(20000);
	verdict = live_is(LIVE_BASE, PAGES, SEED, 0) ? 'y' : 'n';
	usleep(patience(100) * 1000); /* all is in: its space is finished before it is gone */
	_exit(write(sock, &verdict, 1) != 1);
}

#ifndef __SANITIZE_THREAD__ /* which makes a fork of it */
/* vfork shares the mm: no FORK message, and the child's exec does not end it. */
static int do_vfork(void *arg, int sock)
{
	int status;
	pid_t pid = vfork();

	if (!pid) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(9);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status || !live_is(LIVE_BASE, PAGES, SEED, 0))
		return 1;
	usleep(patience(100) * 1000); /* all is in: its space is finished before it is gone */
	return 0;
}
#endif

static _Atomic unsigned finished, gone, forked;

static void on_event(void *opaque, const struct thaw_event_info *info)
{
	finished += info->event == THAW_EVENT_FINISHED;
	gone += info->event == THAW_EVENT_GONE;
	forked += info->event == THAW_EVENT_FORKED;
}

struct end {
	const char *name;
	live_fn *fn;
	int status;            /* of the worker */
	long kill_after_us;    /* -1: it ends by itself */
	unsigned finished, gone, forked;
	enum thaw_background policy;
	bool verdict;
};
static const struct end ends[] = {
	{ "exec", do_exec, 0, -1, 0, 1, 0, THAW_BACKGROUND_STAY_LAZY, false },
	{ "exit", do_exit, 0, -1, 0, 1, 0, THAW_BACKGROUND_STAY_LAZY, false },
	{ "kill, lazy", do_touch_for_ever, 128 + SIGKILL, 3000, 0, 1, 0, THAW_BACKGROUND_STAY_LAZY, false },
	{ "orphan", do_orphan, 0, -1, 1, 1, 1, THAW_BACKGROUND_STAY_LAZY, true },
#ifndef __SANITIZE_THREAD__
	{ "vfork", do_vfork, 0, -1, 1, 0, 0, THAW_BACKGROUND_STAY_LAZY, false },
#endif
};

static void run(const struct end *e, bool with_pidfd, int fd, const struct thaw_memfile_range *at)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 2, e->policy);
	struct thaw_source *s = thaw_source_memfile(fd, at, 1);
	struct timespec t0, t1;
	struct live l;
	int64_t id;
	int status;
	char verdict;

	finished = gone = forked = 0;
	LIVE_OK(thaw_set_event(h, on_event, NULL));
	live_start(&l, &range, 1, e->fn, NULL);
	if (!with_pidfd) {
		close(l.pidfd);
		l.pidfd = -1;
	}
	id = live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	if (e->kill_after_us >= 0) {
		usleep(e->kill_after_us);
		live_kill(&l);
	}
	if (e->verdict)
		LIVE_CHECK(read(l.sock, &verdict, 1) == 1 && verdict == 'y');
	status = live_end(&l);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	LIVE_OK(thaw_wait(h, id, patience(3000)));
	LIVE_OK(thaw_wait(h, 0, patience(3000)));
	clock_gettime(CLOCK_MONOTONIC, &t1);
	if (status != e->status || finished != e->finished || gone != e->gone || forked != e->forked)
		LIVE_DIE("%s: status %d, %u finished, %u gone, %u forked", e->name, status, finished, gone, forked);
	LIVE_CHECK(t1.tv_sec - t0.tv_sec < patience(3));
	thaw_close(h);
}

/* Death at any moment while copiers are at work: nothing of ours fails, and the space ends one way or the other. */
static void run_deaths(int fd, const struct thaw_memfile_range *at)
{
	uint64_t rnd = 99;

	for (int i = 0; i < thorough(30, 6); i++) {
		struct thaw *h = live_monitor(i % 2 ? THAW_IO_POOL : THAW_IO_AUTO, 2, THAW_BACKGROUND_RUN);
		struct thaw_source *s = thaw_source_memfile(fd, at, 1);
		struct live l;
		int64_t id;

		finished = gone = 0;
		LIVE_OK(thaw_set_event(h, on_event, NULL));
		live_start(&l, &range, 1, do_touch_for_ever, NULL);
		id = live_add(h, &l, s, &range, 1);
		thaw_source_close(s);
		LIVE_OK(thaw_start(h));
		live_go(&l);
		usleep(live_random(&rnd) % 12000);
		live_kill(&l);
		LIVE_CHECK(live_end(&l) == 128 + SIGKILL);
		LIVE_OK(thaw_wait(h, id, patience(3000)));
		LIVE_CHECK(finished + gone == 1);
		thaw_close(h);
	}
}

int main(void)
{
	struct thaw_memfile_range at;
	int fd = live_file(false, SEED, &range, 1, &at);

	alarm(patience(90));
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		run(&ends[i], true, fd, &at);
		run(&ends[i], false, fd, &at);
	}
	run_deaths(fd, &at);
	return 0;
}
