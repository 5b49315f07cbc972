/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/probe.h - what this kernel and this user may do, found out by trying.
 * Rule      each probe leaves nothing behind: no process, descriptor or setting
 * Threads   any, but before other threads start is better: some probes fork a child
 * Errors    none: a failing probe is an answer */
#ifndef THAW_KERN_PROBE_H
#define THAW_KERN_PROBE_H

#include <stdbool.h>

enum thaw_probe_state {
	THAW_PROBE_YES,
	THAW_PROBE_DENIED, /* the kernel can, this user may not */
	THAW_PROBE_ABSENT, /* the kernel cannot */
	THAW_PROBE_BROKEN  /* it is there but does not do what it should */
};

/* What an answer is needed for. */
enum thaw_probe_need {
	THAW_PROBE_LIBRARY = 1 << 0,  /* libthaw cannot work without */
	THAW_PROBE_CHECKPOINT = 1 << 1,
	THAW_PROBE_RESTORE = 1 << 2,
	THAW_PROBE_FASTER = 1 << 3,   /* only speed or memory */
	THAW_PROBE_OPTION = 1 << 4    /* one way of two, or one option */
};

struct thaw_probe_item {
	const char *name;   /* "userfaultfd", stable: also the key of JSON output */
	const char *what;   /* "missing pages of a process can be served" */
	unsigned need;      /* THAW_PROBE_* needs */
	enum thaw_probe_state state;
	char detail[160];   /* yes: a figure ("8192 KiB"), or ""; else the cause */
	char remedy[160];   /* "" when there is nothing to remedy */
};

/* Runs all probes; returns how many items were filled (at most max). */
#define THAW_PROBE_MAX 40
unsigned thaw_probe_all(struct thaw_probe_item *items, unsigned max);
/* Is something missing that is needed for this? The first that is. */
bool thaw_probe_lacks(unsigned need, struct thaw_probe_item *item);
const char *thaw_probe_state_name(enum thaw_probe_state state); /* "yes", "not permitted", "absent", "broken" */

/* Can libthaw work here? 0, or -errno with a sentence. */
int thaw_probe_library(void);

#endif
