// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/statusprom.c - the status as Prometheus' text exposition: one block a metric, its samples together */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lazy/status.h"

struct out {
	FILE *f;
	const char *name;
};

static void metric(struct out *o, const char *name, const char *type, const char *help)
{
	o->name = name;
	fprintf(o->f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void plain(struct out *o, uint64_t v)
{
	fprintf(o->f, "%s %" PRIu64 "\n", o->name, v);
}

/* Values of labels hold no quote, backslash or newline: words of our own, or numbers. */
static void labelled(struct out *o, const char *label, const char *value, uint64_t v)
{
	fprintf(o->f, "%s{%s=\"%s\"} %" PRIu64 "\n", o->name, label, value, v);
}

static void one(struct out *o, const char *name, const char *type, const char *help, uint64_t v)
{
	metric(o, name, type, help);
	plain(o, v);
}

static void escaped(FILE *f, const char *text)
{
	for (; *text; text++)
		fprintf(f, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
}

static void seconds(struct out *o, const char *quantile, uint64_t ns)
{
	fprintf(o->f, "%s{quantile=\"%s\"} %.9g\n", o->name, quantile, ns / 1e9);
}

static void words(struct out *o, const char *label, const char *const *all, const char *now)
{
	for (; *all; all++)
		labelled(o, label, *all, !strcmp(*all, now));
}

static void state(struct out *o, const struct thaw_status *s)
{
	static const char *const phases[] = { "listening", "arriving", "serving", "over", NULL };

	metric(o, "thaw_build_info", "gauge", "The daemon's version.");
	fprintf(o->f, "thaw_build_info{version=\"");
	escaped(o->f, s->version);
	fprintf(o->f, "\"} 1\n");
	metric(o, "thaw_phase", "gauge", "1 for the phase that the lazy restore is in.");
	words(o, "phase", phases, s->phase);
	one(o, "thaw_tasks_expected", "gauge", "Tasks of the images.", s->tasks_expected);
	one(o, "thaw_tasks_arrived", "gauge", "Tasks that the restorer has handed over.", s->tasks_arrived);
	one(o, "thaw_spaces_total", "counter", "Address spaces served, forked children included.", s->spaces);
	one(o, "thaw_spaces_done_total", "counter", "Address spaces that are finished or gone.", s->spaces_done);
	metric(o, "thaw_elapsed_seconds", "gauge", "Time since the monitor was started, until all was done.");
	fprintf(o->f, "%s %.9g\n", o->name, s->elapsed_ns / 1e9);
}

static void memory(struct out *o, const struct thaw_status *s)
{
	one(o, "thaw_memory_bytes", "gauge", "Content that there was to place.", s->total);
	one(o, "thaw_placed_bytes_total", "counter", "Content that is in.", s->placed);
	one(o, "thaw_discarded_bytes_total", "counter", "Content that a process discarded before it was needed.", s->gone);
	one(o, "thaw_unavailable_bytes", "gauge", "Content that could not be read when it was asked for.", s->unavailable);
	one(o, "thaw_rate_bytes_per_second", "gauge", "Over the last second or so.", s->rate);
	metric(o, "thaw_left_seconds", "gauge", "Estimate of the time left; NaN: unknown.");
	if (s->left_ns == UINT64_MAX)
		fprintf(o->f, "%s NaN\n", o->name);
	else
		fprintf(o->f, "%s %.9g\n", o->name, s->left_ns / 1e9);
	metric(o, "thaw_pages_placed_total", "counter", "Pages placed, by what brought them in.");
	labelled(o, "cause", "fault", s->stats.pages_fault);
	labelled(o, "cause", "around", s->stats.pages_around);
	labelled(o, "cause", "background", s->stats.pages_background);
	labelled(o, "cause", "zero", s->stats.pages_zero);
}

static void faults(struct out *o, const struct thaw_status *s)
{
	one(o, "thaw_faults_total", "counter", "Page faults read from userfaultfd.", s->stats.faults);
	metric(o, "thaw_fault_latency_seconds", "summary", "From a fault's message being read to its page being placed.");
	seconds(o, "0.5", s->stats.latency_p50);
	seconds(o, "0.9", s->stats.latency_p90);
	seconds(o, "0.99", s->stats.latency_p99);
	seconds(o, "0.999", s->stats.latency_p999);
	seconds(o, "1", s->stats.latency_max);
	fprintf(o->f, "%s_count %" PRIu64 "\n", o->name, s->stats.latency_count);
	metric(o, "thaw_answers_total", "counter", "Answers of the kernel that ask for something else than going on.");
	labelled(o, "answer", "eagain", s->stats.eagain);
	labelled(o, "answer", "eexist", s->stats.eexist);
	labelled(o, "answer", "enoent", s->stats.enoent);
	labelled(o, "answer", "partial", s->stats.partial);
	labelled(o, "answer", "esrch", s->stats.esrch);
	metric(o, "thaw_events_total", "counter", "What the processes did to their memory.");
	labelled(o, "event", "fork", s->stats.events_fork);
	labelled(o, "event", "remap", s->stats.events_remap);
	labelled(o, "event", "remove", s->stats.events_remove);
	labelled(o, "event", "unmap", s->stats.events_unmap);
}

static void source(struct out *o, const struct thaw_status *s)
{
	static const char *const states[] = { "local", "connecting", "connected", "lost", "failed", "closed", NULL };

	metric(o, "thaw_source_state", "gauge", "1 for the state that the source of the content is in.");
	words(o, "state", states, s->source.state);
	one(o, "thaw_source_bytes_total", "counter", "Content that the page server has sent.", s->source.bytes);
	one(o, "thaw_source_requests_total", "counter", "Requests to the page server.", s->source.gets);
	one(o, "thaw_source_requests_in_flight", "gauge", "Requests without an answer.", s->source.in_flight);
	one(o, "thaw_source_lost_total", "counter", "How often the connection was lost.", s->source.lost);
	metric(o, "thaw_source_round_trip_seconds", "gauge", "Smoothed time from a request to its answer; 0: none yet.");
	fprintf(o->f, "%s %.9g\n", o->name, s->source.rtt_ns / 1e9);
	metric(o, "thaw_source_silent_seconds", "gauge", "How long an answer of the page server is overdue, from 10 seconds on; else 0.");
	fprintf(o->f, "%s %.9g\n", o->name, s->source.silent_ns / 1e9);
	one(o, "thaw_read_bytes_total", "counter", "Content read from a disk or a server.", s->stats.bytes_read);
	one(o, "thaw_read_errors_total", "counter", "Reads of content that failed.", s->stats.io_errors);
}

static void by_task(struct out *o, const struct thaw_status *s, size_t at)
{
	for (size_t i = 0; i < s->n_tasks; i++) {
		char pid[24];
		uint64_t v;

		if (s->task[i].child)
			continue;
		snprintf(pid, sizeof(pid), "%" PRIu64, s->task[i].pid);
		memcpy(&v, (const char *)&s->task[i] + at, sizeof(v));
		labelled(o, "pid", pid, v);
	}
}

static void tasks(struct out *o, const struct thaw_status *s)
{
	metric(o, "thaw_task_memory_bytes", "gauge", "Content that there was to place in a task, by its pid in the images.");
	by_task(o, s, offsetof(struct thaw_status_task, total));
	metric(o, "thaw_task_placed_bytes_total", "counter", "Content that is in.");
	by_task(o, s, offsetof(struct thaw_status_task, placed));
	metric(o, "thaw_task_discarded_bytes_total", "counter", "Content that the task discarded before it was needed.");
	by_task(o, s, offsetof(struct thaw_status_task, gone));
	metric(o, "thaw_task_faults_total", "counter", "Page faults of the task.");
	by_task(o, s, offsetof(struct thaw_status_task, faults));
}

char *thaw_status_to_prometheus(const struct thaw_status *s)
{
	char *text = NULL;
	size_t len = 0;
	struct out o = { .f = open_memstream(&text, &len) };

	if (!o.f)
		return NULL;
	state(&o, s);
	memory(&o, s);
	faults(&o, s);
	source(&o, s);
	tasks(&o, s);
	if (!fclose(o.f))
		return text;
	free(text);
	return NULL;
}
