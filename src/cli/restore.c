// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/restore.c - thaw restore: its options, and which go together.
#include "config.h"

#include <stddef.h>

#include "cli/cli.h"
#include "cli/restore.h"

#define DELAY_LIMIT 86400000 /* a day */
#define COPIER_LIMIT 64      /* thaw_set_copiers() */

static const struct thaw_option *find(const struct thaw_option *own, void *value)
{
	while (own->value != value)
		own++;
	return own;
}

/* Two options of which one makes the other meaningless. */
static int conflicts(const struct thaw_command *c, const struct thaw_option *own, struct thaw_restore_command *r)
{
	const struct {
		void *one, *other;
		const char *why;
	} table[] = {
		{ &r->core.eager, &r->stay_lazy, "eagerly there is nothing left to stay lazy" },
		{ &r->core.eager, &r->background_delay, "eagerly there is no background copy" },
		{ &r->core.eager, &r->copiers, "eagerly there is no background copy" },
		{ &r->stay_lazy, &r->background_delay, "lazily there is no background copy" },
		{ &r->stay_lazy, &r->copiers, "lazily there is no background copy" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const struct thaw_option *a = find(own, table[i].one), *b = find(own, table[i].other);

		if (a->given && b->given)
			return thaw_options_refuse(c, "--%s and --%s do not go together: %s", a->name, b->name, table[i].why);
	}
	if (r->detach && r->progress == THAW_LINE_ALWAYS)
		return thaw_options_refuse(c, "--detach and --progress always do not go together: "
					   "nobody watches a detached monitor (see --stats)");
	return -1;
}

static bool interrupted(void *opaque)
{
	(void)opaque;
	return thaw_signals_want_end();
}

int thaw_cmd_restore(const struct thaw_command *c, int argc, char **argv)
{
	struct thaw_restore_command r = { .progress = THAW_LINE_AUTO };
	struct thaw_option own[] = {
		{ 'D', "images", "DIR", "the checkpoint", THAW_OPTION_STRING, &r.core.dir },
		{ 'd', "detach", NULL, "return when it runs; memory goes on arriving", THAW_OPTION_FLAG, &r.detach },
		{ 0, "pidfile", "FILE", "write its pid, as seen from outside, into FILE", THAW_OPTION_STRING, &r.pidfile },
		{ 0, "pidns", NULL, "in a pid namespace of its own (its pid is taken)", THAW_OPTION_FLAG, &r.core.pidns },
		{ 0, "eager", NULL, "bring all memory in before it runs", THAW_OPTION_FLAG, &r.core.eager },
		{ 0, "stay-lazy", NULL, "bring in only what it touches", THAW_OPTION_FLAG, &r.stay_lazy },
		{ 0, "background-delay", "MS", "first only what it touches, for so long (20)", THAW_OPTION_NUMBER,
		  &r.background_delay, 0, DELAY_LIMIT },
		{ 0, "copiers", "N", "threads that bring in the rest", THAW_OPTION_NUMBER, &r.copiers, 1, COPIER_LIMIT },
		{ 0, "stats", "FILE", "write statistics (JSON) when the last page is in", THAW_OPTION_STRING, &r.stats },
		{ 0, "progress", "WHEN", "auto (on a terminal), always or never", THAW_OPTION_CHOICE, &r.progress,
		  .choices = "auto|always|never" },
		{ .kind = THAW_OPTION_END }
	};
	int status = thaw_options_parse(c, own, argc, argv);

	if (status >= 0)
		return status;
	if (!r.core.dir)
		return thaw_options_refuse(c, "which checkpoint? -D DIR is missing");
	status = conflicts(c, own, &r);
	if (status >= 0)
		return status;
	r.delayed = find(own, &r.background_delay)->given;
	r.core.foreground = !r.detach;
	r.core.interrupted = interrupted;
	return r.detach ? thaw_detach_run(&r) : thaw_standin_run(&r);
}
