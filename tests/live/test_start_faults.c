// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_start_faults.c - each call that making and starting a monitor needs fails once: a clear sentence, and the next try
 * works, with every byte right. Debug builds only. */
#include "config.h"
#include "support/live.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/inject.h"

#define PAGES 96
#define SEED 21
#define MOST 12 /* of one point's calls that fail, each in a run of its own */

#ifdef THAW_DEBUG
/* Nobody has anything to do in a monitor that has been started, also not after an attempt that failed. */
static void stays_idle(const char *spec)
{
	struct rusage before, after;
	long us;

	getrusage(RUSAGE_SELF, &before);
	usleep(100000);
	getrusage(RUSAGE_SELF, &after);
	us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000L +
	     after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec;
	if (us > 40000)
		LIVE_DIE("%s: an idle monitor takes %ld us of 100000", spec, us);
}

static const char *const cases[] = {
	"eventfd.make:EMFILE", "epoll.create:EMFILE", "epoll.add:ENOMEM", "epoll.wait:EINTR", "uffd.register:ENOMEM",
	"content.stat:EIO", "content.ahead:EIO", "content.read:EINTR", "content.map:ENOMEM", "content.populate:EFAULT",
	"ring.setup:ENOMEM", "ring.make:ENOMEM", "ring.submit:EBUSY", "ring.read:EINTR", "holder.start:ENOMEM",
	"holder.memory:ENOMEM", "holder.clone:EAGAIN", "sandbox.load:ENOMEM", "sandbox.install:EINVAL", "thread.create:EAGAIN",
	"memory.staging:ENOMEM", "memory.lock:ENOMEM", "memory.space:ENOMEM", "memory.core:ENOMEM", "pidfd.open:EMFILE",
	"futex.wait:EINTR", "eventfd.raise:EAGAIN", "epoll.stop:ENOMEM", "epoll.process:ENOMEM", "content.unlock:ENOMEM",
	"thread.nice:EPERM", "memory.follow:ENOMEM",
};

static int work(void *arg, int sock)
{
	return !live_is(LIVE_BASE, PAGES, SEED, 0);
}

static unsigned failures;

/* A first failure is in order and says what it was; a second is not, since only one call fails. */
static bool again(const char *spec, const char *what, bool ok, unsigned *tries)
{
	if (ok)
		return false;
	if (++*tries > 1)
		LIVE_DIE("%s: %s fails once more: %s", spec, what, thaw_get_error());
	if (!strstr(thaw_get_error(), what) || strlen(thaw_get_error()) < strlen(what) + 8 || !thaw_get_errno())
		LIVE_DIE("%s: %s fails with '%s' (%d)", spec, what, thaw_get_error(), thaw_get_errno());
	failures++;
	return true;
}

/* Whether the call that was to fail was there at all. */
static bool run(const char *which, unsigned n)
{
	struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, 3, 0 };
	struct thaw_memfile_range at;
	char spec[80], point[48];
	struct thaw_source *s;
	struct thaw_space d;
	struct thaw *h;
	struct live l;
	unsigned tries = 0;
	int64_t id;
	int fd;

	live_start_unregistered(&l, &r, 1, work, NULL);
	fd = live_file(false, SEED, &r, 1, &at);
	snprintf(spec, sizeof(spec), "%s:%u", which, n);
	snprintf(point, sizeof(point), "%.*s", (int)strcspn(which, ":"), which);
	LIVE_CHECK(!thaw_inject_arm(spec));
	do
		h = thaw_create();
	while (again(spec, "thaw_create", h, &tries));
	do
		s = thaw_source_memfile(fd, &at, 1);
	while (again(spec, "thaw_source_memfile", s, &tries));
	d = (struct thaw_space){
		.size = sizeof(d), .uffd = l.uffd, .pidfd = n % 2 ? l.pidfd : -1, .pid = l.pid, .source = s, .ranges = &r,
		.n_ranges = 1, .register_ranges = 1,
	};
	do
		id = thaw_add_space(h, &d);
	while (again(spec, "thaw_add_space", id > 0, &tries));
	thaw_source_close(s);
	while (again(spec, "thaw_start", thaw_start(h) == 0, &tries))
		;
	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		LIVE_DIE("%s: standard input has been closed", spec);
	if (!strcmp(point, "thread.create"))
		stays_idle(spec);
	live_go(&l);
	if (live_end(&l))
		LIVE_DIE("%s: the worker has seen a wrong page", spec);
	if (thaw_wait(h, 0, 60000))
		LIVE_DIE("%s: %s", spec, thaw_get_error());
	thaw_close(h);
	close(fd);
	return thaw_inject_hits(point);
}

#define ADDED 12

struct adding {
	struct thaw *h;
	struct thaw_space d;
	_Atomic bool done;
};

static void *add_spaces(void *arg)
{
	struct adding *a = arg;

	for (unsigned i = 0; i < ADDED; i++) {
		LIVE_OK(a->d.uffd = thaw_uffd_open());
		LIVE_OK(thaw_add_space(a->h, &a->d));
		usleep(3000);
	}
	a->done = true;
	return NULL;
}

/* Bug: a space that was added beside a thaw_start() was told to a holder that the failing start was just taking away. */
static void added_beside_a_start(void)
{
	struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, 3, 0 };
	struct thaw_memfile_range at;
	int fd = live_file(false, SEED, &r, 1, &at);
	struct thaw_source *s = thaw_source_memfile(fd, &at, 1);
	struct thaw_stats st = { .size = sizeof(st) };
	struct adding a = { .h = thaw_create() };
	pthread_t adder;
	struct live l;

	live_start_unregistered(&l, &r, 1, work, NULL);
	a.d = (struct thaw_space){ .size = sizeof(a.d), .pidfd = l.pidfd, .source = s, .ranges = &r, .n_ranges = 1 };
	LIVE_CHECK(!thaw_inject_arm("holder.add:delay=10ms:1+,thread.create:EAGAIN:1+"));
	LIVE_CHECK(!pthread_create(&adder, NULL, add_spaces, &a));
	do {
		LIVE_CHECK(thaw_start(a.h) == -1 && thaw_get_errno() == EAGAIN);
		LIVE_OK(thaw_get_stats(a.h, 0, &st));
	} while (!a.done);
	pthread_join(adder, NULL);
	/* What threads may have begun with is final. */
	LIVE_CHECK(thaw_set_failure(a.h, THAW_FAILURE_WAIT) == -1 && thaw_get_errno() == EBUSY);
	LIVE_CHECK(thaw_set_numbering(a.h, 0) == -1 && thaw_get_errno() == EBUSY);
	LIVE_OK(thaw_set_copiers(a.h, 1));
	LIVE_CHECK(thaw_inject_hits("holder.add") && !thaw_inject_arm(NULL));
	live_kill(&l);
	live_end(&l);
	thaw_source_close(s);
	thaw_close(a.h);
	close(fd);
}

/* Bug: adding and starting try things with a userfaultfd of their own. Where none may be opened, they succeeded and had replaced the last
 * failure. And THAW_FAILURE_SIGBUS was refused because the kernel could not, when nobody was able to ask it. */
static void without_userfaultfd(void)
{
	struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, 3, 0 };
	struct thaw_memfile_range at;
	int fd = live_file(false, SEED, &r, 1, &at);
	struct thaw_source *s = thaw_source_memfile(fd, &at, 1);
	struct thaw *h = thaw_create();
	struct live l;

	live_start(&l, &r, 1, work, NULL);
	LIVE_CHECK(!thaw_inject_arm("uffd.node:EPERM:1+,uffd.call:EPERM:1+"));
	LIVE_CHECK(thaw_set_failure(h, THAW_FAILURE_SIGBUS) == -1 && thaw_get_errno() == EPERM);
	LIVE_CHECK(thaw_wait(h, 77, 0) == -1 && thaw_get_errno() == ENOENT);
	live_add(h, &l, s, &r, 1);
	LIVE_CHECK(thaw_get_errno() == ENOENT && strstr(thaw_get_error(), "no space 77"));
	LIVE_OK(thaw_start(h));
	LIVE_CHECK(thaw_get_errno() == ENOENT && strstr(thaw_get_error(), "no space 77"));
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, 60000));
	LIVE_CHECK(thaw_inject_hits("uffd.call"));
	thaw_source_close(s);
	thaw_close(h);
	close(fd);
}

/* What is tried once in a process is tried in one of its own. */
static void apart(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	LIVE_CHECK(pid >= 0);
	if (!pid) {
		fn();
		exit(0);
	}
	LIVE_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(void)
{
	unsigned done = 0;

	apart(without_userfaultfd);
	added_beside_a_start();

	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		LIVE_CHECK(open("/dev/null", O_RDONLY) == STDIN_FILENO);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned n = 1;

		while (n <= MOST && run(cases[i], n))
			n++;
		if (n == 1 && strncmp(cases[i], "ring.", 5) && strncmp(cases[i], "content.", 8) && strncmp(cases[i], "epoll.wait", 10))
			LIVE_DIE("%s: no call came by", cases[i]);
		done += n - 1;
	}
	printf("%u calls failed, %u of them were told\n", done, failures);
	return !failures;
}
#else
int main(void)
{
	printf("test_start_faults: SKIPPED: nothing can be injected into this build\n");
	return 77;
}
#endif
