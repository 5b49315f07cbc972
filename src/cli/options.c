// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/options.c - the option table: parsing, refusing, and the help that is made from it.
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define MAX_OPTIONS 32
#define FIRST_VALUE 256 /* option i of the joint table is FIRST_VALUE + i to getopt_long, its letter only an alias */

static bool want_help, want_version;

static struct thaw_option common[] = {
	{ 'v', "verbose", NULL, "say what is done (twice: every detail)", THAW_OPTION_COUNT, &thaw_cli.verbose },
	{ 'q', "quiet", NULL, "say nothing but errors", THAW_OPTION_FLAG, &thaw_cli.quiet },
	{ 'o', "log", "FILE", "append messages to FILE (errors to stderr as well)", THAW_OPTION_STRING, &thaw_cli.log_path },
	{ 0, "help", NULL, "show this help", THAW_OPTION_FLAG, &want_help },
	{ 0, "version", NULL, "show the version", THAW_OPTION_FLAG, &want_version },
	{ .kind = THAW_OPTION_END }
};

/* The joint table as getopt_long wants it. */
struct table {
	struct thaw_option *option[MAX_OPTIONS];
	struct option longs[MAX_OPTIONS + 1];
	char shorts[2 * MAX_OPTIONS + 4];
	unsigned n;
};

static void add(struct table *t, struct thaw_option *o)
{
	for (; o->kind != THAW_OPTION_END && t->n < MAX_OPTIONS; o++) {
		char *s = t->shorts + strlen(t->shorts);

		if (o->kind == THAW_OPTION_WORD)
			continue;

		t->longs[t->n] = (struct option){
			o->name, o->arg ? required_argument : no_argument, NULL, FIRST_VALUE + (int)t->n
		};
		t->option[t->n++] = o;
		if (o->letter)
			sprintf(s, "%c%s", o->letter, o->arg ? ":" : "");
	}
}

static struct thaw_option *lookup(const struct table *t, int value)
{
	for (unsigned i = 0; i < t->n; i++)
		if (value == FIRST_VALUE + (int)i || (value && value == t->option[i]->letter))
			return t->option[i];
	return NULL;
}

void thaw_options_version(void)
{
	printf("thaw %s\n", PACKAGE_VERSION);
}

/* ---- help ------------------------------------------------------------------------------------------------- */
static void help_options(const struct thaw_option *o)
{
	for (; o->kind != THAW_OPTION_END; o++) {
		char left[64];

		if (o->kind == THAW_OPTION_WORD) {
			printf("  %-26s %s\n", o->arg, o->help);
			continue;
		}
		int n = o->letter ? snprintf(left, sizeof(left), "-%c, --%s", o->letter, o->name)
				  : snprintf(left, sizeof(left), "    --%s", o->name);

		if (o->arg)
			snprintf(left + n, sizeof(left) - n, " %s", o->arg);
		printf("  %-26s %s\n", left, o->help);
	}
}

static void help_command(const struct thaw_command *c, const struct thaw_option *own)
{
	printf("Usage: thaw %s %s\n%s\n\n", c->name, c->usage, c->summary);
	help_options(own);
	help_options(common);
}

static void help_program(void)
{
	printf("Usage: thaw COMMAND [OPTION]...\n"
	       "Checkpoint a running process, and run it again before its memory is there.\n\nCommands:\n");
	for (const struct thaw_command *c = thaw_commands; c->name; c++)
		printf("  %-11s %s\n", c->name, c->summary);
	printf("\nCommon options:\n");
	help_options(common);
	printf("\nthaw COMMAND --help tells a command's options, man thaw the rest.\n");
}

/* ---- values ----------------------------------------------------------------------------------------------- */
static int refuse(const struct thaw_command *c, const char *fmt, va_list ap)
{
	char sentence[512];

	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	thaw_say_error("%s; see thaw %s%s--help", sentence, c ? c->name : "", c ? " " : "");
	return THAW_EXIT_USAGE;
}

int thaw_options_refuse(const struct thaw_command *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int r = refuse(c, fmt, ap);
	va_end(ap);
	return r;
}

/* Decimal digits only: no sign, no space, no unit, nothing behind. */
static bool number(const char *text, long min, long max, long *value)
{
	char *end;

	if (!*text || strspn(text, "0123456789") != strlen(text))
		return false;
	errno = 0;
	*value = strtol(text, &end, 10);
	return !errno && !*end && *value >= min && *value <= max;
}

static bool choice(const char *text, const char *choices, int *value)
{
	size_t len = strlen(text);

	for (int i = 0; *choices; i++) {
		size_t n = strcspn(choices, "|");

		if (n == len && !memcmp(choices, text, n)) {
			*value = i;
			return true;
		}
		choices += n + (choices[n] == '|');
	}
	return false;
}

static int set(const struct thaw_command *c, struct thaw_option *o, const char *text)
{
	o->given = true;
	switch (o->kind) {
	case THAW_OPTION_FLAG:
		*(bool *)o->value = true;
		break;
	case THAW_OPTION_COUNT:
		++*(unsigned *)o->value;
		break;
	case THAW_OPTION_STRING:
		if (!*text)
			return thaw_options_refuse(c, "--%s: the %s is empty", o->name, o->arg);
		*(const char **)o->value = text;
		break;
	case THAW_OPTION_NUMBER:
		if (!number(text, o->min, o->max, o->value))
			return thaw_options_refuse(c, "--%s: '%s' is not a whole number from %ld to %ld", o->name, text,
						   o->min, o->max);
		break;
	case THAW_OPTION_CHOICE:
		if (!choice(text, o->choices, o->value))
			return thaw_options_refuse(c, "--%s: '%s' is none of %s", o->name, text, o->choices);
		break;
	case THAW_OPTION_WORD:
	case THAW_OPTION_END:
		break;
	}
	return -1;
}

/* ---- parsing ---------------------------------------------------------------------------------------------- */
/* What getopt_long did not like, in a sentence of ours. */
static int complain(const struct thaw_command *c, const struct table *t, int what, char **argv)
{
	const struct thaw_option *o = lookup(t, optopt);
	const char *word = argv[optind - 1];

	if (what == ':' && o)
		return thaw_options_refuse(c, "option --%s needs a value (%s)", o->name, o->arg);
	if (o && optopt >= FIRST_VALUE)
		return thaw_options_refuse(c, "option --%s takes no value", o->name);
	if (optopt && optopt < FIRST_VALUE)
		return thaw_options_refuse(c, "unknown option '-%c'", optopt);
	return thaw_options_refuse(c, "unknown or ambiguous option '%s'", word);
}

static int parse(const struct thaw_command *c, struct table *t, int argc, char **argv)
{
	int value;

	optind = 0; /* the GNU way to start anew: the common options before the command may have been parsed */
	opterr = 0;
	if (!strchr(t->shorts, 'h')) /* a habit, though the table does not have it */
		strcat(t->shorts, "h");
	while ((value = getopt_long(argc, argv, t->shorts, t->longs, NULL)) != -1) {
		struct thaw_option *o = lookup(t, value);

		if (value == 'h' && !o) {
			want_help = true;
			continue;
		}
		if (value == '?' || value == ':' || !o)
			return complain(c, t, value, argv);
		int r = set(c, o, optarg);
		if (r >= 0)
			return r;
	}
	return -1;
}

static int settle(const struct thaw_command *c)
{
	if (thaw_cli.verbose && thaw_cli.quiet)
		return thaw_options_refuse(c, "--verbose and --quiet contradict each other");
	int r = thaw_say_open_log();
	return r ? r : -1;
}

/* Words that are no options, to the entries that want one. The last of these, or NULL. */
static struct thaw_option *take_words(struct thaw_option *own, int argc, char **argv)
{
	struct thaw_option *last = NULL;

	for (; own->kind != THAW_OPTION_END; own++) {
		if (own->kind != THAW_OPTION_WORD)
			continue;
		last = own;
		if (optind < argc && *argv[optind]) {
			own->given = true;
			*(const char **)own->value = argv[optind++];
		}
	}
	return last;
}

int thaw_options_parse(const struct thaw_command *c, struct thaw_option *own, int argc, char **argv)
{
	struct table t = { .shorts = ":" };

	add(&t, own);
	add(&t, common);
	int r = parse(c, &t, argc, argv);
	if (r >= 0)
		return r;
	if (want_help) {
		help_command(c, own);
		return THAW_EXIT_OK;
	}
	if (want_version) {
		thaw_options_version();
		return THAW_EXIT_OK;
	}
	struct thaw_option *word = take_words(own, argc, argv);
	if (optind < argc)
		return thaw_options_refuse(c, "'%s' is not expected here: thaw %s takes %s", argv[optind], c->name,
					   word ? "one word beside its options" : "options only");
	return settle(c);
}

int thaw_options_parse_common(int argc, char **argv)
{
	struct table t = { .shorts = "+:" };

	add(&t, common);
	int r = parse(NULL, &t, argc, argv);
	if (r >= 0)
		return -1 - r;
	int at = optind;
	/* With a command behind it, --help is the command's, which knows its own table. */
	if (at < argc && (want_help || want_version))
		return at;
	if (want_help)
		help_program();
	else if (want_version)
		thaw_options_version();
	else
		return at;
	return -1 - THAW_EXIT_OK;
}
