// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_fork.c - children that go on, end at once, call exec or are killed; and the process's own violent end */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What a fork does to memory, as the marks say. Writes only where something changes: the array is the parent's until then. */
static void inherit(struct stress_task *t, struct stress_arena *r)
{
	if (!r)
		return;
	for (uint32_t i = 0, n; i < r->pages; i += n) {
		unsigned attr = r->page[i].attr;

		n = 1;
		if (r->page[i].holds == STRESS_UNMAPPED)
			continue;
		n = thaw_stress_extent(r, i, r->pages - i);
		thaw_stress_beat(t, 0);
		if (attr & STRESS_UNFORKED)
			thaw_stress_unmap(r, i, n);
		for (uint32_t k = i; k < i + n && attr & STRESS_WIPED && !(attr & STRESS_UNFORKED); k++)
			thaw_stress_discard(&r->page[k]);
		if (attr & STRESS_LOCKED) /* locks are not inherited */
			thaw_stress_attr(r, i, n, 0, STRESS_LOCKED);
	}
}

void thaw_stress_settle_marks(struct stress_task *t, const struct stress_arena *r, uint32_t page, uint32_t pages)
{
	for (uint32_t i = page; i < page + pages && t->kids && !t->track->depth; i++)
		if (r->page[i].attr & (STRESS_WIPED | STRESS_UNFORKED | STRESS_REMARKED))
			thaw_stress_reap(t, 0);
}

static void enter_child(struct stress_task *t, int track, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	t->kids = 0;
	thaw_stress_enter_track(t, track);
	inherit(t, t->arena);
	inherit(t, t->brk);
	inherit(t, t->common);
}

static _Noreturn void be_child(struct stress_task *t, unsigned fate, uint32_t most)
{
	thaw_stress_run(t);
	if (!atomic_load(&t->s->stop))
		thaw_stress_final(t, most);
	thaw_stress_reap(t, 0);
	atomic_store(&t->track->state, STRESS_ENDED);
	if (fate == STRESS_OP_FORK_EXEC)
		execl("/proc/self/exe", "thaw-stress-worker", "--end", (char *)NULL);
	_exit(0);
}

/* Changes without end: death is to come in the middle of one. */
static _Noreturn void change_for_ever(struct stress_task *t)
{
	struct stress_arena *r = t->arena;

	atomic_store(&t->track->state, STRESS_DOOMED);
	for (uint32_t i = 0;; i++) {
		uint32_t p = thaw_stress_pick(r, i * 61, STRESS_LOCKED), to;

		if (p == STRESS_NOWHERE)
			continue;
		if (i % 3 == 2) {
			to = thaw_stress_find_free(r, i * 17, 1);
			if (to != STRESS_NOWHERE && mremap(thaw_stress_at(r, p), STRESS_PAGE, STRESS_PAGE,
							   MREMAP_MAYMOVE | MREMAP_FIXED, thaw_stress_at(r, to)) != MAP_FAILED)
				thaw_stress_model_move(r, p, to, 1, false);
			continue;
		}
		if (madvise(thaw_stress_at(r, p), STRESS_PAGE, MADV_DONTNEED) == 0)
			thaw_stress_discard(&r->page[p]);
		if (!(r->page[p].attr & STRESS_NO_ACCESS))
			thaw_stress_check(t, r, p);
	}
}

static pid_t make_child(struct stress_task *t, const struct stress_op *op)
{
	pid_t parent = getpid(), pid;

	thaw_stress_reap(t, STRESS_KIDS - 1);
	thaw_stress_note(t, 0, 0, op->child);
	atomic_fetch_add(&t->s->forks, 1);
	thaw_stress_share_begin();
	pid = fork();
	thaw_stress_share_end(!pid);
	if (pid < 0)
		return errno == EAGAIN || errno == ENOMEM ? -1 : (thaw_stress_failed(t, 0, "fork", errno), -1);
	if (!pid)
		enter_child(t, op->child, parent);
	return pid;
}

static void remember(struct stress_task *t, pid_t pid, int track)
{
	t->kid[t->kids++] = (struct stress_kid){ pid, track, false };
}

/* The parent changes what the child has just inherited: a copy of the map that comes too late would show. */
static void change_at_once(struct stress_task *t, const struct stress_op *op)
{
	uint64_t rnd = op->b;

	for (unsigned i = 0; i < 4; i++) {
		struct stress_arena *r = t->arena;
		uint32_t p = thaw_stress_pick(r, thaw_stress_random(&rnd), STRESS_LOCKED), n;

		if (p == STRESS_NOWHERE)
			return;
		n = thaw_stress_extent(r, p, 32);
		thaw_stress_note(t, (uintptr_t)thaw_stress_at(r, p), n * STRESS_PAGE, 0);
		if (madvise(thaw_stress_at(r, p), n * STRESS_PAGE, MADV_DONTNEED))
			thaw_stress_failed(t, (uintptr_t)thaw_stress_at(r, p), "MADV_DONTNEED", errno);
		for (uint32_t k = p; k < p + n; k++)
			thaw_stress_discard(&r->page[k]);
	}
}

static enum stress_done fork_and_go_on(struct stress_task *t, const struct stress_op *op, unsigned fate)
{
	pid_t pid = make_child(t, op);

	if (pid < 0)
		return STRESS_REFUSED;
	if (!pid)
		be_child(t, fate, op->b % 6 ? 64 : t->s->look);
	remember(t, pid, op->child);
	if (op->c % 2)
		change_at_once(t, op);
	if (op->c % 8 == 4)
		thaw_stress_reap(t, 0);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_FORK(struct stress_task *t, const struct stress_op *op)
{
	return op->child < 0 ? STRESS_REFUSED : fork_and_go_on(t, op, STRESS_OP_FORK);
}

enum stress_done thaw_stress_op_FORK_EXEC(struct stress_task *t, const struct stress_op *op)
{
	return op->child < 0 ? STRESS_REFUSED : fork_and_go_on(t, op, STRESS_OP_FORK_EXEC);
}

enum stress_done thaw_stress_op_FORK_EXIT(struct stress_task *t, const struct stress_op *op)
{
	pid_t pid = op->child < 0 ? -1 : make_child(t, op);

	if (pid < 0)
		return STRESS_REFUSED;
	if (!pid) {
		atomic_store(&t->track->state, STRESS_ENDED);
		_exit(0);
	}
	remember(t, pid, op->child);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_FORK_KILL(struct stress_task *t, const struct stress_op *op)
{
	pid_t pid = op->child < 0 ? -1 : make_child(t, op);

	if (pid < 0)
		return STRESS_REFUSED;
	if (!pid) {
		thaw_stress_run(t);
		change_for_ever(t);
	}
	thaw_stress_pause_us(op->b % 3000);
	kill(pid, SIGKILL);
	thaw_stress_reap_one(t, &(struct stress_kid){ pid, op->child, true });
	return STRESS_DONE;
}

static void *kill_us(void *arg)
{
	thaw_stress_pause_us(*(unsigned *)arg);
	kill(getpid(), SIGKILL);
	return NULL;
}

/* Marks that were set or taken back since the restore are not known any more when the process has gone. */
static void settle_all_marks(struct stress_task *t)
{
	struct stress_arena *const all[] = { t->arena, t->brk, t->common };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i])
			thaw_stress_settle_marks(t, all[i], 0, all[i]->pages);
}

/* The last of a track, of processes that were restored, as KILL is. The other threads end in the middle of their changes, and so do the
 * children that they have made. The new program stays until the monitor has seen that the memory is gone, whose process lives. */
enum stress_done thaw_stress_op_EXEC(struct stress_task *t, const struct stress_op *op)
{
	(void)op;
	if (t->track->depth)
		return STRESS_REFUSED;
	settle_all_marks(t);
	atomic_fetch_add(&t->s->done[STRESS_OP_EXEC], 1); /* it does not return */
	atomic_store(&t->s->doomed[t->track->process], 1);
	atomic_store(&t->s->execs[t->track->process], 1);
	execl("/proc/self/exe", "thaw-stress-worker", "--end-when-told", (char *)NULL);
	thaw_stress_failed(t, 0, "exec", errno);
}

/* The last of a track, of processes that were restored. The monitor knows of it beforehand. */
enum stress_done thaw_stress_op_KILL(struct stress_task *t, const struct stress_op *op)
{
	static unsigned us;
	pthread_t id;

	if (t->track->depth)
		return STRESS_REFUSED;
	us = op->b % 2000;
	atomic_fetch_add(&t->s->done[STRESS_OP_KILL], 1); /* nobody is left to do it afterwards */
	atomic_store(&t->s->doomed[t->track->process], 1);
	if (pthread_create(&id, NULL, kill_us, &us))
		kill(getpid(), SIGKILL);
	change_for_ever(t);
}
