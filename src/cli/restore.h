/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/restore.h - the parts of thaw restore: the arrival of the memory, the stand-in in front, the monitor behind.
 * Rule      nothing runs before the result files are known to be writable; nothing is left when it fails before that
 * Threads   the main thread only; the monitor's own threads are behind thaw.h
 * Errors    -errno with a sentence in util/err.h */
#ifndef THAW_CLI_RESTORE_H
#define THAW_CLI_RESTORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

#include "checkpoint/checkpoint.h"
#include "cli/outfile.h"
#include "thaw.h"

enum thaw_line_mode { THAW_LINE_AUTO, THAW_LINE_ALWAYS, THAW_LINE_NEVER };

struct thaw_restore_command {
	struct thaw_restore_options core;
	const char *pidfile, *stats;
	bool detach, stay_lazy;
	long background_delay; /* milliseconds; with `delayed` */
	bool delayed;
	long copiers;          /* 0: the library's own choice */
	int progress;          /* enum thaw_line_mode */
};

uint64_t thaw_now_ns(void); /* CLOCK_MONOTONIC */

/* ---- arrival: the monitor from its making to its last page, and the statistics ----------------------------- */
struct thaw_arrival {
	const struct thaw_restore_command *cmd;
	struct thaw *monitor;       /* NULL: all memory is there (eager), or it has ended */
	struct thaw_outfile stats;
	struct thaw_outfile pidfile;
	struct thaw_restored process;
	uint64_t start_ns, prepare_ns, running_ns, end_ns; /* end: of the arrival */
	struct thaw_stats final;    /* filled when the monitor has ended */
	struct thaw_progress final_progress;
	uint64_t orphans;           /* children of it that are not served */
	int wait_status;            /* of the process, once it has been reaped */
	bool reaped;
};
/* log_fd: where the holder speaks. Makes the process, its monitor and the pidfile; the process does not run yet. */
int thaw_arrival_prepare(struct thaw_arrival *a, const struct thaw_restore_command *cmd, int log_fd);
int thaw_arrival_resume(struct thaw_arrival *a);
/* Undoes what prepare did: the process is killed, the files are dropped. */
void thaw_arrival_abort(struct thaw_arrival *a);
/* Reaps the process if it has ended. */
void thaw_arrival_reap(struct thaw_arrival *a);
/* Has the last page come (or the process gone)? Then the monitor is closed. */
bool thaw_arrival_ended(struct thaw_arrival *a);
/* Writes the statistics, once, when the monitor has ended. */
int thaw_arrival_report(struct thaw_arrival *a);

struct json_object;
void thaw_stats_put(struct json_object *o, const struct thaw_stats *s); /* the library's figures, a key each */
/* The statistics as one JSON object, for free(). */
char *thaw_stats_json(const struct thaw_arrival *a);

/* ---- the progress line ------------------------------------------------------------------------------------- */
struct thaw_line {
	enum { THAW_LINE_OFF, THAW_LINE_PLAIN, THAW_LINE_HERE, THAW_LINE_BOTTOM } how;
	unsigned rows;     /* of the terminal, while its bottom row is ours */
	bool shown;
	uint64_t next_ns;  /* not before */
};
void thaw_line_open(struct thaw_line *l, enum thaw_line_mode mode);
/* allowed: the terminal is this job's to write on. */
void thaw_line_update(struct thaw_line *l, const struct thaw_progress *p, bool allowed);
void thaw_line_hide(struct thaw_line *l);
void thaw_line_close(struct thaw_line *l, const struct thaw_arrival *a);

/* ---- the terminal ------------------------------------------------------------------------------------------ */
struct thaw_job {
	int tty;      /* our controlling terminal; -1: none */
	pid_t pid;    /* the process; its group may change */
	bool given;   /* its group got the terminal from us */
	bool has_modes, modes_set;     /* the process's standard I/O was a terminal; its modes are in force */
	struct termios ours, theirs;
};
void thaw_job_open(struct thaw_job *j, pid_t pid);
/* The terminal's modes come and go with its foreground group. */
void thaw_job_modes(struct thaw_job *j, const struct thaw_restored *r);
bool thaw_job_is_front(const struct thaw_job *j); /* our group, or the process's, has the terminal */
bool thaw_job_give(struct thaw_job *j); /* as a shell does for fg; false: not ours to give */
void thaw_job_take(struct thaw_job *j);
/* Stops this thaw by `sig` as the process was stopped; true: it had been stopped, and has been continued. */
bool thaw_job_stop(struct thaw_job *j, int sig);
void thaw_job_close(struct thaw_job *j);

/* ---- the two ways ------------------------------------------------------------------------------------------- */
void thaw_signals_block(void);     /* every signal, dispositions default (an ignored SIGHUP stays ignored) */
bool thaw_signals_want_end(void);  /* a signal that ends a program is waiting */
int thaw_standin_run(const struct thaw_restore_command *cmd); /* exit status */
int thaw_detach_run(const struct thaw_restore_command *cmd);  /* exit status */

#endif
