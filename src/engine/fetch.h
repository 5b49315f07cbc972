/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/fetch.h - content that is not in memory: reads under way, and the pool of buffers they read into.
 *
 * Two kinds. A demand read is for a fault: it goes before all others, and whoever completes it places it (an I/O thread; the
 * control thread when the answer came from a thread of the application). A background read is placed by a copier,
 * which takes it from the ready list.
 *
 * Rule      a read holds a reference of its space; its pages are placed only where the map still says so
 * Threads   any
 * Rank      THAW_RANK_IO; not held across a submission, an ioctl or the application's callback
 * Lifetime  of the monitor; the last answer of a callback that comes after thaw_close() frees what it needed
 * Errors    -errno */
#ifndef THAW_ENGINE_FETCH_H
#define THAW_ENGINE_FETCH_H

#include "engine/monitor.h"

struct thaw_fetch;
struct thaw_read;

int thaw_fetch_new(struct thaw_fetch **out, struct thaw *m); /* with a sentence */
/* After all threads have ended. */
void thaw_fetch_free(struct thaw_fetch *f);

unsigned thaw_fetch_threads(const struct thaw_fetch *f); /* how many threads must call run */
void thaw_fetch_run(struct thaw_fetch *f, struct thaw_worker *w);
void thaw_fetch_stop(struct thaw_fetch *f);

size_t thaw_fetch_bytes(const struct thaw_fetch *f); /* of the pool */

/* As owner: gets the page of a fault, and what lies beside it. 0: on its way (or placed already); -EBUSY: no buffer. */
int thaw_fetch_fault(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *fault, const struct thaw_extent *e);

/* A copier: reads e ahead. 0: on its way, or on the ready list already; -EBUSY: no buffer. plan: counted as active. */
int thaw_fetch_ahead(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_extent *e);
#define THAW_AHEAD_PAGES 64

/* A copier: places one background read that is ready. False: there is none. */
bool thaw_fetch_place_ready(struct thaw_worker *w);
bool thaw_fetch_has_ready(const struct thaw_fetch *f);

/* As owner: content that a background read has brought and no copier has placed yet, e among it, as a window. NULL: there is none. It
 * goes back on the list, first, when the window has been used. */
struct thaw_read *thaw_fetch_borrow(struct thaw_fetch *f, const struct thaw_mm *mm, const struct thaw_extent *e, struct thaw_window *win);
void thaw_fetch_return(struct thaw_read *r);

/* The control thread: places demand reads that were answered elsewhere. */
void thaw_fetch_place_landed(struct thaw_worker *w);

#endif
