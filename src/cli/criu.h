/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/criu.h - command lines and configuration files as CRIU has them, for the commands that stand in for one of its own.
 *
 * CRIU has one table of options for all its commands, takes them before or after the command's name, and reads configuration
 * files first: /etc/criu/default.conf, ~/.criu/default.conf, $CRIU_CONFIG_FILE, then --config FILE.
 *
 * An abbreviation that is clear among CRIU's names is CRIU's, whatever else the command has.
 *
 * Rule      an option of that table that the command has no use for is accepted, with its argument, and named at -v
 * Threads   one, before any other is started
 * Errors    the sentence has been said; exit status 1, as CRIU's */
#ifndef THAW_CLI_CRIU_H
#define THAW_CLI_CRIU_H

#include <stdbool.h>

#define THAW_CRIU_IGNORED 128

enum thaw_criu_arity {
	THAW_CRIU_FLAG,     /* no argument */
	THAW_CRIU_BOOL,     /* likewise; --no-NAME takes it back */
	THAW_CRIU_VALUE,    /* --name VALUE, --name=VALUE, -nVALUE, -n VALUE */
	THAW_CRIU_OPTIONAL  /* --name, --name=VALUE, -n, -nVALUE */
};

struct thaw_criu_option {
	const char *name; /* NULL: the table ends */
	char letter;      /* 0: none */
	enum thaw_criu_arity arity;
};

struct thaw_criu_given {
	const struct thaw_criu_option *option;
	bool off;          /* --no-NAME */
	const char *value; /* NULL: none. Lives as long as the program */
	const char *file;  /* the configuration file it is from; NULL: the command line */
};

struct thaw_criu_line {
	const char *command;                  /* for messages */
	const struct thaw_criu_option *own;   /* what the command has beside CRIU's table; a name in both is this one */
	/* 1: taken; 0: no use for it; < 0: refused, the sentence is in util/err.h */
	int (*take)(void *opaque, const struct thaw_criu_given *g);
	void *opaque;
	const char *ignored[THAW_CRIU_IGNORED]; /* names, for the command to tell */
	unsigned n_ignored;
	const char *no_config;                /* --config FILE that cannot be read, for the command to tell: CRIU goes on without it */
	int no_config_error;
};

/* -1: go on; else the exit status. full: argv is the program's, the command's name among the words. */
int thaw_criu_parse(struct thaw_criu_line *l, int argc, char **argv, bool full);

/* The first word of the program's command line that is no option or its argument by CRIU's table (and `own`); NULL: none. */
const char *thaw_criu_word(const struct thaw_criu_option *own, int argc, char **argv);

#endif
