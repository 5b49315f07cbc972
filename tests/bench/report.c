// SPDX-License-Identifier: LGPL-2.1-or-later
/* report.c - figures of all rounds, the targets beside them, as a table or as JSON */
#include "config.h"
#include "bench.h"
#include "thaw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FIGURES 128
#define ROUNDS 100

static struct {
	char key[48];
	const char *unit;
	enum better better;
	unsigned n;
	double value[ROUNDS];
} figures[FIGURES];
static unsigned n_figures;

void figure(const char *key, const char *unit, enum better better, double value)
{
	unsigned i;

	for (i = 0; i < n_figures && strcmp(figures[i].key, key); i++)
		;
	if (i == FIGURES)
		die("too many figures");
	if (i == n_figures) {
		n_figures++;
		snprintf(figures[i].key, sizeof(figures[i].key), "%s", key);
		figures[i].unit = unit;
		figures[i].better = better;
	}
	if (figures[i].n < ROUNDS)
		figures[i].value[figures[i].n++] = value;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void summarize(unsigned i, double *best, double *median)
{
	double v[ROUNDS];
	unsigned n = figures[i].n;

	memcpy(v, figures[i].value, n * sizeof(v[0]));
	qsort(v, n, sizeof(v[0]), compare);
	*best = figures[i].better == LOWER ? v[0] : v[n - 1];
	*median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

bool figure_get(const char *key, double *best, double *median)
{
	unsigned i;

	for (i = 0; i < n_figures; i++)
		if (!strcmp(figures[i].key, key)) {
			summarize(i, best, median);
			return true;
		}
	return false;
}

/* ---- targets: thaw's figure against the floor's of the same run ------------------------------------------ */

enum floor { NOTHING, FAULT, FAULT_SAME_CPU, COPY_ONE, CPU, OTHER };

static const struct target {
	const char *key, *figure;
	enum floor floor;
	double limit;
	bool at_least;
	const char *text;
	const char *other; /* OTHER: the figure that it is compared with */
} targets[] = {
	{ "fault_idle_p50", "thaw.fault.idle.p50", FAULT, 1.5, false, "fault p50, idle, to the floor's p50" },
	{ "fault_idle_same_cpu_p50", "thaw.fault.idle_same_cpu.p50", FAULT_SAME_CPU, 1.5, false,
	  "the same, all on one CPU" },
	{ "fault_draining_p50", "thaw.fault.draining.p50", FAULT, 2.5, false,
	  "fault p50 while draining, to the floor's p50" },
	{ "fault_draining_p99", "thaw.fault.draining.p99", FAULT, 12, false,
	  "fault p99 while draining, to the floor's p50" },
	{ "drain_one", "thaw.drain.one", COPY_ONE, 0.85, true, "drain, one copier, to raw copy of 256 KiB" },
	{ "drain_two", "thaw.drain.two", COPY_ONE, 1.5, true, "drain, two copiers, to raw copy by one thread" },
	{ "drain_faults_time", "thaw.drain.faults.time_ratio", NOTHING, 1.5, false,
	  "drain time with random faults, to without" },
	{ "cpu", "thaw.drain.one.cpu", CPU, 1.3, false, "monitor CPU per GiB, to the raw loop's" },
	{ "reader_silence", "thaw.reader.after_silence", NOTHING, 200, false,
	  "reader's CPU after the last fault (us)" },
	{ "state_memory", "thaw.memory.state", NOTHING, 1024, false, "monitor's own state (KiB per GiB)" },
	{ "criu_warm_get_p99", "criu.warm.thaw.get_p99", OTHER, 0.3333, false, "GET p99, warm, to CRIU's daemon",
	  "criu.warm.criu.get_p99" },
	{ "criu_warm_all_in", "criu.warm.thaw.all_in", OTHER, 0.75, false, "all in, warm, to CRIU's daemon",
	  "criu.warm.criu.all_in" },
	{ "criu_cold_all_in", "criu.cold.thaw.all_in", OTHER, 0.5, false, "all in, cold, to CRIU's daemon",
	  "criu.cold.criu.all_in" },
	{ "criu_remote_all_in", "criu.remote.thaw.all_in", OTHER, 0.35, false, "all in, remote, to CRIU's daemon",
	  "criu.remote.criu.all_in" },
	{ "criu_warm_cpu", "criu.warm.thaw.cpu", OTHER, 1, false, "CPU seconds of the daemon, warm, to CRIU's",
	  "criu.warm.criu.cpu" },
	{ "criu_cold_cpu", "criu.cold.thaw.cpu", OTHER, 1, false, "CPU seconds of the daemon, cold, to CRIU's",
	  "criu.cold.criu.cpu" },
	{ "criu_remote_cpu", "criu.remote.thaw.cpu", OTHER, 1, false, "CPU seconds of the daemon, remote, to CRIU's",
	  "criu.remote.criu.cpu" },
};
#define TARGETS (sizeof(targets) / sizeof(targets[0]))

/* The better of blocking and spinning, as best and median. */
static bool fault_floor(double *best, double *median)
{
	double b[2], m[2];

	if (!figure_get("floor.fault.blocking.p50", &b[0], &m[0]) ||
	    !figure_get("floor.fault.spinning.p50", &b[1], &m[1]))
		return false;
	*best = b[0] < b[1] ? b[0] : b[1];
	*median = m[0] < m[1] ? m[0] : m[1];
	return true;
}

static bool ratio(const struct target *t, double *best, double *median)
{
	double fb = 1, fm = 1;

	if (!figure_get(t->figure, best, median))
		return false;
	if (t->floor == FAULT && !fault_floor(&fb, &fm))
		return false;
	if (t->floor == FAULT_SAME_CPU && !figure_get("floor.fault.same_cpu.p50", &fb, &fm))
		return false;
	if (t->floor == COPY_ONE && !figure_get("floor.copy.one.256K", &fb, &fm))
		return false;
	if (t->floor == CPU && !figure_get("floor.copy.cpu", &fb, &fm))
		return false;
	if (t->floor == OTHER && !figure_get(t->other, &fb, &fm))
		return false;
	if (fb <= 0 || fm <= 0)
		return false;
	*best /= fb;
	*median /= fm;
	return true;
}

static bool reached(const struct target *t, double r)
{
	return t->at_least ? r >= t->limit : r <= t->limit;
}

static const char *kernel(void)
{
	static struct utsname u;

	return uname(&u) ? "unknown" : u.release;
}

void report_table(const struct bench *b)
{
	double best, median;
	unsigned i;

	printf("thaw %s, Linux %s, %ld CPUs, %zu MiB, %u round%s\n\n", thaw_get_version(), kernel(),
	       sysconf(_SC_NPROCESSORS_ONLN), b->size >> 20, b->rounds, b->rounds == 1 ? "" : "s");
	printf("%-34s %12s %12s\n", "", "best", "median");
	for (i = 0; i < n_figures; i++) {
		summarize(i, &best, &median);
		printf("%-34s %12.2f %12.2f %s\n", figures[i].key, best, median, figures[i].unit);
	}
	if (!b->program && !b->criu)
		printf("%-34s %12s %12s (no thaw program beside this one)\n", "thaw.restore.first_instruction", "-",
		       "-");
	printf("\n%-46s %8s %8s %10s\n", "target", "best", "median", "");
	for (i = 0; i < TARGETS; i++) {
		if (!ratio(&targets[i], &best, &median))
			continue;
		printf("%-46s %8.2f %8.2f %2s %6.2f  %s\n", targets[i].text, best, median,
		       targets[i].at_least ? ">=" : "<=", targets[i].limit,
		       reached(&targets[i], median) ? "reached"
		       : reached(&targets[i], best) ? "reached at best"
						    : "missed");
	}
}

void report_json(const struct bench *b)
{
	double best, median;
	unsigned i;
	const char *comma = "";

	printf("{\n\"version\": \"%s\",\n\"kernel\": \"%s\",\n\"cpus\": %ld,\n\"size\": %zu,\n\"rounds\": "
	       "%u,\n\"quick\": %s,\n",
	       thaw_get_version(), kernel(), sysconf(_SC_NPROCESSORS_ONLN), b->size, b->rounds,
	       b->quick ? "true" : "false");
	printf("\"figures\": {");
	for (i = 0; i < n_figures; i++, comma = ",") {
		summarize(i, &best, &median);
		printf("%s\n  \"%s\": {\"unit\": \"%s\", \"best\": %.6g, \"median\": %.6g}", comma, figures[i].key,
		       figures[i].unit, best, median);
	}
	printf("\n},\n\"targets\": {");
	comma = "";
	for (i = 0; i < TARGETS; i++) {
		if (!ratio(&targets[i], &best, &median))
			continue;
		printf("%s\n  \"%s\": {\"limit\": %g, \"at_least\": %s, \"best\": %.6g, \"median\": %.6g, \"reached\": "
		       "%s}",
		       comma, targets[i].key, targets[i].limit, targets[i].at_least ? "true" : "false", best, median,
		       reached(&targets[i], median) ? "true" : "false");
		comma = ",";
	}
	printf("\n}\n}\n");
}
