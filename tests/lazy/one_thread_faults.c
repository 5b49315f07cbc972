// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/one_thread_faults.c - one thread served faults, copied ahead and received tasks, one after the other; now faults of many tasks
 * are served beside the copy, and while the rest of the tree is still on its way */
#include "config.h"
#include "lazy/restorer.h"

#include <pthread.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 2500
#define THREADS 3

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

static const struct rest_task *self;
static _Atomic int wrong;

static void *touch(void *arg)
{
	for (uint64_t i = (uintptr_t)arg; i < PAGES; i += THREADS)
		if (!live_is(A + (i * 1009 % PAGES) * P, 1, self->pid, 0))
			wrong = 1;
	return NULL;
}

static int body(const struct rest_task *t)
{
	pthread_t thread[THREADS];

	self = t;
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, touch, (void *)i))
			return 2;
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	return wrong;
}

/* The first task reads all of its memory before the last may send its userfaultfd. */
static int first(const struct rest_task *t)
{
	int bad = body(t);

	rest_words[0] = 1;
	return bad;
}

static int last(const struct rest_task *t)
{
	return !rest_await(0, 1);
}

int main(void)
{
	static struct rest_task task[6];
	struct rest r;

	if (thaw_probe() < 0) {
		printf("one_thread_faults: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < 6; i++)
		task[i] = (struct rest_task){
			.pid = 80 + i, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body,
			.early = i ? NULL : first, .before = i == 5 ? last : NULL,
		};
	for (unsigned i = 0; i < 2; i++) {
		rest_begin(&r, task, 6, true);
		LIVE_CHECK(rest_daemon(&r, "--stats", "stats", i ? "--stay-lazy" : NULL, NULL));
		rest_restore(&r);
		rest_ended(&r, 0, NULL);
		LIVE_CHECK(rest_number(&r, "stats", "pages_fault") > 0 && rest_number(&r, "stats", "latency_count") > 0);
		LIVE_CHECK(i || rest_number(&r, "stats", "pages_background") > 0);
		LIVE_CHECK(!i || rest_number(&r, "stats", "pages_background") == 0);
		rest_end(&r);
	}
	return 0;
}
