// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_access.c - what the CPU does with pages: reads and writes, here and there, in order, all at once */
#include "config.h"
#include "stress/worker/worker.h"

#include <stdio.h>

#define MANY 24

/* Mostly its own memory, sometimes the break's. */
static struct stress_arena *some(struct stress_task *t, const struct stress_op *op)
{
	return t->brk && op->c % 12 == 0 ? t->brk : t->arena;
}

enum stress_done thaw_stress_op_READ(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = some(t, op);
	uint64_t rnd = op->a;

	for (uint32_t i = 0; i <= op->b % MANY; i++) {
		uint32_t p = thaw_stress_pick(r, thaw_stress_random(&rnd), STRESS_NO_ACCESS);

		if (p == STRESS_NOWHERE)
			return STRESS_REFUSED;
		thaw_stress_check(t, r, p);
	}
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_READ_ORDER(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = some(t, op);
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS), n = 1 + op->b % 64;

	if (p == STRESS_NOWHERE)
		return STRESS_REFUSED;
	for (uint32_t i = p; i < r->pages && i < p + n; i++)
		if (r->page[i].holds != STRESS_UNMAPPED && !(r->page[i].attr & STRESS_NO_ACCESS))
			thaw_stress_check(t, r, i);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_READ_COMMON(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = t->common;
	uint32_t next;

	if (!r)
		return STRESS_REFUSED;
	/* From where the op's number says, so that threads are likely to be at the same place. */
	next = (t->op * 37 + op->a % 4) % r->pages;
	for (uint32_t i = 0; i <= op->b % 16; i++, next = next + 1 == r->pages ? 0 : next + 1)
		if (r->page[next].holds != STRESS_UNMAPPED)
			thaw_stress_check(t, r, next);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_WRITE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = some(t, op);
	uint64_t rnd = op->a;

	for (uint32_t i = 0; i <= op->b % 6; i++) {
		uint32_t p = thaw_stress_pick(r, thaw_stress_random(&rnd), STRESS_NO_ACCESS | STRESS_READONLY);

		if (p == STRESS_NOWHERE)
			return STRESS_REFUSED;
		thaw_stress_write(t, r, p);
	}
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_WRITE_PART(struct stress_task *t, const struct stress_op *op)
{
	struct stress_arena *r = some(t, op);
	uint32_t p = thaw_stress_pick(r, op->a, STRESS_NO_ACCESS | STRESS_READONLY), version;
	unsigned at = op->b % STRESS_WORDS, len = 1 + op->c % (STRESS_WORDS - at);
	struct stress_page *g;
	uint64_t *w;

	if (p == STRESS_NOWHERE)
		return STRESS_REFUSED;
	g = &r->page[p];
	/* One such part at a time is remembered, and it lies on known content. */
	if (g->holds != STRESS_CONTENT || g->is.len) {
		thaw_stress_write(t, r, p);
		return STRESS_DONE;
	}
	version = thaw_stress_next_version(t);
	w = thaw_stress_at(r, p);
	thaw_stress_touch(t, (uintptr_t)w);
	g->old = g->is;
	g->has_old = true;
	g->is.at = at;
	g->is.len = len;
	g->is.over = version;
	for (unsigned i = at; i < at + len; i++)
		w[i] = thaw_stress_word(t->s->seed, g->is.from, version, i);
	if (op->a % 2)
		thaw_stress_check(t, r, p);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_PAUSE(struct stress_task *t, const struct stress_op *op)
{
	thaw_stress_pause_us(op->b % 1000);
	return STRESS_DONE;
}
