// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/stats.c - sharded counters and the log-linear histogram */
#include "config.h"
#include "core/stats.h"

uint64_t thaw_count_get(const struct thaw_counters *c, enum thaw_count which)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < THAW_STATS_SHARDS; i++)
		sum += atomic_load_explicit(&c->shard[i].n[which], memory_order_relaxed);
	return sum;
}

/* Values below THAW_HISTOGRAM_SUB have a bucket each; above, the leading bit picks the row, the next four the bucket. */
static unsigned bucket_of(uint64_t v)
{
	unsigned top, row;

	if (v >> THAW_HISTOGRAM_TOP_BITS)
		return THAW_HISTOGRAM_BUCKETS - 1;
	if (v < THAW_HISTOGRAM_SUB)
		return v;
	top = 63 - __builtin_clzll(v);
	row = top - THAW_HISTOGRAM_SUB_BITS + 1;
	return row * THAW_HISTOGRAM_SUB + ((v >> (top - THAW_HISTOGRAM_SUB_BITS)) & (THAW_HISTOGRAM_SUB - 1));
}

static uint64_t middle_of(unsigned bucket)
{
	unsigned row = bucket / THAW_HISTOGRAM_SUB, sub = bucket % THAW_HISTOGRAM_SUB;
	uint64_t low, width;

	if (row == 0)
		return sub;
	width = 1ULL << (row - 1);
	low = (THAW_HISTOGRAM_SUB + sub) * width;
	return low + width / 2;
}

static void raise_max(struct thaw_histogram *h, uint64_t v)
{
	uint64_t old = atomic_load_explicit(&h->max, memory_order_relaxed);

	while (old < v && !atomic_compare_exchange_weak_explicit(&h->max, &old, v, memory_order_relaxed,
								 memory_order_relaxed))
		;
}

void thaw_histogram_record(struct thaw_histogram *h, uint64_t ns)
{
	atomic_fetch_add_explicit(&h->bucket[bucket_of(ns)], 1, memory_order_relaxed);
	raise_max(h, ns);
}

uint64_t thaw_histogram_count(const struct thaw_histogram *h)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < THAW_HISTOGRAM_BUCKETS; i++)
		sum += atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
	return sum;
}

uint64_t thaw_histogram_percentile(const struct thaw_histogram *h, unsigned permille)
{
	uint64_t total = thaw_histogram_count(h), max = atomic_load_explicit(&h->max, memory_order_relaxed);
	uint64_t rank = (total * permille + 999) / 1000, seen = 0;

	if (!total)
		return 0;
	if (!rank)
		rank = 1;
	for (unsigned i = 0; i < THAW_HISTOGRAM_BUCKETS; i++) {
		seen += atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
		if (seen >= rank)
			return middle_of(i) < max && i < THAW_HISTOGRAM_BUCKETS - 1 ? middle_of(i) : max;
	}
	return max;
}

void thaw_counters_merge(struct thaw_counters *to, const struct thaw_counters *from)
{
	for (unsigned i = 0; i < THAW_COUNTS; i++)
		thaw_count(to, 0, i, thaw_count_get(from, i));
	for (unsigned i = 0; i < THAW_HISTOGRAM_BUCKETS; i++) {
		uint32_t n = atomic_load_explicit(&from->latency.bucket[i], memory_order_relaxed);

		if (n)
			atomic_fetch_add_explicit(&to->latency.bucket[i], n, memory_order_relaxed);
	}
	raise_max(&to->latency, atomic_load_explicit(&from->latency.max, memory_order_relaxed));
}
