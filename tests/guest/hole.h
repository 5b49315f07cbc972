/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* guest/hole.h - what the reproducers of the kernel's holes share: options, a bare userfaultfd, sources that are ready, cold or slow, and
 * the report.
 * Rule      talks to the kernel alone, never through libthaw: what is measured is the kernel
 * Rule      counts are the result; the exit status says only whether the program could do its work (0, 77 not possible here, 1, 2),
 *           and with --closed whether the hole showed (1)
 * Threads   hole_options() first and alone; the calls on a userfaultfd from any thread
 * Errors    what must not fail ends the program with a sentence */
#ifndef TESTS_GUEST_HOLE_H
#define TESTS_GUEST_HOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/userfaultfd.h>

/* The kernel patches' RFC (contrib/kernel), which no header has. */
#define HOLE_FEATURE_EVENT_SEQ (1ULL << 30)
#define HOLE_MATCH_SEQ (1ULL << 31)
#define HOLE_SEQ(n) ((uint64_t)(n) << 32)
#define HOLE_MSG_SEQ(m) ((m)->reserved3)

enum hole_source {
	HOLE_READY, /* resident: the kernel copies with its locks held */
	HOLE_COLD,  /* in the page cache, not mapped: the kernel drops its locks for a minor fault now and then */
	HOLE_SLOW   /* one page comes only when the process is told to go on: a disk or a network */
};

/* Rules by which a monitor looks up and fills; not every program knows all of them. */
enum hole_rule {
	HOLE_NONE,  /* none */
	HOLE_GATE,  /* reading excludes {look up, fill} */
	HOLE_NUMBER /* fills demand the number of the last event that is applied */
};

/* In which order events are applied. */
enum hole_replay {
	HOLE_AS_READ,
	HOLE_PAIRED,   /* as read, and an UNMAP that ends an mremap() touches nothing that has been moved in since */
	HOLE_BY_NUMBER /* patched kernels */
};

struct hole {
	const char *program;
	unsigned long rounds;  /* how often; 0: until the time is over */
	double seconds;        /* an end, too */
	unsigned long pages;
	unsigned threads;
	enum hole_source source;
	enum hole_rule rule;
	enum hole_replay replay;
	bool shared;           /* shared memory and MADV_REMOVE */
	bool json, closed;
	size_t page;
	double started;
};
extern struct hole hole;

/* Which options a program has: letters of "rptsmuo" (rounds, pages, threads, source, memory, rule, replay). `about` is for --help. */
void hole_options(int argc, char **argv, const char *about, const char *has);
bool hole_over(unsigned long round); /* has it been rounds or seconds enough? */

#define HOLE_DIE(...) hole_die(__FILE__, __LINE__, __VA_ARGS__)
void hole_die(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));
void hole_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

double hole_now(void);
/* Ends with "SKIPPED" where the kernel or the user may not. */
int hole_uffd(uint64_t features);
bool hole_uffd_has(uint64_t features);
void hole_register(int uffd, void *start, size_t len);
int hole_copy(int uffd, void *dst, const void *src, size_t len, uint64_t mode, int64_t *done); /* 0 or -errno */
int hole_zero(int uffd, void *dst, size_t len, uint64_t mode, int64_t *done);
void hole_wake(int uffd, void *dst, size_t len);

void *hole_map(size_t len, bool shared); /* readable, writable, no huge pages */
bool hole_is_present(const void *page);
unsigned long hole_count_present(const void *start, unsigned long pages);

/* Content that nothing else has, in every word of `pages` pages. */
#define HOLE_TAG 0x7aa5f00d5eed5a17ULL
void hole_tag(void *start, unsigned long pages);
bool hole_is_tagged(const void *page);

/* A source of hole.pages tagged pages of the kind that hole.source names. reset: as it was at first. release: the slow page may come. */
char *hole_source_make(void);
void hole_source_reset(char *source);
void hole_source_release(void);

/* One copier and one reader, as the simplest monitor has them.
 * The reader answers faults with zeros, takes events (closing what FORK brings), and reads within the rule.
 * start: the copier fills `dst` from `src` in one call; returns when its first page is visible. wait: until that call is over. */
void hole_monitor_start(int uffd);
void hole_copy_start(char *dst, char *src);
bool hole_copy_is_over(void);
int hole_copy_wait(int64_t *done); /* what the call answered: 0 or -errno */
void hole_monitor_stop(void);

/* The report, in words or as one line of JSON; the bad count decides --closed. Names are literals. */
void hole_count(const char *name, unsigned long n);
void hole_text(const char *name, const char *value);
int hole_report(unsigned long rounds, unsigned long bad_rounds, const char *bad_name, unsigned long bad);

#endif
