// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/main.c - the thaw program: which command is meant.
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/lazy.h"

const struct thaw_command thaw_commands[] = {
	{ "checkpoint", "-t PID -D DIR [OPTION]...",
	  "Write a running process into a directory and end it.", thaw_cmd_checkpoint },
	{ "restore", "-D DIR [OPTION]...",
	  "Run a checkpointed process at once; its memory arrives behind it.", thaw_cmd_restore },
	{ "show", "-D DIR [OPTION]...",
	  "Tell what is in a checkpoint, and whether it is whole.", thaw_cmd_show },
	{ "check", "[OPTION]...",
	  "Tell what this kernel lets this user do, and the remedies.", thaw_cmd_check },
	{ "lazy-pages", "-D DIR [OPTION]...",
	  "Bring in memory for criu restore --lazy-pages.", thaw_cmd_lazy_pages },
	{ "page-server", "-D DIR --port PORT [OPTION]...",
	  "Serve the pages of a checkpoint to restores elsewhere.", thaw_cmd_page_server },
	{ "status", "[SOCKET | -D DIR] [OPTION]...",
	  "Tell how far thaw lazy-pages is.", thaw_cmd_status },
	{ 0 }
};

/* Commands that take CRIU's command line: options before the name are theirs too. */
static const struct {
	const char *name;
	const struct thaw_criu_option *own;
} criu_commands[] = {
	{ "lazy-pages", thaw_lazy_own_options },
	{ "page-server", thaw_lazy_own_options },
};

static const struct thaw_command *find(const char *name)
{
	for (const struct thaw_command *c = thaw_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static const struct thaw_command *find_criu(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(criu_commands) / sizeof(*criu_commands); i++) {
		const char *word = thaw_criu_word(criu_commands[i].own, argc, argv);

		if (word && !strcmp(word, criu_commands[i].name))
			return find(word);
	}
	return NULL;
}

/* Under the name of criu: what a link or a wrapper sends here by mistake is not to be taken for something of ours. */
static int be_criu(int argc, char **argv)
{
	const char *word = thaw_criu_word(thaw_lazy_own_options, argc, argv);
	struct thaw_lazy_command c;

	if (!word) {
		int status = thaw_lazy_parse(&c, argc, argv); /* --help and --version */

		if (status >= 0)
			return status;
	}
	thaw_say_error("this is thaw under the name of criu, and stands in for criu lazy-pages only: %s%s%s", word ? "for '" : "no command"
		       " is given; for others", word ? word : "", word ? "' call the real criu by its path" :
		       " call the real criu by its path");
	return THAW_EXIT_FAILURE;
}

static const char *commands(void)
{
	static char list[512];

	for (const struct thaw_command *c = thaw_commands; c->name; c++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", c == thaw_commands ? "" : ", ", c->name);
	return list;
}

static int run(int argc, char **argv)
{
	const struct thaw_command *c = argc ? find_criu(argc, argv) : NULL;
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	bool as_criu = argc && !strcmp(slash ? slash + 1 : argv[0], "criu");

	/* criu page-server may also be one that receives pages, which ours is not. */
	if (c && (!as_criu || c->run == thaw_cmd_lazy_pages))
		return c->run(c, argc, argv);
	if (as_criu)
		return be_criu(argc, argv);
	int at = thaw_options_parse_common(argc, argv);

	if (at < 0)
		return -at - 1;
	if (at == argc) {
		thaw_say_error("no command given (%s): see thaw --help", commands());
		return THAW_EXIT_USAGE;
	}
	c = find(argv[at]);
	if (!c) {
		thaw_say_error("unknown command '%s': there are %s; see thaw --help", argv[at], commands());
		return THAW_EXIT_USAGE;
	}
	return c->run(c, argc - at, argv + at);
}

int main(int argc, char **argv)
{
	thaw_say_redirect(STDERR_FILENO);
	return thaw_say_flush(run(argc, argv));
}
