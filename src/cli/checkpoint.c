// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/checkpoint.c - thaw checkpoint: options, and the one line that tells what was written.
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "kern/probe.h"

/* The largest pid that any kernel gives out (PID_MAX_LIMIT). */
#define PID_LIMIT 4194304

static void summary(const struct thaw_dump_options *o, const struct thaw_dump_result *r)
{
	char bytes[32], frozen[32];

	if (thaw_cli.quiet)
		return;
	printf("%s: process %d: %s of memory, %u thread%s, %u file%s, %u mappings; it stood still for %s%s\n", o->dir,
	       (int)o->pid, thaw_say_bytes(bytes, sizeof(bytes), r->bytes), r->threads, r->threads == 1 ? "" : "s",
	       r->files, r->files == 1 ? "" : "s", r->mappings, thaw_say_time(frozen, sizeof(frozen), r->frozen_ns),
	       o->leave_running ? " and runs on" : " and was ended");
	/* The exit status is the checkpoint's, not the line's. */
	if (thaw_say_flush(THAW_EXIT_OK))
		thaw_say(0, "%s: the checkpoint is complete all the same", o->dir);
}

static void tell_lack(const struct thaw_dump_options *o, const struct thaw_probe_item *lacks)
{
	const char *remedy = lacks->remedy[0] ? lacks->remedy : "thaw check tells more";

	if (geteuid())
		thaw_say(0, "this user cannot restore process %d here (%s: %s; %s): root can, after chown -R root %s", (int)o->pid,
			 lacks->name, thaw_probe_state_name(lacks->state), remedy, o->dir);
	else
		thaw_say(0, "process %d cannot be restored here (%s: %s; %s)", (int)o->pid, lacks->name,
			 thaw_probe_state_name(lacks->state), remedy);
}

/* Who cannot restore the process may not want it ended; said while it can still be interrupted. */
static void warn(const struct thaw_dump_options *o)
{
	struct thaw_probe_item lacks;

	if (o->leave_running || thaw_cli.quiet)
		return;
	if (thaw_probe_lacks(THAW_PROBE_RESTORE, &lacks))
		tell_lack(o, &lacks);
	else if (thaw_probe_lacks(THAW_PROBE_LIBRARY, &lacks) && strcmp(lacks.name, "kernel")) /* on such a one it is refused */
		thaw_say(0, "this user can restore process %d here with --eager only (%s: %s; %s)", (int)o->pid, lacks.name,
			 thaw_probe_state_name(lacks.state), lacks.remedy);
}

int thaw_cmd_checkpoint(const struct thaw_command *c, int argc, char **argv)
{
	struct thaw_dump_options o = { 0 };
	struct thaw_dump_result r = { 0 };
	long pid = 0;
	struct thaw_option own[] = {
		{ 't', "pid", "PID", "the process", THAW_OPTION_NUMBER, &pid, 1, PID_LIMIT },
		{ 'D', "images", "DIR", "where the checkpoint goes (must not hold one)", THAW_OPTION_STRING, &o.dir },
		{ 0, "leave-running", NULL, "let the process run on afterwards", THAW_OPTION_FLAG, &o.leave_running },
		{ .kind = THAW_OPTION_END }
	};
	int status = thaw_options_parse(c, own, argc, argv);

	if (status >= 0)
		return status;
	if (!pid)
		return thaw_options_refuse(c, "which process? -t PID is missing");
	if (!o.dir)
		return thaw_options_refuse(c, "where to? -D DIR is missing");
	o.pid = pid;
	warn(&o);
	if (thaw_dump(&o, &r) < 0)
		return thaw_say_failure();
	summary(&o, &r);
	if (r.zombie)
		thaw_say(0, "process %ld has ended, but its parent has not waited for it: until then its number is taken", pid);
	return THAW_EXIT_OK;
}
