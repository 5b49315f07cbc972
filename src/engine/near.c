// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/near.c - where does the faulting thread run? The reader goes there */
#include "config.h"
#include "engine/near.h"

#include <sched.h>

#include "kern/procfs.h"
#include "kern/sys.h"

#define FIRST_WAIT_NS 500000ULL /* to ask costs some 10 us, to move 30 */
#define LAST_WAIT_NS 64000000ULL

/* Has the first thread taken most of the faults since the last look? What it finds mapped or swapped counts there as well. */
static bool is_first_thread(struct thaw_near *n, uint64_t its, uint64_t served)
{
	bool most = served != n->served && (its - n->its) * 2 >= served - n->served;

	n->its = its;
	n->served = served;
	return most;
}

void thaw_near(struct thaw_mm *mm)
{
	uint64_t now = thaw_sys_now_ns();
	struct thaw_near *n = &mm->near;
	bool begins = !n->wait_ns, there = false;
	struct thaw_proc_stat s;

	if (mm->stat_fd < 0 || now < n->next_ns)
		return;
	if (!thaw_procfs_stat_fd(mm->stat_fd, &s) && is_first_thread(n, s.faults, thaw_count_get(&mm->counters, THAW_COUNT_FAULTS)) &&
	    s.policy == SCHED_OTHER && !begins) { /* one in real time might not let us run there */
		there = s.cpu == thaw_sys_cpu();
		if (!there)
			(void)thaw_sys_move_thread(s.cpu); /* not where it may not run */
	}
	n->wait_ns = there || begins ? FIRST_WAIT_NS : n->wait_ns * 2;
	if (n->wait_ns > LAST_WAIT_NS)
		n->wait_ns = LAST_WAIT_NS;
	n->next_ns = now + n->wait_ns;
}
