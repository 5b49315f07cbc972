// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_plant.c - violations made on purpose, to see that they are found and named
 *
 * The source lies about one page where the operation says so (the program sees to that, when it makes the round); the worker only looks
 * at the page, which it would do at the end anyway. */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static enum stress_done look(struct stress_task *t, const struct stress_op *op)
{
	for (uint32_t i = 0; i < t->s->n_runs; i++) {
		const struct stress_run *u = &t->s->runs[i];

		if (u->process == t->track->process && u->arena == t->arena->number &&
		    t->s->planted - u->first < u->pages) {
			uint32_t page = u->page + t->s->planted - u->first;

			if (t->arena->page[page].holds != STRESS_UNMAPPED)
				thaw_stress_check(t, t->arena, page);
			return STRESS_DONE;
		}
	}
	return STRESS_REFUSED;
}

enum stress_done thaw_stress_op_PLANT_ZERO(struct stress_task *t, const struct stress_op *op)
{
	return look(t, op);
}

enum stress_done thaw_stress_op_PLANT_WRONG(struct stress_task *t, const struct stress_op *op)
{
	return look(t, op);
}

enum stress_done thaw_stress_op_PLANT_TORN(struct stress_task *t, const struct stress_op *op)
{
	return look(t, op);
}

enum stress_done thaw_stress_op_PLANT_LOST(struct stress_task *t, const struct stress_op *op)
{
	return look(t, op);
}

/* All processes that the program knows of end, and the memory of this one stays, with a page that never comes. It is in the group of
 * its parent, and is killed with it. */
enum stress_done thaw_stress_op_PLANT_UNFINISHED(struct stress_task *t, const struct stress_op *op)
{
	pid_t pid;

	(void)op;
	thaw_stress_share_begin();
	pid = fork();
	thaw_stress_share_end(!pid);
	while (!pid)
		pause();
	return pid < 0 ? STRESS_REFUSED : STRESS_DONE;
}

/* Protected behind the model's back: the next access fails. */
enum stress_done thaw_stress_op_PLANT_FAILED(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS);
	void *at;

	if (p == STRESS_NOWHERE)
		return STRESS_REFUSED;
	at = thaw_stress_at(r, p);
	thaw_stress_note(t, (uintptr_t)at, STRESS_PAGE, 0);
	if (mprotect(at, STRESS_PAGE, PROT_NONE))
		return STRESS_REFUSED; /* for lack of a mapping */
	thaw_stress_check(t, r, p);
	return STRESS_DONE;
}

/* A discard that the model knows of, and content that comes back behind its back. */
enum stress_done thaw_stress_op_PLANT_STALE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->arena;
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS | STRESS_READONLY | STRESS_LOCKED);
	uint64_t words[STRESS_WORDS];
	void *at;

	if (p == STRESS_NOWHERE || r->page[p].holds != STRESS_CONTENT)
		return STRESS_REFUSED;
	at = thaw_stress_at(r, p);
	thaw_stress_note(t, (uintptr_t)at, STRESS_PAGE, 0);
	thaw_stress_expected(t, &r->page[p], words);
	if (madvise(at, STRESS_PAGE, MADV_DONTNEED))
		thaw_stress_failed(t, (uintptr_t)at, "MADV_DONTNEED", errno);
	thaw_stress_discard(&r->page[p]);
	memcpy(at, words, STRESS_PAGE);
	thaw_stress_check(t, r, p);
	return STRESS_DONE;
}
