/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/serve.h - the owner's work: X (read, apply), then the faults of the batch from the map that results.
 * Threads   readers, the control thread, copiers (engine/beside.h)
 * Errors    none: what cannot be followed freezes the space, and the log says so */
#ifndef THAW_ENGINE_SERVE_H
#define THAW_ENGINE_SERVE_H

#include "engine/monitor.h"

/* Owns the space, serves it until nothing is left that can be done now, lets go. Returns whether faults are parked
 * that only time can help (mm->late_due_ns says when to come again). */
bool thaw_serve(struct thaw_worker *w, struct thaw_mm *mm);
/* The two halves of it, for who keeps the space in between (thaw_monitor_own() took it): serves what there is; lets go, after one
 * more round at most. Each returns whether somebody has to come again: only time can help, or a note is left over. (engine/beside.c) */
bool thaw_serve_again(struct thaw_worker *w, struct thaw_mm *mm);
bool thaw_serve_let_go(struct thaw_worker *w, struct thaw_mm *mm);
/* The owner has served all there was: waits a little for more. Whether there may be more. (reader.c) */
bool thaw_reader_linger(struct thaw_worker *w, struct thaw_mm *mm);

/* The faults that are parked, as owner between two X. True: something is changing, an X comes first. */
bool thaw_serve_faults(struct thaw_worker *w, struct thaw_mm *mm);

/* Is there a message at epoll, of another space mostly, or in this one (here)? As owner; takes none. */
bool thaw_serve_is_asked(struct thaw_worker *w, struct thaw_mm *mm, bool here);

/* X: reads once and applies. Returns the number of messages; < 0: -EMFILE and other answers of read(). Children born are
 * put into `born` (at most THAW_BATCH). *ended: the space has been ended in it. */
int thaw_serve_exclusive(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_mm **born, unsigned *n_born,
			 enum thaw_mm_state *ended);
/* The owner's: there is nothing more to be placed, ever. The X that finds no message then ends the space, unless something is changing. */
bool thaw_serve_is_complete(struct thaw_mm *mm);

#endif
