/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/files.h - open files: from a stopped process into File and Fd messages, and back.
 *
 * Dump    runs in the dumping process. Descriptors are looked at through /proc/PID/fd, fdinfo and duplicates (pidfd_getfd),
 *         so that nothing has to run in the process. Descriptions that are shared are found with kcmp(2).
 * Restore runs as ordinary code in the new process, single-threaded, with thaw's own root, cwd and credentials (paths are as
 *         seen from thaw's root), before its memory is replaced: thaw_files_object for the mappings, then
 *         thaw_files_restore. What must wait for the mappings and threads is listed by thaw_files_late and made by remote calls.
 * Threads one
 * Errors  -errno with a sentence: "fd 7: established TCP connection to 10.0.0.1:80: not supported; close it or use CRIU
 *         with thaw lazy-pages" */
#ifndef THAW_CHECKPOINT_FILES_H
#define THAW_CHECKPOINT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "checkpoint/state.pb-c.h"

/* What several parts of the dump share: numbers of stored objects, so that an fd and a mapping of one memfd meet. */
struct thaw_store;
struct thaw_store *thaw_store_new(int dirfd);          /* dirfd: the image directory being written, borrowed */
void thaw_store_free(struct thaw_store *st);
/* The content of the open file fd (dev, ino) is stored once as file-N.raw (sparse, not yet synced); returns N. The position
 * of fd is left alone. */
int thaw_store_add(struct thaw_store *st, int fd, const char *what);
int thaw_store_sync(struct thaw_store *st);            /* all of file-N.raw to the disk; when the process runs again */
uint64_t thaw_store_object(struct thaw_store *st, uint64_t dev, uint64_t ino); /* a number for an inode, 0: no memory */
unsigned thaw_store_count(const struct thaw_store *st);
uint64_t thaw_store_size(const struct thaw_store *st, unsigned n);

/* Which file a path must still be; fills from fstat (zeroes when fd is no open file). */
void thaw_file_id(ThawState__FileId *id, int fd);
/* 0 or -ESTALE with "PATH: is not the file that was checkpointed (inode 12, now 15)". An open file may have grown and have
 * been written since (a log); it must be the same inode and not shorter. */
int thaw_file_id_check(const ThawState__FileId *id, int fd, const char *path);
/* The same for a file whose unchanged pages were not stored (a private mapping): size and mtime must be what they were. */
int thaw_file_id_check_exact(const ThawState__FileId *id, int fd, const char *path);

/* Fills p->files and p->fds of a stopped process (memory: malloc, freed with the message); p->pid is set before. */
int thaw_files_dump(ThawState__Process *p, pid_t pid, int pidfd, struct thaw_store *st);

/* In the new process: every descriptor of the checkpoint at its number, nothing else open but `keep` (n_keep pointers to
 * numbers, moved out of the way if they collide: *keep[i] is updated) and dirfd (moved too: put it into keep to learn where,
 * else it is closed). 0, 1 and 2 of the caller are thaw's own: inherited stdio comes from them. After a failure the caller
 * exits; what was made in the file system is gone then. */
int thaw_files_restore(const ThawState__Process *p, int dirfd, int *keep[], unsigned n_keep);
/* A new descriptor (O_RDWR) of the object with stored content (deleted file, memfd, shared anonymous memory) that m maps.
 * Mappings and descriptors with one Mapping.object / File.object share one inode. Only before thaw_files_restore. */
int thaw_files_object(const ThawState__Process *p, int dirfd, const ThawState__Mapping *m);

/* System calls still to be made in the process by its leader when all mappings and threads exist and the descriptors that
 * were open for mappings are closed: POSIX locks (closing any descriptor of the file drops them), seals that would
 * have forbidden a mapping, signal owners that are threads. Arguments are (fd, cmd, data or value). */
struct thaw_late {
	long nr;
	int fd;
	uint64_t cmd;
	uint64_t value;        /* third argument when len is 0 */
	size_t len;            /* else its third argument is the address of a copy of these bytes */
	char data[64];
	char what[120];        /* for the sentence when it fails: "fd 7: /tmp/db: POSIX lock" */
};
/* Returns their number (>= 0) and a malloc'ed array, or -errno. pid: the new process's (its own view). */
int thaw_files_late(const ThawState__Process *p, struct thaw_late **calls);

/* The inotify watches begin to see. Not before nothing is opened, made or closed for the new process any more: it would find
 * events of its own restore. Paths are as seen from the caller's root; pidfd is of the new process. */
int thaw_files_watch(const ThawState__Process *p, int pidfd);

/* The modes of the terminal that was its standard I/O; false: it had none. Whoever owns the terminal now sets them: the
 * process itself may be in the background. */
struct termios;
bool thaw_files_modes(const ThawState__Process *p, struct termios *modes);

#endif
