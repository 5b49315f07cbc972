// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/status.c - the status document, written and read from the same tables of keys */
#include "config.h"
#include "lazy/status.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

#define DEPTH 6

struct number {
	const char *key;
	size_t at;
};
struct word {
	const char *key;
	size_t at, size;
};
#define NUMBER(type, key, member) { key, offsetof(struct type, member) }
#define WORD(type, key, member) { key, offsetof(struct type, member), sizeof(((struct type *)0)->member) }
#define STAT(member) { #member, offsetof(struct thaw_status, stats) + offsetof(struct thaw_stats, member) }
#define END { NULL }

static const struct number top_numbers[] = {
	NUMBER(thaw_status, "pid", pid),
	NUMBER(thaw_status, "tasks_expected", tasks_expected),
	NUMBER(thaw_status, "tasks_arrived", tasks_arrived),
	NUMBER(thaw_status, "spaces", spaces),
	NUMBER(thaw_status, "spaces_done", spaces_done),
	NUMBER(thaw_status, "bytes_total", total),
	NUMBER(thaw_status, "bytes_gone", gone),
	NUMBER(thaw_status, "bytes_unavailable", unavailable),
	NUMBER(thaw_status, "rate", rate),
	NUMBER(thaw_status, "elapsed_ns", elapsed_ns),
	NUMBER(thaw_status, "bytes_placed", placed),
	STAT(faults),
	STAT(latency_count),
	STAT(latency_p50),
	STAT(latency_p90),
	STAT(latency_p99),
	STAT(latency_p999),
	STAT(latency_max),
	STAT(pages_fault),
	STAT(pages_around),
	STAT(pages_background),
	STAT(pages_zero),
	STAT(pages_gone),
	STAT(pages_found),
	STAT(eagain),
	STAT(eexist),
	STAT(enoent),
	STAT(partial),
	STAT(esrch),
	STAT(events_fork),
	STAT(events_remap),
	STAT(events_remove),
	STAT(events_unmap),
	STAT(bytes_read),
	STAT(io_errors),
	STAT(rate_drain),
	STAT(first_ns),
	STAT(complete_ns),
	STAT(state_bytes),
	STAT(staging_bytes),
	END
};
static const struct word top_words[] = {
	WORD(thaw_status, "thaw", version),
	WORD(thaw_status, "phase", phase),
	END
};
static const struct number source_numbers[] = {
	NUMBER(thaw_status, "bytes", source.bytes),
	NUMBER(thaw_status, "gets", source.gets),
	NUMBER(thaw_status, "in_flight", source.in_flight),
	NUMBER(thaw_status, "rtt_ns", source.rtt_ns),
	NUMBER(thaw_status, "lost", source.lost),
	NUMBER(thaw_status, "short_answers", source.short_answers),
	NUMBER(thaw_status, "silent_ns", source.silent_ns),
	END
};
static const struct word source_words[] = {
	WORD(thaw_status, "kind", source.kind),
	WORD(thaw_status, "state", source.state),
	WORD(thaw_status, "address", source.where),
	END
};
static const struct number task_numbers[] = {
	NUMBER(thaw_status_task, "pid", pid),
	NUMBER(thaw_status_task, "here_pid", here),
	NUMBER(thaw_status_task, "bytes_total", total),
	NUMBER(thaw_status_task, "bytes_placed", placed),
	NUMBER(thaw_status_task, "bytes_gone", gone),
	NUMBER(thaw_status_task, "bytes_unavailable", unavailable),
	NUMBER(thaw_status_task, "bytes_unregistered", unregistered),
	NUMBER(thaw_status_task, "faults", faults),
	NUMBER(thaw_status_task, "latency_p50", p50),
	NUMBER(thaw_status_task, "latency_p99", p99),
	END
};
static const struct word task_words[] = {
	WORD(thaw_status_task, "state", state),
	END
};

struct thaw_status_task *thaw_status_add(struct thaw_status *s)
{
	/* Doubles at each power of two: no room needs to be remembered. */
	if (!(s->n_tasks & (s->n_tasks - 1))) {
		size_t room = s->n_tasks ? s->n_tasks * 2 : 1;
		struct thaw_status_task *more = realloc(s->task, room * sizeof(*more));

		if (!more)
			return NULL;
		s->task = more;
	}
	memset(&s->task[s->n_tasks], 0, sizeof(*s->task));
	return &s->task[s->n_tasks++];
}

void thaw_status_free(struct thaw_status *s)
{
	free(s->task);
	s->task = NULL;
	s->n_tasks = 0;
}

/* ---- written ----------------------------------------------------------------------------------------------- */
/* Takes v over. */
static bool put(struct json_object *o, const char *key, struct json_object *v)
{
	if (v && !json_object_object_add(o, key, v))
		return true;
	json_object_put(v);
	return false;
}

static bool put_all(struct json_object *o, const void *from, const struct word *w, const struct number *n)
{
	for (; w->key; w++)
		if (!put(o, w->key, json_object_new_string((const char *)from + w->at)))
			return false;
	for (; n->key; n++) {
		uint64_t v;

		memcpy(&v, (const char *)from + n->at, sizeof(v));
		if (!put(o, n->key, json_object_new_uint64(v)))
			return false;
	}
	return true;
}

static struct json_object *source(const struct thaw_status *s)
{
	struct json_object *o = json_object_new_object();

	if (o && put_all(o, s, source_words, source_numbers))
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *task(const struct thaw_status_task *t)
{
	struct json_object *o = json_object_new_object();

	if (o && put_all(o, t, task_words, task_numbers) && put(o, "child", json_object_new_boolean(t->child)))
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *tasks(const struct thaw_status *s)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; a && i < s->n_tasks; i++) {
		struct json_object *o = task(&s->task[i]);

		if (o && !json_object_array_add(a, o))
			continue;
		json_object_put(o);
		json_object_put(a);
		return NULL;
	}
	return a;
}

static bool left(struct json_object *o, const struct thaw_status *s)
{
	if (s->left_ns == UINT64_MAX)
		return !json_object_object_add(o, "left_ns", NULL);
	return put(o, "left_ns", json_object_new_uint64(s->left_ns));
}

char *thaw_status_to_json(const struct thaw_status *s, bool pretty)
{
	struct json_object *o = json_object_new_object();
	char *copy = NULL;

	if (o && put_all(o, s, top_words, top_numbers) && left(o, s) && put(o, "source", source(s)) && put(o, "tasks", tasks(s))) {
		const char *text = json_object_to_json_string_ext(o, pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED :
										JSON_C_TO_STRING_PLAIN);
		copy = text ? strdup(text) : NULL;
	}
	json_object_put(o);
	return copy;
}

/* ---- read -------------------------------------------------------------------------------------------------- */
static int strange(const char *key)
{
	return thaw_err_set(-EBADMSG, "what answers is no status of thaw lazy-pages: '%s' is missing or of another kind", key);
}

static struct json_object *get(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, type) ? v : NULL;
}

/* What a terminal is shown comes from another process: printable characters only. */
static void copy_word(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 1 < size; from++)
		to[n++] = *from >= ' ' && *from <= '~' ? *from : '?';
	to[n] = '\0';
}

static int get_number(struct json_object *o, const char *key, uint64_t *value)
{
	struct json_object *v = get(o, key, json_type_int);

	if (!v || json_object_get_int64(v) < 0)
		return strange(key);
	*value = json_object_get_uint64(v);
	return 0;
}

static int get_all(struct json_object *o, void *to, const struct word *w, const struct number *n)
{
	for (; w->key; w++) {
		struct json_object *v = get(o, w->key, json_type_string);

		if (!v)
			return strange(w->key);
		copy_word((char *)to + w->at, w->size, json_object_get_string(v));
	}
	for (; n->key; n++) {
		uint64_t v;
		int r = get_number(o, n->key, &v);

		if (r)
			return r;
		memcpy((char *)to + n->at, &v, sizeof(v));
	}
	return 0;
}

static int get_tasks(struct thaw_status *s, struct json_object *o)
{
	struct json_object *a = get(o, "tasks", json_type_array);
	size_t n = a ? json_object_array_length(a) : 0;
	int r = 0;

	if (!a)
		return strange("tasks");
	for (size_t i = 0; i < n && !r; i++) {
		struct json_object *each = json_object_array_get_idx(a, i), *child;
		struct thaw_status_task *t;

		if (!json_object_is_type(each, json_type_object))
			return strange("tasks");
		child = get(each, "child", json_type_boolean);
		if (!child)
			return strange("child");
		t = thaw_status_add(s);
		if (!t)
			return thaw_err_set(-ENOMEM, "status: no memory for %zu tasks", n);
		t->child = json_object_get_boolean(child);
		r = get_all(each, t, task_words, task_numbers);
	}
	return r;
}

static int get_document(struct thaw_status *s, struct json_object *o)
{
	struct json_object *from, *v;
	int r;

	if (!json_object_is_type(o, json_type_object))
		return thaw_err_set(-EBADMSG, "what answers is no status of thaw lazy-pages");
	r = get_all(o, s, top_words, top_numbers);
	if (r)
		return r;
	s->stats.bytes_placed = s->placed;
	if (!json_object_object_get_ex(o, "left_ns", &v))
		return strange("left_ns");
	s->left_ns = UINT64_MAX;
	if (v && (r = get_number(o, "left_ns", &s->left_ns)))
		return r;
	from = get(o, "source", json_type_object);
	if (!from)
		return strange("source");
	r = get_all(from, s, source_words, source_numbers);
	return r ? r : get_tasks(s, o);
}

int thaw_status_from_json(struct thaw_status *s, const char *text, size_t len)
{
	struct json_tokener *t;
	struct json_object *o;
	int r;

	memset(s, 0, sizeof(*s));
	if (len > THAW_STATUS_MOST)
		return thaw_err_set(-EBADMSG, "what answers is no status of thaw lazy-pages: it does not end");
	t = json_tokener_new_ex(DEPTH);
	if (!t)
		return thaw_err_set(-ENOMEM, "status: no memory");
	o = json_tokener_parse_ex(t, text, (int)len);
	if (json_tokener_get_error(t) == json_tokener_success)
		r = get_document(s, o);
	else if (!len)
		r = thaw_err_set(-EBADMSG, "the connection ended without an answer");
	else
		r = thaw_err_set(-EBADMSG, "what answers is no status of thaw lazy-pages: %s",
				 json_tokener_get_error(t) == json_tokener_continue ? "it ends in the middle" :
				 json_tokener_error_desc(json_tokener_get_error(t)));
	json_object_put(o);
	json_tokener_free(t);
	return r;
}
