// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_policy.c - mappings whose memory is bound to NUMA nodes (mbind), which is not restored.
 *
 * /proc/PID/numa_maps tells it too, but counts every page for that, while the process stands still. */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "util/err.h"

#define MAPPINGS_A_BATCH 512

static int check(const struct thaw_dumper *d, struct thaw_batch *b, size_t first, size_t n, uint64_t at)
{
	int32_t modes[MAPPINGS_A_BATCH];
	int r = thaw_batch_read(b, at, modes, n * sizeof(*modes));

	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct thaw_dump_map *m = &d->maps[first + i];

		if (thaw_batch_result(b, (int)i) == 0 && modes[i] != MPOL_DEFAULT)
			r = thaw_err_set(-ENOTSUP, "mapping %llx-%llx: has a memory policy of its own (mbind): not supported",
					 (unsigned long long)m->start, (unsigned long long)m->end);
	}
	return r;
}

int thaw_dump_refuse_policies(struct thaw_dumper *d, struct thaw_batch *b)
{
	int r = 0;

	for (size_t first = 0, n; r == 0 && first < d->n_maps; first += n) {
		uint64_t at;

		n = d->n_maps - first < MAPPINGS_A_BATCH ? d->n_maps - first : MAPPINGS_A_BATCH;
		thaw_batch_reset(b);
		at = thaw_batch_data(b, NULL, n * sizeof(int32_t));
		for (size_t i = 0; i < n; i++)
			if (!at || thaw_batch_call(b, 0, SYS_get_mempolicy, at + i * sizeof(int32_t), 0, 0, d->maps[first + i].start,
						   MPOL_F_ADDR, 0) < 0)
				return thaw_err_set(-ENOSPC, "the work area is too small");
		r = thaw_batch_run(b, d->sz.threads[0].tid, NULL);
		if (r == 0 && thaw_batch_result(b, 0) == -ENOSYS)
			return 0; /* a kernel without NUMA */
		if (r == 0)
			r = check(d, b, first, n, at);
		if (r == 0)
			r = thaw_dump_abandoned(d);
	}
	return r;
}
