// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/main.c - rounds until the time is over or something is found; then the report */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHRINK_MS 15000
#define LEAST_SHRINK_MS 2000
#define REPLAY_MS 30000
#define PROGRESS_MS 10000 /* not on a terminal */

static volatile int stop; /* a signal's number */

static void on_signal(int sig)
{
	stop = sig;
}

/* ---- can it be done? ----------------------------------------------------------------------------------------------------------- */
/* In a process of its own, where nothing is injected yet. True, or a sentence on standard error. */
static bool is_possible(enum stress_numbering numbering, bool *numbered)
{
	enum { NUMBERED, NOT_NUMBERED, IMPOSSIBLE } answer;
	int status = 0;
	pid_t pid = fork();

	if (pid < 0) {
		fprintf(stderr, "thaw-stress: not possible here: fork: %s\n", strerror(errno));
		return false;
	}
	if (!pid) {
		int fd = thaw_probe() ? -1 : thaw_uffd_open();

		if (fd < 0)
			fprintf(stderr, "thaw-stress: not possible here: %s\n", thaw_get_error());
		_exit(fd < 0 ? IMPOSSIBLE : thaw_stress_is_numbered(fd) ? NUMBERED : NOT_NUMBERED);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	answer = WIFEXITED(status) ? WEXITSTATUS(status) : IMPOSSIBLE;
	*numbered = answer == NUMBERED && numbering != STRESS_GATE;
	if (answer == NOT_NUMBERED && numbering == STRESS_NUMBERED)
		fprintf(stderr, "thaw-stress: not possible here: this kernel does not number its messages\n");
	return answer == NUMBERED || (answer == NOT_NUMBERED && numbering != STRESS_NUMBERED);
}

static void prepare(const struct stress_options *o)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct rlimit limit;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans of a killed worker come to us */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (o->sabotage)
		setenv("THAW_SABOTAGE", o->sabotage, 1);
	if (o->inject) {
		setenv("THAW_INJECT", o->inject, 1);
		thaw_stress_inject_watch();
	}
}

/* ---- progress -------------------------------------------------------------------------------------------------------------------- */
static void progress(const struct stress_totals *t, uint64_t ms, uint64_t all_ms, bool last)
{
	static uint64_t told;
	bool terminal = isatty(STDERR_FILENO);
	const struct thaw_stats *s = &t->stats;

	if (!last && ms - told < (terminal ? 200 : PROGRESS_MS))
		return;
	if (last && !terminal)
		return;
	told = ms;
	fprintf(stderr, "%s%llu of %llu s: %llu rounds, %llu processes, %llu children, %llu faults, %llu events, %llu pages checked%s",
		terminal ? "\r" : "thaw-stress: ", (unsigned long long)ms / 1000, (unsigned long long)all_ms / 1000,
		(unsigned long long)t->rounds, (unsigned long long)t->processes, (unsigned long long)t->forks,
		(unsigned long long)s->faults,
		(unsigned long long)(s->events_fork + s->events_remap + s->events_remove + s->events_unmap),
		(unsigned long long)t->pages_checked, terminal && !last ? "\033[K" : "\n");
}

/* ---- runs -------------------------------------------------------------------------------------------------------------------------- */
struct run {
	struct stress_options *o;
	struct stress_totals totals;
	struct stress_outcome out;
	struct stress_setup setup;
	struct stress_schedule plan;
	uint64_t began;
	char replay[512];
	struct json_object *violation; /* as it was found; with --json */
	char unstarted[320]; /* why a round last could not be made, with --inject */
};

/* In the current directory; where that cannot be written, in the temporary one. */
static void write_replay(struct run *r)
{
	const char *dirs[] = { ".", getenv("TMPDIR"), "/tmp" };

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (!dirs[i])
			continue;
		snprintf(r->replay, sizeof(r->replay), "%s%sthaw-stress.%llu.%llu.replay", i ? dirs[i] : "", i ? "/" : "",
			 (unsigned long long)r->o->seed, (unsigned long long)r->totals.rounds);
		if (!thaw_stress_replay_write(r->replay, &r->setup, &r->plan, &r->out))
			return;
	}
	fprintf(stderr, "thaw-stress: no replay file can be written: %s\n", strerror(errno));
	r->replay[0] = 0;
}

/* Within the time that was given, and not for long. */
static uint64_t shrink_budget(const struct run *r)
{
	uint64_t passed = thaw_stress_ms() - r->began, left = passed < r->o->ms ? r->o->ms - passed : 0;

	return left < LEAST_SHRINK_MS ? LEAST_SHRINK_MS : left < SHRINK_MS ? left : SHRINK_MS;
}

/* What is told stays the violation as it was found first; the replay file gets the short form. */
static void shrink(struct run *r, FILE *f)
{
	struct stress_schedule less;
	struct stress_outcome last = r->out;
	struct stress_shrunk shrunk;
	bool kept;

	last.messages = NULL;
	thaw_stress_schedule_copy(&less, &r->plan);
	thaw_stress_shrink(&r->setup, &less, &last, shrink_budget(r), &shrunk, &stop);
	kept = shrunk.hits && r->replay[0] && !thaw_stress_replay_write(r->replay, &r->setup, &less, &last);
	thaw_stress_schedule_free(&less);
	if (kept)
		fprintf(f, "  shrunk     from %u to %u operations in %.1f s (%u of %u runs failed); the replay file holds the short one\n",
			shrunk.before, shrunk.after, shrunk.seconds, shrunk.hits, shrunk.tries);
	else
		fprintf(f, "  shrunk     not at all: %u shorter runs within %.1f s did not fail; the replay file holds all %u operations\n",
			shrunk.tries, shrunk.seconds, shrunk.before);
	if (!r->violation)
		return;
	json_object_object_add(r->violation, "operations_drawn", json_object_new_uint64(shrunk.before));
	json_object_object_add(r->violation, "operations_replayed", json_object_new_uint64(kept ? shrunk.after : shrunk.before));
}

static void found(struct run *r)
{
	FILE *f = r->o->json ? stderr : stdout;

	thaw_stress_verdict(f, &r->setup, &r->plan, &r->out);
	if (r->o->json)
		r->violation = thaw_stress_verdict_json(&r->setup, &r->plan, &r->out);
	if (!r->o->replay)
		write_replay(r);
	if (r->violation) {
		json_object_object_add(r->violation, "replay", json_object_new_string(r->o->replay ? r->o->replay : r->replay));
		json_object_object_add(r->violation, "operations_drawn", NULL);
		json_object_object_add(r->violation, "operations_replayed", NULL);
	}
	if (r->o->replay)
		return;
	fprintf(f, "  replay     thaw-stress %s%s%s%s%s--replay %s\n", r->o->sabotage ? "--sabotage " : "",
		r->o->sabotage ? r->o->sabotage : "", r->o->inject ? " --inject " : "", r->o->inject ? r->o->inject : "",
		r->o->sabotage || r->o->inject ? " " : "", r->replay[0] ? r->replay : "(could not be written)");
	fflush(f);
	if (!stop)
		shrink(r, f);
}

/* One round; true: go on. */
static bool one(struct run *r, int *status)
{
	r->setup.numbers = r->totals.numbered && !r->setup.gate;
	if (!r->totals.rounds)
		r->totals.schedule = thaw_stress_schedule_hash(&r->plan);
	thaw_stress_round(&r->setup, &r->plan, &r->out, false, &stop);
	if (r->out.interrupted && !r->out.violated)
		return false;
	if (r->out.trouble[0] && r->o->inject && !r->out.ran) {
		/* What was injected met the start: that has to fail in good order, and the next one starts anew. */
		r->totals.unstarted++;
		snprintf(r->unstarted, sizeof(r->unstarted), "%s", r->out.trouble);
		return true;
	}
	if (r->out.trouble[0]) {
		/* What went in one round is possible here. */
		bool failed = r->out.failed || r->totals.rounds;

		fprintf(stderr, failed ? "thaw-stress: a round failed: %s\n" : r->out.too_long ? "thaw-stress: %s\n" :
			"thaw-stress: not possible here: %s\n", r->out.trouble);
		*status = failed ? STRESS_VIOLATED : r->out.too_long ? STRESS_USAGE : STRESS_IMPOSSIBLE;
		return false;
	}
	thaw_stress_totals_add(&r->totals, &r->setup, &r->out);
	r->totals.ms = thaw_stress_ms() - r->began;
	progress(&r->totals, r->totals.ms, r->o->ms, false);
	if (!r->out.violated)
		return true;
	progress(&r->totals, r->totals.ms, r->o->ms, true);
	*status = STRESS_VIOLATED;
	return false;
}

/* A run of which nothing came about is not clean. */
static int some_were_made(const struct run *r, int status)
{
	if (r->totals.rounds || !r->totals.unstarted || stop)
		return status;
	fprintf(stderr, "thaw-stress: not possible here: no round could be made, the last one because %s\n", r->unstarted);
	return STRESS_IMPOSSIBLE;
}

static int run_rounds(struct run *r)
{
	int status = STRESS_CLEAN;
	bool go_on = true;

	for (uint64_t round = 0; go_on && !stop && (!round || thaw_stress_ms() - r->began < r->o->ms); round++) {
		thaw_stress_draw(&r->setup, r->o, round);
		thaw_stress_schedule_free(&r->plan);
		thaw_stress_schedule_draw(&r->plan, &r->setup);
		go_on = one(r, &status);
	}
	return some_were_made(r, status);
}

static int run_replay(struct run *r)
{
	char why[700];
	int status = STRESS_CLEAN;
	bool go_on = true;

	if (thaw_stress_replay_read(r->o->replay, &r->setup, &r->plan, why, sizeof(why))) {
		fprintf(stderr, "thaw-stress: --replay: %s\n", why);
		return STRESS_USAGE;
	}
	if (!r->o->seconds_given)
		r->o->ms = REPLAY_MS;
	memcpy(r->o->kind, r->setup.kind, sizeof(r->o->kind));
	r->o->all_kinds = false;
	r->o->seed = r->setup.content;
	r->o->source = r->setup.source;
	r->o->background = r->setup.background;
	r->totals.numbered = r->totals.numbered && !r->setup.gate;
	while (go_on && !stop && (!(r->totals.rounds + r->totals.unstarted) || thaw_stress_ms() - r->began < r->o->ms))
		go_on = one(r, &status);
	return some_were_made(r, status);
}

static int report(struct run *r, int status)
{
	unsigned missing = 0;

	setvbuf(stdout, NULL, _IOFBF, 1 << 20); /* what is wrong with it shows when it is flushed, in the end */
	if (status == STRESS_VIOLATED && r->out.violated)
		found(r);
	if (status != STRESS_CLEAN && status != STRESS_VIOLATED)
		return status;
	if (r->o->json)
		thaw_stress_summary_json(stdout, &r->totals, r->o, stop && status == STRESS_CLEAN, r->violation,
					 status == STRESS_VIOLATED && !r->out.violated ? r->out.trouble : NULL);
	else
		thaw_stress_summary(stdout, &r->totals, r->o);
	if (r->totals.rounds)
		missing = thaw_stress_missing(r->o->json ? stderr : stdout, NULL, &r->totals, r->o);
	if (!r->o->json)
		printf("%s\n", status == STRESS_VIOLATED ? r->out.violated ? "VIOLATED" : "FAILED" : stop ? "interrupted; clean until then" : "clean");
	if (status == STRESS_CLEAN && missing && r->o->require_coverage && !stop) {
		fprintf(stderr, "thaw-stress: %u of what was to be seen never occurred\n", missing);
		status = STRESS_VIOLATED;
	}
	return thaw_stress_told() || status != STRESS_CLEAN ? status : STRESS_USAGE;
}

int main(int argc, char **argv)
{
	struct stress_options o;
	struct run r = { .o = &o };
	int status = thaw_stress_options(&o, argc, argv);

	if (status >= 0)
		return status;
	if (!is_possible(o.numbering, &r.totals.numbered))
		return STRESS_IMPOSSIBLE;
	prepare(&o);
	r.out.messages = calloc(STRESS_MESSAGES, sizeof(*r.out.messages));
	r.began = thaw_stress_ms();
	status = o.replay ? run_replay(&r) : run_rounds(&r);
	progress(&r.totals, thaw_stress_ms() - r.began, o.ms, true);
	status = report(&r, status);
	thaw_stress_content_forget();
	thaw_stress_schedule_free(&r.plan);
	free(r.out.messages);
	if (stop && status == STRESS_CLEAN) {
		signal(stop, SIG_DFL);
		raise(stop);
	}
	return status;
}
