// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/figures.c - what a forking task was said to have in all, and to have discarded, was its memory over and over, once for each
 * child; and minutes were said to be left where nothing is copied: the figures of children, and no guess */
#include "config.h"
#include "lazy/restorer.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 600
#define CHILDREN 5
#define READ 3 /* pages of each child */

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

static int forks(const struct rest_task *t)
{
	int status;

	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(!live_is(A, READ, t->pid, 0));
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			return 1;
	}
	usleep(1200000); /* some samples of the rate */
	if (!live_is(A, 100, t->pid, 0))
		return 2;
	rest_words[0] = 1;
	if (!rest_await(1, 1))
		return 3;
	return rest_whole(t);
}

int main(void)
{
	const struct rest_task task = { .pid = 87, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = forks };
	const char *build = getenv("THAW_BUILDDIR");
	char line[512];
	struct rest r;

	if (thaw_probe() < 0) {
		printf("figures: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--stay-lazy", "--read-around", "0", "--stats", "stats", NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	LIVE_CHECK(rest_await(0, 1));
	snprintf(line, sizeof(line), "%s/thaw status -D %s --json | grep -q '\"left_ns\": *null'", build ? build : ".", r.dir.path);
	LIVE_CHECK(system(line) == 0);
	rest_words[1] = 1;
	LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, "; in 5 children of it 60.0 KiB, 15 faults\n");
	LIVE_CHECK(rest_number(&r, "stats", "bytes_total") == (PAGES + CHILDREN * READ) * P);
	LIVE_CHECK(rest_number(&r, "stats", "bytes_placed") == (PAGES + CHILDREN * READ) * P);
	LIVE_CHECK(rest_number(&r, "stats", "bytes_gone") == 0);
	rest_end(&r);
	return 0;
}
