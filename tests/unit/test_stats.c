// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_stats.c - counters add up over shards; a percentile is within one part in thirty-two of the exact one */
#include "config.h"
#include "core/stats.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct thaw_counters *fresh(void)
{
	struct thaw_counters *c = aligned_alloc(64, (sizeof(*c) + 63) & ~63UL);

	memset(c, 0, sizeof(*c));
	return c;
}

Test(stats, counters_sum_over_threads)
{
	struct thaw_counters *a = fresh(), *b = fresh();

	for (unsigned t = 0; t < 100; t++) {
		thaw_count(a, t, THAW_COUNT_FAULTS, t);
		thaw_count(a, t, THAW_COUNT_EAGAIN, 1);
	}
	cr_assert_eq(thaw_count_get(a, THAW_COUNT_FAULTS), 4950);
	cr_assert_eq(thaw_count_get(a, THAW_COUNT_EAGAIN), 100);
	cr_assert_eq(thaw_count_get(a, THAW_COUNT_FORK), 0);
	thaw_count(b, 0, THAW_COUNT_FAULTS, 50);
	thaw_histogram_record(&b->latency, 7);
	thaw_counters_merge(a, b);
	cr_assert_eq(thaw_count_get(a, THAW_COUNT_FAULTS), 5000);
	cr_assert_eq(thaw_histogram_count(&a->latency), 1);
	cr_assert_eq(atomic_load(&a->latency.max), 7);
	free(a);
	free(b);
}

Test(stats, nothing_recorded)
{
	struct thaw_counters *c = fresh();

	cr_assert_eq(thaw_histogram_percentile(&c->latency, 500), 0);
	cr_assert_eq(thaw_histogram_count(&c->latency), 0);
	free(c);
}

/* Every value alone, around each power of two and at random: what comes back is near it and never beyond the maximum. */
Test(stats, one_value_comes_back)
{
	for (unsigned bits = 0; bits < 40; bits++) {
		for (int d = -2; d <= 2; d++) {
			uint64_t v = (1ULL << bits) + d, got, off;
			struct thaw_counters *c = fresh();

			if ((int64_t)v < 0) {
				free(c);
				continue;
			}
			thaw_histogram_record(&c->latency, v);
			got = thaw_histogram_percentile(&c->latency, 500);
			off = got > v ? got - v : v - got;
			cr_assert(off * 32 <= v, "%lu came back as %lu", (unsigned long)v, (unsigned long)got);
			cr_assert_leq(got, v);
			free(c);
		}
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

Test(stats, percentiles_against_a_sorted_list)
{
	static const unsigned permille[] = { 1, 100, 500, 900, 990, 999, 1000 };
	enum { N = 20000 };
	uint64_t *v = malloc(N * sizeof(*v)), x = 12345;
	struct thaw_counters *c = fresh();

	for (unsigned i = 0; i < N; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		v[i] = (x >> 33) >> (x >> 59); /* from single nanoseconds to seconds */
		thaw_histogram_record(&c->latency, v[i]);
	}
	qsort(v, N, sizeof(*v), by_value);
	for (unsigned i = 0; i < sizeof(permille) / sizeof(permille[0]); i++) {
		uint64_t want = v[((uint64_t)N * permille[i] + 999) / 1000 - 1];
		uint64_t got = thaw_histogram_percentile(&c->latency, permille[i]);
		uint64_t off = got > want ? got - want : want - got;

		cr_assert(off * 32 <= want, "permille %u: %lu, exactly %lu", permille[i], (unsigned long)got, (unsigned long)want);
	}
	cr_assert_eq(atomic_load(&c->latency.max), v[N - 1]);
	cr_assert_eq(thaw_histogram_count(&c->latency), N);
	free(c);
	free(v);
}

/* Longer than the last bucket reaches: the maximum tells. */
Test(stats, beyond_the_end)
{
	struct thaw_counters *c = fresh();

	thaw_histogram_record(&c->latency, 1ULL << 50);
	cr_assert_eq(thaw_histogram_percentile(&c->latency, 999), 1ULL << 50);
	free(c);
}
