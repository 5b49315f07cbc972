/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/dump_mapfile.h - what is behind a mapping: nothing, a file, a deleted file, a memfd, shared memory.
 * Threads   one: the worker
 * Errors    -errno with a sentence that names the mapping */
#ifndef THAW_CHECKPOINT_DUMP_MAPFILE_H
#define THAW_CHECKPOINT_DUMP_MAPFILE_H

#include "checkpoint/dump.h"

/* Fills kind, path, id, object, memfd_name, seals, name of m. What has to be stored (deleted files, memfds, shared memory)
 * gets stored = THAW_DUMP_TO_STORE here; thaw_dump_shared_store() does it. */
#define THAW_DUMP_TO_STORE (-1)
int thaw_dump_map_file(struct thaw_dumper *d, ThawState__Mapping *m, const struct thaw_vma *v);

#endif
