// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/spinning.c - a daemon with nothing to do used a processor; now it sleeps: before the restorer comes, while a restore is
 * under way, and while tasks sleep */
#include "config.h"
#include "lazy/restorer.h"

#include <poll.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define WINDOW_MS 1500

static const struct rest_vma vmas[] = { { .addr = A, .pages = 2000 } };
static const struct rest_run runs[] = { { A, 2000, REST_LAZY } };

/* Less than a tenth of a processor over a while. (A busy machine only makes it less.) Once is enough: something may have
 * been left to do at first. */
static void must_sleep(struct rest *r, const char *when)
{
	unsigned long most = (unsigned long)sysconf(_SC_CLK_TCK) * WINDOW_MS / 1000 / 10, used = 0;

	for (unsigned tries = 0; tries < 5; tries++) {
		unsigned long before = rest_ticks(r->daemon);

		poll(NULL, 0, WINDOW_MS);
		used = rest_ticks(r->daemon) - before;
		if (used <= most)
			return;
	}
	LIVE_DIE("%s: %lu clock ticks in %d ms", when, used, WINDOW_MS);
}

static int sleeper(const struct rest_task *t)
{
	if (!rest_page_is(t, A + 50 * P) || !rest_page_is(t, A + 1050 * P))
		return 1;
	rest_words[1] = 1;
	return rest_await(0, 1) ? rest_whole(t) : 2;
}

int main(void)
{
	const struct rest_task task = { .pid = 90, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = sleeper };
	struct rest r;

	if (thaw_probe() < 0) {
		printf("spinning: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--stay-lazy", NULL));
	must_sleep(&r, "before the restorer comes");
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	must_sleep(&r, "while the restore is under way");
	rest_release(&r);
	LIVE_CHECK(rest_await(1, 1));
	must_sleep(&r, "while the task sleeps");
	rest_words[0] = 1;
	LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, NULL);
	rest_end(&r);
	return 0;
}
