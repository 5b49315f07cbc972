// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/lazystats.c - what came of a lazy restore: a line for each task, and the statistics.
#include "config.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/lazy.h"
#include "cli/restore.h"

/* The figures of a member: its own when it has ended, else those of now. */
static struct thaw_progress figures(struct thaw_lazy *z, const struct thaw_lazy_member *m)
{
	struct thaw_progress p = { .size = sizeof(p) };

	if (m->ended)
		return m->last;
	if (thaw_get_progress(thaw_lazy_monitor(z), m->space, &p) < 0)
		p = (struct thaw_progress){ 0 };
	return p;
}

static int say_member(void *opaque, const struct thaw_lazy_member *m)
{
	struct thaw_lazy *z = opaque;
	struct thaw_progress p = figures(z, m);
	char in[32], total[32], gone[32], children[96] = "";

	if (m->parent)
		return 0;
	if (m->children)
		snprintf(children, sizeof(children), "; in %u child%s of it %s, %llu faults", m->children, m->children == 1 ? "" : "ren",
			 thaw_say_bytes(in, sizeof(in), m->children_placed), (unsigned long long)m->children_faults);
	thaw_say_bytes(in, sizeof(in), p.bytes_placed);
	thaw_say_bytes(total, sizeof(total), p.bytes_total);
	thaw_say_bytes(gone, sizeof(gone), p.bytes_gone);
	if (m->finished || !m->ended)
		thaw_say(0, "pid %d: %s of %s in, %s discarded by it, %llu faults%s%s", m->pid, in, total, gone,
			 (unsigned long long)p.faults, children, m->ended ? "" : "; the rest is not in");
	else
		thaw_say(0, "pid %d: ended with %s of %s in, %llu faults%s", m->pid, in, total, (unsigned long long)p.faults, children);
	return 0;
}

void thaw_lazy_summary(struct thaw_lazy *z)
{
	thaw_lazy_each(z, say_member, z);
}

void thaw_lazy_display(struct thaw_lazy *z)
{
	struct thaw_stats s = { .size = sizeof(s) };
	struct thaw_progress p = { .size = sizeof(p) };
	char a[32], b[32], c[32];

	if (thaw_get_stats(thaw_lazy_monitor(z), 0, &s) < 0 || thaw_get_progress(thaw_lazy_monitor(z), 0, &p) < 0)
		return;
	printf("Displaying lazy-pages stats:\n"
	       "Memory brought in: %s of %s (%s discarded by its processes)\n"
	       "Pages by faults: %llu, beside them: %llu, in the background: %llu, zero: %llu\n",
	       thaw_say_bytes(a, sizeof(a), p.bytes_placed), thaw_say_bytes(b, sizeof(b), p.bytes_total),
	       thaw_say_bytes(c, sizeof(c), p.bytes_gone), (unsigned long long)s.pages_fault,
	       (unsigned long long)s.pages_around, (unsigned long long)s.pages_background, (unsigned long long)s.pages_zero);
	printf("Fault latency: median %s, 99%% %s, longest %s\n", thaw_say_time(a, sizeof(a), s.latency_p50),
	       thaw_say_time(b, sizeof(b), s.latency_p99), thaw_say_time(c, sizeof(c), s.latency_max));
	fflush(stdout);
}

static void put(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

struct list {
	struct thaw_lazy *z;
	struct json_object *tasks;
};

static int put_member(void *opaque, const struct thaw_lazy_member *m)
{
	struct list *l = opaque;
	struct thaw_progress p = figures(l->z, m);
	struct json_object *o = json_object_new_object();

	if (!o || m->parent) {
		json_object_put(o);
		return 0;
	}
	put(o, "pid", m->pid);
	put(o, "here_pid", m->real);
	json_object_object_add(o, "state", json_object_new_string(!m->ended ? "waiting" : m->finished ? "finished" : "gone"));
	put(o, "bytes_total", p.bytes_total);
	put(o, "bytes_placed", p.bytes_placed);
	put(o, "bytes_gone", p.bytes_gone);
	put(o, "bytes_unavailable", m->unavailable);
	put(o, "bytes_unregistered", m->unregistered);
	put(o, "faults", p.faults);
	json_object_array_add(l->tasks, o);
	return 0;
}

static void put_server(struct json_object *o, struct thaw_pageserver *ps)
{
	struct thaw_pageserver_stats s = { .size = sizeof(s) };
	struct json_object *p;

	if (!ps || thaw_pageserver_get_stats(ps, &s) < 0 || !(p = json_object_new_object()))
		return;
	put(p, "bytes", s.bytes);
	put(p, "gets", s.gets);
	put(p, "short_answers", s.short_answers);
	put(p, "lost", s.lost);
	put(p, "rtt_ns", s.rtt_ns);
	json_object_object_add(o, "page_server", p);
}

char *thaw_lazy_stats_json(struct thaw_lazy *z, struct thaw_pageserver *ps, bool complete)
{
	struct json_object *o = json_object_new_object(), *tasks = json_object_new_array();
	struct thaw_stats s = { .size = sizeof(s) };
	struct thaw_progress p = { .size = sizeof(p) };
	struct list l = { z, tasks };
	const char *text;
	char *copy = NULL;

	if (!o || !tasks || thaw_get_stats(thaw_lazy_monitor(z), 0, &s) < 0 ||
	    thaw_get_progress(thaw_lazy_monitor(z), 0, &p) < 0) {
		json_object_put(o);
		json_object_put(tasks);
		return NULL;
	}
	json_object_object_add(o, "thaw", json_object_new_string(PACKAGE_VERSION));
	json_object_object_add(o, "mode", json_object_new_string("lazy-pages"));
	json_object_object_add(o, "complete", json_object_new_boolean(complete));
	put(o, "bytes_total", p.bytes_total);
	put(o, "bytes_gone", p.bytes_gone);
	put(o, "spaces", p.spaces);
	put(o, "elapsed_ns", p.elapsed_ns);
	thaw_stats_put(o, &s);
	put_server(o, ps);
	thaw_lazy_each(z, put_member, &l);
	json_object_object_add(o, "tasks", tasks);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
	if (text && asprintf(&copy, "%s\n", text) < 0)
		copy = NULL;
	json_object_put(o);
	return copy;
}
