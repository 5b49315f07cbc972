// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_invalidations.c - when a change begins and is over for a subscriber: a discard of more than 4 GiB, a begin that sleeps,
 * one who subscribes late or comes in the middle, one who leaves in the middle, a process that ends in the middle. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SEED 41
#define PAGES 64
#define LARGE (6ULL << 30)
#define TAIL 2048 /* pages with content, at its end */
#define NEVER (LIVE_BASE + (16ULL << 30)) /* a page that stays absent, so that no space is finished with */

static void *at(uint64_t a)
{
	return (void *)(uintptr_t)a;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

/* ---- the process: does as it is told ----------------------------------------------------------------------------- */
struct order {
	char what; /* t touch and check, d MADV_DONTNEED, f MADV_FREE, e end */
	uint64_t address, pages;
};

static int obey(void *arg, int sock)
{
	struct order o;
	char c = 'y';

	while (read(sock, &o, sizeof(o)) == sizeof(o) && o.what != 'e') {
		if (o.what == 't' && !live_is(o.address, o.pages, SEED, 0))
			return 3;
		if (o.what != 't' && madvise(at(o.address), o.pages * LIVE_PAGE, o.what == 'f' ? MADV_FREE : MADV_DONTNEED))
			return 4;
		if (write(sock, &c, 1) != 1)
			return 5;
	}
	return 0;
}

static void tell(const struct live *l, char what, uint64_t address, uint64_t pages)
{
	struct order o = { what, address, pages };

	LIVE_CHECK(write(l->sock, &o, sizeof(o)) == sizeof(o));
}

static bool is_done(const struct live *l, int ms)
{
	struct pollfd p = { l->sock, POLLIN, 0 };
	char c;

	return poll(&p, 1, ms) == 1 && read(l->sock, &c, 1) == 1 && c == 'y';
}

static void order(const struct live *l, char what, uint64_t address, uint64_t pages)
{
	tell(l, what, address, pages);
	LIVE_CHECK(is_done(l, patience(30000)));
}

struct process {
	struct live l;
	int64_t id;
	int fd;
};

/* A process with `length` bytes of memory, of which the last `pages` have content. */
static void add(struct thaw *h, struct process *p, uint64_t length, uint64_t pages)
{
	struct thaw_range r[2] = { { LIVE_BASE, length, THAW_KIND_ANON, 3, 0 }, { NEVER, LIVE_PAGE, THAW_KIND_ANON, 3, 0 } };
	struct thaw_range tail[2] = { { LIVE_BASE + length - pages * LIVE_PAGE, pages * LIVE_PAGE, THAW_KIND_ANON, 3, 0 }, r[1] };
	struct thaw_memfile_range file[2];
	struct thaw_source *s;

	live_start(&p->l, r, 2, obey, NULL);
	p->fd = live_file(false, SEED, tail, 2, file);
	s = thaw_source_memfile(p->fd, file, 2);
	p->id = live_add(h, &p->l, s, r, 2);
	thaw_source_close(s);
}

static void finish(struct process *p)
{
	tell(&p->l, 'e', 0, 0);
	LIVE_CHECK(live_end(&p->l) == 0);
	close(p->fd);
}

static struct thaw *monitor(unsigned readers)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);

	LIVE_OK(thaw_set_readers(h, readers));
	return h;
}

/* ---- the subscriber: counts, and sleeps in begin for as long as it is held ------------------------------------------------- */
struct seen {
	pthread_mutex_t lock;
	int64_t hold; /* the space whose begins sleep */
	unsigned begun, over; /* changes: two in a row can come in one batch */
	unsigned sleeping, ended;
	int pagemap;  /* of the process, or -1 */
	uint64_t last, began_ms; /* of the process's discards: the last page of it */
	unsigned took_ms;        /* how long it was in progress */
	unsigned left; /* times that the last page was there still when it was over */
};

static void nap(void)
{
	usleep(1000);
}

static unsigned get(struct seen *s, const unsigned *what)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = *what;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void await_in(const char *test, struct seen *s, const unsigned *what, unsigned n)
{
	for (uint64_t until = now_ms() + patience(20000); get(s, what) < n; nap())
		if (now_ms() > until)
			LIVE_DIE("%s: a callback does not come (%u begun, %u over, %u sleep)", test, get(s, &s->begun), get(s, &s->over),
				 get(s, &s->sleeping));
}
#define await(s, what, n) await_in(__func__, s, what, n)

static void hold(struct seen *s, int64_t space)
{
	pthread_mutex_lock(&s->lock);
	s->hold = space;
	pthread_mutex_unlock(&s->lock);
}

static void begin(void *opaque, const struct thaw_change_info *c, size_t n)
{
	struct seen *s = opaque;

	pthread_mutex_lock(&s->lock);
	s->begun += n;
	s->began_ms = now_ms();
	s->last = c->address + c->length - LIVE_PAGE;
	for (s->sleeping++; s->hold == c->space && c->change != THAW_CHANGED_ENDED;) {
		pthread_mutex_unlock(&s->lock);
		nap();
		pthread_mutex_lock(&s->lock);
	}
	s->sleeping--;
	pthread_mutex_unlock(&s->lock);
}

static void end(void *opaque, const struct thaw_change_info *c, size_t n)
{
	struct seen *s = opaque;
	uint64_t word = 0;

	pthread_mutex_lock(&s->lock);
	s->over += n;
	for (size_t i = 0; i < n; i++)
		s->ended += c[i].change == THAW_CHANGED_ENDED;
	s->took_ms = now_ms() - s->began_ms;
	if (s->pagemap >= 0 && pread(s->pagemap, &word, sizeof(word), s->last / LIVE_PAGE * sizeof(word)) == sizeof(word))
		s->left += word >> 62 != 0;
	pthread_mutex_unlock(&s->lock);
}

static struct thaw_subscriber *subscribe(struct thaw *h, int64_t space, struct seen *s)
{
	struct thaw_subscriber_ops ops = { sizeof(ops), begin, end };
	struct thaw_subscriber *sub;

	*s = (struct seen){ .lock = PTHREAD_MUTEX_INITIALIZER, .pagemap = -1 };
	LIVE_CHECK(sub = thaw_subscribe(h, space, &ops, s));
	return sub;
}

static bool is_busy(const struct thaw_subscriber *s)
{
	return thaw_subscriber_retry(s, thaw_subscriber_sample(s));
}

static void settle(const struct thaw_subscriber *s)
{
	for (uint64_t until = now_ms() + patience(30000); is_busy(s); nap())
		if (now_ms() > until)
			LIVE_DIE("a change is never over");
}

/* ---- cases ----------------------------------------------------------------------------------------------------------- */
/* MADV_FREE sends the message of a discard and leaves the pages. So who looks at the whole range waits for them, a fifth of a second;
 * who looks at its first 4 GiB, where nothing ever was, does not. */
static void large(void)
{
	uint64_t tail = LIVE_BASE + LARGE - TAIL * LIVE_PAGE;
	struct thaw *h = monitor(1);
	struct thaw_subscriber *sub;
	struct process p;
	struct seen s;
	char path[64];

	add(h, &p, LARGE, TAIL);
	sub = subscribe(h, p.id, &s);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)p.l.pid);
	LIVE_CHECK((s.pagemap = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
	LIVE_OK(thaw_start(h));
	live_go(&p.l);
	order(&p.l, 't', tail, TAIL);
	order(&p.l, 'f', LIVE_BASE, LARGE / LIVE_PAGE);
	await(&s, &s.over, 1);
	settle(sub);
	printf("%llu GiB with pages at the end: freed lazily, in progress for %u ms;", LARGE >> 30, get(&s, &s.took_ms));
	LIVE_CHECK(get(&s, &s.took_ms) >= 190 && get(&s, &s.begun) == 1);
	order(&p.l, 'd', LIVE_BASE, LARGE / LIVE_PAGE);
	await(&s, &s.over, 2);
	settle(sub);
	printf(" discarded, for %u ms\n", get(&s, &s.took_ms));
	LIVE_CHECK(get(&s, &s.left) <= 1); /* the first is that of MADV_FREE; memory that is short takes it */
	finish(&p);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	thaw_unsubscribe(sub);
	thaw_close(h);
	close(s.pagemap);
}

/* What begin holds up is its own space, where there is another reader. */
static void sleeps(void)
{
	struct thaw *h = monitor(2);
	struct process p[2];
	struct thaw_subscriber *sub;
	struct seen s;

	for (unsigned i = 0; i < 2; i++)
		add(h, &p[i], PAGES * LIVE_PAGE, PAGES);
	sub = subscribe(h, 0, &s);
	LIVE_OK(thaw_start(h));
	for (unsigned i = 0; i < 2; i++)
		live_go(&p[i].l);
	hold(&s, p[0].id);
	order(&p[0].l, 'd', LIVE_BASE, 1); /* goes on when its message is read */
	await(&s, &s.sleeping, 1);
	tell(&p[0].l, 't', LIVE_BASE + LIVE_PAGE, 1);
	for (unsigned i = 0; i < 8; i++) {
		order(&p[1].l, 't', LIVE_BASE + (i + 8) * LIVE_PAGE, 1);
		order(&p[1].l, 'd', LIVE_BASE + (i + 8) * LIVE_PAGE, 1);
		LIVE_CHECK(is_busy(sub));
	}
	await(&s, &s.over, 8);
	LIVE_CHECK(is_busy(sub)); /* eight are over, one is not: a count */
	LIVE_CHECK(!is_done(&p[0].l, 50));
	hold(&s, 0);
	LIVE_CHECK(is_done(&p[0].l, patience(30000)));
	settle(sub);
	LIVE_CHECK(get(&s, &s.begun) == get(&s, &s.over) && get(&s, &s.over) == 9);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	settle(sub);
	LIVE_CHECK(get(&s, &s.ended) == 2 && get(&s, &s.begun) == get(&s, &s.over));
	thaw_unsubscribe(sub);
	thaw_close(h);
}

static _Atomic bool left;

static void *leave(void *sub)
{
	thaw_unsubscribe(sub);
	left = true;
	return NULL;
}

/* Of two subscribers one leaves while its begin sleeps: it is waited for, and told the end. The other one stays. */
static void leaves(void)
{
	struct thaw_subscriber *leaver, *stayer;
	struct thaw *h = monitor(1);
	struct seen gone, there;
	struct process p;
	pthread_t t;

	add(h, &p, PAGES * LIVE_PAGE, PAGES);
	leaver = subscribe(h, p.id, &gone);
	stayer = subscribe(h, 0, &there);
	LIVE_OK(thaw_start(h));
	live_go(&p.l);
	order(&p.l, 't', LIVE_BASE, 2);
	hold(&gone, p.id);
	order(&p.l, 'd', LIVE_BASE, 1);
	await(&gone, &gone.sleeping, 1);
	left = false;
	pthread_create(&t, NULL, leave, leaver);
	usleep(50000);
	LIVE_CHECK(!left);
	hold(&gone, 0);
	pthread_join(t, NULL);
	LIVE_CHECK(get(&gone, &gone.begun) == 1 && get(&gone, &gone.over) == 1);
	settle(stayer);
	order(&p.l, 'd', LIVE_BASE + LIVE_PAGE, 1);
	await(&there, &there.over, 2);
	settle(stayer);
	LIVE_CHECK(get(&gone, &gone.begun) == 1 && get(&there, &there.begun) == 2 && get(&there, &there.over) == 2);
	finish(&p);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	thaw_unsubscribe(stayer);
	LIVE_CHECK(get(&there, &there.ended) == 1 && get(&there, &there.begun) == get(&there, &there.over));
	thaw_close(h);
}

/* One subscribes while a change is in progress: it may have kept what is gone by now, and is told. */
static void joins(void)
{
	struct thaw_subscriber *first, *second;
	struct thaw *h = monitor(1);
	struct seen early, late;
	struct process p;

	add(h, &p, PAGES * LIVE_PAGE, PAGES);
	first = subscribe(h, p.id, &early);
	LIVE_OK(thaw_start(h));
	live_go(&p.l);
	hold(&early, p.id);
	order(&p.l, 'd', LIVE_BASE, 1);
	await(&early, &early.sleeping, 1);
	second = subscribe(h, p.id, &late);
	hold(&early, 0);
	await(&late, &late.over, 1);
	settle(second);
	LIVE_CHECK(get(&late, &late.begun) == 1 && get(&late, &late.over) == 1);
	LIVE_CHECK(get(&early, &early.begun) == 1 && get(&early, &early.over) == 1);
	finish(&p);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	thaw_unsubscribe(first);
	thaw_unsubscribe(second);
	LIVE_CHECK(get(&late, &late.ended) == 1 && get(&early, &early.ended) == 1);
	thaw_close(h);
}

/* The process is killed while begin sleeps: that change is over in its turn, and then the space. */
static void killed(void)
{
	struct thaw_subscriber_ops ops = { sizeof(ops), begin, end };
	struct thaw *h = monitor(2);
	struct thaw_subscriber *sub;
	struct process p[2];
	struct seen s;

	for (unsigned i = 0; i < 2; i++)
		add(h, &p[i], PAGES * LIVE_PAGE, PAGES);
	sub = subscribe(h, p[0].id, &s);
	LIVE_OK(thaw_start(h));
	for (unsigned i = 0; i < 2; i++)
		live_go(&p[i].l);
	hold(&s, p[0].id);
	order(&p[0].l, 'd', LIVE_BASE, 4);
	await(&s, &s.sleeping, 1);
	live_kill(&p[0].l);
	LIVE_CHECK(live_end(&p[0].l) == 128 + 9);
	close(p[0].fd);
	order(&p[1].l, 'd', LIVE_BASE, 4); /* not its space */
	LIVE_CHECK(is_busy(sub) && get(&s, &s.begun) == 1);
	hold(&s, 0);
	LIVE_OK(thaw_wait(h, p[0].id, patience(30000)));
	await(&s, &s.ended, 1);
	settle(sub);
	LIVE_CHECK(get(&s, &s.begun) == get(&s, &s.over) && get(&s, &s.ended) == 1);
	LIVE_CHECK(!thaw_subscribe(h, p[0].id, &ops, &s) && thaw_get_errno() == ENOENT);
	finish(&p[1]);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	LIVE_CHECK(get(&s, &s.ended) == 1);
	thaw_unsubscribe(sub);
	thaw_close(h);
}

/* A discard whose message was read just before may be told to nobody, and carried out just after: what is sampled at once never holds. */
static void late(void)
{
	struct thaw *h = monitor(1);
	struct thaw_subscriber *sub;
	struct process p;
	uint64_t early;
	struct seen s;

	add(h, &p, PAGES * LIVE_PAGE, PAGES);
	sub = subscribe(h, p.id, &s);
	LIVE_CHECK(!is_busy(sub)); /* nothing runs yet */
	thaw_unsubscribe(sub);
	LIVE_OK(thaw_start(h));
	live_go(&p.l);
	order(&p.l, 'd', LIVE_BASE, 1);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t then = now_ms();
		bool at_once;

		sub = subscribe(h, i % 2 ? p.id : 0, &s);
		early = thaw_subscriber_sample(sub);
		at_once = now_ms() - then < 3;
		LIVE_CHECK(!at_once || thaw_subscriber_retry(sub, early));
		settle(sub);
		LIVE_CHECK(now_ms() - then >= 4 && (!at_once || thaw_subscriber_retry(sub, early)));
		order(&p.l, 'd', LIVE_BASE, 1);
		await(&s, &s.over, 1);
		thaw_unsubscribe(sub);
		LIVE_CHECK(get(&s, &s.begun) >= 1 && get(&s, &s.begun) == get(&s, &s.over));
	}
	finish(&p);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	thaw_close(h);
}

int main(void)
{
	alarm(patience(200));
	sleeps();
	leaves();
	joins();
	killed();
	late();
	large();
	return 0;
}
