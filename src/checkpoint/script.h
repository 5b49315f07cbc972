/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/script.h - a list of system calls for a stopped thread, in which every call has a name for the message.
 *
 * Runs as few batches (remote.h) as the work area allows; the first call that fails ends the script.
 *
 * Rule      the first failure sticks: later additions do nothing, thaw_script_run() returns it
 * Threads   the one thread that seized the process
 * Errors    -errno with "restoring process 123: mapping at 0x7f0000000000: Cannot allocate memory" */
#ifndef THAW_CHECKPOINT_SCRIPT_H
#define THAW_CHECKPOINT_SCRIPT_H

#include <stdint.h>
#include "checkpoint/remote.h"

/* One call. Arguments whose bit is set in data_args are offsets into data, which travels with the call. */
struct thaw_step {
	const char *what;       /* printf format with one %lx, %ld or %lu for `at`, or none */
	const char *remedy;     /* added when the call fails with EPERM; or NULL */
	uint64_t at;
	long nr;
	uint64_t args[6];
	const void *data;
	size_t len;
	unsigned data_args;
	size_t pointer;         /* if not 0: the 8 bytes at this place in data are an offset into data as well */
	bool may_fail;
};

enum { THAW_SCRIPT_STEPS = 2048 }; /* of one batch; the work area may hold fewer */

struct thaw_script {
	struct thaw_batch *batch;
	pid_t tid;              /* as the tracer sees it */
	pid_t name;             /* the number in messages */
	int err;
	unsigned n;
	struct thaw_step steps[THAW_SCRIPT_STEPS];
};

void thaw_script_init(struct thaw_script *s, struct thaw_batch *b, pid_t tid, pid_t name);
void thaw_script_add(struct thaw_script *s, const struct thaw_step *step); /* data is copied */
int thaw_script_run(struct thaw_script *s);

#define THAW_STEP(s, ...) thaw_script_add(s, &(struct thaw_step){ __VA_ARGS__ })

#endif
