// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_basic.c - a process gets every byte: each kind of source, each kind of I/O, by copying and by faults alone */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEED 7
#define PAGES 6000
#define THREADS 3

/* Content in two ranges, one of them read-only, and a third range that the source says nothing about. */
static const struct thaw_range ranges[] = {
	{ LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
	{ LIVE_BASE + (1ULL << 32), 500 * LIVE_PAGE, THAW_KIND_ANON, PROT_READ, 0 },
	{ LIVE_BASE + (2ULL << 32), 300 * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
};

static uint32_t order[PAGES];
static _Atomic int wrong;

static void *toucher(void *arg)
{
	unsigned me = (uintptr_t)arg;

	for (unsigned i = me; i < PAGES; i += THREADS) {
		uint64_t addr = ranges[0].address + order[i] * LIVE_PAGE;

		if (!live_is(addr, 1, SEED, 0))
			wrong = 1;
		live_fill((void *)(uintptr_t)addr, SEED, addr, 1);
	}
	return NULL;
}

static int work(void *arg, int sock)
{
	pthread_t t[THREADS];

	live_shuffle(order, PAGES, 3);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, toucher, (void *)(uintptr_t)i))
			return 2;
	for (uint64_t i = 0; i < 300; i += 2) { /* zero by write faults, the rest by reads */
		uint64_t addr = ranges[2].address + i * LIVE_PAGE;

		*(volatile char *)(uintptr_t)(addr + 5) = 1;
		if (*(char *)(uintptr_t)addr || *(char *)(uintptr_t)(addr + 5) != 1)
			return 3;
		*(volatile char *)(uintptr_t)(addr + 5) = 0;
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return wrong || !live_is(ranges[0].address, PAGES, SEED, 1) || !live_is(ranges[1].address, 500, SEED, 0) ||
	       !live_is_zero(ranges[2].address, 300);
}

/* ---- sources --------------------------------------------------------------------------------------------- */
static bool has_content(uint64_t addr)
{
	return addr < ranges[2].address;
}

static int read_now(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	for (size_t i = 0; i < length; i += LIVE_PAGE) {
		if (has_content(address))
			live_fill((char *)buf + i, SEED, address + i, 0);
		else
			memset((char *)buf + i, 0, LIVE_PAGE);
	}
	return 0;
}

/* Answers come from a thread of the test, out of order. */
#define QUEUE 256
static struct question {
	uint64_t address;
	size_t length;
	void *buf;
	struct thaw_request *request;
} queue[QUEUE];
static unsigned queued;
static bool closed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;

static int read_later(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	pthread_mutex_lock(&lock);
	if (queued == QUEUE)
		LIVE_DIE("more than %d requests at once", QUEUE);
	queue[queued++] = (struct question){ address, length, buf, request };
	pthread_cond_signal(&asked);
	pthread_mutex_unlock(&lock);
	return THAW_LATER;
}

static void *answerer(void *arg)
{
	uint64_t rnd = 1;

	pthread_mutex_lock(&lock);
	for (;;) {
		struct question q;
		unsigned i;

		while (!queued && !closed)
			pthread_cond_wait(&asked, &lock);
		if (!queued)
			break;
		i = live_random(&rnd) % queued;
		q = queue[i];
		queue[i] = queue[--queued];
		pthread_mutex_unlock(&lock);
		read_now(NULL, q.address, q.length, q.buf, q.request);
		thaw_complete(q.request, 0);
		pthread_mutex_lock(&lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

enum kind { MEMORY, DISK, DISK_COLD, CALLBACK_NOW, CALLBACK_LATER, KINDS };
static const char *const kind_names[] = { "memory file", "disk file", "cold disk file", "callback", "later callback" };

static bool is_cold; /* not on the file system in memory of a guest */

static struct thaw_source *make_source(enum kind kind, int *fd)
{
	struct thaw_memfile_range at[2];

	*fd = -1;
	if (kind == CALLBACK_NOW)
		return thaw_source_callback(read_now, NULL);
	if (kind == CALLBACK_LATER)
		return thaw_source_callback(read_later, NULL);
	*fd = live_file(kind != MEMORY, SEED, ranges, 2, at);
	if (kind == DISK_COLD)
		is_cold = live_make_cold(*fd);
	return thaw_source_memfile(*fd, at, 2);
}

/* Bug: pages that were found in place counted as placed in the progress and not in the statistics. */
static void check_sums(struct thaw *h, const struct thaw_stats *st, uint64_t content)
{
	struct thaw_progress p = { .size = sizeof(p) };

	LIVE_OK(thaw_get_progress(h, 0, &p));
	LIVE_CHECK(p.bytes_total == content * LIVE_PAGE && p.bytes_placed + p.bytes_gone == p.bytes_total);
	LIVE_CHECK(st->bytes_placed == p.bytes_placed && st->pages_gone * LIVE_PAGE == p.bytes_gone);
	LIVE_CHECK((st->pages_fault + st->pages_around + st->pages_background + st->pages_found) * LIVE_PAGE == st->bytes_placed);
	LIVE_CHECK(st->pages_found <= st->eexist);
}

static void run(enum kind kind, enum thaw_io io, enum thaw_background policy)
{
	uint64_t content = PAGES + 500 + (kind >= CALLBACK_NOW ? 300 : 0);
	struct thaw *h = live_monitor(io, 2, policy);
	struct thaw_source *s;
	struct thaw_stats st;
	pthread_t answers;
	struct live l;
	int64_t id;
	int fd, status;

	live_start(&l, ranges, 3, work, NULL);
	s = make_source(kind, &fd);
	if (!s)
		LIVE_DIE("%s", thaw_get_error());
	closed = false;
	pthread_create(&answers, NULL, answerer, NULL);
	id = live_add(h, &l, s, ranges, 3);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	if (status)
		LIVE_DIE("%s, io %d, policy %d: the worker ended with %d", kind_names[kind], io, policy, status);
	LIVE_OK(thaw_wait(h, id, patience(10000)));
	LIVE_OK(thaw_wait(h, 0, 0));
	st = live_stats(h, 0);
	if (policy == THAW_BACKGROUND_STAY_LAZY)
		LIVE_CHECK(st.pages_background == 0 && st.faults > 0 && st.latency_count > 0);
	check_sums(h, &st, content);
	LIVE_CHECK(st.io_errors == 0);
	LIVE_CHECK(st.bytes_read > 0 || kind == MEMORY || kind == DISK || (kind == DISK_COLD && !is_cold));
	LIVE_CHECK(st.latency_p50 <= st.latency_p99 && st.latency_p99 <= st.latency_max);
	printf("%s, io %d, policy %d: %llu faults, p50 %llu ns, %llu by fault, %llu around, %llu background, %llu zero\n",
	       kind == DISK_COLD && !is_cold ? "warm disk file" : kind_names[kind], io, policy, (unsigned long long)st.faults, (unsigned long long)st.latency_p50,
	       (unsigned long long)st.pages_fault, (unsigned long long)st.pages_around,
	       (unsigned long long)st.pages_background, (unsigned long long)st.pages_zero);
	thaw_close(h);
	pthread_mutex_lock(&lock);
	closed = true;
	pthread_cond_signal(&asked);
	pthread_mutex_unlock(&lock);
	pthread_join(answers, NULL);
	if (fd >= 0)
		close(fd);
}

#define WRITTEN 3

static int look(void *arg, int sock)
{
	return !live_is(ranges[0].address, PAGES, SEED, 0);
}

/* As a restore does that needs some pages of lazy memory before the process runs. */
static void test_written_before(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_space d = { .size = sizeof(d), .ranges = ranges, .n_ranges = 1, .register_ranges = 1 };
	static unsigned char page[LIVE_PAGE];
	struct thaw_stats st;
	struct live l;

	live_start_unregistered(&l, ranges, 1, look, NULL);
	for (unsigned i = 0; i < WRITTEN; i++) {
		uint64_t addr = ranges[0].address + i * 1000 * LIVE_PAGE;
		struct iovec from = { page, sizeof(page) }, to = { (void *)(uintptr_t)addr, sizeof(page) };

		live_fill(page, SEED, addr, 0);
		LIVE_CHECK(process_vm_writev(l.pid, &from, 1, &to, 1, 0) == sizeof(page));
	}
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	d.source = thaw_source_callback(read_now, NULL);
	LIVE_OK(thaw_add_space(h, &d));
	thaw_source_close(d.source);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	LIVE_CHECK(live_end(&l) == 0);
	st = live_stats(h, 0);
	/* more where a reader and a copier met at a page */
	LIVE_CHECK(st.pages_found >= WRITTEN && st.bytes_placed == PAGES * LIVE_PAGE && !st.pages_gone);
	check_sums(h, &st, PAGES);
	thaw_close(h);
}

int main(void)
{
	static const enum thaw_io ios[] = { THAW_IO_AUTO, THAW_IO_POOL };

	alarm(patience(100));
	test_written_before();
	for (enum kind kind = 0; kind < KINDS; kind++) {
		if (thorough(0, 1)) {
			run(kind, ios[kind % 2], kind % 2 ? THAW_BACKGROUND_STAY_LAZY : THAW_BACKGROUND_RUN);
			continue;
		}
		for (unsigned i = 0; i < 2; i++) {
			run(kind, ios[i], THAW_BACKGROUND_RUN);
			run(kind, ios[i], THAW_BACKGROUND_STAY_LAZY);
		}
	}
	return 0;
}
