/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bench.h - thaw-bench: what its parts share.
 * Rule      everything that is compared is measured in the same run, round by round, on the same content
 * Threads   the main thread, but for the raw loops' own
 * Errors    what cannot be measured ends the program with a sentence; a missed target does not */
#ifndef THAW_BENCH_H
#define THAW_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PG 4096UL
#define MOST_FAULTS 32768

struct bench {
	size_t size;         /* of the memory restored, bytes */
	unsigned rounds;
	bool quick, json;
	const char *program; /* the thaw program, or NULL: not found */
	const char *criu;    /* the criu program: compared with its daemon, and nothing else */
	unsigned faults;     /* of a latency figure */
	unsigned drain_faults;
	const char *content_dir; /* where the content's file is; "memory": a memfd */
	int content_fd;
	const char *content; /* its mapping, populated */
	int verified;        /* pages checked in the subjects */
};

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

uint64_t now_ns(void);
uint64_t cpu_ns(void);        /* of this process */
void others_find(void);       /* the other threads that there are now, */
uint64_t others_cpu_ns(void); /* and what they have used, to the moment */
uint64_t page_word(uint64_t page);

/* ---- figures: one value a round, best and median of all -------------------------------------------------- */
enum better { LOWER, HIGHER };
void figure(const char *key, const char *unit, enum better better, double value);
bool figure_get(const char *key, double *best, double *median);
void report_table(const struct bench *b);
void report_json(const struct bench *b);

/* ---- the subject: the process whose memory is brought in ------------------------------------------------- */
struct subject {
	pid_t pid;
	int uffd; /* our duplicate */
	uint64_t base;
	struct subject_page *page;
};
/* events: with the four event features, through the library; else bare, so that it can drop its memory unasked. */
void subject_start(struct subject *s, const struct bench *b, bool events);
void subject_stop(struct subject *s);
/* Touches random pages that have not been touched until n of them were missing (or none is left). Does not wait. */
void subject_fault(struct subject *s, unsigned n, unsigned seed, int cpu);
/* Waits for the end of the order; how many pages were missing. */
unsigned subject_wait(struct subject *s);
bool subject_busy(const struct subject *s);
void subject_drop(struct subject *s);                          /* MADV_DONTNEED of all */
/* Before its memory is registered: what a raw pass over memory that was just dropped has, a new subject gets by this. */
void subject_warm(struct subject *s);
void subject_verify(struct subject *s,
		    const struct bench *b); /* every page's word; ends the program when one is wrong */
/* Latencies of the last order, in microseconds: p 0.5, 0.99, 1 (the longest). Sorts them. */
double subject_latency(struct subject *s, double p);

void measure_floor_faults(struct bench *b);
void measure_floor_copy(struct bench *b);
void measure_engine(struct bench *b);
void measure_restore(struct bench *b);
void measure_criu(struct bench *b); /* all rounds */
/* What thaw-bench --subject BYTES does: the process that is checkpointed and restored. */
void run_restore_subject(size_t bytes) __attribute__((noreturn));

#endif
