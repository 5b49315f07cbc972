// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/replay.c - set-up and schedule of a round as a text file, written when something was found and run again with --replay */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "thaw-stress replay 1"

/* The set-up's numbers by name. */
#define FIELDS(X) \
	X(seed) X(content) X(size) X(processes) X(threads) X(copiers) X(readers) X(around) X(spin) X(delay_ms) X(chunk) \
	X(by_library) X(holder) X(late_add) X(big) X(sandbox) X(shatter) X(held) X(gate)

static void write_setup(FILE *f, const struct stress_setup *u)
{
#define WRITE(name) fprintf(f, #name " %" PRIu64 "\n", (uint64_t)u->name);
	FIELDS(WRITE)
	fprintf(f, "io %d\nsource %s\nbackground %s\n", (int)u->io, thaw_stress_sources[u->source],
		thaw_stress_backgrounds[u->background]);
}

static void write_schedule(FILE *f, const struct stress_schedule *c)
{
	for (uint32_t i = 0; i < c->n_tracks; i++) {
		const struct stress_plan_track *k = &c->tracks[i];

		fprintf(f, "track %d %d %d %d %u\n", k->process, k->thread, k->parent, k->depth, k->n_ops);
		for (uint32_t j = k->first_op; j < k->first_op + k->n_ops; j++)
			fprintf(f, "op %s %u %u %u %d\n", thaw_stress_kinds[c->ops[j].kind].name, c->ops[j].a, c->ops[j].b,
				c->ops[j].c, c->ops[j].child);
	}
}

int thaw_stress_replay_write(const char *path, const struct stress_setup *u, const struct stress_schedule *c,
			     const struct stress_outcome *o)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -1;
	fprintf(f, MAGIC "\n# %s\n", thaw_stress_classes[o->violation.class]);
	write_setup(f, u);
	write_schedule(f, c);
	fprintf(f, "end\n");
	if (ferror(f) | fclose(f))
		return -1;
	return 0;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------ */
static int choice(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(names[i], text))
			return i;
	return -1;
}

static bool read_setup(struct stress_setup *u, const char *name, const char *text)
{
	char *end;
	uint64_t value;
	int n;

	if (!strcmp(name, "source") && (n = choice(thaw_stress_sources, text)) >= 0)
		return u->source = n, true;
	if (!strcmp(name, "background") && (n = choice(thaw_stress_backgrounds, text)) >= 0)
		return u->background = n, true;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || end == text || *text == '-')
		return false;
	if (!strcmp(name, "io"))
		return u->io = value, value <= THAW_IO_POOL;
#define READ(field) \
	if (!strcmp(name, #field)) \
		return u->field = value, true;
	FIELDS(READ)
	return false;
}

static bool read_track(struct stress_schedule *c, const char *text, uint32_t *left)
{
	struct stress_plan_track k;

	if (*left || c->n_tracks == STRESS_MAX_TRACKS ||
	    sscanf(text, "%d %d %d %d %u", &k.process, &k.thread, &k.parent, &k.depth, &k.n_ops) != 5 || k.process < 0 ||
	    k.process >= STRESS_MAX_PROCESSES || k.thread < 0 || k.thread >= STRESS_MAX_THREADS || k.depth < 0 ||
	    k.parent >= (int)c->n_tracks || k.n_ops > STRESS_MAX_OPS - c->n_ops)
		return false;
	k.first_op = c->n_ops;
	c->tracks[c->n_tracks++] = k;
	*left = k.n_ops;
	return true;
}

static bool read_op(struct stress_schedule *c, struct stress_setup *u, const char *text, uint32_t *left)
{
	struct stress_op op;
	char name[32];
	unsigned third;
	int kind;

	if (!*left || sscanf(text, "%31s %u %u %u %d", name, &op.a, &op.b, &third, &op.child) != 5)
		return false;
	kind = thaw_stress_kind_find(name, strlen(name));
	if (kind < 0 || third > UINT16_MAX || op.child < -1 || op.child >= STRESS_MAX_TRACKS)
		return false;
	op.kind = kind;
	op.c = third;
	u->kind[kind] = true;
	c->ops[c->n_ops++] = op;
	--*left;
	return true;
}

static const char *check(const struct stress_setup *u, const struct stress_schedule *c)
{
	uint32_t roots = 0;

	if (!u->processes || u->processes > STRESS_MAX_PROCESSES || !u->threads || u->threads > STRESS_MAX_THREADS ||
	    u->size % STRESS_PAGE || u->size < 64 * STRESS_PAGE * u->threads || u->size > 1ULL << 40)
		return "its set-up is out of range";
	for (uint32_t i = 0; i < c->n_tracks; i++) {
		roots += c->tracks[i].parent < 0;
		if (c->tracks[i].process >= (int)u->processes || c->tracks[i].thread >= (int)u->threads ||
		    (c->tracks[i].parent < 0) != !c->tracks[i].depth)
			return "a track belongs to no process";
	}
	for (uint32_t i = 0; i < c->n_ops; i++)
		if (c->ops[i].child >= (int)c->n_tracks)
			return "an operation makes a child that has no track";
	return roots == u->processes * u->threads ? NULL : "there is not one track for each thread of each process";
}

static bool read_lines(FILE *f, struct stress_setup *u, struct stress_schedule *c, unsigned *number)
{
	char line[256], *text;
	uint32_t left = 0;

	for (*number = 1; fgets(line, sizeof(line), f); ++*number) {
		bool good = true;

		line[strcspn(line, "\n")] = 0;
		if (*number == 1) {
			if (strcmp(line, MAGIC))
				return false;
			continue;
		}
		if (!*line || *line == '#')
			continue;
		if (!strcmp(line, "end"))
			return !left;
		text = strchr(line, ' ');
		if (!text)
			return false;
		*text++ = 0;
		if (!strcmp(line, "track"))
			good = read_track(c, text, &left);
		else if (!strcmp(line, "op"))
			good = read_op(c, u, text, &left);
		else
			good = read_setup(u, line, text);
		if (!good)
			return false;
	}
	return false; /* no end: a part is missing */
}

int thaw_stress_replay_read(const char *path, struct stress_setup *u, struct stress_schedule *c, char *why, size_t size)
{
	FILE *f = fopen(path, "re");
	unsigned number = 0;
	const char *wrong;
	bool good;

	memset(u, 0, sizeof(*u));
	memset(c, 0, sizeof(*c));
	if (!f) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		return -1;
	}
	c->tracks = calloc(STRESS_MAX_TRACKS, sizeof(*c->tracks));
	c->ops = calloc(STRESS_MAX_OPS, sizeof(*c->ops));
	good = c->tracks && c->ops && read_lines(f, u, c, &number);
	fclose(f);
	wrong = good ? check(u, c) : NULL;
	if (good && !wrong)
		return 0;
	if (wrong)
		snprintf(why, size, "%s: %s", path, wrong);
	else
		snprintf(why, size, "%s: line %u is not a line of a replay file", path, number);
	thaw_stress_schedule_free(c);
	return -1;
}
