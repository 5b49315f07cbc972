// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/summary.c - what a run has seen: operations, events, outcomes; as a table, as JSON, and what was never seen */
#include "config.h"
#include "stress/stress.h"

#include <json-c/json.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	size_t at; /* in struct thaw_stats */
} counters[] = {
#define COUNTER(name) { #name, offsetof(struct thaw_stats, name) }
	COUNTER(faults), COUNTER(pages_fault), COUNTER(pages_around), COUNTER(pages_background), COUNTER(pages_zero),
	COUNTER(pages_gone), COUNTER(eagain), COUNTER(eexist), COUNTER(enoent), COUNTER(partial), COUNTER(esrch),
	COUNTER(events_fork), COUNTER(events_remap), COUNTER(events_remove), COUNTER(events_unmap), COUNTER(bytes_placed),
	COUNTER(bytes_read), COUNTER(io_errors), COUNTER(latency_count),
};
#define COUNTERS (sizeof(counters) / sizeof(counters[0]))

static uint64_t value(const struct thaw_stats *s, unsigned i)
{
	return *(const uint64_t *)(const void *)((const char *)s + counters[i].at);
}

void thaw_stress_totals_add(struct stress_totals *t, const struct stress_setup *u, const struct stress_outcome *o)
{
	t->rounds++;
	t->processes += u->processes;
	t->by_source[u->source]++;
	t->by_background[u->background]++;
	for (unsigned i = 0; i < COUNTERS; i++)
		*(uint64_t *)(void *)((char *)&t->stats + counters[i].at) += value(&o->stats, i);
	if (o->stats.latency_max > t->stats.latency_max)
		t->stats.latency_max = o->stats.latency_max;
	t->finished += o->finished;
	t->gone += o->gone;
	t->forked += o->forked;
	t->unavailable += o->unavailable;
	t->pages_checked += o->pages_checked;
	t->forks += o->forks;
	for (unsigned k = 0; k < STRESS_KINDS; k++) {
		t->done[k] += o->done[k];
		t->refused[k] += o->refused[k];
	}
}

/* ---- what has to be seen -------------------------------------------------------------------------------------------------- */
static bool any_of(const struct stress_options *o, const enum stress_kind *kinds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (o->kind[kinds[i]])
			return true;
	return false;
}
#define ANY_OF(...) any_of(o, (const enum stress_kind[]){ __VA_ARGS__ }, \
			   sizeof((const enum stress_kind[]){ __VA_ARGS__ }) / sizeof(enum stress_kind))

struct list {
	FILE *f;
	struct json_object *names;
};

static unsigned miss(const struct list *l, const char *what, const char *name, uint64_t seen, bool wanted)
{
	char line[80];

	if (seen || !wanted)
		return 0;
	snprintf(line, sizeof(line), "%s %s", what, name);
	if (l->f)
		fprintf(l->f, "never occurred: %s\n", line);
	if (l->names)
		json_object_array_add(l->names, json_object_new_string(line));
	return 1;
}

static bool wants_failing(const struct stress_options *o)
{
	return o->source == STRESS_FAILING || (o->source == STRESS_ANY_SOURCE && o->all_kinds);
}

static unsigned missing_events(const struct list *l, const struct stress_totals *t, const struct stress_options *o)
{
	bool fork = ANY_OF(STRESS_OP_FORK, STRESS_OP_FORK_EXIT, STRESS_OP_FORK_KILL, STRESS_OP_FORK_EXEC);
	bool move = ANY_OF(STRESS_OP_MOVE, STRESS_OP_MOVE_PART, STRESS_OP_MOVE_FIXED, STRESS_OP_MOVE_DONTUNMAP, STRESS_OP_GROW_MOVE,
			   STRESS_OP_SHRINK_MOVE, STRESS_OP_ROTATE, STRESS_OP_TAKEOVER, STRESS_OP_MOVE_READ, STRESS_OP_BIG_MOVE);
	bool remove = ANY_OF(STRESS_OP_DONTNEED, STRESS_OP_FREE, STRESS_OP_DONTNEED_LOCKED, STRESS_OP_DISCARD_READ,
			     STRESS_OP_BIG_DISCARD);
	bool unmap = move || ANY_OF(STRESS_OP_UNMAP, STRESS_OP_MAP_FIXED, STRESS_OP_SHRINK, STRESS_OP_BRK);

	return miss(l, "event", "FORK", t->stats.events_fork, fork) + miss(l, "event", "REMAP", t->stats.events_remap, move) +
	       miss(l, "event", "REMOVE", t->stats.events_remove, remove) + miss(l, "event", "UNMAP", t->stats.events_unmap, unmap) +
	       miss(l, "event", "FORKED", t->forked, fork) + miss(l, "event", "FINISHED", t->finished, true) +
	       miss(l, "event", "GONE", t->gone, o->all_kinds) +
	       miss(l, "event", "UNAVAILABLE", t->unavailable, wants_failing(o));
}

/* Those that hold for every workload; with all operations and nothing fixed, all of them. */
static unsigned missing_outcomes(const struct list *l, const struct stress_totals *t, const struct stress_options *o)
{
	bool all = o->all_kinds, ahead = o->background != STRESS_BG_LAZY;
	const struct thaw_stats *s = &t->stats;

	return miss(l, "outcome", "placed for a fault", s->pages_fault, true) +
	       miss(l, "outcome", "placed beside a fault", s->pages_around, all) +
	       miss(l, "outcome", "placed ahead", s->pages_background, ahead) +
	       miss(l, "outcome", "zero page", s->pages_zero, all) + miss(l, "outcome", "gone", s->pages_gone, all) +
	       miss(l, "outcome", "EAGAIN", s->eagain, all) + miss(l, "outcome", "EEXIST", s->eexist, all) +
	       miss(l, "outcome", "ENOENT", s->enoent, all) + miss(l, "outcome", "partial", s->partial, all) +
	       miss(l, "outcome", "ESRCH", s->esrch, all) +
	       miss(l, "outcome", "failed read", s->io_errors, wants_failing(o));
}

/* What each round draws, where nothing else was asked for. */
static unsigned missing_kinds(const struct list *l, const struct stress_totals *t, const struct stress_options *o)
{
	unsigned n = 0;

	for (unsigned i = 0; thaw_stress_sources[i]; i++)
		n += miss(l, "source", thaw_stress_sources[i], t->by_source[i], o->all_kinds && o->source == STRESS_ANY_SOURCE);
	for (unsigned i = 0; thaw_stress_backgrounds[i]; i++)
		n += miss(l, "background", thaw_stress_backgrounds[i], t->by_background[i],
			  o->all_kinds && o->background == STRESS_ANY_BACKGROUND);
	return n;
}

/* All restored memory here is private, and of that no kernel removes anything: to be refused is what it is there for. */
static uint64_t only_refused(FILE *f, const struct stress_totals *t, unsigned kind)
{
	if (kind != STRESS_OP_REMOVE || t->done[kind] || !t->refused[kind])
		return 0;
	if (f)
		fprintf(f, "refused, as it has to be: operation remove (no kernel has MADV_REMOVE for private memory)\n");
	return t->refused[kind];
}

/* What was to fail, and was never called. */
static unsigned missing_points(const struct list *l, const struct stress_options *o)
{
	unsigned n = 0;
	char name[64];

	for (const char *at = o->inject; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, ":"), at);
		n += miss(l, "fault point", name, thaw_stress_inject_met(name), true);
	}
	return n;
}

unsigned thaw_stress_missing(FILE *f, struct json_object *names, const struct stress_totals *t, const struct stress_options *o)
{
	const struct list l = { f, names };
	unsigned n = 0;

	for (unsigned k = 0; k < STRESS_KINDS; k++)
		n += miss(&l, "operation", thaw_stress_kinds[k].name, t->done[k] + only_refused(f, t, k), o->kind[k]);
	return n + missing_events(&l, t, o) + missing_outcomes(&l, t, o) + missing_kinds(&l, t, o) + missing_points(&l, o);
}

/* ---- telling ----------------------------------------------------------------------------------------------------------------- */
void thaw_stress_summary(FILE *f, const struct stress_totals *t, const struct stress_options *o)
{
	fprintf(f, "%llu rounds, %llu processes restored, %llu children, %llu pages checked, %.1f s\n", (unsigned long long)t->rounds,
		(unsigned long long)t->processes, (unsigned long long)t->forks, (unsigned long long)t->pages_checked, t->ms / 1000.0);
	if (t->unstarted)
		fprintf(f, "%llu rounds that could not be made\n", (unsigned long long)t->unstarted);
	fprintf(f, "\n%-18s %10s %10s\n", "operation", "done", "refused");
	for (unsigned k = 0; k < STRESS_KINDS; k++)
		if (o->kind[k] || t->done[k] || t->refused[k])
			fprintf(f, "%-18s %10llu %10llu\n", thaw_stress_kinds[k].name, (unsigned long long)t->done[k],
				(unsigned long long)t->refused[k]);
	fprintf(f, "\n%-18s %10s\n", "event, outcome", "seen");
	for (unsigned i = 0; i < COUNTERS; i++)
		fprintf(f, "%-18s %10llu\n", counters[i].name, (unsigned long long)value(&t->stats, i));
	fprintf(f, "%-18s %10llu\n%-18s %10llu\n%-18s %10llu\n%-18s %10llu\n", "finished", (unsigned long long)t->finished, "gone",
		(unsigned long long)t->gone, "forked", (unsigned long long)t->forked, "unavailable",
		(unsigned long long)t->unavailable);
	fprintf(f, "\nrounds by source:");
	for (unsigned i = 0; thaw_stress_sources[i]; i++)
		fprintf(f, " %s %llu", thaw_stress_sources[i], (unsigned long long)t->by_source[i]);
	fprintf(f, "; by background:");
	for (unsigned i = 0; thaw_stress_backgrounds[i]; i++)
		fprintf(f, " %s %llu", thaw_stress_backgrounds[i], (unsigned long long)t->by_background[i]);
	fprintf(f, "\n%s, longest fault %.1f ms; seed %llu, schedule of the first round %016llx\n",
		t->numbered ? "numbered messages" : "gate", t->stats.latency_max / 1e6,
		(unsigned long long)o->seed, (unsigned long long)t->schedule);
}

static void put(struct json_object *j, const char *name, uint64_t n)
{
	json_object_object_add(j, name, json_object_new_uint64(n));
}

static void put_text(struct json_object *j, const char *name, const char *text)
{
	json_object_object_add(j, name, json_object_new_string(text));
}

void thaw_stress_summary_json(FILE *f, const struct stress_totals *t, const struct stress_options *o, bool interrupted,
			      struct json_object *violation, const char *failed)
{
	struct json_object *j = json_object_new_object(), *ops = json_object_new_object(), *seen = json_object_new_object();
	struct json_object *missing = json_object_new_array();
	char hash[24];

	put_text(j, "thaw", thaw_get_version());
	put(j, "seed", o->seed);
	snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)t->schedule);
	put_text(j, "schedule", hash);
	json_object_object_add(j, "interrupted", json_object_new_boolean(interrupted));
	put(j, "rounds", t->rounds);
	put(j, "rounds_not_made", t->unstarted);
	put(j, "processes", t->processes);
	put(j, "children", t->forks);
	put(j, "pages_checked", t->pages_checked);
	put(j, "milliseconds", t->ms);
	json_object_object_add(j, "numbered", json_object_new_boolean(t->numbered));
	for (unsigned k = 0; k < STRESS_KINDS; k++) {
		struct json_object *one;

		if (!o->kind[k] && !t->done[k] && !t->refused[k])
			continue;
		one = json_object_new_object();
		put(one, "done", t->done[k]);
		put(one, "refused", t->refused[k]);
		json_object_object_add(ops, thaw_stress_kinds[k].name, one);
	}
	json_object_object_add(j, "operations", ops);
	for (unsigned i = 0; i < COUNTERS; i++)
		put(seen, counters[i].name, value(&t->stats, i));
	put(seen, "finished", t->finished);
	put(seen, "gone", t->gone);
	put(seen, "forked", t->forked);
	put(seen, "unavailable", t->unavailable);
	put(seen, "latency_max", t->stats.latency_max);
	json_object_object_add(j, "seen", seen);
	if (t->rounds)
		(void)thaw_stress_missing(NULL, missing, t, o);
	json_object_object_add(j, "never_occurred", missing);
	json_object_object_add(j, "violation", violation);
	json_object_object_add(j, "failed", failed ? json_object_new_string(failed) : NULL);
	fprintf(f, "%s\n", json_object_to_json_string_ext(j, JSON_C_TO_STRING_PRETTY));
	json_object_put(j);
}
