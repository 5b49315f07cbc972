// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_stuck_fork.c - while no descriptor is free for a forked child's userfaultfd the fork waits, and other changes of the
 * parent overtake it in the kernel's queue: the child must not read what they left, and waiting must not take a CPU
 *
 * Bug: the child's map was a copy of one from which the parent's discard had been taken already, and the child read zeros. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED 77
#define PAGES 16
#define DROPPED 4 /* pages that the parent discards behind its fork */

static const struct thaw_range range = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
static _Atomic bool frozen, waits;

static void on_line(void *opaque, enum thaw_log_level level, const char *line)
{
	(void)opaque;
	(void)level;
	fprintf(stderr, "%s\n", line);
	if (strstr(line, "changes of its parent have overtaken the fork"))
		frozen = true;
	if (strstr(line, "no descriptor is left"))
		waits = true;
}

static void pause_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static void *discard(void *arg)
{
	int sock = *(int *)arg;
	char go;

	if (read(sock, &go, 1) != 1 || madvise((void *)LIVE_BASE, DROPPED * LIVE_PAGE, MADV_DONTNEED) || write(sock, "d", 1) != 1)
		_exit(90);
	return NULL;
}

/* 0: the child read what was there when it was forked, or waits for it. */
static int work(void *arg, int sock)
{
	pthread_t other;
	int status;
	pid_t child;

	(void)arg;
	if (pthread_create(&other, NULL, discard, &sock))
		return 91;
	child = fork();
	if (child == 0)
		_exit(live_is(LIVE_BASE, DROPPED, SEED, 0) ? 0 : 1);
	if (child < 0 || pthread_join(other, NULL))
		return 92;
	for (int i = 0; i < 100; i++) {
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended)
			return ended == child && WIFEXITED(status) ? WEXITSTATUS(status) : 93;
		pause_ms(10);
	}
	kill(child, SIGKILL);
	return waitpid(child, &status, 0) == child ? 0 : 94;
}

/* No descriptor is free below the limit. */
static void exhaust(struct rlimit *before)
{
	struct rlimit none;
	int lowest = dup(0);

	LIVE_CHECK(lowest > 0 && !close(lowest) && !getrlimit(RLIMIT_NOFILE, before));
	none = *before;
	none.rlim_cur = (rlim_t)lowest;
	LIVE_CHECK(!setrlimit(RLIMIT_NOFILE, &none));
	while (dup(0) >= 0) /* what a thread of the monitor had open just then */
		;
}

static double cpu_s(void)
{
	struct timespec t;

	LIVE_CHECK(!clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t));
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
	struct thaw_memfile_range at;
	struct rlimit before;
	struct thaw_source *s;
	struct thaw *h;
	struct live l;
	double used;
	char told;
	int fd, status;

	alarm(patience(60));
	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	LIVE_OK(thaw_set_log(h, on_line, NULL, THAW_LOG_ERROR));
	live_start(&l, &range, 1, work, NULL);
	fd = live_file(false, SEED, &range, 1, &at);
	s = thaw_source_memfile(fd, &at, 1);
	LIVE_CHECK(s);
	live_add(h, &l, s, &range, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	exhaust(&before);
	used = cpu_s();
	live_go(&l);
	while (!waits) /* the fork does */
		pause_ms(1);
	LIVE_CHECK(write(l.sock, "g", 1) == 1 && read(l.sock, &told, 1) == 1);
	pause_ms(1000);
	used = cpu_s() - used;
	LIVE_CHECK(!setrlimit(RLIMIT_NOFILE, &before));
	status = live_end(&l);
	if (status)
		LIVE_DIE("the worker ended with %d", status);
	LIVE_CHECK(frozen || live_numbers());
	if (used > 0.6 && patience(1) == 1)
		LIVE_DIE("waiting for a descriptor took %.2f s of CPU time in 1.1 s", used);
	printf("the child %s; waiting took %.3f s of CPU time\n", frozen ? "waits" : "has what was there", used);
	thaw_close(h);
	close(fd);
	return 0;
}
