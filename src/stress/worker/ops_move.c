// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_move.c - mremap in all its forms, and threads that move and read the same memory at the same time */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 512 /* pages of one move */

/* The kernel may refuse what it sees as several mappings, or for want of room; nothing else. */
static bool may_fail(const struct stress_arena *r, uint32_t page, int err)
{
	return err == ENOMEM || err == EAGAIN || ((err == EFAULT || err == EINVAL) && thaw_stress_is_split(r, page));
}

static void look(struct stress_task *t, struct stress_arena *r, uint32_t page, uint32_t n, uint32_t salt)
{
	uint32_t step = 1 + n / 12;

	for (uint32_t i = salt % step; i < n; i += step)
		if (r->page[page + i].holds != STRESS_UNMAPPED && !(r->page[page + i].attr & STRESS_NO_ACCESS))
			thaw_stress_check(t, r, page + i);
}

/* To a place that is free, or becomes so. */
static enum stress_done move(struct stress_task *t, struct stress_arena *r, uint32_t from, uint32_t n, uint32_t to, uint32_t grown,
			     int flags)
{
	void *at = thaw_stress_at(r, from), *where = thaw_stress_at(r, to);
	bool was_used = thaw_stress_free_from(r, to, n + grown) < n + grown;
	bool leaves = flags & MREMAP_DONTUNMAP;

	thaw_stress_settle_marks(t, r, from, n);
	thaw_stress_settle_marks(t, r, to, n + grown);
	thaw_stress_note(t, (uintptr_t)at, n * STRESS_PAGE, (uintptr_t)where);
	if (mremap(at, n * STRESS_PAGE, (n + grown) * STRESS_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags, where) == MAP_FAILED) {
		if (!may_fail(r, from, errno))
			thaw_stress_failed(t, (uintptr_t)at, "mremap", errno);
		/* Kernels differ in whether they have emptied the new place by then. */
		if (was_used && munmap(where, (n + grown) * STRESS_PAGE) == 0)
			thaw_stress_unmap(r, to, n + grown);
		return STRESS_REFUSED;
	}
	thaw_stress_model_move(r, from, to, n, leaves);
	if (grown)
		thaw_stress_map(r, to + n, grown, r->page[to].vma);
	for (uint32_t i = to + n; i < to + n + grown; i++)
		r->page[i].attr = r->page[to].attr;
	return STRESS_DONE;
}

static uint32_t whole(const struct stress_arena *r, uint32_t *page, uint32_t most)
{
	*page = thaw_stress_first_of(r, *page);
	return thaw_stress_extent(r, *page, most);
}

/* Locked memory does not grow while it moves: the kernel then fills the new part before it queues its message, and fills wait for the
 * message to be read. No monitor can end that. */
static enum stress_done move_free(struct stress_task *t, const struct stress_op *op, bool part, bool grow, int flags)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, grow ? STRESS_LOCKED : 0), n, to, grown = grow ? 1 + op->c % 40 : 0;

	if (page == STRESS_NOWHERE)
		return STRESS_REFUSED;
	if (part) {
		n = thaw_stress_extent(r, page, MOST);
		n = 1 + op->b % n;
	} else {
		n = whole(r, &page, MOST);
	}
	to = thaw_stress_find_free(r, op->b, n + grown);
	if (to == STRESS_NOWHERE || move(t, r, page, n, to, grown, flags) != STRESS_DONE)
		return STRESS_REFUSED;
	look(t, r, to, n + grown, op->c);
	if (flags & MREMAP_DONTUNMAP)
		look(t, r, page, n, op->c / 8);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_MOVE(struct stress_task *t, const struct stress_op *op)
{
	return move_free(t, op, false, false, 0);
}

enum stress_done thaw_stress_op_MOVE_PART(struct stress_task *t, const struct stress_op *op)
{
	return move_free(t, op, true, false, 0);
}

enum stress_done thaw_stress_op_MOVE_DONTUNMAP(struct stress_task *t, const struct stress_op *op)
{
	return move_free(t, op, op->c % 2, false, MREMAP_DONTUNMAP);
}

enum stress_done thaw_stress_op_GROW_MOVE(struct stress_task *t, const struct stress_op *op)
{
	return move_free(t, op, false, true, 0);
}

enum stress_done thaw_stress_op_MOVE_FIXED(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, 0), to = thaw_stress_pick(r, op->b, 0), n;

	if (page == STRESS_NOWHERE || to == STRESS_NOWHERE || r->mapped <= r->least)
		return STRESS_REFUSED;
	n = thaw_stress_extent(r, page, 64);
	n = 1 + op->c % n;
	if (n > r->pages - to)
		n = r->pages - to;
	if (to < page + n && page < to + n) /* over itself: what lies before it, then */
		n = to > page ? to - page : page - to;
	if (!n || move(t, r, page, n, to, 0, 0) != STRESS_DONE)
		return STRESS_REFUSED;
	look(t, r, to, n, op->c);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_GROW(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, 0), n, more;

	if (page == STRESS_NOWHERE)
		return STRESS_REFUSED;
	/* A mapping with room behind it: the next one that has. */
	for (more = 0; page < r->pages; page += n) {
		n = 1;
		if (r->page[page].holds == STRESS_UNMAPPED)
			continue;
		n = thaw_stress_extent(r, page, r->pages);
		more = thaw_stress_free_from(r, page + n, 1 + op->b % 40);
		if (more)
			break;
	}
	if (!more)
		return STRESS_REFUSED;
	thaw_stress_settle_marks(t, r, page, n);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, (n + more) * STRESS_PAGE);
	if (mremap(thaw_stress_at(r, page), n * STRESS_PAGE, (n + more) * STRESS_PAGE, 0) == MAP_FAILED) {
		if (!may_fail(r, page, errno))
			thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, page), "mremap", errno);
		return STRESS_REFUSED;
	}
	thaw_stress_map(r, page + n, more, r->page[page].vma);
	for (uint32_t i = page + n; i < page + n + more; i++)
		r->page[i].attr = r->page[page].attr;
	look(t, r, page + n, more, op->c);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_SHRINK(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, 0), n, keep;

	if (page == STRESS_NOWHERE || r->mapped <= r->least)
		return STRESS_REFUSED;
	page = thaw_stress_first_of(r, page);
	n = thaw_stress_extent(r, page, r->mapped - r->least);
	if (n < 2)
		return STRESS_REFUSED;
	keep = n - 1 - op->b % (n > 65 ? 64 : n - 1);
	thaw_stress_settle_marks(t, r, page, n);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, keep * STRESS_PAGE);
	if (mremap(thaw_stress_at(r, page), n * STRESS_PAGE, keep * STRESS_PAGE, 0) == MAP_FAILED) {
		if (!may_fail(r, page, errno))
			thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, page), "mremap", errno);
		/* Over several mappings it may have come to its end half way. */
		munmap(thaw_stress_at(r, page + keep), (n - keep) * STRESS_PAGE);
	}
	thaw_stress_unmap(r, page + keep, n - keep);
	look(t, r, page, keep, op->c);
	return STRESS_DONE;
}

static uint32_t room(const struct stress_arena *r, const struct stress_op *op, uint32_t page, uint32_t n, uint32_t *keep)
{
	uint32_t to = op->c % 2 ? thaw_stress_find_free(r, op->a ^ op->c, *keep) : thaw_stress_pick(r, op->a ^ op->c, 0), m;

	if (to == STRESS_NOWHERE)
		return to;
	m = op->c % 2 ? *keep : thaw_stress_extent(r, to, *keep);
	*keep = m < *keep ? m : *keep;
	return (to < page ? page - to : to - page) < n ? STRESS_NOWHERE : to;
}

/* Older kernels tell of it with the length from before: what lies behind the new place is not to be touched by that. */
enum stress_done thaw_stress_op_SHRINK_MOVE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, 0), n, keep, to;
	char *at;

	if (page == STRESS_NOWHERE || r->mapped <= r->least)
		return STRESS_REFUSED;
	page = thaw_stress_first_of(r, page);
	n = thaw_stress_extent(r, page, (r->mapped - r->least) / 2);
	if (n < 2 || thaw_stress_is_split(r, page))
		return STRESS_REFUSED;
	keep = n - 1 - op->b % (n > 65 ? 64 : n - 1);
	to = room(r, op, page, n, &keep);
	if (to == STRESS_NOWHERE)
		return STRESS_REFUSED;
	at = thaw_stress_at(r, page);
	thaw_stress_settle_marks(t, r, page, n);
	thaw_stress_settle_marks(t, r, to, keep);
	thaw_stress_note(t, (uintptr_t)at, n * STRESS_PAGE, (uintptr_t)thaw_stress_at(r, to));
	if (mremap(at, n * STRESS_PAGE, keep * STRESS_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, thaw_stress_at(r, to)) == MAP_FAILED) {
		if (!may_fail(r, page, errno))
			thaw_stress_failed(t, (uintptr_t)at, "mremap", errno);
		/* Kernels differ in how far they have come by then. */
		munmap(at + keep * STRESS_PAGE, (n - keep) * STRESS_PAGE);
		munmap(thaw_stress_at(r, to), keep * STRESS_PAGE);
		thaw_stress_unmap(r, page + keep, n - keep);
		thaw_stress_unmap(r, to, keep);
		return STRESS_REFUSED;
	}
	thaw_stress_model_move(r, page, to, keep, false);
	thaw_stress_unmap(r, page + keep, n - keep);
	look(t, r, to, keep, op->c);
	for (uint32_t i = to + keep; i < to + n && i < r->pages; i += 3) /* not moved: theirs as before */
		if (r->page[i].holds != STRESS_UNMAPPED && !(r->page[i].attr & STRESS_NO_ACCESS))
			thaw_stress_check(t, r, i);
	return STRESS_DONE;
}

/* Two ranges of the same length, away from each other. */
static uint32_t two(const struct stress_arena *r, const struct stress_op *op, uint32_t *a, uint32_t *b, uint32_t most)
{
	uint32_t n, m;

	*a = thaw_stress_pick(r, op->a, 0);
	*b = thaw_stress_pick(r, op->b, 0);
	if (*a == STRESS_NOWHERE || *b == STRESS_NOWHERE)
		return 0;
	n = thaw_stress_extent(r, *a, most);
	m = thaw_stress_extent(r, *b, most);
	n = n < m ? n : m;
	if (*a < *b + n && *b < *a + n)
		n = *a < *b ? *b - *a : *a - *b;
	return n > 1 ? 1 + op->c % n : n;
}

enum stress_done thaw_stress_op_ROTATE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t a, b, n = two(r, op, &a, &b, 64), spare;

	if (!n)
		return STRESS_REFUSED;
	spare = thaw_stress_find_free(r, op->a ^ op->b, n);
	if (spare == STRESS_NOWHERE || move(t, r, a, n, spare, 0, 0) != STRESS_DONE)
		return STRESS_REFUSED;
	if (move(t, r, b, n, a, 0, 0) != STRESS_DONE || move(t, r, spare, n, b, 0, 0) != STRESS_DONE)
		return STRESS_REFUSED;
	look(t, r, a, n, op->c);
	look(t, r, b, n, op->c);
	return STRESS_DONE;
}

/* ---- two threads at once ----------------------------------------------------------------------------------------- */
/* What a helper does, and what it found. It touches nothing of the task. */
struct helper {
	struct stress_task *t;
	const struct stress_arena *r;
	uint32_t from, to, n;
	int stat;               /* of the task's thread, in /proc */
	_Atomic bool ready, stop, moved;
	int err;
	enum stress_class class; /* of what is wrong; NOTHING: all right */
	uint64_t addr;
	bool spoiled;            /* it came too late to be of use */
};

/* Helpers need a stack each; a thread that cannot be had is no failure. */
static bool start(pthread_t *id, void *(*fn)(void *), struct helper *h)
{
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	err = pthread_create(id, &attr, fn, h);
	pthread_attr_destroy(&attr);
	if (err)
		return false;
	while (!h->ready)
		sched_yield();
	return true;
}

/* Is that thread asleep in the kernel, not to be disturbed? It has queued its message by then. */
static bool sleeps_in_kernel(int stat)
{
	char buf[256], *p;
	ssize_t n = pread(stat, buf, sizeof(buf) - 1, 0);

	if (n <= 0)
		return false;
	buf[n] = 0;
	p = strrchr(buf, ')');
	return p && p[1] && p[2] == 'D';
}

/* Moves `to`'s range to where the other thread has just moved one away from: when nothing is there any more, and the other's
 * message is queued. So the order of the two messages is that of the changes, and is known; the end of the other's call is yet to come. */
static void *take_over(void *arg)
{
	struct helper *h = arg;
	unsigned char there;
	void *place = thaw_stress_at(h->r, h->from);

	h->ready = true;
	while (!h->stop && (mincore(place, STRESS_PAGE, &there) == 0 || errno != ENOMEM))
		;
	while (!h->stop && !sleeps_in_kernel(h->stat))
		;
	h->spoiled = h->stop;
	if (mremap(thaw_stress_at(h->r, h->to), h->n * STRESS_PAGE, h->n * STRESS_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) ==
	    MAP_FAILED)
		h->err = errno;
	h->moved = true;
	return NULL;
}

enum stress_done thaw_stress_op_TAKEOVER(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t a, b, n = two(r, op, &a, &b, 64), spare;
	struct helper h = { .t = t, .r = r };
	char path[64];
	pthread_t id;
	int err = 0;

	if (!n || thaw_stress_is_split(r, a) || thaw_stress_is_split(r, b))
		return STRESS_REFUSED;
	spare = thaw_stress_find_free(r, op->a ^ op->b, n);
	if (spare == STRESS_NOWHERE)
		return STRESS_REFUSED;
	thaw_stress_settle_marks(t, r, a, n);
	thaw_stress_settle_marks(t, r, b, n);
	h.from = a;
	h.to = b;
	h.n = n;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)gettid());
	h.stat = open(path, O_RDONLY | O_CLOEXEC);
	if (h.stat < 0)
		return STRESS_REFUSED;
	if (!start(&id, take_over, &h)) {
		close(h.stat);
		return STRESS_REFUSED;
	}
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, a), n * STRESS_PAGE, (uintptr_t)thaw_stress_at(r, spare));
	if (mremap(thaw_stress_at(r, a), n * STRESS_PAGE, n * STRESS_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   thaw_stress_at(r, spare)) == MAP_FAILED)
		err = errno;
	/* Not waited for by the kernel: a call whose message has been read in the meantime never slept for long. */
	for (unsigned i = 0; i < 100 && !h.moved; i++)
		sched_yield();
	h.stop = true;
	pthread_join(id, NULL);
	close(h.stat);
	if (err || h.err) {
		if (!may_fail(r, a, err ? err : h.err))
			thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, a), "mremap", err ? err : h.err);
		/* Half of it: what is where is known all the same. */
		if (!err)
			thaw_stress_model_move(r, a, spare, n, false);
		if (!h.err)
			thaw_stress_model_move(r, b, a, n, false);
		return STRESS_REFUSED;
	}
	thaw_stress_model_move(r, a, spare, n, false);
	thaw_stress_model_move(r, b, a, n, false);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, b), n * STRESS_PAGE, (uintptr_t)thaw_stress_at(r, a));
	look(t, r, a, n, op->c);
	look(t, r, spare, n, op->c);
	return h.spoiled ? STRESS_REFUSED : STRESS_DONE;
}

/* Reads both places as another process would, over and over: nothing there, or the right page. */
static void *read_both(void *arg)
{
	struct helper *h = arg;
	uint64_t have[STRESS_WORDS], rnd = h->from, want[STRESS_WORDS];

	h->ready = true;
	while (!h->stop && !h->class) {
		uint32_t i = thaw_stress_random(&rnd) % h->n;
		const struct stress_page *p = &h->r->page[h->from + i];
		struct iovec l = { have, STRESS_PAGE };
		struct iovec m = { thaw_stress_at(h->r, (rnd % 2 ? h->from : h->to) + i), STRESS_PAGE };

		if (p->holds != STRESS_CONTENT || process_vm_readv(getpid(), &l, 1, &m, 1, 0) != (ssize_t)STRESS_PAGE)
			continue;
		thaw_stress_expected(h->t, p, want);
		if (!memcmp(have, want, STRESS_PAGE))
			continue;
		h->addr = (uintptr_t)m.iov_base;
		h->class = have[0] || have[STRESS_WORDS - 1] ? STRESS_WRONG_PAGE : STRESS_LOST_ZERO;
	}
	return NULL;
}

enum stress_done thaw_stress_op_MOVE_READ(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS), n, to;
	struct helper h = { .t = t, .r = r };
	pthread_t id;
	int err = 0;

	if (page == STRESS_NOWHERE)
		return STRESS_REFUSED;
	n = thaw_stress_extent(r, page, 64);
	to = thaw_stress_find_free(r, op->b, n);
	if (to == STRESS_NOWHERE || thaw_stress_is_split(r, page))
		return STRESS_REFUSED;
	thaw_stress_settle_marks(t, r, page, n);
	h.from = page;
	h.to = to;
	h.n = n;
	if (!start(&id, read_both, &h))
		return STRESS_REFUSED;
	thaw_stress_pause_us(op->c % 50);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, (uintptr_t)thaw_stress_at(r, to));
	if (mremap(thaw_stress_at(r, page), n * STRESS_PAGE, n * STRESS_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   thaw_stress_at(r, to)) == MAP_FAILED)
		err = errno;
	thaw_stress_pause_us(op->c % 50);
	h.stop = true;
	pthread_join(id, NULL);
	if (h.class)
		thaw_stress_violation(t, h.class, h.addr, "the content of the moved range, or no page", "something else",
				      "read with process_vm_readv by another thread while it was moved");
	if (err) {
		if (!may_fail(r, page, err))
			thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, page), "mremap", err);
		return STRESS_REFUSED;
	}
	thaw_stress_model_move(r, page, to, n, false);
	look(t, r, to, n, op->c);
	return STRESS_DONE;
}

/* Reads the range that is being discarded: content, then zero. */
static void *read_fading(void *arg)
{
	struct helper *h = arg;
	uint64_t rnd = h->from;

	h->ready = true;
	while (!h->stop && !h->class) {
		uint32_t i = thaw_stress_random(&rnd) % h->n;

		h->addr = (uintptr_t)thaw_stress_at(h->r, h->from + i);
		(void)thaw_stress_is_fading(h->t->s->seed, &h->r->page[h->from + i], h->addr, &h->class);
	}
	return NULL;
}

enum stress_done thaw_stress_op_DISCARD_READ(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS | STRESS_LOCKED), n;
	struct helper h = { .t = t, .r = r };
	pthread_t id;

	if (page == STRESS_NOWHERE)
		return STRESS_REFUSED;
	n = thaw_stress_extent(r, page, 32);
	h.from = page;
	h.n = n;
	if (!start(&id, read_fading, &h))
		return STRESS_REFUSED;
	thaw_stress_pause_us(op->c % 50);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, 0);
	if (madvise(thaw_stress_at(r, page), n * STRESS_PAGE, MADV_DONTNEED))
		thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, page), "MADV_DONTNEED", errno);
	thaw_stress_pause_us(op->c % 50);
	h.stop = true;
	pthread_join(id, NULL);
	if (h.class)
		thaw_stress_violation(t, h.class, h.addr, "its content, and zero from then on", "something else",
				      "read by another thread while it was discarded");
	for (uint32_t i = page; i < page + n; i++) {
		thaw_stress_discard(&r->page[i]);
		thaw_stress_check(t, r, i);
	}
	return STRESS_DONE;
}
