// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/shrink.c - a shorter schedule that still goes wrong: parts are left out, and what still fails is kept
 *
 * What goes wrong is mostly a race, so a part that was left out and did not fail says little: each attempt runs several times. */
#include "config.h"
#include "stress/stress.h"

#include <stdlib.h>
#include <string.h>

#define RUNS 3 /* of one attempt */

struct shrinking {
	const struct stress_setup *u;
	struct stress_outcome *best;
	enum stress_class class;
	uint64_t until;
	struct stress_shrunk *result;
	const volatile int *stop;
};

static bool time_is_up(const struct shrinking *k)
{
	return thaw_stress_ms() >= k->until || *k->stop;
}

/* Does it still fail in the same way? Then the violation is kept, too. */
static bool fails(struct shrinking *k, const struct stress_schedule *c)
{
	for (int i = 0; i < RUNS && !time_is_up(k); i++) {
		struct stress_outcome o = { .messages = NULL };

		thaw_stress_round(k->u, c, &o, true, k->stop);
		k->result->tries++;
		if (!o.violated || o.violation.class != k->class)
			continue;
		k->result->hits++;
		*k->best = o;
		return true;
	}
	return false;
}

static bool attempt(struct shrinking *k, struct stress_schedule *c, const bool *keep)
{
	struct stress_schedule less;
	bool good;

	thaw_stress_schedule_keep(&less, c, keep);
	good = less.n_ops < c->n_ops && fails(k, &less);
	if (good) {
		thaw_stress_schedule_free(c);
		*c = less;
	} else {
		thaw_stress_schedule_free(&less);
	}
	return good;
}

/* Nothing but the track that found it and those that made it, up to the operation that found it. */
static void cut_around(struct shrinking *k, struct stress_schedule *c)
{
	bool *keep = calloc(c->n_ops + 1, 1);
	int track = k->best->violation.track, op = k->best->violation.op;

	if (!keep || track < 0) {
		free(keep);
		return;
	}
	for (int way = 0; way < 3 && !time_is_up(k); way++) {
		/* with its process's other tracks; with the ancestors whole; with neither */
		for (uint32_t i = 0; i < c->n_tracks; i++)
			for (uint32_t j = 0; j < c->tracks[i].n_ops; j++)
				keep[c->tracks[i].first_op + j] = !way && c->tracks[i].process == c->tracks[track].process;
		for (int at = track, child = -1; at >= 0; child = at, at = c->tracks[at].parent) {
			uint32_t n = at == track && op >= 0 ? (uint32_t)op + 1 : c->tracks[at].n_ops;
			bool go_on = true;

			for (uint32_t j = 0; j < n && j < c->tracks[at].n_ops && go_on; j++) {
				const struct stress_op *p = &c->ops[c->tracks[at].first_op + j];

				keep[c->tracks[at].first_op + j] = way < 2 || p->child < 0 || p->child == child;
				go_on = way < 2 || child < 0 || p->child != child;
			}
		}
		if (attempt(k, c, keep))
			break;
	}
	free(keep);
}

/* Chunks, halves first. */
static void thin_out(struct shrinking *k, struct stress_schedule *c)
{
	for (uint32_t chunk = (c->n_ops + 1) / 2; chunk && !time_is_up(k); chunk = chunk > 1 ? (chunk + 1) / 2 : 0) {
		for (uint32_t at = 0; at < c->n_ops && c->n_ops > 1 && !time_is_up(k);) {
			bool *keep = malloc(c->n_ops + 1);

			if (!keep)
				return;
			memset(keep, 1, c->n_ops);
			for (uint32_t i = at; i < c->n_ops && i < at + chunk; i++)
				keep[i] = false;
			if (!attempt(k, c, keep))
				at += chunk;
			free(keep);
		}
	}
}

void thaw_stress_shrink(const struct stress_setup *u, struct stress_schedule *c, struct stress_outcome *o, uint64_t budget_ms,
			struct stress_shrunk *result, const volatile int *stop)
{
	uint64_t began = thaw_stress_ms();
	struct shrinking k = {
		.u = u, .best = o, .class = o->violation.class, .until = began + budget_ms, .result = result, .stop = stop,
	};

	*result = (struct stress_shrunk){ .before = c->n_ops };
	cut_around(&k, c);
	thin_out(&k, c);
	result->after = c->n_ops;
	result->seconds = (thaw_stress_ms() - began) / 1000.0;
}
