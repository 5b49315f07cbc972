// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_memory.c - what changes mappings and their pages without moving them: madvise, munmap, mmap, mprotect, mlock, brk */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_DONTNEED_LOCKED /* Linux 5.18 */
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

struct part {
	struct stress_arena *r;
	uint32_t page, n;
	void *at;
};

/* A part of a mapping, or all of it. */
static bool choose(struct stress_task *t, const struct stress_op *op, unsigned without, uint32_t most, struct part *p)
{
	p->r = t->brk && op->c % 16 == 0 ? t->brk : t->arena;
	p->page = thaw_stress_pick(p->r, op->a, without);
	if (p->page == STRESS_NOWHERE)
		return false;
	if (op->c % 5 == 0)
		p->page = thaw_stress_first_of(p->r, p->page);
	p->n = thaw_stress_extent(p->r, p->page, most);
	if (op->c % 3)
		p->n = 1 + op->b % p->n;
	p->at = thaw_stress_at(p->r, p->page);
	thaw_stress_note(t, (uintptr_t)p->at, p->n * STRESS_PAGE, 0);
	return true;
}

/* Some of the pages at once: what a copier had in its hands would show here. */
static void look_again(struct stress_task *t, const struct stress_op *op, struct part *p)
{
	uint32_t step = 1 + p->n / 32, from = op->b / 7 % step;

	if (op->c % 4 == 3)
		return;
	if (op->c % 8 == 0)
		thaw_stress_pause_us(op->b % 200);
	for (uint32_t i = from; i < p->n; i += step)
		if (!(p->r->page[p->page + i].attr & STRESS_NO_ACCESS))
			thaw_stress_check(t, p->r, p->page + i);
}

static void discard_all(struct part *p)
{
	for (uint32_t i = 0; i < p->n; i++)
		thaw_stress_discard(&p->r->page[p->page + i]);
}

enum stress_done thaw_stress_op_DONTNEED(struct stress_task *t, const struct stress_op *op)
{
	struct part p;

	if (!choose(t, op, STRESS_LOCKED, 256, &p))
		return STRESS_REFUSED;
	if (madvise(p.at, p.n * STRESS_PAGE, MADV_DONTNEED))
		thaw_stress_failed(t, (uintptr_t)p.at, "MADV_DONTNEED", errno);
	discard_all(&p);
	look_again(t, op, &p);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_DONTNEED_LOCKED(struct stress_task *t, const struct stress_op *op)
{
	struct part p;

	if (!choose(t, op, 0, 64, &p))
		return STRESS_REFUSED;
	if (madvise(p.at, p.n * STRESS_PAGE, MADV_DONTNEED_LOCKED)) {
		if (errno == EINVAL)
			return STRESS_REFUSED; /* an older kernel */
		thaw_stress_failed(t, (uintptr_t)p.at, "MADV_DONTNEED_LOCKED", errno);
	}
	discard_all(&p);
	look_again(t, op, &p);
	return STRESS_DONE;
}

static pthread_rwlock_t sharing = PTHREAD_RWLOCK_INITIALIZER; /* write: a fork */
static bool shares;                                           /* this process has forked, or is a child */

void thaw_stress_share_begin(void)
{
	pthread_rwlock_wrlock(&sharing);
	shares = true;
}

void thaw_stress_share_end(bool child)
{
	/* The C library knows its writer by the thread's number, and a child's thread has another. */
	if (child)
		pthread_rwlock_init(&sharing, NULL);
	else
		pthread_rwlock_unlock(&sharing);
}

/* MADV_FREE of a page that another process shares can take it from that one as well: the kernel takes the page itself for
 * freed, and where the other's entry is clean (it got the page by an unsharing read, of process_vm_readv() or vmsplice()) nothing
 * tells that it is not. Seen on 6.18, without userfaultfd (doc/design/kernel.md). So the page is made this process's own
 * first, by a write that changes nothing. */
static bool make_own(struct part *p)
{
	for (uint32_t i = 0; i < p->n; i++) {
		volatile uint64_t *w = (volatile uint64_t *)((char *)p->at + i * STRESS_PAGE);

		if (p->r->page[p->page + i].attr & (STRESS_READONLY | STRESS_NO_ACCESS))
			return false;
		*w = *w;
	}
	return true;
}

enum stress_done thaw_stress_op_FREE(struct stress_task *t, const struct stress_op *op)
{
	struct part p;
	bool own;
	int err;

	if (!choose(t, op, STRESS_LOCKED, 64, &p))
		return STRESS_REFUSED;
	pthread_rwlock_rdlock(&sharing);
	own = !shares || make_own(&p);
	err = own && madvise(p.at, p.n * STRESS_PAGE, MADV_FREE) ? errno : 0;
	pthread_rwlock_unlock(&sharing);
	if (!own)
		return STRESS_REFUSED;
	if (err)
		thaw_stress_failed(t, (uintptr_t)p.at, "MADV_FREE", err);
	for (uint32_t i = 0; i < p.n; i++)
		if (p.r->page[p.page + i].holds == STRESS_CONTENT)
			p.r->page[p.page + i].holds = STRESS_EITHER;
	look_again(t, op, &p);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_REMOVE(struct stress_task *t, const struct stress_op *op)
{
	struct part p;

	if (!choose(t, op, 0, 64, &p))
		return STRESS_REFUSED;
	if (!madvise(p.at, p.n * STRESS_PAGE, MADV_REMOVE))
		thaw_stress_violation(t, STRESS_FAILED_CALL, (uintptr_t)p.at, "EINVAL", "success",
				      "MADV_REMOVE of private memory");
	look_again(t, op, &p); /* a refusal has changed nothing */
	return STRESS_REFUSED;
}

static enum stress_done mark(struct stress_task *t, const struct stress_op *op, unsigned attr, int on, int off)
{
	struct part p;
	bool has;

	if (!choose(t, op, 0, 64, &p))
		return STRESS_REFUSED;
	has = p.r->page[p.page].attr & attr;
	if (t->track->depth == 0)
		thaw_stress_reap(t, 0); /* see thaw_stress_settle_marks() */
	if (madvise(p.at, p.n * STRESS_PAGE, has ? off : on))
		thaw_stress_failed(t, (uintptr_t)p.at, "madvise", errno);
	thaw_stress_attr(p.r, p.page, p.n, STRESS_REMARKED | (has ? 0 : attr), has ? attr : 0);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_WIPEONFORK(struct stress_task *t, const struct stress_op *op)
{
	return mark(t, op, STRESS_WIPED, MADV_WIPEONFORK, MADV_KEEPONFORK);
}

enum stress_done thaw_stress_op_DONTFORK(struct stress_task *t, const struct stress_op *op)
{
	return mark(t, op, STRESS_UNFORKED, MADV_DONTFORK, MADV_DOFORK);
}

enum stress_done thaw_stress_op_PAGEOUT(struct stress_task *t, const struct stress_op *op)
{
	struct part p;

	if (!choose(t, op, STRESS_LOCKED, 64, &p))
		return STRESS_REFUSED;
	if (madvise(p.at, p.n * STRESS_PAGE, MADV_PAGEOUT))
		thaw_stress_failed(t, (uintptr_t)p.at, "MADV_PAGEOUT", errno);
	look_again(t, op, &p);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_POPULATE(struct stress_task *t, const struct stress_op *op)
{
	struct part p;

	if (!choose(t, op, STRESS_NO_ACCESS | STRESS_READONLY, 64, &p))
		return STRESS_REFUSED;
	if (madvise(p.at, p.n * STRESS_PAGE, op->a % 2 ? MADV_POPULATE_READ : MADV_POPULATE_WRITE)) {
		if (errno == ENOMEM || errno == EINVAL)
			return STRESS_REFUSED;
		thaw_stress_failed(t, (uintptr_t)p.at, "MADV_POPULATE", errno);
	}
	look_again(t, op, &p);
	return STRESS_DONE;
}

/* ---- mappings ---------------------------------------------------------------------------------------------------- */
enum stress_done thaw_stress_op_UNMAP(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, 0), n, run;

	if (page == STRESS_NOWHERE || r->mapped <= r->least)
		return STRESS_REFUSED;
	run = thaw_stress_extent(r, page, r->mapped - r->least);
	switch (op->c % 4) {
	case 0: /* the end of a mapping */
		n = run;
		break;
	case 1: /* the beginning */
		n = page - thaw_stress_first_of(r, page) + 1;
		page -= n - 1;
		break;
	case 2: /* a hole in the middle */
		n = 1 + op->b % (run > 32 ? 32 : run);
		break;
	default: /* whatever there is, and the holes between */
		n = 1 + op->b % 96;
		break;
	}
	if (n > r->pages - page)
		n = r->pages - page;
	if (n > r->mapped - r->least)
		n = r->mapped - r->least;
	thaw_stress_settle_marks(t, r, page, n);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, 0);
	if (munmap(thaw_stress_at(r, page), n * STRESS_PAGE)) {
		if (errno == ENOMEM)
			return STRESS_REFUSED; /* too many mappings */
		thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, page), "munmap", errno);
	}
	thaw_stress_unmap(r, page, n);
	return STRESS_DONE;
}

/* New memory, over old or over nothing: not registered, zero, and no business of the monitor's. */
enum stress_done thaw_stress_op_MAP_FIXED(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = op->c % 3 ? thaw_stress_pick(r, op->a, 0) : op->a % r->pages, n = 1 + op->b % 48;
	uint16_t vma;

	if (page == STRESS_NOWHERE)
		return STRESS_REFUSED;
	if (n > r->pages - page)
		n = r->pages - page;
	thaw_stress_settle_marks(t, r, page, n);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, 0);
	if (mmap(thaw_stress_at(r, page), n * STRESS_PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
		munmap(thaw_stress_at(r, page), n * STRESS_PAGE);
		thaw_stress_unmap(r, page, n);
		return STRESS_REFUSED;
	}
	vma = thaw_stress_new_vma(r, true);
	thaw_stress_map(r, page, n, vma);
	for (uint32_t i = 0; i < n; i += 1 + n / 8)
		thaw_stress_check(t, r, page + i);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_PROTECT(struct stress_task *t, const struct stress_op *op)
{
	unsigned attr = op->c / 4 % 2 ? STRESS_READONLY : STRESS_NO_ACCESS;
	struct part p;
	bool back;

	if (!choose(t, op, 0, 64, &p))
		return STRESS_REFUSED;
	back = p.r->page[p.page].attr & (STRESS_READONLY | STRESS_NO_ACCESS);
	if (back)
		attr = 0;
	if (mprotect(p.at, p.n * STRESS_PAGE, back ? PROT_READ | PROT_WRITE : attr == STRESS_READONLY ? PROT_READ : PROT_NONE)) {
		if (errno == ENOMEM)
			return STRESS_REFUSED;
		thaw_stress_failed(t, (uintptr_t)p.at, "mprotect", errno);
	}
	thaw_stress_attr(p.r, p.page, p.n, attr, STRESS_READONLY | STRESS_NO_ACCESS);
	if (op->b % 2)
		thaw_stress_pause_us(op->b / 2 % 200); /* the copiers meet the split */
	look_again(t, op, &p);
	if (back || op->b % 4 == 0)
		return STRESS_DONE;
	if (mprotect(p.at, p.n * STRESS_PAGE, PROT_READ | PROT_WRITE))
		return STRESS_DONE; /* stays as it is: for lack of a mapping to split off */
	thaw_stress_attr(p.r, p.page, p.n, 0, STRESS_READONLY | STRESS_NO_ACCESS);
	return STRESS_DONE;
}

/* As many mappings as there are pages, as far as the kernel lets us; then all one again. */
enum stress_done thaw_stress_op_SHATTER(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t page = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS | STRESS_READONLY), n, made = 0;
	uint32_t most = t->s->shatter ? t->s->shatter : 64 + op->b % 512;

	if (page == STRESS_NOWHERE)
		return STRESS_REFUSED;
	page = thaw_stress_first_of(r, page);
	n = thaw_stress_extent(r, page, most);
	thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, page), n * STRESS_PAGE, 0);
	for (uint32_t i = 0; i < n; i += 2, made++) {
		if (mprotect(thaw_stress_at(r, page + i), STRESS_PAGE, PROT_READ))
			break;
		if (i % 1024 == 0)
			thaw_stress_beat(t, (uintptr_t)thaw_stress_at(r, page + i));
	}
	thaw_stress_attr(r, page, n, 0, 0);
	for (uint32_t i = 0; i < n; i += 1 + n / 256)
		thaw_stress_check(t, r, page + i);
	for (uint32_t i = 0; i < n && made; i += 2, made--) {
		if (mprotect(thaw_stress_at(r, page + i), STRESS_PAGE, PROT_READ | PROT_WRITE))
			thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, page + i), "mprotect", errno);
		if (i % 1024 == 0)
			thaw_stress_beat(t, (uintptr_t)thaw_stress_at(r, page + i));
	}
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_LOCK(struct stress_task *t, const struct stress_op *op)
{
	struct part p;
	bool has;
	int err;

	if (!choose(t, op, STRESS_NO_ACCESS | STRESS_READONLY, 32, &p))
		return STRESS_REFUSED;
	has = p.r->page[p.page].attr & STRESS_LOCKED;
	if (has)
		err = munlock(p.at, p.n * STRESS_PAGE);
	else if (op->a % 3)
		err = mlock(p.at, p.n * STRESS_PAGE);
	else
		err = syscall(SYS_mlock2, p.at, p.n * STRESS_PAGE, 1 /* MLOCK_ONFAULT */);
	/* The limit may be small, and a call that fails half way has done a part. */
	if (err && munlock(p.at, p.n * STRESS_PAGE))
		thaw_stress_failed(t, (uintptr_t)p.at, "munlock", errno);
	thaw_stress_attr(p.r, p.page, p.n, has || err ? 0 : STRESS_LOCKED, has || err ? STRESS_LOCKED : 0);
	if (err)
		return STRESS_REFUSED;
	look_again(t, op, &p);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_BRK(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->brk;
	uint32_t end, to;

	if (!r)
		return STRESS_REFUSED;
	end = r->end;
	if (op->c % 2 && end > 8)
		to = end - 1 - op->a % (end / 2);
	else
		to = end + 1 + op->a % 64 < r->pages ? end + 1 + op->a % 64 : r->pages;
	if (to < end)
		thaw_stress_settle_marks(t, r, to, end - to);
	thaw_stress_note(t, r->base + end * STRESS_PAGE, 0, r->base + to * STRESS_PAGE);
	/* The C library is not asked: it keeps the break that it knows. */
	if (syscall(SYS_brk, thaw_stress_at(r, to)) != (long)(r->base + to * STRESS_PAGE))
		return STRESS_REFUSED;
	r->end = to;
	if (to < end)
		thaw_stress_unmap(r, to, end - to);
	else
		thaw_stress_map(r, end, to - end, thaw_stress_new_vma(r, true));
	for (uint32_t i = to < end ? 0 : end; i < to; i += 1 + to / 8)
		if (r->page[i].holds != STRESS_UNMAPPED && !(r->page[i].attr & STRESS_NO_ACCESS))
			thaw_stress_check(t, r, i);
	return STRESS_DONE;
}
