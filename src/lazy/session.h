/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/session.h - one restore served: from the restorer's connection to the last page.
 *
 * The main thread receives tasks and hands them to the engine one by one, so that faults are answered while the rest of the
 * tree is still coming. The engine's threads report ends, forks and what could not be had; that is kept in the
 * members, which is also what a status asks.
 *
 * Rule      no userfaultfd of a living task with absent memory is ever closed: on failure the engine's holder keeps it, so that
 *           the task waits and does not read zeros
 * Threads   the functions: the main thread; thaw_lazy_each() and thaw_lazy_state(): any
 * Errors    -errno with a sentence */
#ifndef THAW_LAZY_SESSION_H
#define THAW_LAZY_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lazy/images.h"
#include "thaw.h"

enum thaw_lazy_failure {
	THAW_LAZY_FREEZE, /* who needs content that cannot be had waits, and it is tried again */
	THAW_LAZY_KILL,   /* its process is killed */
	THAW_LAZY_SIGBUS  /* it gets SIGBUS */
};

struct thaw_lazy_options {
	unsigned copiers;      /* 0: the library's choice */
	size_t chunk;          /* bytes; 0 likewise */
	int read_around;       /* pages; -1 likewise */
	bool delayed;
	unsigned delay_ms;
	bool stay_lazy;
	bool auto_dedup;
	enum thaw_lazy_failure failure;
	int holder_log;        /* where the holder speaks */
	enum thaw_log_level log_most;
	thaw_log_fn *log;      /* any thread; lines name tasks: "pid 7: ..." */
	void *log_opaque;
	/* Makes the source of a task; NULL: its local images. */
	struct thaw_source *(*source)(void *opaque, const struct thaw_lazy_task *t);
	void *source_opaque;
};

enum thaw_lazy_phase {
	THAW_LAZY_LISTENING,  /* no restorer yet */
	THAW_LAZY_ARRIVING,   /* tasks are coming */
	THAW_LAZY_SERVING,    /* they run */
	THAW_LAZY_OVER
};

/* A task or a child that one has forked since. */
struct thaw_lazy_member {
	int64_t space;         /* of the engine: thaw_get_progress(), thaw_get_stats() */
	int64_t parent;        /* the space it was forked from; 0: a task of the images */
	int pid;               /* as in the images; of the task that it descends from */
	pid_t real;            /* as seen from here; 0: unknown */
	bool ended, finished;  /* finished: every page was in; else its process has gone */
	uint64_t unavailable;  /* bytes that could not be read (some may have come later) */
	uint64_t missing;      /* the same, of those that ended without them: it, or its children */
	unsigned children;     /* of a task: that have ended, with what they had */
	uint64_t children_placed, children_faults;
	uint64_t unregistered; /* bytes in mappings that the restorer did not register */
	struct thaw_progress last; /* when it ended */
};

struct thaw_lazy;

struct thaw_lazy *thaw_lazy_new(const struct thaw_lazy_options *o, const struct thaw_lazy_images *im); /* NULL: sentence */
int thaw_lazy_start(struct thaw_lazy *z); /* the engine's threads and its holder */

/* The restorer has connected; conn is taken over. */
void thaw_lazy_connect(struct thaw_lazy *z, int conn);
int thaw_lazy_conn(const struct thaw_lazy *z);   /* to be polled for reading; -1: not (any more) */
int thaw_lazy_events(const struct thaw_lazy *z); /* likewise */
/* One of them is readable. < 0: the restore has failed, in a way that says so. */
int thaw_lazy_receive(struct thaw_lazy *z);
int thaw_lazy_settle(struct thaw_lazy *z);

/* All tasks have run and their pages are in, or they are gone. */
bool thaw_lazy_is_over(struct thaw_lazy *z);
/* What is left to be said at the end: 0, or -errno with a sentence when not all pages were placed. */
int thaw_lazy_result(struct thaw_lazy *z);
/* How many address spaces are served, children's included. */
size_t thaw_lazy_left(struct thaw_lazy *z);
/* Who waits for us, for a message: "pid 5 and children of pid 4"; "" when none can be named. Changes nothing about them. */
void thaw_lazy_waiting(struct thaw_lazy *z, char *buf, size_t len);
/* Is the restorer still there? */
bool thaw_lazy_is_awaited(const struct thaw_lazy *z);
/* The session has failed. What the restorer has sent is taken out of its connection, so that no userfaultfd is closed with it, and
 * nothing more can be sent. True: its last word was among it, or what may have been one, so the tasks run; else they have not run
 * yet, nor will. */
bool thaw_lazy_abandon(struct thaw_lazy *z);
/* Kills those that wait, whoever their parents are, and the descendants of roots. buf: who that was; "": nobody was found. */
void thaw_lazy_kill(struct thaw_lazy *z, char *buf, size_t len);

/* The sentence of this thread without the name of the library's function that it may begin with: users call none. Its code. */
int thaw_lazy_error(void);
/* A line of somebody else's, under the same measure as those of the session. Any thread. */
void thaw_lazy_line(struct thaw_lazy *z, enum thaw_log_level level, const char *line);
/* Milliseconds until thaw_lazy_settle() is to be called though nothing is readable; -1: it need not be. */
int thaw_lazy_lines_due(struct thaw_lazy *z);

enum thaw_lazy_phase thaw_lazy_state(struct thaw_lazy *z, size_t *tasks, size_t *arrived);
struct thaw *thaw_lazy_monitor(struct thaw_lazy *z);
/* Every member, in the order in which they came; m is valid during the call. Nonzero ends it and is returned. */
int thaw_lazy_each(struct thaw_lazy *z, int (*fn)(void *opaque, const struct thaw_lazy_member *m), void *opaque);

/* Frees z. Userfaultfds that somebody still waits on stay open, and the holder stays with them. */
void thaw_lazy_close(struct thaw_lazy *z);

#endif
