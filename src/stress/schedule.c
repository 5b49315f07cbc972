// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/schedule.c - what each thread of each process of a round will do, children included: drawn from the seed before it begins */
#include "config.h"
#include "stress/stress.h"

#include <stdlib.h>
#include <string.h>

#define FEWEST_OPS 60
#define MORE_OPS 240
#define TRACKS_EACH 30 /* of one restored process */

struct drawing {
	const struct stress_setup *u;
	struct stress_schedule *c;
	uint32_t room_tracks, room_ops;
	unsigned shares;
	uint64_t rnd;
	uint32_t limit; /* tracks that there may be, for the process that is drawn */
};

static void *grow(void *p, uint32_t *room, uint32_t need, size_t size)
{
	if (need <= *room)
		return p;
	*room = need * 2 + 64;
	p = realloc(p, *room * size);
	if (!p)
		abort();
	return p;
}

bool thaw_stress_kind_forks(unsigned kind)
{
	return kind == STRESS_OP_FORK || kind == STRESS_OP_FORK_EXIT || kind == STRESS_OP_FORK_KILL || kind == STRESS_OP_FORK_EXEC;
}

/* The last of a process that was restored. */
static bool ends(unsigned kind)
{
	return kind == STRESS_OP_KILL || kind == STRESS_OP_EXEC;
}

/* The library learns of marks from the process's smaps, and it does not know a child's pid. */
bool thaw_stress_kind_suits_children(unsigned kind)
{
	return !ends(kind) && kind != STRESS_OP_WIPEONFORK && kind != STRESS_OP_DONTFORK;
}

static bool suits(const struct drawing *d, unsigned kind, int depth, bool may_fork)
{
	if (ends(kind) || (depth && !thaw_stress_kind_suits_children(kind)))
		return false;
	return !thaw_stress_kind_forks(kind) || (may_fork && depth < STRESS_DEEPEST && d->c->n_tracks < d->limit);
}

static int draw_kind(struct drawing *d, int depth, bool may_fork)
{
	for (int tries = 0; tries < 64; tries++) {
		unsigned at = d->shares ? thaw_stress_random(&d->rnd) % d->shares : 0;

		for (unsigned k = 0; k < STRESS_KINDS; k++) {
			unsigned share = d->u->kind[k] ? thaw_stress_kinds[k].share + !thaw_stress_kinds[k].share : 0;

			if (at < share && suits(d, k, depth, may_fork))
				return k;
			if (at < share)
				break;
			at -= share;
		}
	}
	return STRESS_OP_READ;
}

/* The operations of a track lie together: those of its children come behind. last: one more, with which it ends; -1: none. */
static int draw_track(struct drawing *d, int process, int thread, int parent, int depth, uint32_t ops, bool may_fork, int last)
{
	struct stress_schedule *c = d->c;
	uint32_t first = c->n_ops;
	int number = c->n_tracks++;

	c->tracks = grow(c->tracks, &d->room_tracks, c->n_tracks, sizeof(*c->tracks));
	c->n_ops += ops + (last >= 0);
	c->ops = grow(c->ops, &d->room_ops, c->n_ops, sizeof(*c->ops));
	c->tracks[number] = (struct stress_plan_track){ process, thread, parent, depth, first, ops + (last >= 0) };
	for (uint32_t i = 0; i < ops; i++) {
		unsigned kind = draw_kind(d, depth, may_fork);
		struct stress_op op = {
			.kind = kind,
			.c = thaw_stress_random(&d->rnd) >> 20,
			.a = thaw_stress_random(&d->rnd) >> 20,
			.b = thaw_stress_random(&d->rnd) >> 20,
			.child = -1,
		};

		if (thaw_stress_kind_forks(kind))
			op.child = draw_track(d, process, thread, number, depth + 1,
					      kind == STRESS_OP_FORK_EXIT ? 0 : 4 + thaw_stress_random(&d->rnd) % (8 + ops / 4),
					      kind != STRESS_OP_FORK_KILL, -1);
		c->ops[first + i] = op;
	}
	if (last >= 0)
		c->ops[first + ops] = (struct stress_op){ last, 0, 0, thaw_stress_random(&d->rnd) >> 20, -1 };
	return number;
}

void thaw_stress_schedule_draw(struct stress_schedule *c, const struct stress_setup *u)
{
	struct drawing d = { .u = u, .c = c, .rnd = thaw_stress_mix(u->seed ^ 0x5ced) };

	memset(c, 0, sizeof(*c));
	for (unsigned k = 0; k < STRESS_KINDS; k++)
		d.shares += u->kind[k] && !ends(k) ? thaw_stress_kinds[k].share + !thaw_stress_kinds[k].share : 0;
	for (unsigned p = 0; p < u->processes; p++) {
		unsigned fate = thaw_stress_random(&d.rnd) % 6;
		int last = !fate && u->kind[STRESS_OP_KILL] ? STRESS_OP_KILL : fate == 1 && u->kind[STRESS_OP_EXEC] ? STRESS_OP_EXEC : -1;
		uint32_t each = TRACKS_EACH > STRESS_MAX_TRACKS / u->processes ? STRESS_MAX_TRACKS / u->processes : TRACKS_EACH;

		d.limit = c->n_tracks + (each > u->threads ? each : u->threads);
		for (unsigned t = 0; t < u->threads; t++)
			draw_track(&d, p, t, -1, 0, FEWEST_OPS + thaw_stress_random(&d.rnd) % MORE_OPS, true, t ? -1 : last);
	}
}

void thaw_stress_schedule_copy(struct stress_schedule *to, const struct stress_schedule *from)
{
	*to = *from;
	to->tracks = malloc(from->n_tracks * sizeof(*to->tracks) + 1);
	to->ops = malloc(from->n_ops * sizeof(*to->ops) + 1);
	if (!to->tracks || !to->ops)
		abort();
	memcpy(to->tracks, from->tracks, from->n_tracks * sizeof(*to->tracks));
	memcpy(to->ops, from->ops, from->n_ops * sizeof(*to->ops));
}

void thaw_stress_schedule_free(struct stress_schedule *c)
{
	free(c->tracks);
	free(c->ops);
	memset(c, 0, sizeof(*c));
}

/* Tracks of restored processes always stay, empty if need be: the worker has as many threads. */
static void keep_track(struct stress_schedule *to, const struct stress_schedule *from, const bool *keep, int old, int parent)
{
	const struct stress_plan_track *k = &from->tracks[old];
	int number = to->n_tracks++;
	uint32_t first = to->n_ops, n = 0;

	for (uint32_t i = 0; i < k->n_ops; i++)
		n += keep[k->first_op + i];
	to->tracks[number] = *k;
	to->tracks[number].parent = parent;
	to->tracks[number].first_op = first;
	to->tracks[number].n_ops = n;
	to->n_ops += n;
	n = 0;
	for (uint32_t i = 0; i < k->n_ops; i++) {
		struct stress_op op = from->ops[k->first_op + i];

		if (!keep[k->first_op + i])
			continue;
		if (op.child >= 0) {
			int child = op.child;

			op.child = to->n_tracks;
			keep_track(to, from, keep, child, number);
		}
		to->ops[first + n++] = op;
	}
}

void thaw_stress_schedule_keep(struct stress_schedule *to, const struct stress_schedule *from, const bool *keep)
{
	memset(to, 0, sizeof(*to));
	to->tracks = malloc(from->n_tracks * sizeof(*to->tracks) + 1);
	to->ops = malloc(from->n_ops * sizeof(*to->ops) + 1);
	if (!to->tracks || !to->ops)
		abort();
	for (uint32_t i = 0; i < from->n_tracks; i++)
		if (from->tracks[i].parent < 0)
			keep_track(to, from, keep, i, -1);
}

uint64_t thaw_stress_schedule_hash(const struct stress_schedule *c)
{
	uint64_t h = c->n_tracks;

	for (uint32_t i = 0; i < c->n_ops; i++) {
		const struct stress_op *op = &c->ops[i];

		h = thaw_stress_mix(h ^ ((uint64_t)op->kind << 48 | (uint64_t)op->c << 32 | op->a));
		h = thaw_stress_mix(h ^ ((uint64_t)op->b << 32 | (uint32_t)op->child));
	}
	return h;
}
