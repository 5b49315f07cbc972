// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_finish.c - a space is finished with while threads of its process are faulted in for by the kernel: MADV_POPULATE_READ
 * and process_vm_readv() of pages that the process has discarded. Up to Linux 6.14 a close of the userfaultfd with anything
 * registered would never come back beside them.
 *
 * In the process that was added and in a forked child. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED 29
#define CONTENT 8  /* pages that are brought in and stay */
#define EMPTY 1024 /* behind them, discarded and populated again and again */
#define AT LIVE_BASE
#define MOVED (LIVE_BASE + (1ULL << 30))
#define ROUNDS 15

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

static void *at(uint64_t addr)
{
	return (void *)(uintptr_t)addr;
}

static atomic_bool over;

/* Another thread than the one that discards, so that it is inside when the space ends. */
static void *populate(void *arg)
{
	uint64_t addr = *(uint64_t *)arg;

	while (!atomic_load(&over))
		(void)madvise(at(addr), EMPTY * LIVE_PAGE, MADV_POPULATE_READ);
	return NULL;
}

static void *read_by_kernel(void *arg)
{
	uint64_t addr = *(uint64_t *)arg;
	static char buf[16 * LIVE_PAGE];

	while (!atomic_load(&over))
		for (unsigned i = 0; i < EMPTY && !atomic_load(&over); i += 16)
			(void)process_vm_readv(getpid(), &(struct iovec){ buf, sizeof(buf) }, 1,
					       &(struct iovec){ at(addr + i * LIVE_PAGE), sizeof(buf) }, 1, 0);
	return NULL;
}

static void *discard(void *arg)
{
	uint64_t addr = *(uint64_t *)arg;

	while (!atomic_load(&over))
		(void)madvise(at(addr), EMPTY * LIVE_PAGE, MADV_DONTNEED);
	return NULL;
}

static int busy(uint64_t content)
{
	static void *(*const what[])(void *) = { populate, read_by_kernel, discard };
	uint64_t empty = content + CONTENT * LIVE_PAGE;
	pthread_t threads[3];
	unsigned n = 0;
	bool right;

	while (n < 3 && !pthread_create(&threads[n], NULL, what[n], &empty))
		n++;
	right = live_moved_is(content, AT, CONTENT, SEED, 0);
	nanosleep(&(struct timespec){ 0, 30000000 }, NULL); /* the space ends meanwhile */
	atomic_store(&over, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return n != 3 ? 2 : right ? 0 : 3;
}

enum where { WHERE_IT_WAS, MOVED_AWAY, IN_A_CHILD, CASES };
static const char *const names[] = { "where it was", "moved", "in a forked child" };

static int work(void *arg, int sock)
{
	uint64_t content = AT;
	int status;
	pid_t pid;

	switch (*(enum where *)arg) {
	case MOVED_AWAY:
		content = MOVED;
		if (mremap(at(AT), (CONTENT + EMPTY) * LIVE_PAGE, (CONTENT + EMPTY) * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   at(MOVED)) == MAP_FAILED)
			return 1;
		break;
	case IN_A_CHILD:
		pid = fork();
		if (!pid)
			_exit(busy(content));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return 1;
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	default:
		break;
	}
	return busy(content);
}

static void round_of(enum where where, enum thaw_io io)
{
	struct thaw_range r = { AT, (CONTENT + EMPTY) * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct thaw_memfile_range in_file;
	struct thaw *h = live_monitor(io, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s;
	struct live l;
	int fd, status;

	fd = live_file(false, SEED, &r, 1, &in_file);
	s = thaw_source_memfile(fd, &in_file, 1);
	live_start(&l, &r, 1, work, &where);
	live_add(h, &l, s, &r, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	if (thaw_wait(h, 0, patience(10000))) {
		live_kill(&l); /* that alone ends the kernel's attempts */
		LIVE_DIE("%s: %s", names[where], thaw_get_error());
	}
	status = live_end(&l);
	LIVE_CHECK(status == 0);
	thaw_close(h);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? atoi(argv[1]) : ROUNDS;

	alarm(patience(120));
	if (thaw_probe() < 0) {
		printf("test_finish: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (enum where where = 0; where < CASES; where++) {
		for (unsigned i = 0; i < rounds; i++)
			round_of(where, i % 2 ? THAW_IO_POOL : THAW_IO_AUTO);
		printf("%s: %u rounds\n", names[where], rounds);
		fflush(stdout);
	}
	return 0;
}
