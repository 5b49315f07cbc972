// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/main.c - the thaw program: which command is meant.
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

const struct thaw_command thaw_commands[] = {
	{ "checkpoint", "-t PID -D DIR [OPTION]...",
	  "Write a running process into a directory and end it.", thaw_cmd_checkpoint },
	{ "restore", "-D DIR [OPTION]...",
	  "Run a checkpointed process at once; its memory arrives behind it.", thaw_cmd_restore },
	{ "show", "-D DIR [OPTION]...",
	  "Tell what is in a checkpoint, and whether it is whole.", thaw_cmd_show },
	{ "check", "[OPTION]...",
	  "Tell what this kernel lets this user do, and the remedies.", thaw_cmd_check },
	{ 0 }
};

static const struct thaw_command *find(const char *name)
{
	for (const struct thaw_command *c = thaw_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int main(int argc, char **argv)
{
	int at = thaw_options_parse_common(argc, argv);

	if (at < 0)
		return -at - 1;
	if (at == argc) {
		thaw_say_error("no command given (checkpoint, restore, show or check): see thaw --help");
		return THAW_EXIT_USAGE;
	}
	const struct thaw_command *c = find(argv[at]);
	if (!c) {
		thaw_say_error("unknown command '%s': there are checkpoint, restore, show and check; see thaw --help", argv[at]);
		return THAW_EXIT_USAGE;
	}
	return c->run(c, argc - at, argv + at);
}
