// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/log_limit.c - an error among thousands of lines of detail was left out with them: it is in the log, and so is how many lines
 * are not, even when no other line comes */
#include "config.h"
#include "lazy/restorer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 6000
#define KEPT 10

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

/* Each call is a line of detail; then a page that cannot be had; and then nothing happens any more. */
static int talks(const struct rest_task *t)
{
	for (uint64_t i = 20; i < PAGES; i++)
		if (madvise((void *)(uintptr_t)(A + i * P), P, MADV_DONTNEED))
			return 1;
	rest_words[0] = 1;
	return !live_is(A + (KEPT + 5) * P, 1, t->pid, 0);
}

static char *await_said(struct rest *r, const char *words, const char *from)
{
	for (unsigned i = 0;; i++) {
		char *said = rest_read(r, "said"), *at = from ? strstr(said, from) : said;

		if (at && strstr(at, words))
			return said;
		if (i > 1000)
			LIVE_DIE("the daemon does not say '%s'; its last words: %s", words,
				 said + (strlen(said) > 1500 ? strlen(said) - 1500 : 0));
		free(said);
		usleep(10000);
	}
}

int main(void)
{
	const struct rest_task task = { .pid = 85, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = talks };
	unsigned lines = 0;
	struct rest r;
	char *said;
	int fd;

	if (thaw_probe() < 0) {
		printf("log_limit: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, "--stay-lazy", "-v4", "--read-around", "0", NULL));
	fd = openat(r.dir.fd, "pages-1.img", O_WRONLY | O_CLOEXEC);
	LIVE_CHECK(fd >= 0 && !ftruncate(fd, KEPT * P));
	close(fd);
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	LIVE_CHECK(rest_await(0, 1));
	free(await_said(&r, "the content of 0x", NULL));
	said = await_said(&r, " lines were left out here", NULL);
	for (const char *at = said; (at = strchr(at, '\n')); at++)
		lines++;
	if (lines > PAGES / 2)
		LIVE_DIE("%u lines are no limit", lines);
	free(said);
	rest_end(&r);
	return 0;
}
