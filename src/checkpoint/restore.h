/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/restore.h - the parts of a restore and what they share.
 *
 * Order   read (all of the directory, checked; no process yet) -> spawn (the child runs child.c and stops for the tracer)
 *         -> mm (its memory is replaced) -> content (what is eager) | the caller starts the monitor |
 *         -> threads, timers, signals, credentials -> registers -> all run.
 * Rule    nothing of the restored program runs before everything has succeeded; a process that is not complete dies with us
 * Threads one, the tracer; content may use helpers that only copy
 * Errors  -errno with a sentence */
#ifndef THAW_CHECKPOINT_RESTORE_H
#define THAW_CHECKPOINT_RESTORE_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/remote.h"
#include "checkpoint/script.h"
#include "checkpoint/state.pb-c.h"
#include "source/source.h"

#define THAW_RESTORE_TASK_SIZE 0x7ffffffff000ULL /* 47 bits, less the guard page */
#define THAW_RESTORE_MIN_ADDR 0x10000ULL         /* vm.mmap_min_addr as it nearly always is */

enum { THAW_RESTORE_PIECES = 6 };

/* Where [vvar*] and [vdso] are in this process, and so in a child before it is changed. */
struct thaw_special {
	unsigned n;
	struct { uint64_t start, end; } piece[THAW_RESTORE_PIECES]; /* ascending, without holes */
	uint64_t vdso_start, vdso_end;
};

/* Written by the child in its first phase, read by us. Shared memory. */
struct thaw_child_report {
	int code;           /* 0 or -errno, then text */
	char text[1024];
	int ready;          /* the phase is complete */
	int uffd;           /* the child's number; -1: none */
	int exe_fd;         /* the child's numbers from here on */
	struct { int fd, first; } map[]; /* by mapping: -1 when it needs none; the first mapping that uses the same */
};

struct thaw_run { uint64_t addr, pages, off; uint32_t object; }; /* content in the order of addresses */

struct thaw_restore {
	struct thaw_restore_options o;
	int dirfd;
	ThawState__Head *head;
	ThawState__Process *p;
	struct thaw_source *source;
	struct thaw_run *eager; /* content that we write ourselves */
	size_t n_eager;
	struct thaw_written written;
	int exe_fd;
	int *map_fd;            /* ours, by mapping: regular files, opened and found to be the same; -1: none */
	int *map_first;         /* the first mapping that uses the descriptor of mapping i; -1: it needs none */
	pid_t sid, pgid;        /* ours */
	struct thaw_special special;
	struct thaw_child_report *report;
	size_t report_len;

	pid_t pid, init;        /* as we see them; init 0: none of ours */
	int pidfd, init_pidfd, control, uffd;
	bool seized;
	pid_t *tids;            /* by thread, as we see them; 0: not made yet */
	struct thaw_remote remote;
	struct thaw_batch *batch;
	struct thaw_script *script;
	uint64_t scratch;       /* two pages behind the work area: clone arguments, sleeps */
};

int thaw_restore_interrupted(const struct thaw_restore *r);     /* -EINTR with a sentence when nobody wants it any more */

/* ---- restore_read.c, restore_check.c, restore_sort.c: before there is a process ---- */
int thaw_restore_read(struct thaw_restore *r);
int thaw_restore_check(const struct thaw_restore *r);           /* numbers that must make sense */
int thaw_restore_special(struct thaw_special *s);               /* our own vdso */
/* Content by mapping: what is eager goes into r->eager. */
int thaw_restore_sort_content(struct thaw_restore *r);
bool thaw_restore_is_lazy(const struct thaw_restore *r, const ThawState__Mapping *m);

/* ---- restore_spawn.c, restore_child.c ---- */
int thaw_restore_spawn(struct thaw_restore *r);
_Noreturn void thaw_restore_child(struct thaw_restore *r, pid_t parent);
_Noreturn void thaw_restore_init(int control); /* process 1 of a new pid namespace */
int thaw_restore_release_init(struct thaw_restore *r); /* the process is complete: the init stays as long as it */
int thaw_restore_seize(struct thaw_restore *r);
void thaw_restore_kill(struct thaw_restore *r);

/* ---- restore_layout.c, restore_mm.c, restore_content.c ---- */
int thaw_restore_find_place(const struct thaw_restore *r, uint64_t len, uint64_t *at);
int thaw_restore_mm(struct thaw_restore *r);        /* old memory away, mappings made, descriptors for them closed */
int thaw_restore_content(struct thaw_restore *r);   /* eager pages written */
int thaw_restore_mm_finish(struct thaw_restore *r); /* protections, locked memory */

/* ---- restore_threads.c, restore_process.c, restore_timers.c, restore_creds.c, restore_regs.c ---- */
int thaw_restore_threads(struct thaw_restore *r);   /* all made, with their tids; complete but for registers and masks */
int thaw_restore_numbers(const struct thaw_restore *r); /* what can be set from outside, in /proc/PID */
/* Additions to a script that the thread itself runs; the process_ ones are for the leader. */
void thaw_restore_process_first(struct thaw_script *s, const struct thaw_restore *r);
int thaw_restore_process_steps(struct thaw_script *s, const struct thaw_restore *r);
void thaw_restore_process_last(struct thaw_script *s, const struct thaw_restore *r);
void thaw_restore_pending_steps(struct thaw_script *s, const struct thaw_restore *r, const ThawState__Thread *t);
void thaw_restore_creds_steps(struct thaw_script *s, const ThawState__Creds *c);
void thaw_restore_timer_steps(struct thaw_script *s, const ThawState__Process *p);     /* made, not running */
void thaw_restore_timer_arm_steps(struct thaw_script *s, const ThawState__Process *p);

/* restore_ahead.c: what the kernel will want of all threads' pages. The monitor serves already. */
int thaw_restore_bring_ahead(const struct thaw_restore *r);
int thaw_restore_xsave(pid_t tid, const ThawState__Thread *t);
int thaw_restore_registers(struct thaw_restore *r); /* of all threads, and the work area away: they are the program's now */

#endif
