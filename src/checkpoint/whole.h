/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/whole.h - do the files of a directory belong together, and are they all there?
 * Threads   any
 * Errors    -errno with a sentence that names the file and the place in it */
#ifndef THAW_CHECKPOINT_WHOLE_H
#define THAW_CHECKPOINT_WHOLE_H

#include "checkpoint/state.pb-c.h"

/* Looks at everything but thaw.img (thaw_state_load) and the page map (who reads it checks it): inventory, process tree,
 * mappings, stored files. None of them may have been written by others. */
int thaw_whole_check(int dirfd, const ThawState__Head *head, const ThawState__Process *p);

#endif
