// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/criu.c - CRIU's table of options, and how it reads a command line and configuration files.
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/criu.h"
#include "util/err.h"

#define FIRST_VALUE 256 /* option i is FIRST_VALUE + 2i to getopt_long, its --no- form one more */
#define MOST_OPTIONS 256
#define MOST_WORDS 4096 /* of a configuration file */

/* Names and arguments as of CRIU 4.2; the last three are newer. */
static const struct thaw_criu_option criu_table[] = {
	{ "tree", 't', THAW_CRIU_VALUE },
	{ "leave-stopped", 's', THAW_CRIU_FLAG },
	{ "leave-running", 'R', THAW_CRIU_FLAG },
	{ "restore-detached", 0, THAW_CRIU_BOOL },
	{ "restore-sibling", 'S', THAW_CRIU_BOOL },
	{ "daemon", 'd', THAW_CRIU_BOOL },
	{ "images-dir", 'D', THAW_CRIU_VALUE },
	{ "work-dir", 'W', THAW_CRIU_VALUE },
	{ "log-file", 'o', THAW_CRIU_VALUE },
	{ "join-ns", 'J', THAW_CRIU_VALUE },
	{ "root", 'r', THAW_CRIU_VALUE },
	{ "ext-unix-sk", 'x', THAW_CRIU_OPTIONAL },
	{ "help", 'h', THAW_CRIU_FLAG },
	{ "tcp-established", 0, THAW_CRIU_BOOL },
	{ "close", 0, THAW_CRIU_VALUE },
	{ "log-pid", 0, THAW_CRIU_BOOL },
	{ "version", 'V', THAW_CRIU_FLAG },
	{ "evasive-devices", 0, THAW_CRIU_BOOL },
	{ "pidfile", 0, THAW_CRIU_VALUE },
	{ "veth-pair", 0, THAW_CRIU_VALUE },
	{ "action-script", 0, THAW_CRIU_VALUE },
	{ "link-remap", 0, THAW_CRIU_BOOL },
	{ "shell-job", 'j', THAW_CRIU_BOOL },
	{ "file-locks", 'l', THAW_CRIU_BOOL },
	{ "page-server", 0, THAW_CRIU_BOOL },
	{ "address", 0, THAW_CRIU_VALUE },
	{ "port", 0, THAW_CRIU_VALUE },
	{ "prev-images-dir", 0, THAW_CRIU_VALUE },
	{ "ms", 0, THAW_CRIU_FLAG },
	{ "track-mem", 0, THAW_CRIU_BOOL },
	{ "auto-dedup", 0, THAW_CRIU_BOOL },
	{ "libdir", 'L', THAW_CRIU_VALUE },
	{ "cpu-cap", 0, THAW_CRIU_OPTIONAL },
	{ "force-irmap", 0, THAW_CRIU_BOOL },
	{ "ext-mount-map", 'M', THAW_CRIU_VALUE },
	{ "exec-cmd", 0, THAW_CRIU_FLAG },
	{ "manage-cgroups", 0, THAW_CRIU_OPTIONAL },
	{ "cgroup-root", 0, THAW_CRIU_VALUE },
	{ "inherit-fd", 0, THAW_CRIU_VALUE },
	{ "feature", 0, THAW_CRIU_VALUE },
	{ "skip-mnt", 0, THAW_CRIU_VALUE },
	{ "enable-fs", 0, THAW_CRIU_VALUE },
	{ "enable-external-sharing", 0, THAW_CRIU_FLAG },
	{ "enable-external-masters", 0, THAW_CRIU_FLAG },
	{ "freeze-cgroup", 0, THAW_CRIU_VALUE },
	{ "ghost-limit", 0, THAW_CRIU_VALUE },
	{ "irmap-scan-path", 0, THAW_CRIU_VALUE },
	{ "lsm-profile", 0, THAW_CRIU_VALUE },
	{ "timeout", 0, THAW_CRIU_VALUE },
	{ "external", 0, THAW_CRIU_VALUE },
	{ "empty-ns", 0, THAW_CRIU_VALUE },
	{ "lazy-pages", 0, THAW_CRIU_FLAG },
	{ "extra", 0, THAW_CRIU_BOOL },
	{ "experimental", 0, THAW_CRIU_BOOL },
	{ "all", 0, THAW_CRIU_FLAG },
	{ "cgroup-props", 0, THAW_CRIU_VALUE },
	{ "cgroup-props-file", 0, THAW_CRIU_VALUE },
	{ "cgroup-dump-controller", 0, THAW_CRIU_VALUE },
	{ "skip-in-flight", 0, THAW_CRIU_BOOL },
	{ "deprecated", 0, THAW_CRIU_BOOL },
	{ "display-stats", 0, THAW_CRIU_BOOL },
	{ "weak-sysctls", 0, THAW_CRIU_BOOL },
	{ "status-fd", 0, THAW_CRIU_VALUE },
	{ "tcp-close", 0, THAW_CRIU_BOOL },
	{ "verbosity", 'v', THAW_CRIU_OPTIONAL },
	{ "ps-socket", 0, THAW_CRIU_VALUE },
	{ "stream", 0, THAW_CRIU_BOOL },
	{ "config", 0, THAW_CRIU_VALUE },
	{ "no-default-config", 0, THAW_CRIU_FLAG },
	{ "tls-cacert", 0, THAW_CRIU_VALUE },
	{ "tls-cacrl", 0, THAW_CRIU_VALUE },
	{ "tls-cert", 0, THAW_CRIU_VALUE },
	{ "tls-key", 0, THAW_CRIU_VALUE },
	{ "tls", 0, THAW_CRIU_BOOL },
	{ "tls-no-cn-verify", 0, THAW_CRIU_FLAG },
	{ "cgroup-yard", 0, THAW_CRIU_VALUE },
	{ "pre-dump-mode", 0, THAW_CRIU_VALUE },
	{ "file-validation", 0, THAW_CRIU_VALUE },
	{ "skip-file-rwx-check", 0, THAW_CRIU_BOOL },
	{ "lsm-mount-context", 0, THAW_CRIU_VALUE },
	{ "network-lock", 0, THAW_CRIU_VALUE },
	{ "mntns-compat-mode", 0, THAW_CRIU_BOOL },
	{ "unprivileged", 0, THAW_CRIU_BOOL },
	{ "ghost-fiemap", 0, THAW_CRIU_BOOL },
	{ "allow-uprobes", 0, THAW_CRIU_BOOL },
	{ "compress", 'c', THAW_CRIU_BOOL },
	{ "compress-region", 0, THAW_CRIU_OPTIONAL },
	{ "decompress-threads", 0, THAW_CRIU_VALUE },
	{ 0 }
};

/* ---- the joint table as getopt_long wants it --------------------------------------------------------------- */
struct table {
	const struct thaw_criu_option *option[MOST_OPTIONS];
	unsigned n, n_longs;
	struct option longs[2 * MOST_OPTIONS + 1];
	bool criu[2 * MOST_OPTIONS]; /* the name is CRIU's */
	char shorts[3 * MOST_OPTIONS + 3];
	char no[MOST_OPTIONS][40];
};

static bool has(const struct table *t, const char *name)
{
	for (unsigned i = 0; i < t->n; i++)
		if (!strcmp(t->option[i]->name, name))
			return true;
	return false;
}

static bool is_criu(const char *name)
{
	for (const struct thaw_criu_option *o = criu_table; o->name; o++)
		if (!strcmp(o->name, name))
			return true;
	return false;
}

static void add(struct table *t, const struct thaw_criu_option *o)
{
	for (; o && o->name && t->n < MOST_OPTIONS; o++) {
		int value = FIRST_VALUE + 2 * (int)t->n, arg = o->arity == THAW_CRIU_VALUE ? required_argument :
			    o->arity == THAW_CRIU_OPTIONAL ? optional_argument : no_argument;
		char *s = t->shorts + strlen(t->shorts);

		if (has(t, o->name))
			continue;
		t->criu[t->n_longs] = is_criu(o->name);
		t->longs[t->n_longs++] = (struct option){ o->name, arg, NULL, value };
		if (o->arity == THAW_CRIU_BOOL) {
			snprintf(t->no[t->n], sizeof(t->no[t->n]), "no-%s", o->name);
			t->criu[t->n_longs] = is_criu(o->name);
			t->longs[t->n_longs++] = (struct option){ t->no[t->n], no_argument, NULL, value + 1 };
		}
		if (o->letter && !strchr(t->shorts, o->letter))
			sprintf(s, "%c%s", o->letter, arg == required_argument ? ":" : arg == optional_argument ? "::" : "");
		t->option[t->n++] = o;
	}
}

static void make_table(struct table *t, const struct thaw_criu_option *own)
{
	memset(t, 0, sizeof(*t));
	strcpy(t->shorts, ":");
	add(t, own);
	add(t, criu_table);
}

static const struct thaw_criu_option *lookup(const struct table *t, int value, bool *off)
{
	*off = value >= FIRST_VALUE && (value - FIRST_VALUE) % 2;
	for (unsigned i = 0; i < t->n; i++)
		if (value == FIRST_VALUE + 2 * (int)i + *off || (value && value < FIRST_VALUE && value == t->option[i]->letter))
			return t->option[i];
	return NULL;
}

/* The one name of CRIU's that begins so; NULL: none, or several. */
static const struct option *abbreviated(const struct table *t, const char *word, size_t len)
{
	const struct option *one = NULL;

	for (unsigned i = 0; i < t->n_longs; i++) {
		if (!t->criu[i] || strncmp(t->longs[i].name, word, len))
			continue;
		if (one)
			return NULL;
		one = &t->longs[i];
	}
	return one;
}

/* getopt_long() to which our own names do not make an abbreviation of CRIU's unclear. */
static int next_option(const struct table *t, int argc, char **argv)
{
	int value = getopt_long(argc, argv, t->shorts, t->longs, NULL);
	const char *word = value == '?' && !optopt ? argv[optind - 1] : "";
	const char *given = strchr(word, '=');
	const struct option *o;

	if (strncmp(word, "--", 2))
		return value;
	o = abbreviated(t, word + 2, given ? (size_t)(given - word) - 2 : strlen(word + 2));
	if (!o || (given && o->has_arg == no_argument))
		return value;
	optarg = given ? (char *)given + 1 : NULL;
	if (!given && o->has_arg == required_argument) {
		if (optind == argc) {
			optopt = o->val;
			return ':';
		}
		optarg = argv[optind++];
	}
	return o->val;
}

/* ---- one list of words ------------------------------------------------------------------------------------- */
static int complain(const struct table *t, int what, char **argv, const char *file)
{
	bool off;
	const struct thaw_criu_option *o = lookup(t, optopt, &off);
	const char *word = argv[optind - 1];
	char at[300] = "";

	if (file)
		snprintf(at, sizeof(at), "%s: ", file);
	if (what == ':' && o)
		return thaw_err_set(-EINVAL, "%soption --%s needs a value", at, o->name);
	if (o && optopt >= FIRST_VALUE)
		return thaw_err_set(-EINVAL, "%soption --%s%s takes no value", at, off ? "no-" : "", o->name);
	if (optopt && optopt < FIRST_VALUE)
		return thaw_err_set(-EINVAL, "%sunknown option '-%c'", at, optopt);
	return thaw_err_set(-EINVAL, "%sunknown or ambiguous option '%s'", at, word);
}

static void note_ignored(struct thaw_criu_line *l, const char *name)
{
	for (unsigned i = 0; i < l->n_ignored; i++)
		if (!strcmp(l->ignored[i], name))
			return;
	if (l->n_ignored < THAW_CRIU_IGNORED)
		l->ignored[l->n_ignored++] = name;
}

/* < 0: a sentence has been set. The words that are no options stand from optind on then. */
static int run(struct thaw_criu_line *l, const struct table *t, int argc, char **argv, const char *file)
{
	int value;

	optind = 0; /* the GNU way to start anew */
	opterr = 0;
	while ((value = next_option(t, argc, argv)) != -1) {
		struct thaw_criu_given g = { .value = optarg, .file = file };
		int took;

		if (value == '?' || value == ':')
			return complain(t, value, argv, file);
		g.option = lookup(t, value, &g.off);
		if (!g.option)
			return complain(t, '?', argv, file);
		took = l->take(l->opaque, &g);
		if (took < 0)
			return took;
		if (!took)
			note_ignored(l, g.option->name);
	}
	return 0;
}

/* ---- configuration files ----------------------------------------------------------------------------------- */
struct words {
	char *word[MOST_WORDS + 2];
	int n;
	struct words *before;
};

static int bad_line(const char *file, unsigned line, const char *why)
{
	return thaw_err_set(-EINVAL, "%s: line %u: %s (an option's name without dashes, then at most one value)", file, line, why);
}

/* The value of a line: up to a space or a comment; or in quotes, where \" stands for one. NULL: it is wrong. */
static char *take_value(char *s, const char **why)
{
	char *out = s, *to = s;

	if (*s != '"') {
		s += strcspn(s, " \t#");
	} else {
		for (s++; *s && *s != '"'; s++) {
			if (*s == '\\' && s[1] == '"')
				s++;
			*to++ = *s;
		}
		if (*s != '"') {
			*why = "a quote that is not closed";
			return NULL;
		}
		s++;
	}
	if (s[strspn(s, " \t")] && s[strspn(s, " \t")] != '#') {
		*why = "more than one value";
		return NULL;
	}
	*(out == to ? s : to) = '\0';
	return out;
}

/* An empty value in quotes begins where it ends, so that the above would cut it wrongly. */
static char *value_of(char *s, const char **why)
{
	if (s[0] == '"' && s[1] == '"' && (!s[2] || strchr(" \t#", s[2]))) {
		*s = '\0';
		return s;
	}
	return take_value(s, why);
}

static int take_line(struct words *w, const char *file, unsigned number, char *s)
{
	const char *why = NULL;
	char *name, *value = NULL;

	s[strcspn(s, "\n")] = '\0';
	s += strspn(s, " \t\r\f\v");
	if (!*s || *s == '#')
		return 0;
	name = s;
	s += strcspn(s, " \t#");
	if (*s && *s != '#') {
		*s++ = '\0';
		s += strspn(s, " \t");
		if (*s && *s != '#')
			value = value_of(s, &why);
		if (why)
			return bad_line(file, number, why);
	} else {
		*s = '\0';
	}
	if (w->n == MOST_WORDS)
		return bad_line(file, number, "too many options");
	/* In one word, so that a value that may be left out ("verbosity 4") is taken for what it is. */
	if (asprintf(&w->word[w->n], "--%s%s%s", name, value ? "=" : "", value ? value : "") < 0)
		return thaw_err_set(-ENOMEM, "%s: no memory", file);
	w->n++;
	return 0;
}

static struct words *kept; /* as long as the program: options point at them */

/* What cannot be opened is passed over, as CRIU does: most of these files do not exist. */
static int read_file(struct thaw_criu_line *l, const struct table *t, const char *file, bool named)
{
	FILE *f = fopen(file, "re");
	struct words *w = f ? calloc(1, sizeof(*w)) : NULL;
	char *line = NULL;
	size_t room = 0;
	unsigned number = 0;
	int ret = 0;

	if (!f && named) {
		l->no_config = file;
		l->no_config_error = errno;
	}
	if (!f)
		return 0;
	if (!w)
		ret = thaw_err_set(-ENOMEM, "%s: no memory", file);
	if (w) {
		w->before = kept;
		kept = w;
		w->word[w->n++] = (char *)l->command;
	}
	while (!ret && getline(&line, &room, f) >= 0)
		ret = take_line(w, file, ++number, line);
	free(line);
	fclose(f);
	if (!ret)
		ret = run(l, t, w->n, w->word, file);
	return ret;
}

struct early {
	bool no_default;
	const char *config;
};

/* These two count wherever they stand, before anything else is read. */
static struct early look_ahead(int argc, char **argv)
{
	struct early e = { 0 };

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--no-default-config")) {
			e.no_default = true;
		} else if (!strcmp(argv[i], "--config") && i + 1 < argc) {
			e.config = argv[i + 1];
		} else if (!strncmp(argv[i], "--config=", 9)) {
			e.config = argv[i] + 9;
		}
	}
	e.no_default |= e.config != NULL;
	return e;
}

static int read_files(struct thaw_criu_line *l, const struct table *t, struct early e)
{
	const char *home = getenv("HOME"), *env = getenv("CRIU_CONFIG_FILE");
	char path[4096];
	int ret = 0;

	if (!e.no_default)
		ret = read_file(l, t, "/etc/criu/default.conf", false);
	if (!ret && !e.no_default && home && snprintf(path, sizeof(path), "%s/.criu/default.conf", home) < (int)sizeof(path))
		ret = read_file(l, t, path, false);
	if (!ret && env)
		ret = read_file(l, t, env, false);
	if (!ret && e.config)
		ret = read_file(l, t, e.config, true);
	return ret;
}

/* ---- the command line -------------------------------------------------------------------------------------- */
static int refuse(const struct thaw_criu_line *l)
{
	thaw_say_error("%s; see thaw %s --help", thaw_err_text(), l->command);
	return THAW_EXIT_FAILURE;
}

int thaw_criu_parse(struct thaw_criu_line *l, int argc, char **argv, bool full)
{
	struct table t;

	make_table(&t, l->own);
	if (read_files(l, &t, look_ahead(argc, argv)) < 0 || run(l, &t, argc, argv, NULL) < 0)
		return refuse(l);
	if (full)
		optind++; /* the command's name */
	if (optind < argc) {
		thaw_err_set(-EINVAL, "'%s' is not expected here: thaw %s takes options only", argv[optind], l->command);
		return refuse(l);
	}
	return -1;
}

const char *thaw_criu_word(const struct thaw_criu_option *own, int argc, char **argv)
{
	char **copy = calloc(argc + 1, sizeof(*copy)); /* getopt_long sorts them */
	const char *word = NULL;
	struct table t;

	if (!copy)
		return NULL;
	memcpy(copy, argv, argc * sizeof(*copy));
	make_table(&t, own);
	optind = 0;
	opterr = 0;
	while (next_option(&t, argc, copy) != -1)
		;
	if (optind < argc)
		word = copy[optind];
	free(copy);
	return word;
}
