/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/status.h - how far a lazy restore is: the document that the daemon gives and thaw status shows.
 *
 * One JSON object, sent to whoever connects to the status socket, then the end of the stream. Its keys are in thaw-status(1).
 *
 * Rule      pure but for memory; the reading side trusts nothing that it has not looked at
 * Threads   owned by the caller
 * Errors    -errno with a sentence */
#ifndef THAW_LAZY_STATUS_H
#define THAW_LAZY_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "thaw.h"

#define THAW_LAZY_SOCKET "lazy-pages.socket"    /* in the working directory: there is no option for it in CRIU */
#define THAW_STATUS_SOCKET "thaw-status.socket" /* in the daemon's work directory, unless it was told another */
#define THAW_STATUS_MOST (64u << 20)            /* bytes of a document: some hundred thousand tasks */

struct thaw_status_task {
	uint64_t pid;          /* as in the images */
	uint64_t here;         /* as seen from the daemon; 0: unknown */
	bool child;            /* forked since the restore by the task with that pid */
	char state[16];        /* waiting, finished, gone */
	uint64_t total, placed, gone, unavailable, unregistered; /* bytes */
	uint64_t faults, p50, p99;                               /* of its faults, nanoseconds */
};

struct thaw_status {
	char version[32];
	char phase[16];        /* listening, arriving, serving, over */
	uint64_t pid;          /* of the daemon */
	uint64_t tasks_expected, tasks_arrived;
	uint64_t spaces, spaces_done;
	uint64_t total, placed, gone, unavailable, rate, elapsed_ns;
	uint64_t left_ns;      /* UINT64_MAX: unknown */
	struct thaw_stats stats;
	struct {
		char kind[16];     /* images, page-server */
		char state[16];    /* local, connecting, connected, lost, failed, closed */
		char where[300];   /* the page server's address; "" with images */
		uint64_t bytes, gets, in_flight, rtt_ns, lost, short_answers, silent_ns;
	} source;
	size_t n_tasks;
	struct thaw_status_task *task;
};

/* Appends a task and gives it out, zeroed. NULL: no memory. */
struct thaw_status_task *thaw_status_add(struct thaw_status *s);
void thaw_status_free(struct thaw_status *s);

char *thaw_status_to_json(const struct thaw_status *s, bool pretty); /* for free(); NULL: no memory */
/* s is to be freed afterwards in any case. -EBADMSG: it is no such document. */
int thaw_status_from_json(struct thaw_status *s, const char *text, size_t len);

/* The text exposition format that Prometheus reads. */
char *thaw_status_to_prometheus(const struct thaw_status *s);        /* likewise */

#endif
