/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/dump_dir.h - the image directory: written aside under another name, complete when it has its own.
 *
 * The name aside is a sibling, ".NAME.thaw-XXXXXX", and holds a lock as long as somebody is writing it: one without is a
 * leftover of two deaths at once and is removed by the next checkpoint to the same place.
 *
 * Threads   one; after a fork both processes may call thaw_dump_dir_remove
 * Errors    -errno with a sentence that names the directory */
#ifndef THAW_CHECKPOINT_DUMP_DIR_H
#define THAW_CHECKPOINT_DUMP_DIR_H

#include <stdbool.h>

struct thaw_dump_dir {
	char *path;      /* as given, for sentences */
	char *name;      /* its last component */
	char aside[300]; /* its name while it is written; "" when it has the other, or is gone */
	int parent_fd;
	int fd;          /* the directory aside */
};

/* Refuses what is there and not empty (-EEXIST); chooses the name aside, which both processes then know. */
int thaw_dump_dir_choose(struct thaw_dump_dir *dir, const char *path);
/* Makes the directory aside. By the worker: who makes it must live long enough to remove it. */
int thaw_dump_dir_make(struct thaw_dump_dir *dir);
/* Everything in it is on the disk already: gives it its name, durably. */
int thaw_dump_dir_commit(struct thaw_dump_dir *dir);
/* Removes the directory aside, if it is there. */
void thaw_dump_dir_remove(struct thaw_dump_dir *dir);
void thaw_dump_dir_close(struct thaw_dump_dir *dir);

#endif
