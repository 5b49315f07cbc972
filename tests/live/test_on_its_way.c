// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_on_its_way.c - a read is under way for one thread, a second waits for another page of it, and a third takes that
 * page away before the content comes: discarded, or moved. The second thread goes on, and so does who reads at the new place.
 *
 * Bug: nothing was placed where it waited, so nobody woke it. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEED 37
#define PAGES 16 /* of one read */
#define FIRST LIVE_BASE
#define TAKEN (LIVE_BASE + 5 * LIVE_PAGE)
#define N_TAKEN 11 /* up to the end of the read */
#define MOVED (LIVE_BASE + (1ULL << 24))
#define NEVER (LIVE_BASE + (1ULL << 25)) /* stays absent: else the space ends, which wakes everybody */

enum how { DISCARD, MOVE, HOWS };
static const char *const names[] = { "discarded", "moved" };

/* ---- the source: what is asked for comes when the test says so ------------------------------------------------------------- */
static struct held {
	pthread_mutex_t lock;
	struct thaw_request *request[8];
	uint64_t addr[8];
	size_t len[8];
	unsigned char *buf[8];
	unsigned n;
	bool open;
} held = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void fill(uint64_t addr, size_t len, unsigned char *buf)
{
	for (size_t i = 0; i < len; i += LIVE_PAGE)
		live_fill(buf + i, SEED, addr + i, 0);
}

static int ask(void *opaque, uint64_t addr, size_t len, void *buf, struct thaw_request *request)
{
	bool now;

	pthread_mutex_lock(&held.lock);
	now = held.open || held.n == 8;
	if (!now) {
		held.request[held.n] = request;
		held.addr[held.n] = addr;
		held.len[held.n] = len;
		held.buf[held.n++] = buf;
	}
	pthread_mutex_unlock(&held.lock);
	if (!now)
		return THAW_LATER;
	fill(addr, len, buf);
	return 0;
}

/* One read was asked for, for both threads; and from now on all is answered at once. */
static void let_come(void)
{
	pthread_mutex_lock(&held.lock);
	LIVE_CHECK(held.n == 1 && held.addr[0] == FIRST && held.len[0] == PAGES * LIVE_PAGE);
	held.open = true;
	pthread_mutex_unlock(&held.lock);
	for (unsigned i = 0; i < held.n; i++) {
		fill(held.addr[i], held.len[i], held.buf[i]);
		thaw_complete(held.request[i], 0);
	}
	held.n = 0;
}

/* ---- the process ------------------------------------------------------------------------------------------------------------ */
static void *read_page(void *addr)
{
	return (void *)(uintptr_t) * (volatile unsigned char *)addr;
}

static int work(void *arg, int sock)
{
	pthread_t first, second;
	char byte;

	if (pthread_create(&first, NULL, read_page, (void *)FIRST) || write(sock, "1", 1) != 1 || read(sock, &byte, 1) != 1 ||
	    pthread_create(&second, NULL, read_page, (void *)TAKEN) || write(sock, "2", 1) != 1 || read(sock, &byte, 1) != 1)
		return 1;
	if (*(enum how *)arg == DISCARD && madvise((void *)TAKEN, N_TAKEN * LIVE_PAGE, MADV_DONTNEED))
		return 2;
	if (*(enum how *)arg == MOVE && mremap((void *)TAKEN, N_TAKEN * LIVE_PAGE, N_TAKEN * LIVE_PAGE,
					       MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (void *)MOVED) == MAP_FAILED)
		return 2;
	if (write(sock, "3", 1) != 1)
		return 1;
	pthread_join(first, NULL);
	pthread_join(second, NULL);
	if (!live_is_zero(TAKEN, N_TAKEN) || (*(enum how *)arg == MOVE && !live_moved_is(MOVED, TAKEN, N_TAKEN, SEED, 0)))
		return 3;
	return live_is(FIRST, 5, SEED, 0) ? 0 : 4;
}

/* The worker has come to its step, and the library has read so many faults. */
static void await(struct live *l, struct thaw *h, char step, uint64_t faults)
{
	struct pollfd p = { .fd = l->sock, .events = POLLIN };
	char byte;

	if (poll(&p, 1, patience(10000)) != 1 || read(l->sock, &byte, 1) != 1 || byte != step)
		LIVE_DIE("the worker does not come to step %c", step);
	for (int i = 0; live_stats(h, 0).faults < faults; i++) {
		if (i == patience(10000))
			LIVE_DIE("step %c: no fault comes", step);
		usleep(1000);
	}
	usleep(patience(2000)); /* its read has been asked for, or found under way */
}

static void round_of(enum how how)
{
	const struct thaw_range r[] = {
		{ FIRST, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
		{ NEVER, LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
	};
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_source *s = thaw_source_callback(ask, NULL);
	struct live l;
	int status;

	held.open = false;
	live_start(&l, r, 2, work, &how);
	live_add(h, &l, s, r, 2);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	await(&l, h, '1', 1);
	LIVE_CHECK(write(l.sock, "g", 1) == 1);
	await(&l, h, '2', 2);
	LIVE_CHECK(write(l.sock, "g", 1) == 1);
	await(&l, h, '3', 2);
	let_come();
	status = live_end(&l);
	printf("%s: %d\n", names[how], status);
	LIVE_CHECK(status == 0);
	thaw_close(h);
	thaw_source_close(s);
}

int main(void)
{
	alarm(patience(30));
	if (thaw_probe() < 0) {
		printf("test_on_its_way: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (enum how how = 0; how < HOWS; how++)
		round_of(how);
	return 0;
}
