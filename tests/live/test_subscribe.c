// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_subscribe.c - tables of translations beside those of processes, kept right by begin, end and the sequence.
 *
 * The subscriber keeps a copy of each page that it has looked up (process_vm_readv) and goes on looking up while two processes
 * discard, move, unmap and fork, and are restored. Each round they stop, and have written down what each of their pages holds: a
 * page of the image, which one, or zero. Every copy that is still kept must be that, and what the process has there. The same
 * without the retry rule, and without dropping, must be found wrong. Changes must have come in batches, and, with two readers, in
 * both spaces at once. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 512
#define SEED 77
#define OPS 12
#define FAR (LIVE_BASE + (1ULL << 30)) /* where parts are moved to */
#define THREADS 4
#define PROCESSES 2
#define SPARE 4096 /* pages of other content, moved in one by one: else all would be zero soon */
#define SPARES (LIVE_BASE + (2ULL << 30))

static void *at(uint64_t a)
{
	return (void *)(uintptr_t)a;
}

/* ---- the process --------------------------------------------------------------------------------------------- */
struct known { /* shared with the test: what the pages hold, from who changes them */
	uint64_t from[PAGES]; /* the address of the content in the image; 0: zero */
};

struct area { /* one thread's part */
	uint64_t first, pages, rnd, spare, last_spare;
	struct known *known;
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
			memset(&a->known->from[p], 0, n * sizeof(a->known->from[0]));
			break;
		case 2: /* there and back again, over what is there; a hole or a border in the range is refused */
			if (mremap(here, n * LIVE_PAGE, n * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, far) != MAP_FAILED &&
			    mremap(far, n * LIVE_PAGE, n * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, here) == MAP_FAILED)
				LIVE_DIE("mremap: %s", strerror(errno));
			break;
		default: /* content that nobody has touched yet: a page of absent memory moves */
			if (a->spare == a->last_spare)
				break;
			a->known->from[p] = SPARES + a->spare++ * LIVE_PAGE;
			if (mremap(at(a->known->from[p]), LIVE_PAGE, LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, here) == MAP_FAILED)
				LIVE_DIE("mremap: %s", strerror(errno));
		}
	}
	return NULL;
}

/* The child's space changes beside its parent's. */
static _Noreturn void be_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < 4; i++)
		if (madvise(at(LIVE_BASE + i * 8 * LIVE_PAGE), 8 * LIVE_PAGE, MADV_DONTNEED) && errno != ENOMEM)
			_exit(1);
	_exit(0);
}

static int work(void *arg, int sock)
{
	struct area a[THREADS];
	char c = 0;

	for (unsigned i = 0; i < THREADS; i++)
		a[i] = (struct area){ i * PAGES / THREADS, PAGES / THREADS, 100 + i, i * SPARE / THREADS,
				      (i + 1) * SPARE / THREADS, arg };
	for (unsigned round = 0; read(sock, &c, 1) == 1 && c == 'r'; round++) {
		pthread_t t[THREADS];
		pid_t child = round % 8 ? -1 : fork(); /* a message like the others, but one that drops everything */
		int status = 0;

		if (!child)
			be_child();
		for (unsigned i = 0; i < THREADS; i++)
			pthread_create(&t[i], NULL, change, &a[i]);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(t[i], NULL);
		if (child > 0 && (waitpid(child, &status, 0) != child || status))
			return 3;
		if (write(sock, "d", 1) != 1)
			return 4;
	}
	return 0;
}

/* ---- the subscriber ------------------------------------------------------------------------------------------- */
enum rule { RIGHT, NO_RETRY, NO_DROP };

struct copies { /* of one process's pages */
	struct live l;
	int64_t space;
	struct known *known;
	bool kept[PAGES], ended;
	unsigned char copy[PAGES][LIVE_PAGE];
};

static struct {
	pthread_mutex_t lock;
	struct thaw_subscriber *sub;
	enum rule rule;
	struct copies of[PROCESSES];
	unsigned long looked, retried, dropped, kinds[5];
	int depth, deepest; /* changes in progress */
	size_t longest;     /* changes in one batch */
	bool stop, pause, paused;
} table;

static void drop(struct copies *p, uint64_t address, uint64_t length)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t page = LIVE_BASE + i * LIVE_PAGE;

		if (p->kept[i] && page >= address && page - address < length) {
			p->kept[i] = table.rule == NO_DROP;
			table.dropped++;
		}
	}
}

/* NULL: a child's, of which nothing is kept. */
static struct copies *copies_of(int64_t space)
{
	for (unsigned i = 0; i < PROCESSES; i++)
		if (table.of[i].space == space)
			return &table.of[i];
	return NULL;
}

static void begin(void *opaque, const struct thaw_change_info *c, size_t n)
{
	struct timespec nap = { .tv_nsec = 200000 };
	bool sleeps;

	LIVE_CHECK(opaque == &table && n >= 1);
	pthread_mutex_lock(&table.lock);
	table.depth++;
	table.deepest = table.depth > table.deepest ? table.depth : table.deepest;
	table.longest = n > table.longest ? n : table.longest;
	for (size_t i = 0; i < n; i++) {
		struct copies *p = copies_of(c[i].space);

		LIVE_CHECK(c[i].size == sizeof(c[i]) && c[i].length && (c[i].change == THAW_CHANGED_FORK) >= (c[i].child != 0));
		table.kinds[c[i].change]++;
		LIVE_CHECK(c[i].space == c->space);
		if (!p)
			continue;
		p->ended |= c[i].change == THAW_CHANGED_ENDED;
		drop(p, c[i].address, c[i].length);
		if (c[i].change == THAW_CHANGED_MOVED)
			drop(p, c[i].to, c[i].length);
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

static bool fetch(const struct copies *p, uint64_t i, void *buf)
{
	struct iovec local = { buf, LIVE_PAGE }, far = { at(LIVE_BASE + i * LIVE_PAGE), LIVE_PAGE };

	return process_vm_readv(p->l.pid, &local, 1, &far, 1, 0) == LIVE_PAGE;
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
		struct copies *p = &table.of[live_random(&rnd) % PROCESSES];
		uint64_t i = live_random(&rnd) % PAGES, seq = thaw_subscriber_sample(table.sub);
		bool have;

		pthread_mutex_lock(&table.lock);
		table.paused = table.pause;
		have = p->kept[i] || p->ended || table.pause;
		if (table.stop) {
			pthread_mutex_unlock(&table.lock);
			return NULL;
		}
		pthread_mutex_unlock(&table.lock);
		if (have || !fetch(p, i, page)) {
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
		} else if (!p->ended) {
			memcpy(p->copy[i], page, LIVE_PAGE);
			p->kept[i] = true;
		}
		pthread_mutex_unlock(&table.lock);
	}
}

static void complain(const struct copies *p, uint64_t i, const char *what)
{
	if (table.rule == RIGHT)
		fprintf(stderr, "space %lld, page %llu: %s\n", (long long)p->space, (unsigned long long)i, what);
}

/* Everything stands still: what is kept must be what belongs there, and what is there. */
static unsigned compare(const struct copies *p)
{
	static unsigned char now[LIVE_PAGE], want[LIVE_PAGE];
	unsigned wrong = 0;

	for (uint64_t i = 0; i < PAGES; i++) {
		bool kept;

		pthread_mutex_lock(&table.lock);
		kept = p->kept[i];
		pthread_mutex_unlock(&table.lock);
		if (!kept)
			continue;
		if (p->known->from[i])
			live_fill(want, SEED + (p - table.of), p->known->from[i], 0);
		else
			memset(want, 0, sizeof(want));
		if (memcmp(want, p->copy[i], LIVE_PAGE)) {
			wrong++;
			complain(p, i, "what is kept is not what the page holds since its last change");
		} else if (!fetch(p, i, now) || memcmp(now, want, LIVE_PAGE)) {
			wrong++;
			complain(p, i, "what is kept is right, and the process has something else");
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

static void begin_round(const struct copies *p)
{
	LIVE_CHECK(write(p->l.sock, "r", 1) == 1);
}

static void end_round(const struct copies *p)
{
	char c;

	LIVE_CHECK(read(p->l.sock, &c, 1) == 1 && c == 'd');
}

/* The second process is killed while it changes: nothing of it is kept behind its end, and the first one's table is right still. */
static unsigned kill_one(struct thaw *h)
{
	struct copies *p = table.of;
	unsigned wrong;

	begin_round(&p[0]);
	begin_round(&p[1]);
	usleep(500);
	live_kill(&p[1].l);
	LIVE_CHECK(live_end(&p[1].l) == 128 + 9);
	end_round(&p[0]);
	LIVE_OK(thaw_wait(h, p[1].space, patience(60000)));
	set_pause(true);
	while (thaw_subscriber_retry(table.sub, thaw_subscriber_sample(table.sub)))
		usleep(100);
	wrong = compare(&p[0]);
	LIVE_CHECK(p[1].ended && !p[0].ended);
	for (unsigned i = 0; i < PAGES; i++)
		LIVE_CHECK(!p[1].kept[i]);
	set_pause(false);
	return wrong;
}

static int start_process(struct thaw *h, struct copies *p)
{
	/* One page more, which nobody touches: without it the space would be finished as soon as all others are in. */
	struct thaw_range r[2] = { { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, 3, 0 },
				   { SPARES, (SPARE + 1) * LIVE_PAGE, THAW_KIND_ANON, 3, 0 } };
	struct thaw_memfile_range file[2];
	struct thaw_source *s;
	int fd;

	p->known = mmap(NULL, sizeof(*p->known), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	LIVE_CHECK(p->known != MAP_FAILED);
	for (unsigned i = 0; i < PAGES; i++)
		p->known->from[i] = LIVE_BASE + i * LIVE_PAGE;
	live_start(&p->l, r, 2, work, p->known);
	fd = live_file(false, SEED + (p - table.of), r, 2, file);
	s = thaw_source_memfile(fd, file, 2);
	p->space = live_add(h, &p->l, s, r, 2);
	thaw_source_close(s);
	return fd;
}

static bool has_seen_all(unsigned readers)
{
	bool all;

	pthread_mutex_lock(&table.lock);
	all = table.longest >= 2 && (readers < 2 || table.deepest >= 2);
	pthread_mutex_unlock(&table.lock);
	return all;
}

static unsigned run(enum rule rule, unsigned rounds, unsigned readers)
{
	struct thaw_subscriber_ops ops = { sizeof(ops), begin, end };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	time_t until = time(NULL) + patience(30);
	int fd[PROCESSES];
	unsigned wrong = 0;
	pthread_t t;

	memset(&table, 0, sizeof(table));
	pthread_mutex_init(&table.lock, NULL);
	table.rule = rule;
	LIVE_OK(thaw_set_readers(h, readers));
	for (unsigned i = 0; i < PROCESSES; i++)
		fd[i] = start_process(h, &table.of[i]);
	LIVE_CHECK(table.sub = thaw_subscribe(h, 0, &ops, &table));
	LIVE_OK(thaw_start(h));
	for (unsigned i = 0; i < PROCESSES; i++)
		live_go(&table.of[i].l);
	pthread_create(&t, NULL, look_up, NULL);
	for (unsigned i = 0; i < rounds || (rule == RIGHT && !has_seen_all(readers) && time(NULL) < until); i++) {
		for (unsigned k = 0; k < PROCESSES; k++)
			begin_round(&table.of[k]);
		for (unsigned k = 0; k < PROCESSES; k++)
			end_round(&table.of[k]);
		set_pause(true);
		while (thaw_subscriber_retry(table.sub, thaw_subscriber_sample(table.sub)))
			usleep(100);
		for (unsigned k = 0; k < PROCESSES; k++)
			wrong += compare(&table.of[k]);
		set_pause(false);
		if (rule != RIGHT && wrong)
			break;
	}
	if (rule == RIGHT)
		wrong += kill_one(h);
	for (unsigned i = 0; i < (rule == RIGHT ? 1 : PROCESSES); i++) {
		LIVE_CHECK(write(table.of[i].l.sock, "e", 1) == 1);
		LIVE_CHECK(live_end(&table.of[i].l) == 0);
	}
	LIVE_OK(thaw_wait(h, 0, patience(60000)));
	pthread_mutex_lock(&table.lock);
	table.stop = true;
	pthread_mutex_unlock(&table.lock);
	pthread_join(t, NULL);
	LIVE_CHECK(table.depth == 0 && table.kinds[THAW_CHANGED_ENDED] >= PROCESSES);
	thaw_unsubscribe(table.sub);
	printf("rule %d, %u readers: %lu looked up, %lu looked up again, %lu dropped; %lu discards, %lu unmaps, %lu moves, %lu forks;"
	       " up to %zu at once, nested %d; wrong: %u\n", rule, readers, table.looked, table.retried, table.dropped,
	       table.kinds[THAW_CHANGED_DISCARDED], table.kinds[THAW_CHANGED_UNMAPPED], table.kinds[THAW_CHANGED_MOVED],
	       table.kinds[THAW_CHANGED_FORK], table.longest, table.deepest, wrong);
	LIVE_CHECK(rule != RIGHT || (table.dropped && table.kinds[THAW_CHANGED_DISCARDED] && table.kinds[THAW_CHANGED_UNMAPPED] &&
				     table.kinds[THAW_CHANGED_MOVED] && table.kinds[THAW_CHANGED_FORK] && has_seen_all(readers)));
	thaw_close(h);
	for (unsigned i = 0; i < PROCESSES; i++) {
		munmap(table.of[i].known, sizeof(*table.of[i].known));
		close(fd[i]);
	}
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
	unsigned rounds = (unsigned)(argc > 1 ? atoi(argv[1]) : thorough(40, 15));

	alarm(patience(250));
	refusals();
	LIVE_CHECK(run(RIGHT, rounds, 1) == 0);
	LIVE_CHECK(run(RIGHT, rounds, 2) == 0);
	LIVE_CHECK(run(NO_DROP, 400, 1) > 0);
	LIVE_CHECK(run(NO_RETRY, 600, 1) > 0);
	return 0;
}
