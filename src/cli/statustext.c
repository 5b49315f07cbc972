// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/statustext.c - the status of a lazy restore in words.
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/status.h"

#define HEAD_LINES 5

static void memory(FILE *f, const struct thaw_status *s)
{
	char in[32], total[32], gone[32], rate[32], left[32];
	uint64_t there = s->placed + s->gone;

	fprintf(f, "  memory   %s of %s in", thaw_say_bytes(in, sizeof(in), s->placed), thaw_say_bytes(total, sizeof(total), s->total));
	if (s->total)
		fprintf(f, " (%u%%)", (unsigned)(there >= s->total ? 100 : there * 100.0 / s->total));
	if (s->gone)
		fprintf(f, ", %s discarded", thaw_say_bytes(gone, sizeof(gone), s->gone));
	if (s->unavailable)
		fprintf(f, ", %s could not be read", thaw_say_bytes(gone, sizeof(gone), s->unavailable));
	fprintf(f, ", %s/s", thaw_say_bytes(rate, sizeof(rate), s->rate));
	if (s->left_ns != UINT64_MAX)
		fprintf(f, ", %s left", thaw_say_time(left, sizeof(left), s->left_ns));
	fputc('\n', f);
}

static const char *latency(char *buf, size_t len, uint64_t ns)
{
	if (ns >= 1000000)
		return thaw_say_time(buf, len, ns);
	snprintf(buf, len, "%.1f us", ns / 1e3);
	return buf;
}

static void faults(FILE *f, const struct thaw_stats *st)
{
	char a[32], b[32], c[32];

	fprintf(f, "  faults   %" PRIu64, st->faults);
	if (st->latency_count)
		fprintf(f, ": half served within %s, 99 %% within %s, longest %s", latency(a, sizeof(a), st->latency_p50),
			latency(b, sizeof(b), st->latency_p99), latency(c, sizeof(c), st->latency_max));
	fputc('\n', f);
}

static void source(FILE *f, const struct thaw_status *s)
{
	char a[32], b[32];

	if (strcmp(s->source.kind, "images") == 0) {
		fprintf(f, "  source   local images, %s read from the disk", thaw_say_bytes(a, sizeof(a), s->stats.bytes_read));
		if (s->stats.io_errors)
			fprintf(f, ", %" PRIu64 " reads failed", s->stats.io_errors);
		fputc('\n', f);
		return;
	}
	fprintf(f, "  source   %s %s: %s, %s came, %" PRIu64 " requests under way", s->source.kind, s->source.where, s->source.state,
		thaw_say_bytes(a, sizeof(a), s->source.bytes), s->source.in_flight);
	if (s->source.rtt_ns)
		fprintf(f, ", round trip %s", latency(b, sizeof(b), s->source.rtt_ns));
	if (s->source.silent_ns)
		fprintf(f, ", no answer for %s", thaw_say_time(b, sizeof(b), s->source.silent_ns));
	if (s->source.lost)
		fprintf(f, ", lost %" PRIu64 " times", s->source.lost);
	fputc('\n', f);
}

static void task(FILE *f, const struct thaw_status_task *t)
{
	char in[32], total[32], extra[32], who[48];

	if (t->here && t->here != t->pid)
		snprintf(who, sizeof(who), "%" PRIu64 " (here %" PRIu64 ")", t->pid, t->here);
	else
		snprintf(who, sizeof(who), "%" PRIu64, t->pid);
	fprintf(f, "  %s %-9s%-10s%s of %s in, %" PRIu64 " faults", t->child ? "child of" : "pid", who, t->state,
		thaw_say_bytes(in, sizeof(in), t->placed), thaw_say_bytes(total, sizeof(total), t->total), t->faults);
	if (t->p99)
		fprintf(f, ", 99 %% within %s", latency(extra, sizeof(extra), t->p99));
	if (t->gone)
		fprintf(f, ", %s discarded", thaw_say_bytes(extra, sizeof(extra), t->gone));
	if (t->unavailable)
		fprintf(f, ", %s could not be read", thaw_say_bytes(extra, sizeof(extra), t->unavailable));
	if (t->unregistered)
		fprintf(f, ", %s not registered", thaw_say_bytes(extra, sizeof(extra), t->unregistered));
	fputc('\n', f);
}

static void tasks(FILE *f, const struct thaw_status *s, unsigned lines)
{
	size_t room = !lines ? s->n_tasks : lines > HEAD_LINES ? lines - HEAD_LINES : 0, shown = 0;

	if (room < s->n_tasks && room)
		room--; /* the line that says so */
	for (; shown < s->n_tasks && shown < room; shown++)
		task(f, &s->task[shown]);
	if (shown < s->n_tasks && lines > HEAD_LINES)
		fprintf(f, "  and %zu more\n", s->n_tasks - shown);
}

char *thaw_status_to_text(const struct thaw_status *s, unsigned lines)
{
	char *text = NULL, since[32];
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "thaw lazy-pages, pid %" PRIu64 ": %s, for %s\n", s->pid, s->phase,
		thaw_say_time(since, sizeof(since), s->elapsed_ns));
	fprintf(f, "  tasks    %" PRIu64 " of %" PRIu64 " here; %" PRIu64 " of %" PRIu64 " address spaces done\n", s->tasks_arrived,
		s->tasks_expected, s->spaces_done, s->spaces);
	memory(f, s);
	faults(f, &s->stats);
	source(f, s);
	tasks(f, s, lines);
	if (!fclose(f))
		return text;
	free(text);
	return NULL;
}
