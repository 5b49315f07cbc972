/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/whole.h - do the files of a directory belong together, and are they all there?
 * Threads   any
 * Errors    -errno with a sentence that names the file and the place in it */
#ifndef THAW_CHECKPOINT_WHOLE_H
#define THAW_CHECKPOINT_WHOLE_H

#include "checkpoint/state.pb-c.h"

/* Calls each with the names of the files of a checkpoint that thaw.img has the checksum of, all but itself and pages-1.img; a value
 * other than 0 ends that and is returned. */
int thaw_whole_names(int pid, size_t stored, int (*each)(void *opaque, const char *name), void *opaque);

/* Looks at everything but thaw.img (thaw_state_load) and pages-1.img (who reads it compares it with pages-1.sum.img): length
 * and checksum of each file, then inventory, process tree, mappings. None of them may have been written by others. Reads all
 * of the stored files. */
int thaw_whole_check(int dirfd, const ThawState__Head *head, const ThawState__Process *p);

#endif
