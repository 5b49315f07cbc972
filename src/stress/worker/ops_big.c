// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/ops_big.c - a range of more than 4 GiB with a page here and there: lengths that 32 bits cannot hold */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <sys/mman.h>

#define BYTES (STRESS_BIG_PAGES * STRESS_PAGE)

static uint64_t spot_at(const struct stress_big *b, unsigned i)
{
	return b->base + i * STRESS_BIG_STEP * STRESS_PAGE;
}

static void check_spot(struct stress_task *t, unsigned i)
{
	uint64_t addr = spot_at(t->big, i);

	thaw_stress_touch(t, addr);
	thaw_stress_check_bytes(t, &t->big->spot[i], addr, (void *)(uintptr_t)addr);
}

void thaw_stress_big_check(struct stress_task *t)
{
	for (unsigned i = 0; t->big->base && i < STRESS_BIG_SPOTS; i++)
		check_spot(t, i);
}

/* Another thread's child inherits it too, but knows nothing of it: t->big is then NULL. */
static bool has(const struct stress_task *t)
{
	return t->big && t->big->base;
}

enum stress_done thaw_stress_op_BIG_READ(struct stress_task *t, const struct stress_op *op)
{
	uint64_t rnd = op->a;

	if (!has(t))
		return STRESS_REFUSED;
	for (unsigned i = 0; i <= op->b % 8; i++) {
		unsigned at = thaw_stress_random(&rnd) % STRESS_BIG_SPOTS;

		if (rnd % 3) {
			check_spot(t, at);
		} else {
			uint32_t version = thaw_stress_next_version(t), from = STRESS_OWN | (0x40000000 + at);

			thaw_stress_touch(t, spot_at(t->big, at));
			thaw_stress_fill((void *)(uintptr_t)spot_at(t->big, at), t->s->seed, from, version);
			thaw_stress_set_content(&t->big->spot[at], from, version);
		}
	}
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_BIG_DISCARD(struct stress_task *t, const struct stress_op *op)
{
	unsigned from = op->a % (STRESS_BIG_SPOTS / 8), n = STRESS_BIG_SPOTS - from;
	uint64_t addr;

	if (!has(t))
		return STRESS_REFUSED;
	addr = spot_at(t->big, from);
	thaw_stress_note(t, addr, n * STRESS_BIG_STEP * STRESS_PAGE, 0);
	if (madvise((void *)(uintptr_t)addr, n * STRESS_BIG_STEP * STRESS_PAGE, MADV_DONTNEED))
		thaw_stress_failed(t, addr, "MADV_DONTNEED", errno);
	for (unsigned i = from; i < STRESS_BIG_SPOTS; i++)
		thaw_stress_discard(&t->big->spot[i]);
	for (unsigned i = from; i < STRESS_BIG_SPOTS; i += 1 + op->b % 5)
		check_spot(t, i);
	return STRESS_DONE;
}

enum stress_done thaw_stress_op_BIG_MOVE(struct stress_task *t, const struct stress_op *op)
{
	struct stress_big *b = t->big;
	uint64_t was;

	if (!has(t))
		return STRESS_REFUSED;
	was = b->base;
	thaw_stress_note(t, was, BYTES, b->other);
	if (mremap((void *)(uintptr_t)was, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)b->other) == MAP_FAILED)
		thaw_stress_failed(t, was, "mremap", errno);
	b->base = b->other;
	b->other = was;
	for (unsigned i = op->a % 3; i < STRESS_BIG_SPOTS; i += 1 + op->b % 5)
		check_spot(t, i);
	return STRESS_DONE;
}
