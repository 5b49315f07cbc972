/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stress/stress.h - the parts of thaw-stress: what was asked for, a round, its schedule, its outcome.
 *
 * A round restores some processes, lets them loose and looks at every byte. Its set-up is drawn from the seed, except for what the command
 * line fixes; its schedule is drawn from the set-up. Set-up and schedule together can be written into a file and run again.
 *
 * Rule      the program uses libthaw through thaw.h only, and never touches restored memory itself
 * Threads   the main thread; what others touch says so
 * Errors    a round that could not be made at all says why in `trouble`: that is no violation */
#ifndef THAW_STRESS_STRESS_H
#define THAW_STRESS_STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stress/shared.h"
#include "thaw.h"

enum { STRESS_CLEAN, STRESS_VIOLATED, STRESS_USAGE, STRESS_IMPOSSIBLE = 77 }; /* exit status */

enum stress_source { STRESS_RESIDENT, STRESS_COLD, STRESS_SLOW, STRESS_FAILING, STRESS_ANY_SOURCE };
enum stress_background { STRESS_BG_RUN, STRESS_BG_DELAYED, STRESS_BG_LAZY, STRESS_ANY_BACKGROUND };
enum stress_numbering { STRESS_AUTO_NUMBERING, STRESS_NUMBERED, STRESS_GATE };
extern const char *const thaw_stress_sources[], *const thaw_stress_backgrounds[]; /* by number, NULL at the end */

/* ---- options.c ---------------------------------------------------------------------------------------------------- */
struct stress_options {
	uint64_t ms;
	uint64_t seed, size;
	unsigned processes, threads, copiers; /* 0: drawn each round */
	uint64_t chunk;                       /* likewise */
	enum stress_source source;
	enum stress_background background;
	enum stress_numbering numbering;
	bool kind[STRESS_KINDS];
	bool all_kinds;                       /* --ops was not given, or is all */
	bool json, require_coverage, seconds_given;
	const char *replay, *sabotage, *inject;
};
/* -1: go on; else an exit status. */
int thaw_stress_options(struct stress_options *o, int argc, char **argv);
/* Is all on standard output that is to be there? Else it is said why not. */
bool thaw_stress_told(void);

/* ---- inject.c: the SPEC of --inject ---------------------------------------------------------------------------------- */
/* 0: the library can read it; or -1 with what is wrong in why. */
int thaw_stress_inject_check(const char *spec, char *why, size_t size);
void thaw_stress_inject_list(FILE *f);
/* From here on it is noted which points have failed, in any process of the run. */
void thaw_stress_inject_watch(void);
bool thaw_stress_inject_met(const char *point);

/* ---- setup.c: what a round is like ----------------------------------------------------------------------------------- */
#define STRESS_LEAST_SIZE (1ULL << 20)
#define STRESS_MOST_SIZE (1ULL << 38)
#define STRESS_MAX_COPIERS 64
#define STRESS_MOST_CHUNK (64 * STRESS_PAGE)

struct stress_setup {
	uint64_t seed, content, size; /* content: the seed of what the pages hold, the same for all rounds of a run */
	unsigned processes, threads, copiers, readers, around, spin, delay_ms;
	uint64_t chunk;
	enum stress_source source;
	enum stress_background background;
	enum thaw_io io;
	bool by_library, holder, late_add, big, sandbox;
	bool held; /* no space is complete while a worker lives: a forgotten wake-up is not made good by the end of the watch */
	bool gate; /* no numbered messages, whatever the kernel can */
	bool numbers; /* the workers' userfaultfds number their messages: the kernel can, and it is wanted. Not of a replay file */
	unsigned shatter;
	bool kind[STRESS_KINDS];
};
void thaw_stress_draw(struct stress_setup *u, const struct stress_options *o, uint64_t round);
/* Ranges, runs and addresses: a function of the set-up. */
void thaw_stress_lay_out(const struct stress_setup *u, struct stress_shared *s);
bool thaw_stress_is_sparse(const struct stress_setup *u);
/* Can processes of that size be made? Else says in why what stands against it. */
bool thaw_stress_fits(uint64_t size, unsigned processes, unsigned threads, char *why, size_t why_size);

/* ---- schedule.c ------------------------------------------------------------------------------------------------------ */
struct stress_plan_track {
	int process, thread, parent, depth;
	uint32_t first_op, n_ops;
};
struct stress_schedule {
	struct stress_plan_track *tracks;
	struct stress_op *ops;
	uint32_t n_tracks, n_ops;
};
bool thaw_stress_kind_forks(unsigned kind);          /* makes a child, with a track of its own */
bool thaw_stress_kind_suits_children(unsigned kind); /* not in restored processes only */
void thaw_stress_schedule_draw(struct stress_schedule *c, const struct stress_setup *u);
void thaw_stress_schedule_copy(struct stress_schedule *to, const struct stress_schedule *from);
void thaw_stress_schedule_free(struct stress_schedule *c);
/* Without the operations for which keep[] is false, and without the tracks that nobody makes any more. */
void thaw_stress_schedule_keep(struct stress_schedule *to, const struct stress_schedule *from, const bool *keep);
uint64_t thaw_stress_schedule_hash(const struct stress_schedule *c);

/* ---- round.c --------------------------------------------------------------------------------------------------------- */
struct stress_message {
	uint64_t ns;
	char text[136];
};
#define STRESS_MESSAGES 4096

struct stress_outcome {
	bool violated;
	struct stress_violation violation;
	struct stress_track track;        /* that it was found in */
	struct stress_message *messages;  /* a ring of STRESS_MESSAGES; the caller's, or NULL */
	uint64_t n_messages;              /* all there ever were */
	char asleep[8192];                /* a lost fault: where each thread of the process and of the monitor is, a line each */
	char trouble[320];                /* why the round could not be made, or not go on; "": it could */
	bool failed;                      /* trouble: something went wrong, it is not that it cannot be had here */
	bool too_long;                    /* trouble: more was asked for than a round has room for */
	bool ran;                         /* the processes were let loose */
	bool interrupted;                 /* given up before its end: what it has shown until then is no whole round */
	struct thaw_stats stats;
	struct thaw_progress progress;
	uint64_t finished, gone, forked, unavailable;
	uint64_t done[STRESS_KINDS], refused[STRESS_KINDS], pages_checked, forks;
	int64_t space[STRESS_MAX_PROCESSES];
};
/* hasty: a hang is believed sooner. *stop: give up (a signal), from the set-up on; a violation that was there before is one still. */
void thaw_stress_round(const struct stress_setup *u, const struct stress_schedule *c, struct stress_outcome *o, bool hasty,
		       const volatile int *stop);

/* ---- source.c: the checkpoint's content ------------------------------------------------------------------------------- */
struct stress_content_source;
/* NULL with a sentence in why (or when *stop, in the middle of it). The content of the processes of `s`, for as many rounds as look
 * alike. */
struct stress_content_source *thaw_stress_content_new(const struct stress_setup *u, const struct stress_shared *s,
						      const struct stress_schedule *c, const volatile int *stop, char *why,
						      size_t size);
/* For one process, when its break is known. NULL: thaw_get_error(). */
struct thaw_source *thaw_stress_content_source(struct stress_content_source *c, unsigned process);
uint32_t thaw_stress_content_planted(const struct stress_content_source *c);
void thaw_stress_content_release(struct stress_content_source *c); /* answers for the held pages */
void thaw_stress_content_drain(struct stress_content_source *c); /* answers what has not been answered */
void thaw_stress_content_free(struct stress_content_source *c);
void thaw_stress_content_forget(void); /* the kept file */

/* ---- process.c: workers ------------------------------------------------------------------------------------------------- */
struct stress_process {
	int pid, pidfd, sock, uffd;
	bool ended;
	int status;
};
/* 0, or -1 with a sentence in why. *stop: wait no longer. */
int thaw_stress_process_start(struct stress_process *p, unsigned number, int shared_fd, int scratch_fd, char *why, size_t size);
/* Does the userfaultfd number its messages? Who made it has asked for that where the kernel can. */
bool thaw_stress_is_numbered(int uffd);
int thaw_stress_process_uffd(struct stress_process *p, const struct stress_shared *s, const volatile int *stop, char *why,
			     size_t size);
void thaw_stress_process_go(struct stress_process *p);
void thaw_stress_process_kill(struct stress_process *p); /* with all its descendants; waits */
void thaw_stress_process_close(struct stress_process *p);

/* ---- watch.c: does it go on? ------------------------------------------------------------------------------------------- */
struct stress_watch;
struct stress_watch *thaw_stress_watch_new(const struct stress_setup *u, const struct stress_shared *s, bool hasty);
int thaw_stress_watch_tick(struct stress_watch *w); /* every 100 ms at most; a track that hangs, or -1 */
uint64_t thaw_stress_watch_patience_ms(const struct stress_watch *w);
void thaw_stress_watch_free(struct stress_watch *w);
/* A line for each thread of a process: its name, state, where in the kernel, and with what call. Appends what there is room for. */
void thaw_stress_threads_of(int pid, const char *whose, char *text, size_t size);

/* ---- verdict.c, replay.c, shrink.c, summary.c --------------------------------------------------------------------------- */
extern const char *const thaw_stress_classes[];
void thaw_stress_verdict(FILE *f, const struct stress_setup *u, const struct stress_schedule *c, const struct stress_outcome *o);
/* The same as an object, for the caller to put. */
struct json_object *thaw_stress_verdict_json(const struct stress_setup *u, const struct stress_schedule *c, const struct stress_outcome *o);

/* 0, or -1 with a sentence in why. */
int thaw_stress_replay_write(const char *path, const struct stress_setup *u, const struct stress_schedule *c,
			     const struct stress_outcome *o);
int thaw_stress_replay_read(const char *path, struct stress_setup *u, struct stress_schedule *c, char *why, size_t size);

struct stress_shrunk {
	unsigned tries, hits;
	uint32_t before, after; /* operations */
	double seconds;
};
/* Makes *c smaller as long as the violation stays; the last violation seen goes to *o, which keeps no messages. */
void thaw_stress_shrink(const struct stress_setup *u, struct stress_schedule *c, struct stress_outcome *o, uint64_t budget_ms,
			struct stress_shrunk *result, const volatile int *stop);

struct stress_totals {
	uint64_t rounds, unstarted, processes, ms;
	uint64_t schedule; /* a hash of the first round's */
	bool numbered;     /* messages, not the gate */
	struct thaw_stats stats; /* sums; latency_max the greatest */
	uint64_t finished, gone, forked, unavailable;
	uint64_t done[STRESS_KINDS], refused[STRESS_KINDS], pages_checked, forks;
	uint64_t by_source[4], by_background[3];
};
void thaw_stress_totals_add(struct stress_totals *t, const struct stress_setup *u, const struct stress_outcome *o);
/* Names what never occurred, each a line of f and a string of the array (either may be NULL); how many. */
unsigned thaw_stress_missing(FILE *f, struct json_object *names, const struct stress_totals *t, const struct stress_options *o);
void thaw_stress_summary(FILE *f, const struct stress_totals *t, const struct stress_options *o);
/* failed: how a round failed that met no violation, or NULL. */
void thaw_stress_summary_json(FILE *f, const struct stress_totals *t, const struct stress_options *o, bool interrupted,
			      struct json_object *violation, const char *failed);

uint64_t thaw_stress_ms(void); /* CLOCK_MONOTONIC */
uint64_t thaw_stress_ns(void); /* the same */

#endif
