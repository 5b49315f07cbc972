/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/stats.h - what has happened to one space: counters and the latency of its faults.
 *
 * Counters are kept in shards, each on cache lines of its own; a thread adds to the shard of its number, so that a
 * reader and the copiers of one space do not fight for a line. The histogram is log-linear: sixteen buckets to
 * the power of two, so that a percentile read from it is off by at most one part in thirty-two.
 *
 * Threads   any; all updates are relaxed atomics (a counter orders nothing), a snapshot may be torn between
 *           counters but never within one
 * Errors    none */
#ifndef THAW_CORE_STATS_H
#define THAW_CORE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

enum thaw_count {
	THAW_COUNT_FAULTS,
	THAW_COUNT_PAGES_FAULT,
	THAW_COUNT_PAGES_AROUND,
	THAW_COUNT_PAGES_BACKGROUND,
	THAW_COUNT_PAGES_ZERO,
	THAW_COUNT_PAGES_GONE,
	THAW_COUNT_EAGAIN,
	THAW_COUNT_EEXIST,
	THAW_COUNT_ENOENT,
	THAW_COUNT_PARTIAL,
	THAW_COUNT_ESRCH,
	THAW_COUNT_FORK,
	THAW_COUNT_REMAP,
	THAW_COUNT_REMOVE,
	THAW_COUNT_UNMAP,
	THAW_COUNT_BYTES_READ,
	THAW_COUNT_IO_ERRORS,
	THAW_COUNTS
};

#define THAW_STATS_SHARDS 4
#define THAW_HISTOGRAM_SUB_BITS 4
#define THAW_HISTOGRAM_SUB (1u << THAW_HISTOGRAM_SUB_BITS)
#define THAW_HISTOGRAM_TOP_BITS 40 /* 2^40 ns: 18 minutes; longer ones are counted in the last bucket */
#define THAW_HISTOGRAM_BUCKETS ((THAW_HISTOGRAM_TOP_BITS - THAW_HISTOGRAM_SUB_BITS + 1) * THAW_HISTOGRAM_SUB)

struct thaw_histogram {
	_Atomic uint64_t max;
	_Atomic uint32_t bucket[THAW_HISTOGRAM_BUCKETS];
};

struct thaw_counters {
	struct {
		_Alignas(64) _Atomic uint64_t n[THAW_COUNTS];
	} shard[THAW_STATS_SHARDS];
	struct thaw_histogram latency;
};

static inline void thaw_count(struct thaw_counters *c, unsigned thread, enum thaw_count which, uint64_t n)
{
	atomic_fetch_add_explicit(&c->shard[thread % THAW_STATS_SHARDS].n[which], n, memory_order_relaxed);
}

uint64_t thaw_count_get(const struct thaw_counters *c, enum thaw_count which);

/* Adds what `from` has counted to `to` (a finished space's to the monitor's). */
void thaw_counters_merge(struct thaw_counters *to, const struct thaw_counters *from);

void thaw_histogram_record(struct thaw_histogram *h, uint64_t ns);
uint64_t thaw_histogram_count(const struct thaw_histogram *h);
/* The value below which `permille` of 1000 lie (the middle of its bucket, at most max); 0 when nothing was recorded. */
uint64_t thaw_histogram_percentile(const struct thaw_histogram *h, unsigned permille);

#endif
