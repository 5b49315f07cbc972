/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/checkpoint.h - what the program asks of the folder: dump a process, restore one, read what is in a directory.
 * Errors    -errno with a sentence that names object, cause and remedy */
#ifndef THAW_CHECKPOINT_CHECKPOINT_H
#define THAW_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct thaw;

struct thaw_dump_options {
	pid_t pid;
	const char *dir;      /* made if absent; written aside and renamed, so complete or absent */
	bool leave_running;
};
struct thaw_dump_result {
	uint64_t bytes;       /* memory stored */
	uint64_t frozen_ns;   /* how long the process stood still */
	unsigned threads, files, mappings;
	bool zombie;          /* it has ended, but its parent does not wait for it: the pid stays taken */
};
/* Checkpoints the process and (unless leave_running) ends it. On failure the process runs on as if nothing had been.
 * SIGINT, SIGTERM and SIGHUP that arrive meanwhile end it with -EINTR. */
int thaw_dump(const struct thaw_dump_options *o, struct thaw_dump_result *r);

struct thaw_restore_options {
	const char *dir;
	bool eager;           /* no userfaultfd at all: all memory is written before the first instruction */
	bool pidns;           /* in a new pid namespace, so that every tid is free */
	bool foreground;      /* the process stands in for us: terminal foreground group is handed to it */
	bool (*interrupted)(void *opaque); /* asked now and then until it runs, by any thread: true gives up. NULL: never */
	void *opaque;
	/* Bytes written before it runs, of all that are to be: now and then, on the caller's thread. NULL: nobody is told */
	void (*written)(void *opaque, uint64_t done, uint64_t all);
	void *written_opaque;
};
/* What was written into a process before it ran: all of its memory, or what does not come lazily. */
struct thaw_written {
	uint64_t bytes;
	uint64_t first_ns, complete_ns; /* since the writing began: the first bytes, the last */
};
/* A process made again, complete but for the memory that the monitor brings, not yet running. */
struct thaw_restored {
	pid_t pid;            /* as seen by the caller, whose child it is */
	int pidfd;
	int uffd;             /* -1: eager */
	struct thaw_written written;
	void *impl;
};
/* In this order; between prepare and resume the caller starts the monitor (so that faults of the last steps are served).
 * prepare: the process exists with its files, mappings (registered with uffd) and eager memory.
 * resume:  threads, timers, signals, registers; then it runs. Until resume has returned 0 a failure leaves no process.
 * All calls from one and the same thread (ptrace). */
int thaw_restore_prepare(const struct thaw_restore_options *o, struct thaw_restored *r);
int thaw_restore_add_space(struct thaw_restored *r, struct thaw *monitor); /* hands over uffd, ranges, source */
int thaw_restore_resume(struct thaw_restored *r);
/* The terminal's modes as the process had set them (from prepare on); false: its standard I/O was no terminal. */
struct termios;
bool thaw_restore_modes(const struct thaw_restored *r, struct termios *modes);
/* How far the clocks that count from the start of the machine go back for the process (from prepare on): it was started again,
 * or is another one. 0: they go on. */
uint64_t thaw_restore_clock_back(const struct thaw_restored *r);
void thaw_restore_abort(struct thaw_restored *r); /* kills and reaps it; harmless after a failed call */
void thaw_restore_free(struct thaw_restored *r);

#endif
