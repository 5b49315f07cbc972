/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stress/shared.h - the memory that the program and the worker processes of one round share: what is to be done, how far it is,
 * and the first violation.
 *
 * The program writes the description of the round before it starts a worker; the workers never change that part. Tracks carry
 * their owner's progress. The first to set `claimed` owns `violation`, and sets `ready` when it is written.
 *
 * Threads   atomics where several touch a field; else the owner named above
 * Lifetime  one memory file a round; workers map it, their children inherit the mapping */
#ifndef THAW_STRESS_SHARED_H
#define THAW_STRESS_SHARED_H

#include <stdatomic.h>
#include <stdint.h>

#include "stress/ops.h"
#include "stress/page.h"

#define STRESS_MAX_PROCESSES 256
#define STRESS_MAX_THREADS 32
#define STRESS_MAX_TRACKS 16384
#define STRESS_DEEPEST 4 /* children of children */
#define STRESS_MAX_OPS (1U << 20)
#define STRESS_MAX_RANGES (STRESS_MAX_PROCESSES * (4 * STRESS_MAX_THREADS + 4)) /* four a thread, and the common ones */
#define STRESS_MAX_RUNS 262144

/* Arenas of a process: one a thread, and these. */
#define STRESS_COMMON STRESS_MAX_THREADS       /* read by all, changed by nobody */
#define STRESS_BRK (STRESS_MAX_THREADS + 1)    /* the program break's; of the first thread */
#define STRESS_BIG (STRESS_MAX_THREADS + 2)    /* more than 4 GiB with a page here and there; of the first thread */
#define STRESS_HELD (STRESS_MAX_THREADS + 3)   /* one page that nobody uses: its content comes when all else is over */
#define STRESS_ARENAS (STRESS_MAX_THREADS + 4)

#define STRESS_BIG_PAGES (5UL << 18)           /* 5 GiB */
#define STRESS_BIG_STEP 8192UL                 /* pages between two that are looked at */
#define STRESS_BIG_SPOTS (STRESS_BIG_PAGES / STRESS_BIG_STEP)

#define STRESS_OWN (1U << 31) /* in the number of a page: content that a worker wrote, numbered by where */

/* Where the worker finds what the program gives it. */
#define STRESS_SOCKET_FD 3
#define STRESS_SHARED_FD 4
#define STRESS_SCRATCH_FD 5 /* a file on a disk, for O_DIRECT; -1 in the shared part: none */

enum stress_class { STRESS_NOTHING, STRESS_STALE, STRESS_LOST_ZERO, STRESS_WRONG_PAGE, STRESS_TORN, STRESS_LOST_FAULT,
		    STRESS_FAILED_CALL, STRESS_NEVER_FINISHED };

struct stress_range {
	uint16_t process, arena;
	uint32_t page, pages;    /* within the arena's window */
	uint32_t first;          /* number of its first page among the initial pages of its process */
	uint32_t flags;          /* THAW_RANGE_* */
};

/* Pages of a range that the checkpoint has content for. */
struct stress_run {
	uint16_t process, arena;
	uint32_t page, pages, first;
	uint32_t file;           /* where its content is in the program's file, in pages */
};

enum stress_track_state { STRESS_UNBORN, STRESS_RUNNING, STRESS_WAITING, STRESS_ENDED, STRESS_DOOMED /* to be killed */ };

/* What an operation came down to. */
struct stress_trace {
	uint64_t ns;
	uint64_t op;
	uint64_t addr, len, to;     /* of pages: the first, nothing, the last */
	uint32_t pages;             /* that it has read or written; 0: it was a call */
};
#define STRESS_TRACES 20

struct stress_track {
	uint16_t process, thread;
	int32_t parent;             /* track that forks it; -1: of a restored process */
	uint32_t first_op, n_ops;
	uint32_t depth;
	/* the worker's */
	_Atomic uint32_t state, done, pid;
	_Atomic uint64_t beat;      /* goes up with every step; one that stands still hangs */
	_Atomic uint64_t address;   /* being looked at */
	_Atomic uint64_t began_ns;  /* the operation that is going on; CLOCK_MONOTONIC */
	uint32_t traced;
	struct stress_trace trace[STRESS_TRACES]; /* a ring: the last ones */
};

struct stress_violation {
	_Atomic uint32_t claimed, ready;
	uint32_t class;
	int32_t track, op;
	uint32_t pid;
	uint64_t address, ns;
	char expected[256], found[256], what[256];
};

/* Of a kernel with the patches in contrib/kernel: see thaw_set_numbering(3). */
#ifndef UFFD_FEATURE_EVENT_SEQ
#define UFFD_FEATURE_EVENT_SEQ (1ULL << 30)
#endif

struct stress_shared {
	uint64_t seed;              /* of the content */
	uint64_t variety;           /* of all else that is drawn */
	uint32_t processes, threads;
	uint32_t initial_pages;     /* of a process, all arenas */
	uint32_t window;            /* pages of a thread's arena: what is mapped at first, and room to grow and move */
	uint64_t base, stride;      /* arena i of a process is at base + i * stride */
	uint32_t by_library;        /* the library registers the ranges */
	uint32_t numbers;           /* the userfaultfd is to number its messages */
	int32_t scratch;            /* STRESS_SCRATCH_FD, or -1 */
	uint32_t shatter;           /* mappings that `shatter` makes; 0: some hundreds */
	uint32_t look;              /* pages of an arena that are looked at in the end, about; 0: all */
	uint32_t planted;           /* number of the initial page that the source lies about; UINT32_MAX: none */
	uint32_t n_ranges, n_runs, n_tracks, n_ops;
	uint32_t file_pages;        /* of the program's file of content */

	_Atomic uint32_t stop;      /* all are to end early */
	_Atomic uint32_t doomed[STRESS_MAX_PROCESSES]; /* it is about to be killed, or to call exec */
	_Atomic uint32_t execs[STRESS_MAX_PROCESSES]; /* it calls exec, and ends when it is told to */
	_Atomic uint64_t brk[STRESS_MAX_PROCESSES]; /* where the break's arena is; set before the userfaultfd is sent */
	_Atomic uint64_t done[STRESS_KINDS], refused[STRESS_KINDS], pages_checked, forks;
	char trouble[256];          /* why a worker could not do its work at all; "" */
	_Atomic uint32_t died;      /* that is how it ended, and nothing that this machine lacks */
	struct stress_violation violation;

	struct stress_range ranges[STRESS_MAX_RANGES];
	struct stress_run runs[STRESS_MAX_RUNS];
	struct stress_track tracks[STRESS_MAX_TRACKS];
	struct stress_op ops[STRESS_MAX_OPS];
};

#endif
