// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/showjson.c - a checkpoint as one JSON object; its keys are documented in thaw-show(1).
#include "config.h"

#include <json-c/json.h>
#include <stdio.h>

#include "cli/show.h"

static void put(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void put_text(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, v ? json_object_new_string(v) : NULL);
}

static struct json_object *threads(const ThawState__Process *p)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < p->n_threads; i++) {
		struct json_object *t = json_object_new_object();

		put(t, "tid", p->threads[i]->tid);
		put_text(t, "name", p->threads[i]->name);
		json_object_array_add(a, t);
	}
	return a;
}

static struct json_object *mappings(const struct thaw_show *s)
{
	struct json_object *o = json_object_new_object();

	put(o, "count", s->process->n_mappings);
	put(o, "anonymous", s->kinds[THAW_STATE__MAPPING__KIND__ANON]);
	put(o, "private_file", s->kinds[THAW_STATE__MAPPING__KIND__FILE_PRIVATE]);
	put(o, "shared_file", s->kinds[THAW_STATE__MAPPING__KIND__FILE_SHARED]);
	put(o, "shared_anonymous", s->kinds[THAW_STATE__MAPPING__KIND__SHARED_ANON]);
	put(o, "special", s->kinds[THAW_STATE__MAPPING__KIND__SPECIAL]);
	return o;
}

static struct json_object *memory(const struct thaw_show *s)
{
	struct json_object *o = json_object_new_object();

	put(o, "lazy_bytes", s->lazy_bytes);
	put(o, "eager_bytes", s->eager_bytes);
	return o;
}

static struct json_object *files(const struct thaw_show *s)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < s->process->n_fds; i++) {
		const ThawState__Fd *fd = s->process->fds[i];
		const ThawState__File *f = thaw_show_file(s, fd);
		struct json_object *o = json_object_new_object();

		put(o, "fd", fd->fd);
		put_text(o, "type", thaw_show_kind(f));
		put_text(o, "path", f && f->path && *f->path ? f->path : NULL);
		put(o, "offset", f ? f->pos : 0);
		put(o, "flags", f ? f->flags : 0);
		json_object_object_add(o, "cloexec", json_object_new_boolean(fd->cloexec));
		json_object_array_add(a, o);
	}
	return a;
}

static struct json_object *stored(const ThawState__Head *h)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < h->n_stored_sizes; i++)
		json_object_array_add(a, json_object_new_uint64(h->stored_sizes[i]));
	return a;
}

void thaw_show_json(const struct thaw_show *s)
{
	const ThawState__Process *p = s->process;
	struct json_object *o = json_object_new_object();
	char when[32];

	put_text(o, "directory", s->dir);
	put_text(o, "taken", thaw_show_taken(s, when, sizeof(when)));
	put_text(o, "kernel", s->head->kernel);
	put(o, "page_size", s->head->page_size);
	put(o, "pid", p->pid);
	put(o, "ppid", p->ppid);
	put(o, "pgid", p->pgid);
	put(o, "sid", p->sid);
	put(o, "uid", p->threads[0]->creds->euid);
	put(o, "gid", p->threads[0]->creds->egid);
	put_text(o, "exe", p->exe);
	put_text(o, "cwd", p->cwd);
	put_text(o, "root", p->root);
	json_object_object_add(o, "threads", threads(p));
	json_object_object_add(o, "mappings", mappings(s));
	json_object_object_add(o, "memory", memory(s));
	json_object_object_add(o, "files", files(s));
	json_object_object_add(o, "stored", stored(s->head));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}
