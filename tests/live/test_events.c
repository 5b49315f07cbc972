// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_events.c - threads that fork, move, grow, shrink, discard and unmap their memory while it is being restored.
 *
 * Each thread of the worker has pieces of memory and remembers of each page what it must hold. A forked child goes on with
 * the pieces of the thread that forked it, and forks in turn; so whatever the monitor gets wrong about a map, an order or a
 * child shows as a page with the wrong bytes. usage: test_events [milliseconds [seed]] */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED 11
#define THREADS 4
#define PIECE_PAGES 384
#define PIECES 24
#define STEP (1ULL << 32) /* between the threads' memory: room to grow and to move */
#define WIPED (LIVE_BASE + 64 * STEP)
#define UNFORKED (LIVE_BASE + 65 * STEP)
#define LATE_WIPED (LIVE_BASE + 66 * STEP)
#define SPARSE (LIVE_BASE + 67 * STEP)
#define UNMARKED (LIVE_BASE + 70 * STEP) /* MADV_WIPEONFORK at the restore, taken back since; then the same with MADV_DONTFORK */
#define UNMARKED_2 (LIVE_BASE + 71 * STEP)
#define SIDE_PAGES 64
#define SPARSE_BYTES (3ULL << 30)

enum { PATTERN, ZERO, EITHER /* after MADV_FREE: the old content or zero */ };

struct page {
	uint64_t from; /* address that its pattern was made for */
	uint32_t version;
	uint8_t kind;
};
struct piece {
	uint64_t addr, pages; /* pages 0: none */
	struct page *page;
};
struct thread {
	struct piece piece[PIECES];
	uint64_t rnd, fresh; /* fresh: address that nothing was at yet */
	unsigned depth, ops;
};

static uint64_t deadline;
static unsigned max_ops;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

static bool check_page(const struct piece *p, uint64_t i)
{
	uint64_t addr = p->addr + i * LIVE_PAGE;
	const struct page *g = &p->page[i];
	static const char zero[LIVE_PAGE];

	if (g->kind == ZERO)
		return live_is_zero(addr, 1);
	if (g->kind == EITHER && !memcmp((void *)(uintptr_t)addr, zero, LIVE_PAGE))
		return true;
	return live_moved_is(addr, g->from, 1, SEED, g->version);
}

static bool check_piece(const struct piece *p)
{
	for (uint64_t i = 0; i < p->pages; i++)
		if (!check_page(p, i))
			return false;
	return true;
}

static bool check_all(struct thread *t)
{
	for (unsigned i = 0; i < PIECES; i++)
		if (!check_piece(&t->piece[i]))
			return false;
	return true;
}

static struct piece *pick(struct thread *t, bool empty)
{
	unsigned start = live_random(&t->rnd) % PIECES;

	for (unsigned i = 0; i < PIECES; i++) {
		struct piece *p = &t->piece[(start + i) % PIECES];

		if (!p->pages == empty)
			return p;
	}
	return NULL;
}

/* glibc's heap can be used in a child that a thread has forked beside others, a sanitizer's cannot: no thread is inside it
 * while another forks. A thread that begins or ends is inside it, too (its cache is made and given back): so none forks before
 * all have begun, and none ends before all have done their last. */
static pthread_barrier_t all_there, all_done;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static pthread_mutex_t heap = PTHREAD_MUTEX_INITIALIZER;
#define HEAP_LOCK() pthread_mutex_lock(&heap)
#define HEAP_UNLOCK() pthread_mutex_unlock(&heap)
#else
#define HEAP_LOCK() ((void)0)
#define HEAP_UNLOCK() ((void)0)
#endif

static void *allocate(size_t n, size_t size)
{
	void *p;

	HEAP_LOCK();
	p = calloc(n, size);
	HEAP_UNLOCK();
	return p;
}

static void release(void *p)
{
	HEAP_LOCK();
	free(p);
	HEAP_UNLOCK();
}

static struct page *copy_pages(const struct page *from, uint64_t n, uint64_t room)
{
	struct page *p = allocate(room ? room : 1, sizeof(*p));

	memcpy(p, from, n * sizeof(*p));
	for (uint64_t i = n; i < room; i++)
		p[i].kind = ZERO;
	return p;
}

static void drop(struct piece *p)
{
	release(p->page);
	p->page = NULL;
	p->pages = 0;
}

static void *at(uint64_t addr)
{
	return (void *)(uintptr_t)addr;
}

static void write_page(struct thread *t, struct piece *p, uint64_t i)
{
	uint64_t addr = p->addr + i * LIVE_PAGE;

	p->page[i] = (struct page){ addr, live_random(&t->rnd) % 1000 + 1, PATTERN };
	live_fill(at(addr), SEED, addr, p->page[i].version);
}

static void discard(struct thread *t, struct piece *p, int advice)
{
	uint64_t from = live_random(&t->rnd) % p->pages, n = 1 + live_random(&t->rnd) % (p->pages - from);

	if (madvise(at(p->addr + from * LIVE_PAGE), n * LIVE_PAGE, advice))
		LIVE_DIE("madvise: %s", strerror(errno));
	for (uint64_t i = from; i < from + n; i++)
		if (advice == MADV_DONTNEED)
			p->page[i].kind = ZERO;
		else if (p->page[i].kind == PATTERN)
			p->page[i].kind = EITHER;
}

/* A part, or all, goes elsewhere: to fresh memory, or over another piece. */
static void move(struct thread *t, struct piece *p, int flags)
{
	uint64_t from = live_random(&t->rnd) % 4 ? 0 : live_random(&t->rnd) % p->pages;
	uint64_t n = from || live_random(&t->rnd) % 2 ? 1 + live_random(&t->rnd) % (p->pages - from) : p->pages;
	struct piece *q = pick(t, true), *rest, *victim = NULL;
	uint64_t to = t->fresh, grown = 0;
	struct page *moved;

	if (!q)
		return;
	if (live_random(&t->rnd) % 4 == 0 && (victim = pick(t, false)) && victim != p && victim->pages >= n)
		to = victim->addr;
	else
		victim = NULL;
	if (!victim)
		t->fresh += (n + PIECE_PAGES) * LIVE_PAGE;
	if (!victim && !(flags & MREMAP_DONTUNMAP) && live_random(&t->rnd) % 3 == 0)
		grown = live_random(&t->rnd) % 16;
	if (mremap(at(p->addr + from * LIVE_PAGE), n * LIVE_PAGE, (n + grown) * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags,
		   at(to)) == MAP_FAILED) {
		/* Over a VMA boundary that mprotect has left it is refused, after the victim has been unmapped. */
		if (errno != EFAULT && errno != EINVAL)
			LIVE_DIE("mremap: %s", strerror(errno));
		if (victim)
			munmap(at(victim->addr), victim->pages * LIVE_PAGE), drop(victim);
		return;
	}
	moved = copy_pages(p->page + from, n, n + grown);
	if (victim) {
		munmap(at(victim->addr + n * LIVE_PAGE), (victim->pages - n) * LIVE_PAGE);
		drop(victim);
	}
	*q = (struct piece){ to, n + grown, moved };
	if (flags & MREMAP_DONTUNMAP) {
		for (uint64_t i = from; i < from + n; i++)
			p->page[i].kind = ZERO;
		return;
	}
	rest = from + n < p->pages ? pick(t, true) : NULL;
	if (rest)
		*rest = (struct piece){ p->addr + (from + n) * LIVE_PAGE, p->pages - from - n,
					copy_pages(p->page + from + n, p->pages - from - n, p->pages - from - n) };
	else if (from + n < p->pages)
		munmap(at(p->addr + (from + n) * LIVE_PAGE), (p->pages - from - n) * LIVE_PAGE);
	if (from)
		p->pages = from;
	else
		drop(p);
}

static void resize(struct thread *t, struct piece *p)
{
	uint64_t pages = 1 + live_random(&t->rnd) % (p->pages + 20);
	void *where = mremap(at(p->addr), p->pages * LIVE_PAGE, pages * LIVE_PAGE, MREMAP_MAYMOVE);

	if (where == MAP_FAILED) {
		if (errno != EFAULT)
			LIVE_DIE("mremap: %s", strerror(errno));
		return;
	}
	if (pages > p->pages) {
		struct page *more = copy_pages(p->page, p->pages, pages);

		release(p->page);
		p->page = more;
	}
	p->addr = (uintptr_t)where;
	p->pages = pages;
}

static void unmap(struct thread *t, struct piece *p)
{
	uint64_t n = 1 + live_random(&t->rnd) % p->pages;
	uint64_t keep = p->pages - n;

	if (munmap(at(p->addr + keep * LIVE_PAGE), n * LIVE_PAGE))
		LIVE_DIE("munmap: %s", strerror(errno));
	p->pages = keep;
	if (!keep)
		drop(p);
}

static void protect(struct thread *t, struct piece *p)
{
	uint64_t from = live_random(&t->rnd) % p->pages, n = 1 + live_random(&t->rnd) % (p->pages - from);
	struct timespec pause = { 0, live_random(&t->rnd) % 50000 };

	if (mprotect(at(p->addr + from * LIVE_PAGE), n * LIVE_PAGE, live_random(&t->rnd) % 2 ? PROT_READ : PROT_NONE))
		LIVE_DIE("mprotect: %s", strerror(errno));
	nanosleep(&pause, NULL); /* the copiers meet the split */
	if (mprotect(at(p->addr + from * LIVE_PAGE), n * LIVE_PAGE, PROT_READ | PROT_WRITE))
		LIVE_DIE("mprotect: %s", strerror(errno));
}

static bool run_ops(struct thread *t);

static bool fork_child(struct thread *t)
{
	pid_t pid;
	int status;

	HEAP_LOCK();
	pid = fork();
	HEAP_UNLOCK(); /* in both */
	if (pid < 0)
		return errno == EAGAIN || errno == ENOMEM;
	if (!pid) {
		bool good = live_is_zero(WIPED, SIDE_PAGES) && live_is_zero(LATE_WIPED, SIDE_PAGES) &&
			    live_is(UNMARKED, SIDE_PAGES, SEED, 0) && live_is(UNMARKED_2, SIDE_PAGES, SEED, 0);

		alarm(patience(100));
		t->depth++;
		t->ops = max_ops - max_ops / 8;
		t->rnd ^= 0x5555;
		_exit(!(good && run_ops(t) && check_all(t)));
	}
	if (live_random(&t->rnd) % 2 == 0) /* the parent goes on beside it */
		for (unsigned i = 0; i < 4; i++) {
			struct piece *p = pick(t, false);

			if (p)
				write_page(t, p, live_random(&t->rnd) % p->pages);
		}
	if (waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "a child of depth %u ended with status %#x\n", t->depth + 1, status);
		return false;
	}
	return true;
}

static bool one_op(struct thread *t)
{
	struct piece *p = pick(t, false);

	if (!p)
		return true;
	switch (live_random(&t->rnd) % 20) {
	case 0: case 1:
		discard(t, p, MADV_DONTNEED);
		return true;
	case 2:
		discard(t, p, MADV_FREE);
		return true;
	case 3: case 4:
		move(t, p, 0);
		return true;
	case 5:
		move(t, p, MREMAP_DONTUNMAP);
		return true;
	case 6:
		resize(t, p);
		return true;
	case 7:
		if (live_random(&t->rnd) % 4 == 0)
			unmap(t, p);
		return true;
	case 8:
		protect(t, p);
		return true;
	case 9:
		return t->depth >= 3 || live_random(&t->rnd) % 3 || fork_child(t);
	case 10: case 11: case 12: case 13:
		write_page(t, p, live_random(&t->rnd) % p->pages);
		return true;
	default:
		return check_page(p, live_random(&t->rnd) % p->pages);
	}
}

static bool run_ops(struct thread *t)
{
	for (; t->ops < max_ops; t->ops++)
		if (!one_op(t))
			return false;
	return true;
}

static void *run_thread(void *arg)
{
	struct thread *t = arg;
	bool good;

	pthread_barrier_wait(&all_there);
	good = run_ops(t) && check_all(t);
	pthread_barrier_wait(&all_done);
	return (void *)(uintptr_t)!good;
}

/* Big ranges with nothing in them: lengths beyond 32 bits in every message. */
static void sparse(void)
{
	volatile char *p = at(SPARSE);

	if (p[SPARSE_BYTES - 1])
		LIVE_DIE("sparse memory is not zero");
	if (madvise(at(SPARSE), SPARSE_BYTES, MADV_DONTNEED))
		LIVE_DIE("madvise: %s", strerror(errno));
	if (mremap(at(SPARSE), SPARSE_BYTES, SPARSE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, at(SPARSE + SPARSE_BYTES)) ==
	    MAP_FAILED)
		LIVE_DIE("mremap: %s", strerror(errno));
	if (p[SPARSE_BYTES + 5] || !live_is_zero(SPARSE + SPARSE_BYTES, 1) || munmap(at(SPARSE + SPARSE_BYTES), SPARSE_BYTES))
		LIVE_DIE("sparse memory after its move");
}

static int work(void *arg, int sock)
{
	uint64_t seed = *(uint64_t *)arg;
	static struct thread thread[THREADS];
	pthread_t id[THREADS];
	void *bad = NULL, *any = NULL;

	if (madvise(at(LATE_WIPED), SIDE_PAGES * LIVE_PAGE, MADV_WIPEONFORK))
		LIVE_DIE("MADV_WIPEONFORK: %s", strerror(errno));
	if (madvise(at(UNMARKED), SIDE_PAGES * LIVE_PAGE, MADV_KEEPONFORK) ||
	    madvise(at(UNMARKED_2), SIDE_PAGES * LIVE_PAGE, MADV_DOFORK))
		LIVE_DIE("MADV_KEEPONFORK or MADV_DOFORK: %s", strerror(errno));
	pthread_barrier_init(&all_there, NULL, THREADS + 1);
	pthread_barrier_init(&all_done, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++) {
		struct thread *t = &thread[i];

		t->rnd = seed * 100 + i;
		t->fresh = LIVE_BASE + i * STEP + (1ULL << 30);
		t->piece[0] = (struct piece){ LIVE_BASE + i * STEP, PIECE_PAGES, calloc(PIECE_PAGES, sizeof(struct page)) };
		for (unsigned k = 0; k < PIECE_PAGES; k++)
			t->piece[0].page[k].from = t->piece[0].addr + k * LIVE_PAGE;
		pthread_create(&id[i], NULL, run_thread, t);
	}
	if (write(sock, "r", 1) != 1) /* the monitor starts when there is somebody to disturb it */
		LIVE_DIE("the test is gone");
	pthread_barrier_wait(&all_there);
	sparse();
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(id[i], &bad);
		any = bad ? bad : any;
	}
	return any || !live_is(WIPED, SIDE_PAGES, SEED, 0) || !live_is(UNFORKED, SIDE_PAGES, SEED, 0) ||
	       !live_is(LATE_WIPED, SIDE_PAGES, SEED, 0) || !live_is(UNMARKED, SIDE_PAGES, SEED, 0) ||
	       !live_is(UNMARKED_2, SIDE_PAGES, SEED, 0);
}

static struct thaw_stats total;

static void run(uint64_t seed, unsigned round)
{
	struct thaw_range r[THREADS + 6];
	struct thaw_memfile_range at_[THREADS + 5];
	unsigned n = 0;
	struct thaw *h = live_monitor(round % 2 ? THAW_IO_POOL : THAW_IO_AUTO, 2,
				      round % 4 == 3 ? THAW_BACKGROUND_STAY_LAZY : THAW_BACKGROUND_RUN);
	struct thaw_source *s;
	struct thaw_stats st;
	struct live l;
	int fd, status;
	char byte;

	for (; n < THREADS; n++)
		r[n] = (struct thaw_range){ LIVE_BASE + n * STEP, PIECE_PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	r[n++] = (struct thaw_range){ WIPED, SIDE_PAGES * LIVE_PAGE, 0, PROT_READ | PROT_WRITE, THAW_RANGE_WIPEONFORK };
	r[n++] = (struct thaw_range){ UNFORKED, SIDE_PAGES * LIVE_PAGE, 0, PROT_READ | PROT_WRITE, THAW_RANGE_DONTFORK };
	r[n++] = (struct thaw_range){ LATE_WIPED, SIDE_PAGES * LIVE_PAGE, 0, PROT_READ | PROT_WRITE, 0 };
	r[n++] = (struct thaw_range){ UNMARKED, SIDE_PAGES * LIVE_PAGE, 0, PROT_READ | PROT_WRITE, THAW_RANGE_WIPEONFORK };
	r[n++] = (struct thaw_range){ UNMARKED_2, SIDE_PAGES * LIVE_PAGE, 0, PROT_READ | PROT_WRITE, THAW_RANGE_DONTFORK };
	r[n++] = (struct thaw_range){ SPARSE, SPARSE_BYTES, 0, PROT_READ | PROT_WRITE, 0 };
	LIVE_OK(thaw_set_readers(h, 1 + round % 2));
	live_start(&l, r, n, work, &seed);
	fd = live_file(round % 3 == 2, SEED, r, n - 1, at_);
	s = thaw_source_memfile(fd, at_, n - 1);
	live_add(h, &l, s, r, n);
	thaw_source_close(s);
	live_go(&l);
	LIVE_CHECK(read(l.sock, &byte, 1) == 1);
	LIVE_OK(thaw_start(h));
	status = live_end(&l);
	if (status)
		LIVE_DIE("seed %llu: the worker ended with %d", (unsigned long long)seed, status);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	st = live_stats(h, 0);
	total.events_fork += st.events_fork;
	total.events_remap += st.events_remap;
	total.events_remove += st.events_remove;
	total.events_unmap += st.events_unmap;
	total.faults += st.faults;
	total.eagain += st.eagain;
	total.eexist += st.eexist;
	total.enoent += st.enoent;
	total.partial += st.partial;
	total.pages_background += st.pages_background;
	thaw_close(h);
	close(fd);
}

static bool all_seen(void)
{
	return total.events_fork && total.events_remap && total.events_remove && total.events_unmap;
}

int main(int argc, char **argv)
{
	uint64_t ms = argc > 1 ? atoi(argv[1]) : thorough(6000, 2500), seed = argc > 2 ? atoi(argv[2]) : 1;
	unsigned rounds = 0;

	max_ops = 400;
	deadline = now_ms() + ms;
	do {
		alarm(patience(60));
		run(seed + rounds, rounds);
		rounds++;
	} while ((now_ms() < deadline || (rounds < 30 && !all_seen())) && argc < 4);
	printf("%u rounds: %llu forks, %llu remaps, %llu removes, %llu unmaps, %llu faults, %llu EAGAIN, %llu EEXIST, %llu ENOENT,"
	       " %llu partial, %llu pages by copiers\n", rounds, (unsigned long long)total.events_fork,
	       (unsigned long long)total.events_remap, (unsigned long long)total.events_remove,
	       (unsigned long long)total.events_unmap, (unsigned long long)total.faults, (unsigned long long)total.eagain,
	       (unsigned long long)total.eexist, (unsigned long long)total.enoent, (unsigned long long)total.partial,
	       (unsigned long long)total.pages_background);
	return !all_seen();
}
