// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_invalidations.c - when a change begins and is over for a subscriber: a discard of more than 4 GiB. */
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
	unsigned begun, over, sleeping, ended;
	int pagemap;  /* of the process, or -1 */
	uint64_t last, began_ms, took_ms; /* of the process's discards: the last page of it, and how long it was in progress */
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

static void await(struct seen *s, const unsigned *what, unsigned n)
{
	for (uint64_t until = now_ms() + patience(30000); get(s, what) < n; nap())
		if (now_ms() > until)
			LIVE_DIE("a callback does not come");
}

static void begin(void *opaque, const struct thaw_change_info *c, size_t n)
{
	struct seen *s = opaque;

	pthread_mutex_lock(&s->lock);
	s->begun++;
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
	s->over++;
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
	printf("%llu GiB with pages at the end: freed lazily, in progress for %llu ms;", LARGE >> 30, (unsigned long long)s.took_ms);
	LIVE_CHECK(s.took_ms >= 190 && s.begun == 1);
	order(&p.l, 'd', LIVE_BASE, LARGE / LIVE_PAGE);
	await(&s, &s.over, 2);
	settle(sub);
	printf(" discarded, for %llu ms\n", (unsigned long long)s.took_ms);
	LIVE_CHECK(s.left <= 1); /* the first is that of MADV_FREE; memory that is short takes it */
	finish(&p);
	LIVE_OK(thaw_wait(h, 0, patience(30000)));
	thaw_unsubscribe(sub);
	thaw_close(h);
	close(s.pagemap);
}

int main(void)
{
	alarm(patience(200));
	large();
	return 0;
}
