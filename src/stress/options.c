// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/options.c - the command line: what is asked for, what is refused */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "util/sabotage.h"

enum { OPT_SECONDS = 256, OPT_SEED, OPT_SIZE, OPT_PROCESSES, OPT_THREADS, OPT_OPS, OPT_COPIERS, OPT_CHUNK, OPT_SOURCE, OPT_BACKGROUND,
       OPT_NUMBERING, OPT_JSON, OPT_REPLAY, OPT_REQUIRE, OPT_SABOTAGE, OPT_INJECT, OPT_HELP, OPT_VERSION };

static const struct option longs[] = {
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "processes", required_argument, NULL, OPT_PROCESSES },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "ops", required_argument, NULL, OPT_OPS },
	{ "copiers", required_argument, NULL, OPT_COPIERS },
	{ "chunk", required_argument, NULL, OPT_CHUNK },
	{ "source", required_argument, NULL, OPT_SOURCE },
	{ "background", optional_argument, NULL, OPT_BACKGROUND },
	{ "numbering", required_argument, NULL, OPT_NUMBERING },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "replay", required_argument, NULL, OPT_REPLAY },
	{ "require-coverage", no_argument, NULL, OPT_REQUIRE },
	{ "sabotage", required_argument, NULL, OPT_SABOTAGE },
	{ "inject", required_argument, NULL, OPT_INJECT },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 }
};

static const char help[] =
	"Usage: thaw-stress [OPTION]...\n"
	"Restore generated processes, let them loose, and check every byte they see.\n\n"
	"      --seconds N          how long (10; a round is ended): 90, 90s, 5m, 2h\n"
	"      --seed N             what all else is drawn from (1)\n"
	"      --size BYTES         memory of a process (8M): K, M, G\n"
	"      --processes N        restored at once, 1 to 256 (drawn: 1 to 3)\n"
	"      --threads N          in each of them, 1 to 32 (drawn: 1 to 4)\n"
	"      --ops LIST           operations, by commas (all); -NAME: without; list\n"
	"      --copiers N          threads that copy ahead, 1 to 64 (drawn: 1 to 4)\n"
	"      --chunk BYTES        longest copy, 4K to 256K (drawn)\n"
	"      --source KIND        resident, cold, slow or failing (drawn)\n"
	"      --background[=WHEN]  copy ahead: run (without WHEN), delayed, lazy (drawn)\n"
	"      --numbering HOW      numbers of messages: on, off or auto (auto)\n"
	"      --json               the summary as JSON\n"
	"      --replay FILE        run what a replay file holds, until it fails again\n"
	"      --require-coverage   fail when something never occurred\n"
	"      --sabotage NAME      break a rule of the library (debug builds); list\n"
	"      --inject SPEC        let kernel calls fail (debug builds): rules like\n"
	"                           uffd.copy:EAGAIN:1/4 (POINT:WHAT:COUNT); list\n"
	"      --help               show this help\n"
	"      --version            show the version\n";

static int refuse(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "thaw-stress: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see thaw-stress --help\n");
	return STRESS_USAGE;
}

static int impossible(const char *sentence)
{
	fprintf(stderr, "thaw-stress: not possible here: %s\n", sentence);
	return STRESS_IMPOSSIBLE;
}

/* Digits, then perhaps one letter out of `units`, each of which stands for a factor. */
static bool number(const char *text, const char *units, const uint64_t *factors, uint64_t *value)
{
	const char *unit;
	char *end;
	uint64_t factor = 1;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return false;
		factor = factors[unit - units];
	}
	if (*value > UINT64_MAX / factor)
		return false;
	*value *= factor;
	return true;
}

static bool plain(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	return number(text, "", NULL, value) && *value >= min && *value <= max;
}

static bool bytes(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	static const uint64_t factors[] = { 1ULL << 10, 1ULL << 20, 1ULL << 30, 1ULL << 10, 1ULL << 20, 1ULL << 30 };

	return number(text, "KMGkmg", factors, value) && *value >= min && *value <= max;
}

static bool duration(const char *text, uint64_t *ms)
{
	static const uint64_t factors[] = { 1000, 60000, 3600000 };

	if (!number(text, "smh", factors, ms))
		return false;
	if (text[strspn(text, "0123456789")] == 0) {
		if (*ms > 1000000000)
			return false;
		*ms *= 1000;
	}
	return *ms && *ms <= 1000000000000ULL;
}

static int choice(const char *text, const char *const *names)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(text, names[i]))
			return i;
	return -1;
}

static void choose_all(struct stress_options *o)
{
	for (unsigned k = 0; k < STRESS_KINDS; k++)
		o->kind[k] = thaw_stress_kinds[k].share;
	o->all_kinds = true;
}

bool thaw_stress_told(void)
{
	errno = EIO; /* where it was an earlier write that failed */
	if (!fflush(stdout) && !ferror(stdout))
		return true;
	fprintf(stderr, "thaw-stress: standard output cannot be written: %s\n", strerror(errno));
	return false;
}

static int told(void)
{
	return thaw_stress_told() ? STRESS_CLEAN : STRESS_USAGE;
}

static int list_ops(void)
{
	for (unsigned k = 0; k < STRESS_KINDS; k++)
		printf("%-16s %s\n", thaw_stress_kinds[k].name, thaw_stress_kinds[k].text);
	return told();
}

/* read,write,fork or all,-fork or -fork (all but that). */
static int choose_ops(struct stress_options *o, const char *list)
{
	bool first = true;

	if (!strcmp(list, "list") || !strcmp(list, "help"))
		return list_ops();
	memset(o->kind, 0, sizeof(o->kind));
	o->all_kinds = false;
	for (const char *p = list;; first = false) {
		unsigned len = strcspn(p, ",");
		bool without = *p == '-';
		int kind = thaw_stress_kind_find(p + without, len - without);

		if (len == 3 && !memcmp(p, "all", 3))
			choose_all(o);
		else if (kind < 0)
			return refuse("--ops: '%.*s' is no operation (--ops list tells them)", (int)len, p);
		if (without && first)
			choose_all(o);
		if (kind >= 0)
			o->kind[kind] = !without;
		if (without)
			o->all_kinds = false;
		if (!p[len])
			break;
		p += len + 1;
	}
	for (unsigned k = 0; k < STRESS_KINDS; k++)
		if (o->kind[k])
			return -1;
	return refuse("--ops: '%s' leaves nothing to do", list);
}

static int choose_sabotage(struct stress_options *o, const char *name)
{
#define SABOTAGE_NAME(id, sabotage, text) { sabotage, text },
	static const struct { const char *name, *text; } names[] = { THAW_SABOTAGES(SABOTAGE_NAME) };
	bool debug = false;

#ifdef THAW_DEBUG
	debug = true;
#endif
	if (!debug)
		return impossible("--sabotage needs a library that was configured with --enable-debug");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i].name)) {
			o->sabotage = name;
			return -1;
		}
	}
	if (strcmp(name, "list"))
		return refuse("--sabotage: '%s' is no rule (--sabotage list tells them)", name);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		printf("%-24s %s\n", names[i].name, names[i].text);
	return told();
}

static int choose_inject(struct stress_options *o, const char *spec)
{
	char why[2400];

#ifndef THAW_DEBUG
	return impossible("--inject needs a library that was configured with --enable-debug");
#endif
	if (!strcmp(spec, "list")) {
		thaw_stress_inject_list(stdout);
		return told();
	}
	if (!*spec)
		return refuse("--inject: the SPEC is empty");
	if (thaw_stress_inject_check(spec, why, sizeof(why)))
		return refuse("--inject: %s", why);
	o->inject = spec;
	return -1;
}

static int set(struct stress_options *o, int option, const char *text)
{
	static const char *const numberings[] = { "auto", "on", "off", NULL };
	uint64_t n;
	int c;

	switch (option) {
	case OPT_SECONDS:
		o->seconds_given = true;
		return duration(text, &o->ms) ? -1 : refuse("--seconds: '%s' is no duration (90, 90s, 5m, 2h)", text);
	case OPT_SEED:
		return plain(text, 0, UINT64_MAX, &o->seed) ? -1 : refuse("--seed: '%s' is not a whole number", text);
	case OPT_SIZE:
		if (!bytes(text, STRESS_LEAST_SIZE, STRESS_MOST_SIZE, &o->size))
			return refuse("--size: '%s' is not from 1M to 256G", text);
		o->size &= ~(STRESS_PAGE - 1);
		return -1;
	case OPT_PROCESSES:
		if (!plain(text, 1, STRESS_MAX_PROCESSES, &n))
			return refuse("--processes: '%s' is not a whole number from 1 to %d", text, STRESS_MAX_PROCESSES);
		o->processes = n;
		return -1;
	case OPT_THREADS:
		if (!plain(text, 1, STRESS_MAX_THREADS, &n))
			return refuse("--threads: '%s' is not a whole number from 1 to %d", text, STRESS_MAX_THREADS);
		o->threads = n;
		return -1;
	case OPT_OPS:
		return choose_ops(o, text);
	case OPT_COPIERS:
		if (!plain(text, 1, STRESS_MAX_COPIERS, &n))
			return refuse("--copiers: '%s' is not a whole number from 1 to 64", text);
		o->copiers = n;
		return -1;
	case OPT_CHUNK:
		if (!bytes(text, STRESS_PAGE, STRESS_MOST_CHUNK, &o->chunk) || o->chunk % STRESS_PAGE)
			return refuse("--chunk: '%s' is not from 4K to 256K in whole pages", text);
		return -1;
	case OPT_SOURCE:
		c = choice(text, thaw_stress_sources);
		if (c < 0)
			return refuse("--source: '%s' is none of resident, cold, slow, failing", text);
		o->source = c;
		return -1;
	case OPT_BACKGROUND:
		c = text ? choice(text, thaw_stress_backgrounds) : STRESS_BG_RUN;
		if (c < 0)
			return refuse("--background: '%s' is none of run, delayed, lazy", text);
		o->background = c;
		return -1;
	case OPT_NUMBERING:
		c = choice(text, numberings);
		if (c < 0)
			return refuse("--numbering: '%s' is none of auto, on, off", text);
		o->numbering = c;
		return -1;
	case OPT_JSON:
		o->json = true;
		return -1;
	case OPT_REPLAY:
		o->replay = text;
		return *text ? -1 : refuse("--replay: the FILE is empty");
	case OPT_REQUIRE:
		o->require_coverage = true;
		return -1;
	case OPT_SABOTAGE:
		return choose_sabotage(o, text);
	case OPT_INJECT:
		return choose_inject(o, text);
	case OPT_HELP:
		fputs(help, stdout);
		return told();
	default:
		printf("thaw-stress %s\n", PACKAGE_VERSION);
		return told();
	}
}

static const char *name_of(int option)
{
	for (const struct option *l = longs; l->name; l++)
		if (l->val == option)
			return l->name;
	return "?";
}

/* What a round is like stands in the replay file. */
static int agree_with_replay(const bool *given)
{
	static const int fixed[] = { OPT_SEED, OPT_SIZE, OPT_PROCESSES, OPT_THREADS, OPT_OPS, OPT_COPIERS, OPT_CHUNK, OPT_SOURCE,
				     OPT_BACKGROUND, OPT_NUMBERING };

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (given[fixed[i] - OPT_SECONDS])
			return refuse("--%s does not go with --replay: the file says it", name_of(fixed[i]));
	return -1;
}

static int settle(const struct stress_options *o)
{
	char why[200];

	if (thaw_stress_fits(o->size, o->processes ? o->processes : 3, o->threads ? o->threads : 4, why, sizeof(why)))
		return -1;
	return refuse("--size: %s", why);
}

int thaw_stress_options(struct stress_options *o, int argc, char **argv)
{
	bool given[OPT_VERSION - OPT_SECONDS + 1] = { false };
	int option, r;

	*o = (struct stress_options){ .ms = 10000, .seed = 1, .size = 8 << 20, .source = STRESS_ANY_SOURCE,
				      .background = STRESS_ANY_BACKGROUND };
	choose_all(o);
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		const char *text = optarg;

		if (option == ':')
			return refuse("option --%s needs a value", name_of(optopt));
		if (option == '?' && optopt >= OPT_SECONDS)
			return refuse("option --%s takes no value", name_of(optopt));
		if (option == '?' && optopt)
			return refuse("unknown option '-%c'", optopt);
		if (option == '?')
			return refuse("unknown or ambiguous option '%s'", argv[optind - 1]);
		/* Both --background=lazy and --background lazy. */
		if (option == OPT_BACKGROUND && !text && optind < argc && choice(argv[optind], thaw_stress_backgrounds) >= 0)
			text = argv[optind++];
		given[option - OPT_SECONDS] = true;
		r = set(o, option, text);
		if (r >= 0)
			return r;
	}
	if (optind < argc)
		return refuse("'%s' is not expected here: thaw-stress takes options only", argv[optind]);
	r = o->replay ? agree_with_replay(given) : -1;
	return r >= 0 ? r : settle(o);
}
