// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_beside.c - where copies of single pages are dear, the copier serves the faults of its space itself, and the reader
 * sleeps; where others keep the copier from its CPU, the reader has them again. */
#include "config.h"
#include "support/live.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kern/procfs.h"
#include "support/patience.h"
#include "util/inject.h"

#ifdef THAW_DEBUG
#define SIZE (512UL << 20)
#define PAGES (SIZE / LIVE_PAGE)
#define ROUNDS 8
#define FEW_FAULTS 100
#define FEW_LOST 3 /* times in a round: each may have it stand aside for a part of that */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Touches a page here and there, with some work in between, as long as memory is coming in. */
static int wander(void *arg, int sock)
{
	uint64_t state = 11, until = now_ns() + 300000000;

	(void)arg;
	(void)sock;
	while (now_ns() < until) {
		uint64_t page = live_random(&state) % PAGES, begun = now_ns();

		if (*(volatile uint64_t *)(LIVE_BASE + page * LIVE_PAGE) != page)
			return 1;
		while (now_ns() - begun < 30000)
			;
	}
	return 0;
}

static pid_t reader, copier;

static int find(void *opaque, pid_t tid)
{
	struct thaw_proc_stat s;

	(void)opaque;
	if (thaw_procfs_task_stat(getpid(), tid, &s))
		return 0;
	if (!strcmp(s.comm, "thaw-reader"))
		reader = tid;
	if (!strcmp(s.comm, "thaw-copier"))
		copier = tid;
	return 0;
}

static unsigned long count(pid_t tid, const char *what)
{
	size_t len = strlen(what);
	unsigned long n = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	f = fopen(path, "r");
	LIVE_CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, what, len))
			n = strtoul(line + len, NULL, 10);
	fclose(f);
	return n;
}

/* How often the reader has gone to sleep, and the copier has lost its CPU to others. */
static unsigned long sleeps(void)
{
	return count(reader, "voluntary_ctxt_switches:");
}

static unsigned long losses(void)
{
	return count(copier, "nonvoluntary_ctxt_switches:");
}

static int first_cpu(void)
{
	cpu_set_t may;
	int cpu = 0;

	LIVE_CHECK(sched_getaffinity(0, sizeof(may), &may) == 0);
	while (!CPU_ISSET(cpu, &may))
		cpu++;
	return cpu;
}

static pid_t keep_busy(int cpu)
{
	pid_t parent = getpid(), pid = fork();
	cpu_set_t set;

	LIVE_CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	LIVE_CHECK(!sched_setaffinity(0, sizeof(set), &set));
	for (;;)
		;
}

/* Of a hundred faults so many have woken the reader. */
static unsigned woken(int fd, int busy_cpu, unsigned long *lost)
{
	const struct thaw_range r = { LIVE_BASE, SIZE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	const struct thaw_memfile_range at = { LIVE_BASE, SIZE, 0 };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_memfile(fd, &at, 1);
	struct thaw_stats st;
	unsigned long before, slept;
	pid_t busy[2];
	cpu_set_t set;
	struct live l;

	LIVE_CHECK(s);
	live_start(&l, &r, 1, wander, NULL);
	live_add(h, &l, s, &r, 1);
	LIVE_OK(thaw_start(h));
	LIVE_CHECK(thaw_procfs_tasks(getpid(), find, NULL) == 0 && reader && copier);
	if (busy_cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(busy_cpu, &set);
		LIVE_CHECK(!sched_setaffinity(copier, sizeof(set), &set));
		for (unsigned i = 0; i < 2; i++)
			busy[i] = keep_busy(busy_cpu);
	}
	before = sleeps();
	*lost = losses();
	live_go(&l);
	LIVE_OK(thaw_wait(h, 0, patience(60000)));
	slept = sleeps() - before;
	*lost = losses() - *lost;
	st = live_stats(h, 0);
	LIVE_CHECK(live_end(&l) == 0);
	for (unsigned i = 0; busy_cpu >= 0 && i < 2; i++) {
		kill(busy[i], SIGKILL);
		LIVE_CHECK(waitpid(busy[i], NULL, 0) == busy[i]);
	}
	thaw_close(h);
	thaw_source_close(s);
	reader = copier = 0;
	printf("%s: %llu faults; the reader slept %lu times, the copier lost its CPU %lu times\n", busy_cpu < 0 ? "alone" : "busy",
	       (unsigned long long)st.faults, slept, *lost);
	return st.faults >= FEW_FAULTS ? slept * 100 / st.faults : busy_cpu < 0 ? 100 : 0; /* fewer say nothing */
}

int main(void)
{
	unsigned least = UINT32_MAX, most = 0;
	unsigned long lost;
	bool quiet = false;
	uint64_t page;
	int fd;

	alarm(patience(240));
	if (thaw_probe() < 0) {
		printf("test_beside: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	LIVE_CHECK(thaw_inject_arm("pace.dear:EAGAIN:1+") == 0);
	fd = memfd_create("content", MFD_CLOEXEC);
	LIVE_CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
	for (page = 0; page < PAGES; page++)
		LIVE_CHECK(pwrite(fd, &page, sizeof(page), (off_t)(page * LIVE_PAGE)) == sizeof(page));
	/* Faults before the first copy, and behind the last, are the reader's. */
	for (unsigned i = 0; i < ROUNDS && least >= 50; i++) {
		unsigned part = woken(fd, -1, &lost);

		quiet |= lost <= FEW_LOST;
		least = part < least ? part : least;
	}
	for (unsigned i = 0; i < ROUNDS && most <= 30; i++) {
		unsigned part = woken(fd, first_cpu(), &lost);

		most = part > most ? part : most;
	}
	close(fd);
	LIVE_CHECK(most > 30);
	if (least >= 50 && !quiet) {
		printf("test_beside: SKIPPED: others had the copier's CPU each time\n");
		return 77;
	}
	LIVE_CHECK(least < 50);
	return 0;
}
#else
int main(void)
{
	printf("test_beside: SKIPPED: not a debug build: a processor that does not trap cannot be told to\n");
	return 77;
}
#endif
