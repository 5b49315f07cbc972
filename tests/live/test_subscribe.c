// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_subscribe.c - a table of translations beside the process's own, kept right by begin, end and the sequence.
 *
 * The subscriber keeps a copy of each page that it has looked up (process_vm_readv) and goes on looking up while the process
 * discards, moves, unmaps and forks, and is restored. Each round the process stops in a known state, and every copy that is
 * still kept must be what the process has there. The same without the retry rule, and without dropping, must be found wrong. */
#include "config.h"
#include "support/live.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 512
#define SEED 77
#define OPS 12
#define FAR (LIVE_BASE + (1ULL << 30)) /* where parts are moved to */
#define THREADS 2
#define SPARE 4096 /* pages of other content, moved in one by one: else all would be zero soon */
#define SPARES (LIVE_BASE + (2ULL << 30))

static void *at(uint64_t a)
{
	return (void *)(uintptr_t)a;
}

/* ---- the process --------------------------------------------------------------------------------------------- */
struct area { /* one thread's half */
	uint64_t first, pages, rnd, spare, last_spare;
};

static void *change(void *arg)
{
	struct area *a = arg;

	for (unsigned i = 0; i < OPS; i++) {
		uint64_t n = 1 + live_random(&a->rnd) % 24, p = a->first + live_random(&a->rnd) % (a->pages - n);
		void *here = at(LIVE_BASE + p * LIVE_PAGE), *far = at(FAR + p * LIVE_PAGE);

		switch (live_random(&a->rnd) % 4) {
		case 0: case 1:
			if (madvise(here, n * LIVE_PAGE, MADV_DONTNEED) && errno != ENOMEM)
				LIVE_DIE("madvise: %s", strerror(errno));
			break;
		case 2: /* there and back again, over what is there; a hole or a border in the range is refused */
			if (mremap(here, n * LIVE_PAGE, n * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, far) != MAP_FAILED &&
			    mremap(far, n * LIVE_PAGE, n * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, here) == MAP_FAILED)
				LIVE_DIE("mremap: %s", strerror(errno));
			break;
		default: /* content that nobody has touched yet: a page of absent memory moves */
			if (a->spare < a->last_spare && mremap(at(SPARES + a->spare++ * LIVE_PAGE), LIVE_PAGE, LIVE_PAGE,
							       MREMAP_MAYMOVE | MREMAP_FIXED, here) == MAP_FAILED)
				LIVE_DIE("mremap: %s", strerror(errno));
		}
	}
	return NULL;
}

static int work(void *arg, int sock)
{
	struct area a[THREADS];
	char c = 0;

	for (unsigned i = 0; i < THREADS; i++)
		a[i] = (struct area){ i * PAGES / THREADS, PAGES / THREADS, 100 + i, i * SPARE / THREADS,
				      (i + 1) * SPARE / THREADS };
	for (unsigned round = 0; read(sock, &c, 1) == 1 && c == 'r'; round++) {
		pthread_t t[THREADS];
		pid_t child = round % 8 ? -1 : fork(); /* a message like the others, but one that drops everything */

		if (!child)
			_exit(0);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_create(&t[i], NULL, change, &a[i]);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(t[i], NULL);
		if (child > 0)
			waitpid(child, NULL, 0);
		if (write(sock, "d", 1) != 1)
			return 4;
	}
	return 0;
}

/* ---- the subscriber ------------------------------------------------------------------------------------------- */
enum rule { RIGHT, NO_RETRY, NO_DROP };

static struct {
	pthread_mutex_t lock;
	struct thaw_subscriber *sub;
	enum rule rule;
	int64_t space;
	pid_t pid;
	bool kept[PAGES];
	unsigned char copy[PAGES][LIVE_PAGE];
	unsigned long looked, retried, dropped, kinds[5];
	int depth, deepest;
	bool ended, stop, pause, paused;
} table;

static void drop(uint64_t address, uint64_t length)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t page = LIVE_BASE + i * LIVE_PAGE;

		if (table.kept[i] && page >= address && page - address < length) {
			table.kept[i] = table.rule == NO_DROP;
			table.dropped++;
		}
	}
}

static void begin(void *opaque, const struct thaw_change_info *c, size_t n)
{
	struct timespec nap = { .tv_nsec = 200000 };
	bool sleeps;

	LIVE_CHECK(opaque == &table && n >= 1);
	pthread_mutex_lock(&table.lock);
	table.depth++;
	table.deepest = table.depth > table.deepest ? table.depth : table.deepest;
	for (size_t i = 0; i < n; i++) {
		LIVE_CHECK(c[i].size == sizeof(c[i]) && c[i].length && (c[i].change == THAW_CHANGED_FORK) >= (c[i].child != 0));
		table.kinds[c[i].change]++;
		if (c[i].space != table.space)
			continue;
		table.ended |= c[i].change == THAW_CHANGED_ENDED;
		drop(c[i].address, c[i].length);
		if (c[i].change == THAW_CHANGED_MOVED)
			drop(c[i].to, c[i].length);
	}
	sleeps = table.kinds[c->change] % 16 == 0;
	pthread_mutex_unlock(&table.lock);
	if (sleeps)
		nanosleep(&nap, NULL); /* it may sleep */
}

static void end(void *opaque, const struct thaw_change_info *c, size_t n)
{
	LIVE_CHECK(thaw_subscriber_retry(table.sub, thaw_subscriber_sample(table.sub))); /* still in progress */
	pthread_mutex_lock(&table.lock);
	table.depth--;
	LIVE_CHECK(table.depth >= 0);
	for (size_t i = 0; i < n; i++)
		LIVE_CHECK(c[i].change != THAW_CHANGED_FORK || c[i].child > c[i].space);
	pthread_mutex_unlock(&table.lock);
}

static bool fetch(uint64_t i, void *buf)
{
	struct iovec local = { buf, LIVE_PAGE }, far = { at(LIVE_BASE + i * LIVE_PAGE), LIVE_PAGE };

	return process_vm_readv(table.pid, &local, 1, &far, 1, 0) == LIVE_PAGE;
}

static bool is_over(void)
{
	bool over;

	pthread_mutex_lock(&table.lock);
	over = table.pause || table.stop;
	pthread_mutex_unlock(&table.lock);
	return over;
}

static void *look_up(void *arg)
{
	static unsigned char page[LIVE_PAGE];
	uint64_t rnd = 5;

	for (;;) {
		uint64_t i = live_random(&rnd) % PAGES, seq = thaw_subscriber_sample(table.sub);
		bool have;

		pthread_mutex_lock(&table.lock);
		table.paused = table.pause;
		have = table.kept[i] || table.pause;
		if (table.stop) {
			pthread_mutex_unlock(&table.lock);
			return NULL;
		}
		pthread_mutex_unlock(&table.lock);
		if (have || !fetch(i, page)) {
			if (have)
				usleep(20);
			continue;
		}
		while (table.rule == NO_RETRY && !is_over()) /* what is wrong is wrong for long */
			usleep(50);
		pthread_mutex_lock(&table.lock);
		table.looked++;
		if (table.rule != NO_RETRY && thaw_subscriber_retry(table.sub, seq)) {
			table.retried++;
		} else if (!table.ended) {
			memcpy(table.copy[i], page, LIVE_PAGE);
			table.kept[i] = true;
		}
		pthread_mutex_unlock(&table.lock);
	}
}

/* Everything stands still: what is kept must be what is there. */
static unsigned compare(void)
{
	static unsigned char now[LIVE_PAGE];
	unsigned wrong = 0;

	for (uint64_t i = 0; i < PAGES; i++) {
		bool kept;

		pthread_mutex_lock(&table.lock);
		kept = table.kept[i];
		pthread_mutex_unlock(&table.lock);
		if (!kept)
			continue;
		if (!fetch(i, now) || memcmp(now, table.copy[i], LIVE_PAGE)) {
			if (!wrong++ && table.rule == RIGHT)
				fprintf(stderr, "page %llu is kept, and is not what the process has\n", (unsigned long long)i);
		}
	}
	return wrong;
}

static void set_pause(bool on)
{
	pthread_mutex_lock(&table.lock);
	table.pause = on;
	pthread_mutex_unlock(&table.lock);
	for (bool is = !on; is != on; usleep(100)) {
		pthread_mutex_lock(&table.lock);
		is = table.paused;
		pthread_mutex_unlock(&table.lock);
	}
}

static unsigned run(enum rule rule, unsigned rounds, unsigned readers)
{
	/* One page more, which nobody touches: without it the space would be finished as soon as all others are in. */
	struct thaw_range r[2] = { { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, 3, 0 },
				   { SPARES, (SPARE + 1) * LIVE_PAGE, THAW_KIND_ANON, 3, 0 } };
	struct thaw_subscriber_ops ops = { sizeof(ops), begin, end };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_memfile_range file[2];
	struct thaw_source *s;
	unsigned wrong = 0;
	pthread_t t;
	struct live l;
	int fd;

	memset(&table, 0, sizeof(table));
	pthread_mutex_init(&table.lock, NULL);
	table.rule = rule;
	LIVE_OK(thaw_set_readers(h, readers));
	live_start(&l, r, 2, work, NULL);
	fd = live_file(false, SEED, r, 2, file);
	s = thaw_source_memfile(fd, file, 2);
	table.pid = l.pid;
	table.space = live_add(h, &l, s, r, 2);
	thaw_source_close(s);
	LIVE_CHECK(table.sub = thaw_subscribe(h, 0, &ops, &table));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	pthread_create(&t, NULL, look_up, NULL);
	for (unsigned i = 0; i < rounds; i++) {
		char c;

		LIVE_CHECK(write(l.sock, "r", 1) == 1 && read(l.sock, &c, 1) == 1);
		set_pause(true);
		while (thaw_subscriber_retry(table.sub, thaw_subscriber_sample(table.sub)))
			usleep(100);
		wrong += compare();
		set_pause(false);
		if (rule != RIGHT && wrong)
			break;
	}
	LIVE_CHECK(write(l.sock, "e", 1) == 1);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, 60000));
	pthread_mutex_lock(&table.lock);
	table.stop = true;
	pthread_mutex_unlock(&table.lock);
	pthread_join(t, NULL);
	LIVE_CHECK(table.depth == 0 && table.kinds[THAW_CHANGED_ENDED] >= 1);
	thaw_unsubscribe(table.sub);
	printf("rule %d, %u readers: %lu looked up, %lu looked up again, %lu dropped; %lu discards, %lu unmaps, %lu moves, %lu forks; nested %d;"
	       " wrong: %u\n", rule, readers, table.looked, table.retried, table.dropped, table.kinds[THAW_CHANGED_DISCARDED],
	       table.kinds[THAW_CHANGED_UNMAPPED], table.kinds[THAW_CHANGED_MOVED], table.kinds[THAW_CHANGED_FORK], table.deepest,
	       wrong);
	LIVE_CHECK(rule != RIGHT || (table.dropped && table.kinds[THAW_CHANGED_DISCARDED] && table.kinds[THAW_CHANGED_UNMAPPED] &&
				     table.kinds[THAW_CHANGED_MOVED] && table.kinds[THAW_CHANGED_FORK]));
	thaw_close(h);
	close(fd);
	return wrong;
}

static void refusals(void)
{
	struct thaw_subscriber_ops ops = { sizeof(ops), begin, NULL };
	struct thaw_subscriber *all[16];
	struct thaw *h = thaw_create();

	LIVE_CHECK(!thaw_subscribe(NULL, 0, &ops, NULL) && thaw_get_errno() == EINVAL);
	LIVE_CHECK(!thaw_subscribe(h, -1, &ops, NULL) && thaw_get_errno() == EINVAL);
	LIVE_CHECK(!thaw_subscribe(h, 0, NULL, NULL) && thaw_get_errno() == EINVAL);
	LIVE_CHECK(!thaw_subscribe(h, 1, &ops, NULL) && thaw_get_errno() == ENOENT);
	ops.begin = NULL;
	LIVE_CHECK(!thaw_subscribe(h, 0, &ops, NULL) && thaw_get_errno() == EINVAL);
	ops.begin = begin;
	for (unsigned i = 0; i < 16; i++)
		LIVE_CHECK(all[i] = thaw_subscribe(h, 0, &ops, NULL));
	LIVE_CHECK(!thaw_subscribe(h, 0, &ops, NULL) && thaw_get_errno() == EBUSY);
	thaw_unsubscribe(all[3]);
	LIVE_CHECK(all[3] = thaw_subscribe(h, 0, &ops, NULL));
	LIVE_CHECK(!thaw_subscriber_retry(all[3], thaw_subscriber_sample(all[3])));
	thaw_unsubscribe(NULL);
	thaw_close(h); /* frees them */
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? atoi(argv[1]) : 40;

	alarm(250);
	refusals();
	LIVE_CHECK(run(RIGHT, rounds, 1) == 0);
	LIVE_CHECK(run(RIGHT, rounds, 2) == 0);
	LIVE_CHECK(run(NO_DROP, 400, 1) > 0);
	LIVE_CHECK(run(NO_RETRY, 600, 1) > 0);
	return 0;
}
