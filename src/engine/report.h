/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/report.h - progress and statistics: snapshots for the caller.
 * Threads   any; takes the monitor's lock
 * Errors    -ENOENT with a sentence: no such space (any more) */
#ifndef THAW_ENGINE_REPORT_H
#define THAW_ENGINE_REPORT_H

#include "engine/monitor.h"

int thaw_report_progress(struct thaw *m, int64_t space, struct thaw_progress *p);
int thaw_report_stats(struct thaw *m, int64_t space, struct thaw_stats *s);

/* Forked children for which there was no memory: they wait at their next absent page, for ever. */
uint64_t thaw_report_orphans(struct thaw *m);

/* Until the space (0: all) has ended. 0, -ETIMEDOUT, -ECANCELED, -ENOENT. timeout_ms < 0: for ever. */
int thaw_report_wait(struct thaw *m, int64_t space, int timeout_ms);

/* For the rate: called a few times a second. */
void thaw_report_sample(struct thaw *m, uint64_t now);

#endif
