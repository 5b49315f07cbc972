// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_moved_in.c - pages that another thread moves to where a discard is under way.
 *
 * A discard is told before it happens: its pages go when the message has been read. What comes there by mremap() in between goes with
 * them, and it was in: no message says that it is not any more. Who touches it finds zero (or, had the discard been faster, what was
 * moved), where it is, where it is moved to, and in a child.
 *
 * The monitor's reader is held in a subscriber's begin() until the discard's message waits to be read and the move has happened: so the
 * discard always hits what was moved. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 29
#define PAGES 8
#define AREA(i) (LIVE_BASE + (i) * (1ULL << 24))
#define FROM AREA(0)
#define TO AREA(1)
#define ON AREA(2)     /* where it is moved on to; nothing is there */
#define NEVER AREA(3)  /* stays absent, so that the space goes on */
#define FIRST AREA(4)  /* whose discard the reader is held in */
#define LEN (PAGES * LIVE_PAGE)

enum then { STAYS, MOVES, FORKS, FORKS_AND_MOVES, THENS };
static const char *const names[] = { "touched", "moved on", "in a child", "moved on in a child" };

static void *at(uint64_t addr)
{
	return (void *)(uintptr_t)addr;
}

/* ---- the process --------------------------------------------------------------------------------------------- */
static void *discard(void *arg)
{
	return madvise(at(TO), LEN, MADV_DONTNEED) ? arg : NULL;
}

static bool move(uint64_t from, uint64_t to)
{
	return mremap(at(from), LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)) != MAP_FAILED;
}

static void *move_in(void *arg)
{
	return move(FROM, TO) ? NULL : arg;
}

static int touch(enum then then)
{
	bool moves = then == MOVES || then == FORKS_AND_MOVES;

	if (moves && !move(TO, ON))
		return 2;
	return live_finds_zero(moves ? ON : TO, PAGES) ? 0 : 3;
}

static int work(void *arg, int sock)
{
	enum then then = (enum then)(uintptr_t)arg;
	pthread_t thread[2];
	void *failed[2];
	char c;
	int status;
	pid_t pid;

	if (!live_is(FROM, PAGES, SEED, 0) || madvise(at(FIRST), LEN, MADV_DONTNEED))
		return 10;
	for (unsigned i = 0; i < 2; i++)
		if (read(sock, &c, 1) != 1 || pthread_create(&thread[i], NULL, i ? move_in : discard, "failed"))
			return 11;
	for (unsigned i = 0; i < 2; i++)
		if (pthread_join(thread[i], &failed[i]) || failed[i])
			return 12;
	if (then == STAYS || then == MOVES)
		return touch(then);
	pid = fork();
	if (!pid)
		_exit(touch(then));
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 13;
}

/* ---- the monitor --------------------------------------------------------------------------------------------- */
static sem_t held, let_go;
static _Atomic bool discarded, moved_in;

static void begin(void *opaque, const struct thaw_change_info *c, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (c[i].change == THAW_CHANGED_DISCARDED && c[i].address == TO)
			discarded = true;
		if (c[i].change == THAW_CHANGED_MOVED && c[i].address == FROM)
			moved_in = discarded;
	}
	if (c[0].address != FIRST)
		return;
	sem_post(&held);
	sem_wait(&let_go);
}

/* Until nothing is mapped at addr in the process. */
static void wait_for_move(pid_t pid, uint64_t addr)
{
	char name[64], line[512];
	unsigned long start;
	bool there;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	do {
		usleep(1000);
		f = fopen(name, "r");
		LIVE_CHECK(f);
		for (there = false; fgets(line, sizeof(line), f);)
			there |= sscanf(line, "%lx-", &start) == 1 && start == addr;
		fclose(f);
	} while (there);
}

static void run(enum then then)
{
	struct thaw_subscriber_ops ops = { .size = sizeof(ops), .begin = begin };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_range r[] = {
		{ FROM, LEN, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
		{ TO, LEN, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
		{ NEVER, LEN, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
		{ FIRST, LEN, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
	};
	struct thaw_memfile_range in_file[4];
	struct thaw_subscriber *sub;
	struct thaw_source *s;
	struct pollfd queue = { .events = POLLIN };
	struct live l;
	int64_t id;
	int fd, status;

	discarded = moved_in = false;
	LIVE_CHECK(!sem_init(&held, 0, 0) && !sem_init(&let_go, 0, 0));
	fd = live_file(false, SEED, r, 4, in_file);
	s = thaw_source_memfile(fd, in_file, 4);
	live_start(&l, r, 4, work, (void *)(uintptr_t)then);
	id = live_add(h, &l, s, r, 4);
	thaw_source_close(s);
	sub = thaw_subscribe(h, id, &ops, NULL);
	LIVE_CHECK(sub);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	sem_wait(&held);
	queue.fd = l.uffd;
	LIVE_CHECK(write(l.sock, "d", 1) == 1);
	LIVE_CHECK(poll(&queue, 1, -1) == 1); /* the other one has been read */
	LIVE_CHECK(write(l.sock, "m", 1) == 1);
	wait_for_move(l.pid, FROM);
	sem_post(&let_go);
	status = live_end(&l);
	printf("%s: %d\n", names[then], status);
	LIVE_CHECK(status == 0);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	LIVE_CHECK(moved_in); /* and the discard was told before that */
	thaw_unsubscribe(sub);
	thaw_close(h);
	close(fd);
}

int main(void)
{
	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_moved_in: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (enum then then = STAYS; then < THENS; then++)
		run(then);
	return 0;
}
