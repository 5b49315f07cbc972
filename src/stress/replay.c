// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/replay.c - set-up and schedule of a round as a text file, written when something was found and run again with --replay */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "thaw-stress replay 1"

/* The set-up's numbers by name, with the least and the most that a round can be made with. */
#define FIELDS(X) \
	X(seed, 0, UINT64_MAX) \
	X(content, 0, UINT64_MAX) \
	X(size, STRESS_LEAST_SIZE, STRESS_MOST_SIZE) \
	X(processes, 1, STRESS_MAX_PROCESSES) \
	X(threads, 1, STRESS_MAX_THREADS) \
	X(copiers, 1, STRESS_MAX_COPIERS) \
	X(readers, 1, 16) \
	X(around, 0, 64) \
	X(spin, 0, 200) \
	X(delay_ms, 0, 60000) \
	X(chunk, STRESS_PAGE, STRESS_MOST_CHUNK) \
	X(by_library, 0, 1) \
	X(holder, 0, 1) \
	X(late_add, 0, 1) \
	X(big, 0, 1) \
	X(sandbox, 0, 1) \
	X(shatter, 0, UINT32_MAX) \
	X(held, 0, 1) \
	X(gate, 0, 1) \
	X(io, 0, THAW_IO_POOL)

static void write_setup(FILE *f, const struct stress_setup *u)
{
#define WRITE(name, min, max) fprintf(f, #name " %" PRIu64 "\n", (uint64_t)u->name);
	FIELDS(WRITE)
	fprintf(f, "source %s\nbackground %s\n", thaw_stress_sources[u->source], thaw_stress_backgrounds[u->background]);
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
#define FIELD_ID(name, min, max) FIELD_##name,
enum { FIELDS(FIELD_ID) FIELD_source, FIELD_background, N_FIELDS };
#define FIELD_NAME(name, min, max) #name,
static const char *const fields[] = { FIELDS(FIELD_NAME) "source", "background" };

struct reading {
	struct stress_setup *u;
	struct stress_schedule *c;
	unsigned line;
	unsigned given[N_FIELDS];             /* in which line; 0: not yet */
	unsigned *track_line, *op_line;
	uint32_t left;                        /* operations that the last track has still to come */
	char *why;
	size_t size;
};

static bool wrong(struct reading *r, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool wrong(struct reading *r, unsigned line, const char *fmt, ...)
{
	size_t n = snprintf(r->why, r->size, "line %u: ", line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why + n, r->size - n, fmt, ap);
	va_end(ap);
	return false;
}

static int choice(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(names[i], text))
			return i;
	return -1;
}

/* Digits and nothing else. */
static bool is_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end && *value >= min && *value <= max;
}

static bool read_number(struct reading *r, int field, const char *text)
{
	struct stress_setup *u = r->u;
	uint64_t value, least = 0, most = 0;

	switch (field) {
#define READ(name, min, max) \
	case FIELD_##name: \
		least = min; \
		most = max; \
		if (is_number(text, least, most, &value)) \
			return u->name = value, true; \
		break;
	FIELDS(READ)
	}
	return wrong(r, r->line, "%s is '%s', and has to be a whole number from %" PRIu64 " to %" PRIu64, fields[field], text, least, most);
}

static bool read_setup(struct reading *r, const char *name, const char *text)
{
	int field = 0, n = 0;

	while (field < N_FIELDS && strcmp(fields[field], name))
		field++;
	if (field == N_FIELDS)
		return wrong(r, r->line, "'%s' is nothing that a replay file has", name);
	if (r->given[field])
		return wrong(r, r->line, "%s is given a second time, after line %u", name, r->given[field]);
	r->given[field] = r->line;
	if (field == FIELD_source && (n = choice(thaw_stress_sources, text)) >= 0)
		r->u->source = n;
	if (field == FIELD_background && (n = choice(thaw_stress_backgrounds, text)) >= 0)
		r->u->background = n;
	if (n < 0)
		return wrong(r, r->line, "'%s' is no %s", text, name);
	return field == FIELD_source || field == FIELD_background || read_number(r, field, text);
}

/* So many numbers, each with one blank before it. */
struct limit {
	const char *name;
	int64_t min, max;
};
static bool read_numbers(struct reading *r, char *text, const struct limit *l, unsigned n, int64_t *to)
{
	for (unsigned i = 0; i < n; i++) {
		char *word = strsep(&text, " ");
		bool less = word && *word == '-';
		uint64_t value;

		if (!word)
			return wrong(r, r->line, "%u numbers are expected here, and the %s is missing", n, l[i].name);
		if (!is_number(word + less, 0, INT64_MAX, &value) || (less ? -(int64_t)value : (int64_t)value) < l[i].min ||
		    (less ? -(int64_t)value : (int64_t)value) > l[i].max)
			return wrong(r, r->line, "the %s is '%s', and has to be a whole number from %" PRId64 " to %" PRId64, l[i].name,
				     word, l[i].min, l[i].max);
		to[i] = less ? -(int64_t)value : (int64_t)value;
	}
	return !text || wrong(r, r->line, "%u numbers are expected here, and there is more: '%s'", n, text);
}

static bool read_track(struct reading *r, char *text)
{
	static const struct limit limits[] = { { "process", 0, STRESS_MAX_PROCESSES - 1 }, { "thread", 0, STRESS_MAX_THREADS - 1 },
					       { "parent", -1, STRESS_MAX_TRACKS - 1 }, { "depth", 0, STRESS_DEEPEST },
					       { "number of operations", 0, STRESS_MAX_OPS } };
	struct stress_schedule *c = r->c;
	int64_t n[5];

	if (r->left)
		return wrong(r, r->line, "a track, and the one before it lacks %u of its operations", r->left);
	if (!read_numbers(r, text, limits, 5, n))
		return false;
	if (c->n_tracks == STRESS_MAX_TRACKS)
		return wrong(r, r->line, "there are more than %d tracks", STRESS_MAX_TRACKS);
	if (n[4] > STRESS_MAX_OPS - c->n_ops)
		return wrong(r, r->line, "there are more than %u operations", STRESS_MAX_OPS);
	r->track_line[c->n_tracks] = r->line;
	c->tracks[c->n_tracks++] = (struct stress_plan_track){ n[0], n[1], n[2], n[3], c->n_ops, n[4] };
	r->left = n[4];
	return true;
}

static bool read_op(struct reading *r, char *text)
{
	static const struct limit limits[] = { { "first value", 0, UINT32_MAX }, { "second value", 0, UINT32_MAX },
					       { "third value", 0, UINT16_MAX }, { "child", -1, STRESS_MAX_TRACKS - 1 } };
	struct stress_schedule *c = r->c;
	const char *name = strsep(&text, " ");
	int kind = thaw_stress_kind_find(name, strlen(name));
	int64_t n[4];

	if (!r->left)
		return wrong(r, r->line, "an operation that belongs to no track");
	if (kind < 0)
		return wrong(r, r->line, "'%s' is no operation (--ops list tells them)", name);
	if (!read_numbers(r, text, limits, 4, n))
		return false;
	r->u->kind[kind] = true;
	r->op_line[c->n_ops] = r->line;
	c->ops[c->n_ops++] = (struct stress_op){ kind, n[2], n[0], n[1], n[3] };
	r->left--;
	return true;
}

/* ---- does it hold together? --------------------------------------------------------------------------------------------------- */
static bool check_setup(struct reading *r)
{
	const struct stress_setup *u = r->u;
	char why[200];

	for (int i = 0; i < N_FIELDS; i++)
		if (!r->given[i])
			return wrong(r, r->line, "the end, and %s has not been given", fields[i]);
	if (u->size % STRESS_PAGE)
		return wrong(r, r->given[FIELD_size], "size is not in whole pages");
	if (u->chunk % STRESS_PAGE)
		return wrong(r, r->given[FIELD_chunk], "chunk is not in whole pages");
	if (u->shatter > u->size / STRESS_PAGE)
		return wrong(r, r->given[FIELD_shatter], "shatter is %u, and a process has only %" PRIu64 " pages", u->shatter,
			     u->size / STRESS_PAGE);
	return thaw_stress_fits(u->size, u->processes, u->threads, why, sizeof(why)) || wrong(r, r->given[FIELD_size], "size: %s", why);
}

/* A worker takes its threads as they come: those of a process in order, each once. */
static bool check_roots(struct reading *r)
{
	unsigned next[STRESS_MAX_PROCESSES] = { 0 };
	const struct stress_schedule *c = r->c;

	for (uint32_t i = 0; i < c->n_tracks; i++) {
		const struct stress_plan_track *k = &c->tracks[i];

		if (k->process >= (int)r->u->processes || k->thread >= (int)r->u->threads)
			return wrong(r, r->track_line[i], "there is no thread %d of process %d", k->thread, k->process);
		if ((k->parent < 0) != !k->depth)
			return wrong(r, r->track_line[i], "depth %d does not go with parent %d", k->depth, k->parent);
		if (k->parent < 0 && k->thread != (int)next[k->process]++)
			return wrong(r, r->track_line[i], "thread %d of process %d is not its next one", k->thread, k->process);
	}
	for (unsigned i = 0; i < r->u->processes; i++)
		if (next[i] != r->u->threads)
			return wrong(r, r->line, "the end, and process %u has %u tracks for its %u threads", i, next[i], r->u->threads);
	return true;
}

/* Every child's track is made by one operation, of its parent's: nothing forks for ever, and no track is two processes'. */
static bool check_child(struct reading *r, uint32_t parent, uint32_t op, bool *made)
{
	const struct stress_schedule *c = r->c;
	const struct stress_plan_track *p = &c->tracks[parent], *k;
	int child = c->ops[op].child;

	if (!thaw_stress_kind_forks(c->ops[op].kind))
		return child < 0 || wrong(r, r->op_line[op], "%s makes no child", thaw_stress_kinds[c->ops[op].kind].name);
	if (child < 0)
		return wrong(r, r->op_line[op], "%s makes a child, and names no track for it", thaw_stress_kinds[c->ops[op].kind].name);
	if (child >= (int)c->n_tracks)
		return wrong(r, r->op_line[op], "there is no track %d", child);
	k = &c->tracks[child];
	if (k->parent != (int)parent || child <= (int)parent)
		return wrong(r, r->op_line[op], "track %d is no child of track %u", child, parent);
	if (made[child])
		return wrong(r, r->op_line[op], "track %d is made a second time", child);
	made[child] = true;
	if (k->process != p->process || k->thread != p->thread || k->depth != p->depth + 1)
		return wrong(r, r->track_line[child], "its process, thread or depth does not go with its parent, track %u", parent);
	return true;
}

static bool check_ops(struct reading *r, bool *made)
{
	const struct stress_schedule *c = r->c;

	for (uint32_t i = 0; i < c->n_tracks; i++)
		for (uint32_t j = c->tracks[i].first_op; j < c->tracks[i].first_op + c->tracks[i].n_ops; j++) {
			if (!check_child(r, i, j, made))
				return false;
			if (c->tracks[i].depth && !thaw_stress_kind_suits_children(c->ops[j].kind))
				return wrong(r, r->op_line[j], "%s is for processes that were restored, and track %u is a child's",
					     thaw_stress_kinds[c->ops[j].kind].name, i);
		}
	for (uint32_t i = 0; i < c->n_tracks; i++)
		if (c->tracks[i].parent >= 0 && !made[i])
			return wrong(r, r->track_line[i], "no operation of track %d makes track %u", c->tracks[i].parent, i);
	return true;
}

/* ---- lines --------------------------------------------------------------------------------------------------------------------- */
static bool read_line(struct reading *r, char *line, bool *end)
{
	char *text;

	if (r->line == 1)
		return !strcmp(line, MAGIC) || wrong(r, 1, "is not '" MAGIC "': no replay file, or one of another version");
	if (!*line || *line == '#')
		return true;
	if (*end)
		return wrong(r, r->line, "'%.40s' stands behind the end", line);
	if (!strcmp(line, "end")) {
		*end = true;
		return !r->left || wrong(r, r->line, "the end, and the last track lacks %u of its operations", r->left);
	}
	text = strchr(line, ' ');
	if (!text)
		return wrong(r, r->line, "'%.40s' is not a line of a replay file", line);
	*text++ = 0;
	if (!strcmp(line, "track"))
		return read_track(r, text);
	return !strcmp(line, "op") ? read_op(r, text) : read_setup(r, line, text);
}

static bool read_lines(struct reading *r, FILE *f)
{
	char line[256];
	bool end = false;
	unsigned last = 0;

	while (fgets(line, sizeof(line), f)) {
		size_t n = strlen(line);

		r->line++;
		if (n == sizeof(line) - 1 && line[n - 1] != '\n')
			return wrong(r, r->line, "is longer than any line of a replay file");
		if (n && line[n - 1] == '\n')
			line[n - 1] = 0;
		if (!read_line(r, line, &end))
			return false;
		if (end && !last)
			last = r->line;
	}
	if (ferror(f))
		return wrong(r, r->line + 1, "%s", strerror(errno));
	if (!end)
		return wrong(r, r->line + 1, "the file ends here, without the line 'end'");
	r->line = last;
	return true;
}

int thaw_stress_replay_read(const char *path, struct stress_setup *u, struct stress_schedule *c, char *why, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n = snprintf(why, size, "%s: ", path);
	struct reading r = { .u = u, .c = c, .why = why + (n < size ? n : size - 1), .size = n < size ? size - n : 1 };
	bool *made = calloc(STRESS_MAX_TRACKS, sizeof(*made));
	bool good = false;

	memset(u, 0, sizeof(*u));
	memset(c, 0, sizeof(*c));
	c->tracks = calloc(STRESS_MAX_TRACKS, sizeof(*c->tracks));
	c->ops = calloc(STRESS_MAX_OPS, sizeof(*c->ops));
	r.track_line = calloc(STRESS_MAX_TRACKS, sizeof(*r.track_line));
	r.op_line = calloc(STRESS_MAX_OPS, sizeof(*r.op_line));
	if (!f)
		snprintf(r.why, r.size, "%s", strerror(errno));
	else if (!made || !c->tracks || !c->ops || !r.track_line || !r.op_line)
		snprintf(r.why, r.size, "no memory");
	else
		good = read_lines(&r, f) && check_setup(&r) && check_roots(&r) && check_ops(&r, made);
	if (f)
		fclose(f);
	free(r.track_line);
	free(r.op_line);
	free(made);
	if (!good)
		thaw_stress_schedule_free(c);
	return good ? 0 : -1;
}
