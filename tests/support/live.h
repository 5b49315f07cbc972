/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/live.h - a process with missing memory for the live tests, and content whose every byte is known.
 *
 * The worker is a child of the test: it maps the ranges, makes the userfaultfd, hands it over, closes its own copy and waits; live_go()
 * lets it run its function, whose result is its exit status. It dies with the test.
 *
 * Content is a function of (seed, address, version), so a page in the wrong place, of the wrong time, or empty, shows. */
#ifndef TESTS_SUPPORT_LIVE_H
#define TESTS_SUPPORT_LIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "thaw.h"

#define LIVE_PAGE 4096UL
/* Where the sanitizers leave an application room. */
#if defined(__SANITIZE_THREAD__)
#define LIVE_BASE 0x2000000000ULL
#else
#define LIVE_BASE 0x200000000000ULL
#endif

#define LIVE_DIE(...) (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fprintf(stderr, "\n"), exit(1))
/* A library call that must succeed. */
#define LIVE_OK(call) ((call) < 0 ? (LIVE_DIE("%s: %s", #call, thaw_get_error()), 0) : 0)
#define LIVE_CHECK(cond) ((cond) ? (void)0 : (void)LIVE_DIE("does not hold: %s", #cond))

void live_fill(void *page, uint64_t seed, uint64_t addr, uint64_t version);
/* Pages of the calling process against the pattern; says where and what it found. */
bool live_is(uint64_t addr, uint64_t pages, uint64_t seed, uint64_t version);
bool live_moved_is(uint64_t addr, uint64_t pattern_addr, uint64_t pages, uint64_t seed, uint64_t version);
bool live_is_zero(uint64_t addr, uint64_t pages);
/* The same of pages that are missing: the second half of them is written first (and zeroed), which finds its zero in another way. */
bool live_finds_zero(uint64_t addr, uint64_t pages);

uint64_t live_random(uint64_t *state);
void live_shuffle(uint32_t *v, unsigned n, uint64_t seed);

struct live {
	pid_t pid;
	int pidfd, uffd, sock;
};

/* fn runs in the worker; sock is its end of a stream socket to the test (live.sock is ours). */
typedef int live_fn(void *arg, int sock);
void live_start(struct live *l, const struct thaw_range *ranges, size_t n, live_fn *fn, void *arg);
/* The same, but the worker registers nothing: the library is to do it. */
void live_start_unregistered(struct live *l, const struct thaw_range *ranges, size_t n, live_fn *fn, void *arg);
void live_go(struct live *l);
int live_end(struct live *l); /* waits; its exit status, 128 + signal */
void live_kill(struct live *l);

/* A file that holds version 0 of the ranges, one after the other; *at (n of them) for thaw_source_memfile(). In memory,
 * or on the disk under TMPDIR (/var/tmp): unlinked already. */
int live_file(bool disk, uint64_t seed, const struct thaw_range *ranges, size_t n, struct thaw_memfile_range *at);
bool live_make_cold(int fd); /* out of the page cache; false: (much of) it stays, as on a file system in memory */

/* Will the monitor use numbered messages? Where the kernel has them, unless THAW_TEST_NUMBERING is off; if that is on, the kernel
 * must have them. */
bool live_numbers(void);
/* A monitor with its log on standard error (errors only, unless LIVE_VERBOSE) and what the test wants often. */
struct thaw *live_monitor(enum thaw_io io, unsigned copiers, enum thaw_background policy);
int64_t live_add(struct thaw *h, const struct live *l, struct thaw_source *s, const struct thaw_range *ranges, size_t n);
struct thaw_stats live_stats(struct thaw *h, int64_t space);

#endif
