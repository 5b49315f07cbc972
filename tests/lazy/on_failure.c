// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/on_failure.c - images that become unreadable under a restore: tasks wait and go on when the images are back, are killed,
 * or get SIGBUS, as --on-failure says; nobody reads zeros */
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

static int body(const struct rest_task *t)
{
	signal(SIGBUS, SIG_DFL); /* a sanitizer has its own ideas */
	if (!live_is(A, KEPT, t->pid, 0))
		return 1;
	rest_words[0] = 1;
	return rest_whole(t);
}

/* A child waits for what cannot be had; its parent and another child wait for nothing. */
static int body_of_parent(const struct rest_task *t)
{
	if (!live_is(A, 10, t->pid, 0))
		return 1;
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 2;
		if (pid)
			continue;
		rest_words[2 + i] = getpid();
		while (i || !rest_words[3])
			usleep(1000);
		_exit(!live_is(A + (KEPT + 1) * P, 1, t->pid, 0)); /* not reached, or wrong */
	}
	/* Its children are killed first, and it may see that. */
	for (int i = 0, status; i < 2; i++)
		if (wait(&status) < 0 || !WIFSIGNALED(status))
			return 3;
	for (;;)
		pause();
}

/* The same, and its parent ends before it comes to that: nobody leads to it but its memory. */
static int body_of_orphan(const struct rest_task *t)
{
	pid_t pid = fork();

	if (pid < 0)
		return 2;
	if (pid)
		return rest_await(2, 1) ? 0 : 3;
	rest_words[2] = getpid();
	if (!rest_await(3, 1))
		_exit(4);
	_exit(!live_is(A + (KEPT + 1) * P, 1, t->pid, 0)); /* not reached, or wrong */
}

static bool is_gone(pid_t pid)
{
	char state = rest_state(pid);

	return state == '?' || state == 'Z';
}

/* The pages file ends early; what was in it is given back later. */
static void cut(struct rest *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_WRONLY | O_CLOEXEC);

	LIVE_CHECK(fd >= 0 && !ftruncate(fd, KEPT * P));
	close(fd);
}

static void mend(struct rest *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_WRONLY | O_CLOEXEC);
	unsigned char page[P];

	/* From the end: a page is there with its content, or not at all for who looks at the size. */
	for (uint64_t i = KEPT; i < PAGES; i++) {
		live_fill(page, r->task[0].pid, A + i * P, 0);
		LIVE_CHECK(pwrite(fd, page, P, i * P) == (ssize_t)P);
	}
	close(fd);
}

static void start(struct rest *r, const struct rest_task *task, const char *how)
{
	rest_begin(r, task, 1, true);
	LIVE_CHECK(rest_daemon(r, "--on-failure", how, "--stay-lazy", NULL));
	cut(r);
	rest_connect(r);
	rest_spawn(r);
	rest_gather(r);
	rest_release(r);
}

int main(void)
{
	const struct rest_task task = { .pid = 95, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body };
	const struct rest_task family = { .pid = 96, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body_of_parent };
	const struct rest_task orphan = { .pid = 97, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body_of_orphan };
	char want[128];
	struct rest r;

	if (thaw_probe() < 0) {
		printf("on_failure: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	start(&r, &task, "freeze");
	LIVE_CHECK(rest_await(0, 1) && rest_sleeps(r.pids[0]));
	mend(&r);
	LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, "the content of 0x");
	rest_end(&r);

	start(&r, &task, "kill");
	LIVE_CHECK(rest_wait(&r) == 128 + SIGKILL);
	/* All that is not in, not only the page that was asked for. */
	snprintf(want, sizeof(want), "it ended with %lu bytes that were not placed: content could not be read (", (PAGES - KEPT) * P);
	rest_ended(&r, 1, want);
	LIVE_CHECK(strstr(r.said, "its processes are killed (--on-failure kill)"));
	rest_end(&r);

	start(&r, &family, "kill");
	LIVE_CHECK(rest_wait(&r) == 128 + SIGKILL);
	LIVE_CHECK(rest_words[2] && rest_words[3]);
	for (unsigned i = 0; i < 1000 && !(is_gone(rest_words[2]) && is_gone(rest_words[3])); i++)
		usleep(10000);
	LIVE_CHECK(is_gone(rest_words[2]) && is_gone(rest_words[3]));
	rest_ended(&r, 1, "bytes that were not placed: content could not be read (");
	rest_end(&r);

	start(&r, &orphan, "kill");
	LIVE_CHECK(rest_wait(&r) == 0);
	usleep(600000); /* its end is noticed by looking, four times a second */
	rest_words[3] = 1;
	for (unsigned i = 0; i < 1000 && !is_gone(rest_words[2]); i++)
		usleep(10000);
	LIVE_CHECK(is_gone(rest_words[2]));
	rest_ended(&r, 1, "bytes that were not placed: content could not be read (");
	snprintf(want, sizeof(want), "its processes are killed (--on-failure kill): %d\n", rest_words[2]);
	LIVE_CHECK(strstr(r.said, want));
	rest_end(&r);

	rest_begin(&r, &task, 1, true);
	if (rest_daemon(&r, "--on-failure", "sigbus", "--stay-lazy", NULL)) {
		cut(&r);
		rest_connect(&r);
		rest_spawn(&r);
		rest_gather(&r);
		rest_release(&r);
		LIVE_CHECK(rest_wait(&r) == 128 + SIGBUS);
		rest_ended(&r, 1, "bytes that were not placed: content could not be read (");
	} else { /* Linux before 6.6 */
		rest_ended(&r, 1, "UFFDIO_POISON");
	}
	rest_end(&r);
	return 0;
}
