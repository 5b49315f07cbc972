// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/daemon_death.c - a daemon killed by kill -9 gave its tasks zeros; now they wait, are named in its log with what to
 * do, and every byte that they have read is right */
#include "config.h"
#include "lazy/restorer.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 12000

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

enum { GO, PAGE, DEAD };

/* Word PAGE counts what has been read, and was right. */
static int reader(const struct rest_task *t)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t page = i * 7919 % PAGES;

		if (i == (uint64_t)t->arg) {
			rest_words[GO] = 1;
			if (!rest_await(DEAD, 1))
				return 2;
		}
		if (!rest_page_is(t, A + page * P))
			return 1;
		rest_words[PAGE]++;
	}
	return 0;
}

static void waits_and_is_named(void)
{
	const struct rest_task task = { .pid = 71, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = reader, .arg = 500 };
	char *log, want[128];
	struct rest r;

	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--stay-lazy", "-o", "log", NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	LIVE_CHECK(rest_await(GO, 1));
	kill(r.daemon, SIGKILL);
	rest_ended(&r, 128 + SIGKILL, NULL);
	rest_words[DEAD] = 1;
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	LIVE_CHECK(rest_words[PAGE] < PAGES);
	snprintf(want, sizeof(want), "pid %d: waits for memory that is not in yet; end it with kill -9 %d", (int)r.pids[0],
		 (int)r.pids[0]);
	for (unsigned i = 0;; i++) { /* the holder takes some looks before it speaks */
		log = rest_read(&r, "log");
		if (strstr(log, want))
			break;
		if (i > 20000)
			LIVE_DIE("the log does not say '%s', but: %s", want, log);
		free(log);
		poll(NULL, 0, 5);
	}
	free(log);
	rest_end(&r);
}

/* Whenever it happens. */
static void at_any_time(unsigned delay_us)
{
	const struct rest_task task = {
		.pid = 71, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = reader, .arg = PAGES + 1,
	};
	struct timespec pause = { 0, delay_us * 1000L };
	struct rest r;

	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	ppoll(NULL, 0, &pause, NULL);
	kill(r.daemon, SIGKILL);
	/* Asleep for want of a page, or through with all that was in. */
	if (!rest_sleeps(r.pids[0]))
		LIVE_CHECK(rest_wait(&r) == 0 && rest_words[PAGE] == PAGES);
	rest_end(&r);
}

/* Its userfaultfd is still in the socket when the daemon dies: in that of a restorer that has been accepted, or not even that. Tasks
 * do not wait for a word of the daemon. */
static void before_it_has_received(bool accepted)
{
	const struct rest_task task = {
		.pid = 71, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = reader, .arg = PAGES + 1,
	};
	struct rest r;

	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, NULL));
	if (accepted) {
		rest_connect(&r);
		poll(NULL, 0, 300);
	}
	kill(r.daemon, SIGSTOP);
	if (!accepted)
		rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	kill(r.daemon, SIGKILL);
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	LIVE_CHECK(!rest_words[PAGE]);
	rest_end(&r);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("daemon_death: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	waits_and_is_named();
	before_it_has_received(true);
	before_it_has_received(false);
	for (unsigned i = 0; i < 6; i++)
		at_any_time(i * i * 1500);
	return 0;
}
