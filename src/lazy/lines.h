/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/lines.h - how many lines a second go into the log.
 *
 * Rule      errors, warnings and the rest each have their own measure, so that a storm of details hides no error; how many lines
 *           were left out stands where they would have stood: before the next line of their kind, or a second behind
 *           them when none comes
 * Threads   any; out is called without the lock, rouse with it
 * Errors    none */
#ifndef THAW_LAZY_LINES_H
#define THAW_LAZY_LINES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "thaw.h"

#define THAW_LINES_KINDS 3

struct thaw_lines {
	thaw_log_fn *out;          /* immutable; NULL: nobody listens */
	void *opaque;
	void (*rouse)(void *opaque); /* lines are left out: look at thaw_lines_due() */
	void *rouse_opaque;
	pthread_mutex_t lock;
	struct {
		uint64_t tokens, refilled_ns; /* lines that may be written; when that grew last */
		uint64_t left_out, since_ns;  /* told by nobody yet */
	} kind[THAW_LINES_KINDS]; /* lock */
};

void thaw_lines_init(struct thaw_lines *l);
void thaw_lines_destroy(struct thaw_lines *l);

/* May a line be written now? Tells first of those that were left out. */
bool thaw_lines_may(struct thaw_lines *l, enum thaw_log_level level);
/* Writes it, if it may. */
void thaw_lines_say(struct thaw_lines *l, enum thaw_log_level level, const char *line);

/* Milliseconds until thaw_lines_tell() has something to tell; -1: nothing is left out. */
int thaw_lines_due(struct thaw_lines *l);
void thaw_lines_tell(struct thaw_lines *l, bool all); /* all: whether it is due or not */

#endif
