/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/dump.h - the parts of a checkpoint in progress. One worker process owns all of it.
 *
 * Rule      everything that refuses comes before the first byte of memory is written
 * Threads   one: the worker
 * Lifetime  messages are malloc'ed piece by piece and live until the worker exits
 * Errors    -errno with a sentence */
#ifndef THAW_CHECKPOINT_DUMP_H
#define THAW_CHECKPOINT_DUMP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/files.h"
#include "checkpoint/seize.h"
#include "checkpoint/state.h"
#include "kern/procfs.h"

/* A mapping as it is needed while dumping; [i] belongs to p.mappings[i]. */
struct thaw_dump_map {
	uint64_t start, end;
	uint32_t vm_flags;  /* THAW_VM_* */
	uint64_t own_kb;    /* anonymous or swapped memory in it, of smaps */
	uint64_t ino;       /* as in maps: with dev_* the inode behind shared memory */
	uint32_t dev_major, dev_minor;
	char special;       /* 0; 'd' vdso, 'v' vvar, 's' vsyscall */
	bool droppable;     /* its content may vanish at any time: not stored */
};

/* What the caller sees of its worker, in memory that both have. It ends a worker that stands still where nothing can take
 * long; a disk may be slow, and there it waits until it is told to give up itself. */
enum thaw_dump_phase { THAW_DUMP_QUICK, THAW_DUMP_DISK, THAW_DUMP_ENDING /* the image gets its name, or has it */ };
struct thaw_dump_pulse {
	_Atomic unsigned beat;           /* another number: it moved */
	_Atomic enum thaw_dump_phase phase;
};

/* A process that anybody of uid and gid may look at who is in no Landlock sandbox; 0: there is no Landlock. */
struct thaw_dump_landlock {
	pid_t subject;
	uint32_t uid, gid;
};

struct thaw_dumper {
	pid_t pid;
	int dirfd;                       /* the directory being written */
	int abandon_fd;                  /* readable or hung up: give up and put the process back; -1: never */
	struct thaw_dump_pulse *pulse;
	struct thaw_seized sz;
	struct thaw_proc_stat stat;
	struct thaw_proc_status status;
	ThawState__Head head;
	ThawState__Process p;
	struct thaw_dump_map *maps;
	size_t n_maps, maps_room;
	struct thaw_pagemap_file *pagemap;
	struct thaw_store *store;
	struct thaw_dump_sleep *sleeps;  /* looked at before the stop */
	size_t n_sleeps;
	struct thaw_dump_landlock landlock;
	int pages_fd;                    /* pages-1.img and its map, until they are synced */
	struct thaw_pagemap_writer *pagemap_writer;
	struct thaw_sums_writer *sums_writer; /* pages-1.sum.img, likewise */
	uint64_t bytes;                  /* memory stored */
};

/* -ECANCELED with a sentence when nobody waits for us any more. Shows also that we are alive: to be called every second or
 * so of work. */
int thaw_dump_abandoned(const struct thaw_dumper *d);
void thaw_dump_phase(const struct thaw_dumper *d, enum thaw_dump_phase phase);

/* ---- dump_refuse.c: what this process has that cannot be restored, beside mappings and files ------------------- */
int thaw_dump_refuse_process(struct thaw_dumper *d);

/* ---- dump_maps.c, dump_shared.c: d->maps and p.mappings; refuses by address ----------------------------------------------------- */
int thaw_dump_maps(struct thaw_dumper *d);
int thaw_dump_shared_check(struct thaw_dumper *d); /* shared memory that others have too is refused */
int thaw_dump_shared_store(struct thaw_dumper *d); /* deleted files, memfds, shared memory: into file-N.raw */

/* ---- dump_policy.c: memory policies of mappings are refused ------------------------------------------------------- */
int thaw_dump_refuse_policies(struct thaw_dumper *d, struct thaw_batch *b);

/* ---- dump_process.c, dump_thread.c, dump_timers.c: p, without mappings and files --------------------------------- */
int thaw_dump_process_early(struct thaw_dumper *d);  /* what can be read from outside */
int thaw_dump_process_remote(struct thaw_dumper *d); /* what the process has to be asked: sigactions, limits ... */
int thaw_dump_threads(struct thaw_dumper *d);
/* Timers and pending signals, as they were at one moment; when p has its threads, by asking the leader, which is borrowed. */
int thaw_dump_timers(struct thaw_dumper *d);

/* ---- dump_landlock.c: prepare once for every (uid, gid) of a thread, before it is asked for kcmp(subject, subject, KCMP_VM);
 * check its answer --------------------------------------------------------------------------------------------------- */
int thaw_dump_landlock_prepare(struct thaw_dumper *d, uint32_t uid, uint32_t gid);
int thaw_dump_landlock_check(const struct thaw_dumper *d, pid_t tid, int64_t answer);
void thaw_dump_landlock_end(struct thaw_dumper *d);

/* ---- dump_sleep.c: how much of an interrupted sleep was left ------------------------------------------------------ */
void thaw_dump_sleep_look(struct thaw_dumper *d);   /* before the stop; failures only cost precision */
void thaw_dump_sleep_check(struct thaw_dumper *d);  /* stopped, and nothing borrowed yet */
void thaw_dump_sleep_left(struct thaw_dumper *d, const struct thaw_seized_thread *t, ThawState__Thread *out);

/* ---- dump_memory.c, dump_images.c: the directory ------------------------------------------------------------------- */
int thaw_dump_memory_prepare(struct thaw_dumper *d, bool warm_up); /* before the stop */
int thaw_dump_memory(struct thaw_dumper *d);         /* pages-1.img, pages-1.sum.img and pagemap-PID.img */
int thaw_dump_memory_sync(struct thaw_dumper *d);    /* ... onto the disk; the process may run already */
int thaw_dump_images(struct thaw_dumper *d);         /* inventory, pstree, mm, thaw.img */

/* ---- dump_worker.c ----------------------------------------------------------------------------------------------- */
struct thaw_dump_dir;
/* Everything, in the worker. On success the directory has its name and the process runs (leave_running) or has ended;
 * on failure the process runs on. The directory is the caller's to remove. */
int thaw_dump_work(const struct thaw_dump_options *o, struct thaw_dump_dir *dir, int abandon_fd, struct thaw_dump_pulse *pulse,
		   struct thaw_dump_result *r);

/* ---- small helpers for hand-built messages: they end the worker when memory is out ---------------------------------- */
void *thaw_dump_alloc(size_t size);                              /* zeroed */
char *thaw_dump_strdup(const char *s);
void *thaw_dump_grow(void *list, size_t n, size_t size);         /* room for element n of a list */
char *thaw_dump_readlink(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* NULL: errno */
ProtobufCBinaryData thaw_dump_bytes(const void *data, size_t len);

#endif
