/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/lazy/restorer.h - the other side of thaw lazy-pages: what CRIU does, played natively.
 *
 * A test describes tasks: their mappings, and runs of a pagemap over them. The restorer writes the images, starts the daemon,
 * connects, forks the tasks, and lets each make its memory, send its userfaultfd, move its mappings to their places, register
 * them one by one, close its userfaultfd, and run its body when all have come so far and the word has been said.
 *
 * Content    of a page that the images have is live_fill(pid, address, 0); eager pages are put in place by the task itself
 * Rule       a task's exit status is its body's; what went wrong has been said on standard error
 * Errors     LIVE_DIE: the test has failed; whatever was started is killed with it */
#ifndef TESTS_LAZY_RESTORER_H
#define TESTS_LAZY_RESTORER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "support/imagedir.h"
#include "support/live.h"

#define REST_EAGER 4u  /* in the pages file, put in place by the restorer */
#define REST_LAZY 6u   /* in the pages file, left to the daemon */
#define REST_REMOTE 2u /* left to the daemon, and not in the pages file */
#define REST_PARENT 1u /* in a parent directory */
#define REST_END 0x52535446u

struct rest_vma {
	uint64_t addr, pages;
	int prot;             /* 0: read and write */
	uint64_t madv;        /* bit n: MADV_n; applied before registration */
	bool unregistered;    /* the restorer forgets it */
};
struct rest_run {
	uint64_t addr, pages;
	unsigned flags;       /* REST_* */
};

struct rest_task;
typedef int rest_body(const struct rest_task *t);
#define REST_MOST 40
struct rest_task {
	int pid;              /* in the images; the process here has another */
	bool zombie;
	unsigned n_vmas, n_runs;
	const struct rest_vma *vma;
	const struct rest_run *run;
	rest_body *before;    /* before it sends its userfaultfd */
	rest_body *early;     /* between registration and the word: what the restorer itself touches */
	rest_body *body;      /* NULL: rest_whole */
	uint64_t arg;
};

/* All memory is what the images say. For bodies. */
int rest_whole(const struct rest_task *t);
bool rest_page_is(const struct rest_task *t, uint64_t addr); /* one page of its mappings */

/* 16 numbers that a test and its tasks share; 0 at rest_begin(). */
extern _Atomic int *rest_words;
bool rest_await(unsigned word, int least); /* false: not within minutes */

struct rest {
	struct scratch dir;
	const struct rest_task *task;
	unsigned n;
	bool wide;            /* pagemap entries as CRIU writes them since 4.2 */
	pid_t daemon;
	int conn;
	pid_t pids[REST_MOST];
	char *said;           /* the daemon's standard error, once it has ended */
	struct rest_shared *shared;
	int tracks[2][2];     /* pipes: tasks are ready, tasks may go */
};

void rest_begin(struct rest *r, const struct rest_task *task, unsigned n, bool wide);
void rest_images(struct rest *r); /* rest_begin() has done it; again after the tasks have changed */
/* Starts thaw lazy-pages with --no-default-config, -D and --status-fd, and what is given (NULL at the end). Returns whether
 * it said that it listens. */
bool rest_daemon(struct rest *r, ...);
void rest_connect(struct rest *r);
void rest_send_pid(struct rest *r, int32_t pid);
void rest_send_fds(struct rest *r, const int *fds, unsigned n, unsigned bytes);
void rest_send_word(struct rest *r, uint32_t word);
void rest_hang_up(struct rest *r);

/* The steps of a restore. spawn: tasks have been forked, and send by themselves; gather: all have registered. */
void rest_spawn(struct rest *r);
void rest_gather(struct rest *r);
void rest_release(struct rest *r); /* the word, and the tasks run */
int rest_wait(struct rest *r);     /* the first exit status that is not 0 */
/* All of it: connect, spawn, gather, release, wait; every status must be 0. */
void rest_restore(struct rest *r);

/* Waits for the daemon; its exit status (128 + signal) must be `status`, and its standard error have the words (NULL: no
 * demand). */
void rest_ended(struct rest *r, int status, const char *words);
char *rest_read(struct rest *r, const char *name); /* a file of the directory, for free() */
void rest_await_said(struct rest *r, const char *words); /* on the daemon's standard error, within a minute */
char rest_state(pid_t pid);                        /* "S", "R", ...; '?': there is none */
/* Processor time of a process and its threads so far, in clock ticks. */
unsigned long rest_ticks(pid_t pid);
/* Waits until the task sleeps and goes on sleeping, or has ended. True: it sleeps. */
bool rest_sleeps(pid_t pid);
/* A number of a JSON file of the directory by its first key of that name. */
unsigned long long rest_number(struct rest *r, const char *name, const char *key);
/* The same of one task, by the pid that the images know: tasks stand in the order in which they came. */
unsigned long long rest_task_number(struct rest *r, const char *name, int pid, const char *key);
void rest_end(struct rest *r); /* kills what is left, removes the directory */

#endif
