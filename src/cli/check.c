// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/check.c - thaw check: what this kernel and this user may do, one line each, with the remedy.
#include "config.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "cli/cli.h"
#include "kern/probe.h"

/* What a checkpoint and a post-copy restore cannot do without. */
#define NEEDED (THAW_PROBE_LIBRARY | THAW_PROBE_CHECKPOINT | THAW_PROBE_RESTORE)

static bool is_needed(const struct thaw_probe_item *i)
{
	return i->need & NEEDED;
}

static bool is_there(const struct thaw_probe_item *i)
{
	return i->state == THAW_PROBE_YES;
}

static void line(const struct thaw_probe_item *i)
{
	const char *word = is_there(i) ? "ok" : is_needed(i) ? "missing" : "without";

	printf("%-8s %s: %s", word, i->name, i->what);
	if (!is_there(i))
		printf(": %s", thaw_probe_state_name(i->state));
	if (*i->detail)
		printf(" (%s)", i->detail);
	if (!is_there(i) && *i->remedy)
		printf("; remedy: %s", i->remedy);
	putchar('\n');
}

static void verdict(const struct thaw_probe_item *items, unsigned n, unsigned missing)
{
	unsigned there = 0;

	for (unsigned i = 0; i < n; i++)
		there += is_there(&items[i]);
	if (missing)
		printf("thaw cannot checkpoint and restore here: %u thing%s missing\n", missing, missing == 1 ? " is" : "s are");
	else
		printf("thaw can checkpoint and restore here: %u of %u ok\n", there, n);
}

static struct json_object *needs(const struct thaw_probe_item *i)
{
	static const struct {
		unsigned need;
		const char *name;
	} all[] = {
		{ THAW_PROBE_LIBRARY, "library" },
		{ THAW_PROBE_CHECKPOINT, "checkpoint" },
		{ THAW_PROBE_RESTORE, "restore" },
		{ THAW_PROBE_FASTER, "faster" },
	};
	struct json_object *a = json_object_new_array();

	for (size_t k = 0; k < sizeof(all) / sizeof(*all); k++)
		if (i->need & all[k].need)
			json_object_array_add(a, json_object_new_string(all[k].name));
	return a;
}

static void put(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

static void json(const struct thaw_probe_item *items, unsigned n, unsigned missing)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct utsname u;

	uname(&u);
	put(o, "kernel", u.release);
	json_object_object_add(o, "works", json_object_new_boolean(!missing));
	for (unsigned i = 0; i < n; i++) {
		struct json_object *e = json_object_new_object();

		put(e, "name", items[i].name);
		put(e, "what", items[i].what);
		json_object_object_add(e, "needed_for", needs(&items[i]));
		put(e, "state", thaw_probe_state_name(items[i].state));
		put(e, "detail", items[i].detail);
		put(e, "remedy", items[i].remedy);
		json_object_array_add(list, e);
	}
	json_object_object_add(o, "checks", list);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

int thaw_cmd_check(const struct thaw_command *c, int argc, char **argv)
{
	struct thaw_probe_item items[THAW_PROBE_MAX];
	bool as_json = false;
	struct thaw_option own[] = {
		{ 0, "json", NULL, "as one JSON object", THAW_OPTION_FLAG, &as_json },
		{ .kind = THAW_OPTION_END }
	};
	int status = thaw_options_parse(c, own, argc, argv);

	if (status >= 0)
		return status;
	unsigned n = thaw_probe_all(items, THAW_PROBE_MAX), missing = 0;
	for (unsigned i = 0; i < n; i++)
		missing += is_needed(&items[i]) && !is_there(&items[i]);
	if (as_json) {
		json(items, n, missing);
	} else {
		for (unsigned i = 0; i < n; i++)
			if (!thaw_cli.quiet || !is_there(&items[i]))
				line(&items[i]);
		if (!thaw_cli.quiet)
			verdict(items, n, missing);
	}
	return missing ? THAW_EXIT_FAILURE : THAW_EXIT_OK;
}
