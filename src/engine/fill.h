/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/fill.h - placing pages: one step is one S (or the owner's turn), one ioctl, one record.
 *
 * Rule      the content is in memory before; what the map says is looked up in the same S as the ioctl; the outcome is
 *           recorded in it
 * Threads   a thread with a slot; or the owner between two of its own X (slot unused)
 * Errors    none: outcomes */
#ifndef THAW_ENGINE_FILL_H
#define THAW_ENGINE_FILL_H

#include "engine/monitor.h"

enum thaw_step_kind {
	THAW_STEP_PLACED,    /* something was placed, or found there, or gone: go on at `next` */
	THAW_STEP_NOTHING,   /* nothing absent in the range */
	THAW_STEP_ELSEWHERE, /* the next absent run is `e`: its content is not in the window */
	THAW_STEP_SMALLER,   /* the run is not within one mapping: ask again for half as much */
	THAW_STEP_NOT_YET,   /* the page's mapping is not registered yet: go on at `next`, the page stays absent */
	THAW_STEP_CHANGING,  /* wait for an X, then look again */
	THAW_STEP_NO_MEMORY, /* may pass */
	THAW_STEP_ENDED,     /* the space is not live any more */
	THAW_STEP_BROKEN     /* the kernel cannot read the window (errno in `error`), or worse */
};

struct thaw_step {
	enum thaw_step_kind kind;
	uint64_t next;
	struct thaw_extent e; /* the run tried */
	int error;
};

/* Places the first absent run of [from, to), at most max_pages, if `win` holds its content. `cause`: the counter. */
struct thaw_step thaw_fill_step(struct thaw_worker *w, struct thaw_mm *mm, bool owner, uint64_t from, uint64_t to,
				uint64_t max_pages, const struct thaw_window *win, enum thaw_count cause);

/* Places zeros over [addr, addr + pages), which holds no content. Owner only. The kernel refuses it (EEXIST) where there is a page, or a
 * marker of one that may not be used (poisoned, or a guard, of which no message tells). For a write, too: a copy of zeros would
 * spare it another fault, inside the kernel, but it goes over markers. */
struct thaw_fill thaw_fill_zero(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr, uint64_t pages);

/* Wakes who sleeps in the range: they fault again if their page is still missing. */
void thaw_fill_wake(struct thaw_worker *w, struct thaw_mm *mm, bool owner, uint64_t addr, uint64_t len);

/* All of [from, to) that the window holds, copiers and I/O threads; waits out changes. False: given up. */
bool thaw_fill_run(struct thaw_worker *w, struct thaw_mm *mm, uint64_t from, uint64_t to, const struct thaw_window *win,
		   enum thaw_count cause);

/* How long a copy of this thread may be now: short while faults are arriving. Copiers only; asked again as soon as one is made. */
uint64_t thaw_fill_chunk(struct thaw_worker *w, const struct thaw_mm *mm);

/* Waits after an outcome that only an X or time can mend. *tries counts in a row. */
void thaw_fill_back_off(struct thaw_worker *w, struct thaw_mm *mm, uint32_t seq, unsigned *tries);

/* For the log of one who debugs: the map and the kernel differ about a page, which a log of messages does not explain. */
void thaw_fill_tell(struct thaw_mm *mm, uint64_t addr, const char *what);

/* The first content page was placed now. */
void thaw_fill_first(struct thaw *m);

#endif
