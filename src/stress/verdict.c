// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/verdict.c - the first violation, told: what, where, what else was there, and what led to it */
#include "config.h"
#include "stress/stress.h"

#include <json-c/json.h>
#include <string.h>

const char *const thaw_stress_classes[] = {
	[STRESS_NOTHING] = "none", [STRESS_STALE] = "stale after discard", [STRESS_LOST_ZERO] = "lost zero",
	[STRESS_WRONG_PAGE] = "wrong page", [STRESS_TORN] = "torn", [STRESS_LOST_FAULT] = "lost fault",
	[STRESS_FAILED_CALL] = "failed access", [STRESS_NEVER_FINISHED] = "never finished",
};

#define SHOWN 24

/* What came after it has a minus. */
static double before(uint64_t then, uint64_t now)
{
	return ((double)now - (double)then) / 1e6;
}

static void tell_place(FILE *f, const struct stress_trace *t)
{
	unsigned long long addr = t->addr, len = t->len, to = t->to;

	if (t->pages == 1)
		fprintf(f, " page %#llx\n", addr);
	else if (t->pages)
		fprintf(f, " %u pages, from %#llx to %#llx\n", t->pages, addr, to);
	else if (!addr)
		fprintf(f, " track %llu\n", to);
	else if (to)
		fprintf(f, " %#llx + %#llx -> %#llx\n", addr, len, to);
	else
		fprintf(f, " %#llx + %#llx\n", addr, len);
}

static void tell_operations(FILE *f, const struct stress_schedule *c, const struct stress_outcome *o)
{
	const struct stress_track *k = &o->track;
	uint32_t n = k->traced < STRESS_TRACES ? k->traced : STRESS_TRACES;

	fprintf(f, "  operations that led to it (milliseconds before, - behind it):\n");
	for (uint32_t i = k->traced - n; i != k->traced; i++) {
		const struct stress_trace *t = &k->trace[i % STRESS_TRACES];
		const struct stress_op *op = &c->ops[k->first_op + t->op];

		fprintf(f, "    %10.3f  %3llu %-16s", before(t->ns, o->violation.ns), (unsigned long long)t->op,
			t->op < k->n_ops ? thaw_stress_kinds[op->kind].name : "?");
		tell_place(f, t);
	}
	if (!n)
		fprintf(f, "    none\n");
}

/* Changes and what else there is to tell; of the faults only those of the page. Of one space, or (0) of those behind the first `spaces`:
 * the children. */
static bool matters(const struct stress_message *m, const struct stress_outcome *o, long long space, unsigned spaces)
{
	const char *fault = strstr(m->text, ": fault at ");
	unsigned long long addr;
	long long of = 0;

	if (sscanf(m->text, "space %lld:", &of) != 1 || (space ? of != space : of <= spaces))
		return false;
	return !fault || (sscanf(fault, ": fault at 0x%llx", &addr) == 1 && addr / STRESS_PAGE == o->violation.address / STRESS_PAGE);
}

/* The last ones, the very last first; how many. */
static unsigned choose_messages(const struct stress_outcome *o, long long space, unsigned spaces, uint64_t at[SHOWN])
{
	uint64_t n = o->n_messages < STRESS_MESSAGES ? o->n_messages : STRESS_MESSAGES, first = o->n_messages - n;
	unsigned shown = 0;

	if (!o->messages)
		return 0;
	for (uint64_t i = o->n_messages; i > first && shown < SHOWN; i--)
		if (o->messages[(i - 1) % STRESS_MESSAGES].ns <= o->violation.ns + 1000000 &&
		    matters(&o->messages[(i - 1) % STRESS_MESSAGES], o, space, spaces))
			at[shown++] = i - 1;
	return shown;
}

static void tell_messages(FILE *f, const struct stress_outcome *o, long long space, unsigned spaces)
{
	uint64_t at[SHOWN];
	unsigned shown = choose_messages(o, space, spaces, at);

	if (!shown)
		return;
	if (space)
		fprintf(f, "  last messages of space %lld (milliseconds before, - behind it):\n", space);
	else
		fprintf(f, "  last messages of the spaces of children (milliseconds before, - behind it):\n");
	while (shown--) {
		const struct stress_message *m = &o->messages[at[shown] % STRESS_MESSAGES];

		fprintf(f, "    %10.3f  %s\n", before(m->ns, o->violation.ns), m->text);
	}
}

void thaw_stress_verdict(FILE *f, const struct stress_setup *u, const struct stress_schedule *c, const struct stress_outcome *o)
{
	const struct stress_violation *v = &o->violation;
	const struct stress_track *k = &o->track;

	fprintf(f, "VIOLATION: %s\n", thaw_stress_classes[v->class]);
	if (v->track >= 0) {
		fprintf(f, "  page       %#llx (address %#llx), of %s %u of process %u, track %d, pid %u (space %lld is the process)\n",
			(unsigned long long)(v->address & ~(STRESS_PAGE - 1)), (unsigned long long)v->address,
			k->depth ? "a child of thread" : "thread", k->thread, k->process, v->track, v->pid,
			(long long)o->space[k->process]);
	}
	fprintf(f, "  expected   %s\n  found      %s\n", v->expected, v->found);
	if (v->what[0])
		fprintf(f, "  namely     %s\n", v->what);
	if (v->track >= 0) {
		if (v->op >= 0 && v->op < (int)k->n_ops)
			fprintf(f, "  operation  %d of %u: %s\n", v->op, k->n_ops,
				thaw_stress_kinds[c->ops[k->first_op + v->op].kind].name);
		else
			fprintf(f, "  operation  none: the look at everything behind all %u\n", k->n_ops);
	}
	fprintf(f, "  set-up     seed %llu, %u processes of %llu KiB, %u threads, %u copiers, chunk %llu, source %s, background %s\n",
		(unsigned long long)u->seed, u->processes, (unsigned long long)u->size >> 10, u->threads, u->copiers,
		(unsigned long long)u->chunk, thaw_stress_sources[u->source], thaw_stress_backgrounds[u->background]);
	if (v->track >= 0)
		tell_operations(f, c, o);
	if (v->track < 0) {
		for (unsigned i = 0; i < u->processes; i++)
			tell_messages(f, o, o->space[i], u->processes);
	} else {
		tell_messages(f, o, o->space[k->process], u->processes);
	}
	if (v->track < 0 || k->depth)
		tell_messages(f, o, 0, u->processes);
	if (o->asleep[0])
		fprintf(f, "  where the threads are (state, in the kernel, call and arguments):\n%s", o->asleep);
}

/* ---- the same for programs ----------------------------------------------------------------------------------------------- */
static void put(struct json_object *j, const char *name, uint64_t n)
{
	json_object_object_add(j, name, json_object_new_uint64(n));
}

static void put_text(struct json_object *j, const char *name, const char *text)
{
	json_object_object_add(j, name, json_object_new_string(text));
}

/* null: there is none. */
static void put_if(struct json_object *j, bool is, const char *name, uint64_t n)
{
	json_object_object_add(j, name, is ? json_object_new_uint64(n) : NULL);
}

static void put_before(struct json_object *j, uint64_t then, uint64_t now)
{
	char text[32];

	snprintf(text, sizeof(text), "%.3f", before(then, now));
	json_object_object_add(j, "milliseconds_before", json_object_new_double_s(before(then, now), text));
}

static struct json_object *operations_object(const struct stress_schedule *c, const struct stress_outcome *o)
{
	struct json_object *list = json_object_new_array();
	const struct stress_track *k = &o->track;
	uint32_t n = k->traced < STRESS_TRACES ? k->traced : STRESS_TRACES;

	for (uint32_t i = k->traced - n; i != k->traced; i++) {
		const struct stress_trace *t = &k->trace[i % STRESS_TRACES];
		struct json_object *j = json_object_new_object();

		if (t->op >= k->n_ops) {
			json_object_put(j);
			continue;
		}
		put_before(j, t->ns, o->violation.ns);
		put(j, "operation", t->op);
		put_text(j, "name", thaw_stress_kinds[c->ops[k->first_op + t->op].kind].name);
		put_if(j, t->addr, "address", t->addr);
		put_if(j, t->addr && !t->pages, "length", t->len);
		put_if(j, t->addr && t->to, "to", t->to);
		put_if(j, t->pages, "pages", t->pages);
		put_if(j, !t->addr, "child", t->to);
		json_object_array_add(list, j);
	}
	return list;
}

static void add_messages(struct json_object *list, const struct stress_outcome *o, long long space, unsigned spaces)
{
	uint64_t at[SHOWN];
	unsigned n = choose_messages(o, space, spaces, at);

	while (n--) {
		const struct stress_message *m = &o->messages[at[n] % STRESS_MESSAGES];
		struct json_object *j = json_object_new_object();

		put_before(j, m->ns, o->violation.ns);
		put_text(j, "text", m->text);
		json_object_array_add(list, j);
	}
}

static struct json_object *lines_object(const char *text)
{
	struct json_object *list = json_object_new_array();

	while (*text) {
		size_t n = strcspn(text, "\n"), blank = strspn(text, " ");

		blank = blank < n ? blank : n;
		json_object_array_add(list, json_object_new_string_len(text + blank, n - blank));
		text += n + (text[n] == '\n');
	}
	return list;
}

struct json_object *thaw_stress_verdict_json(const struct stress_setup *u, const struct stress_schedule *c, const struct stress_outcome *o)
{
	struct json_object *j = json_object_new_object(), *messages = json_object_new_array();
	const struct stress_violation *v = &o->violation;
	const struct stress_track *k = &o->track;
	bool known = v->track >= 0, going = known && v->op >= 0 && v->op < (int)k->n_ops;

	put_text(j, "class", thaw_stress_classes[v->class]);
	put_if(j, known, "page", v->address & ~(STRESS_PAGE - 1));
	put_if(j, known, "pid", v->pid);
	put_if(j, known, "process", k->process);
	put_if(j, known, "thread", k->thread);
	put_if(j, known, "track", v->track);
	put_if(j, known && o->space[k->process] > 0, "space", o->space[k->process]);
	put_if(j, going, "operation", v->op);
	json_object_object_add(j, "operation_name",
			       going ? json_object_new_string(thaw_stress_kinds[c->ops[k->first_op + v->op].kind].name) : NULL);
	put_text(j, "expected", v->expected);
	put_text(j, "found", v->found);
	put_text(j, "namely", v->what);
	put(j, "round_seed", u->seed);
	json_object_object_add(j, "operations", operations_object(c, o));
	for (unsigned i = 0; i < u->processes; i++)
		if (!known || i == k->process)
			add_messages(messages, o, o->space[i], u->processes);
	if (!known || k->depth)
		add_messages(messages, o, 0, u->processes);
	json_object_object_add(j, "messages", messages);
	json_object_object_add(j, "threads", lines_object(o->asleep));
	return j;
}
