// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_near.c - beside a copier that keeps another CPU busy, the reader goes to the CPU of the thread whose faults it
 * serves, and is free to go elsewhere all the same. */
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

#define SIZE (768UL << 20)
#define PAGES (SIZE / LIVE_PAGE)
#define ROUNDS 6

static int cpus[2]; /* the faulting thread's, and where all threads of the monitor begin */

static bool find_cpus(void)
{
	cpu_set_t may;
	int n = 0;

	LIVE_CHECK(sched_getaffinity(0, sizeof(may), &may) == 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &may))
			cpus[n++] = cpu;
	return n == 2;
}

static void allow(pid_t tid, int first, int second)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(first, &set);
	CPU_SET(second, &set);
	LIVE_CHECK(sched_setaffinity(tid, sizeof(set), &set) == 0);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

static int wander(void *arg, int sock)
{
	uint64_t state = 7, until = now_ms() + 500;

	(void)arg;
	(void)sock;
	allow(0, cpus[0], cpus[0]);
	for (unsigned i = 0; i < PAGES / 4 && now_ms() < until; i++)
		if (*(volatile uint64_t *)(LIVE_BASE + live_random(&state) % PAGES * LIVE_PAGE))
			return 1;
	return 0;
}

/* Keeps the first CPU from ever being idle: the kernel would send the reader there then. */
static pid_t keep_busy(void)
{
	pid_t pid = fork();

	LIVE_CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	allow(0, cpus[0], cpus[0]);
	for (;;)
		;
}

static pid_t reader;

static int is_reader(void *opaque, pid_t tid)
{
	struct thaw_proc_stat s;

	(void)opaque;
	if (!thaw_procfs_task_stat(getpid(), tid, &s) && !strcmp(s.comm, "thaw-reader"))
		reader = tid;
	return 0;
}

/* Of the looks at the reader while memory comes in, the part, in per cent, that found it beside the faulting thread. */
static unsigned beside(int fd)
{
	const struct thaw_range r = { LIVE_BASE, SIZE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	const struct thaw_memfile_range at = { LIVE_BASE, SIZE, 0 };
	unsigned looks = 0, there = 0;
	struct thaw_source *s;
	struct thaw *h;
	struct live l;
	cpu_set_t may;
	pid_t busy;

	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	s = thaw_source_memfile(fd, &at, 1);
	LIVE_CHECK(s);
	live_start(&l, &r, 1, wander, NULL);
	live_add(h, &l, s, &r, 1);
	allow(0, cpus[1], cpus[1]);
	LIVE_OK(thaw_start(h));
	LIVE_CHECK(thaw_procfs_tasks(getpid(), is_reader, NULL) == 0 && reader);
	allow(reader, cpus[0], cpus[1]);
	allow(0, cpus[0], cpus[1]);
	busy = keep_busy();
	live_go(&l);
	while (thaw_wait(h, 0, 1) < 0) {
		struct thaw_proc_stat now;

		LIVE_CHECK(!thaw_procfs_task_stat(getpid(), reader, &now));
		looks++;
		there += now.cpu == cpus[0];
	}
	LIVE_CHECK(sched_getaffinity(reader, sizeof(may), &may) == 0 && CPU_ISSET(cpus[0], &may) && CPU_ISSET(cpus[1], &may));
	LIVE_CHECK(live_end(&l) == 0);
	kill(busy, SIGKILL);
	LIVE_CHECK(waitpid(busy, NULL, 0) == busy);
	thaw_close(h);
	thaw_source_close(s);
	reader = 0;
	return looks ? there * 100 / looks : 0;
}

int main(void)
{
	unsigned sum = 0;
	int fd;

	alarm(patience(120));
	if (thaw_probe() < 0 || !find_cpus()) {
		printf("test_near: SKIPPED: %s\n", thaw_probe() < 0 ? thaw_get_error() : "one CPU only");
		return 77;
	}
	if (patience(1) > 1) { /* how long a round trip takes says nothing there, and a spinning CPU takes the other's time */
		printf("test_near: SKIPPED: an emulated machine\n");
		return 77;
	}
	fd = memfd_create("content", MFD_CLOEXEC);
	LIVE_CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
	/* Left to the kernel it is there in a third of the looks: in all of them in one round, in none in another. What else runs on
	 * these CPUs may have it moved away: once more then. */
	for (unsigned set = 0; set < 3 && sum < 70 * ROUNDS; set++) {
		sum = 0;
		for (unsigned i = 0; i < ROUNDS; i++)
			sum += beside(fd);
		printf("beside the faulting thread in %u %% of the looks\n", sum / ROUNDS);
	}
	close(fd);
	return sum < 70 * ROUNDS;
}
