// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/stats.c - the statistics of one restore as one JSON object; its keys are documented in thaw-restore(1).
#include "config.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "cli/restore.h"

static void put(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static const char *mode(const struct thaw_restore_command *cmd)
{
	if (cmd->core.eager)
		return "eager";
	return cmd->stay_lazy ? "stay-lazy" : "post-copy";
}

static const char *state(const struct thaw_arrival *a)
{
	if (!a->reaped)
		return "running";
	return WIFSIGNALED(a->wait_status) ? "killed" : "exited";
}

static void put_restore(struct json_object *o, const struct thaw_arrival *a)
{
	const struct thaw_progress *p = &a->final_progress;

	json_object_object_add(o, "thaw", json_object_new_string(PACKAGE_VERSION));
	put(o, "pid", a->process.pid);
	json_object_object_add(o, "mode", json_object_new_string(mode(a->cmd)));
	json_object_object_add(o, "process", json_object_new_string(state(a)));
	/* Every page has been placed or was discarded by the process: not so when it ended before. */
	json_object_object_add(o, "complete", json_object_new_boolean(a->final.complete_ns != 0));
	put(o, "prepare_ns", a->prepare_ns - a->start_ns);
	put(o, "running_ns", a->running_ns - a->start_ns);
	put(o, "arrival_ns", a->end_ns - a->start_ns);
	put(o, "bytes_total", p->bytes_total);
	put(o, "bytes_gone", p->bytes_gone);
	put(o, "bytes_eager", a->process.written.bytes);
	put(o, "spaces", p->spaces);
}

void thaw_stats_put(struct json_object *o, const struct thaw_stats *s)
{
	const struct {
		const char *key;
		uint64_t value;
	} all[] = {
		{ "faults", s->faults },
		{ "latency_count", s->latency_count },
		{ "latency_p50", s->latency_p50 },
		{ "latency_p90", s->latency_p90 },
		{ "latency_p99", s->latency_p99 },
		{ "latency_p999", s->latency_p999 },
		{ "latency_max", s->latency_max },
		{ "pages_fault", s->pages_fault },
		{ "pages_around", s->pages_around },
		{ "pages_background", s->pages_background },
		{ "pages_zero", s->pages_zero },
		{ "pages_gone", s->pages_gone },
		{ "pages_found", s->pages_found },
		{ "eagain", s->eagain },
		{ "eexist", s->eexist },
		{ "enoent", s->enoent },
		{ "partial", s->partial },
		{ "esrch", s->esrch },
		{ "events_fork", s->events_fork },
		{ "events_remap", s->events_remap },
		{ "events_remove", s->events_remove },
		{ "events_unmap", s->events_unmap },
		{ "bytes_placed", s->bytes_placed },
		{ "bytes_read", s->bytes_read },
		{ "io_errors", s->io_errors },
		{ "rate_drain", s->rate_drain },
		{ "first_ns", s->first_ns },
		{ "complete_ns", s->complete_ns },
		{ "state_bytes", s->state_bytes },
		{ "staging_bytes", s->staging_bytes },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		put(o, all[i].key, all[i].value);
}

char *thaw_stats_json(const struct thaw_arrival *a)
{
	struct json_object *o = json_object_new_object();
	char *text = NULL;

	if (!o)
		return NULL;
	put_restore(o, a);
	thaw_stats_put(o, &a->final);
	const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
	size_t len = s ? strlen(s) : 0;
	if (s && (text = malloc(len + 2))) {
		memcpy(text, s, len);
		memcpy(text + len, "\n", 2);
	}
	json_object_put(o);
	return text;
}
