/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/files.h - open files: from a stopped process into File and Fd messages, and back.
 *
 * Dump   runs in the dumping process. Descriptors are looked at through /proc/PID/fd, fdinfo and duplicates (pidfd_getfd),
 *        so that nothing has to run in the process. Descriptions that are shared are found with kcmp(2).
 * Restore runs as ordinary code in the new process, before its memory is replaced (thaw_files_restore), and for what
 *        needs its last credentials or threads, later (nothing so far).
 * Errors  -errno with a sentence: "fd 7: established TCP connection to 10.0.0.1:80: not supported; close it or use CRIU
 *        with thaw lazy-pages" */
#ifndef THAW_CHECKPOINT_FILES_H
#define THAW_CHECKPOINT_FILES_H

#include <stdint.h>
#include <sys/types.h>
#include "checkpoint/state.pb-c.h"

/* What several parts of the dump share: numbers of stored objects, so that an fd and a mapping of one memfd meet. */
struct thaw_store;
struct thaw_store *thaw_store_new(int dirfd);          /* dirfd: the image directory being written */
void thaw_store_free(struct thaw_store *st);
/* The content of the open file fd (dev, ino) is stored once as file-N.raw (sparse, fsynced); returns N. */
int thaw_store_add(struct thaw_store *st, int fd, const char *what);
uint64_t thaw_store_object(struct thaw_store *st, uint64_t dev, uint64_t ino); /* a number for an inode */
unsigned thaw_store_count(const struct thaw_store *st);
uint64_t thaw_store_size(const struct thaw_store *st, unsigned n);

/* Which file a path must still be; fills from fstat. */
void thaw_file_id(ThawState__FileId *id, int fd);
/* 0 or -ESTALE with "PATH: is not the file that was checkpointed (size 4096, now 8192): ..." */
int thaw_file_id_check(const ThawState__FileId *id, int fd, const char *path);

/* Fills p->files and p->fds of a stopped process (memory: malloc, freed with the message). */
int thaw_files_dump(ThawState__Process *p, pid_t pid, int pidfd, struct thaw_store *st);

/* In the new process: every descriptor of the checkpoint at its number, nothing else open but `keep` (n_keep numbers, which
 * are moved out of the way if they collide: the array is updated). dirfd: image directory. */
int thaw_files_restore(const ThawState__Process *p, int dirfd, int *keep[], unsigned n_keep);
/* The descriptor of a stored object (deleted file, memfd) made for mappings: opened once, shared with fds. Used by the mapping
 * restore before thaw_files_restore closes what is left. */
int thaw_files_object(const ThawState__Process *p, int dirfd, const ThawState__Mapping *m);

#endif
