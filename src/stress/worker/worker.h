/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stress/worker/worker.h - a restored process: its memory, what each page of it may hold, and the threads that use it.
 *
 * A program of its own, without sanitizers and without libthaw: it forks beside threads, and has no memory that it does not know of.
 * What it knows of its memory lies outside of what is restored, in memory that a fork copies: the child goes on with it.
 *
 * Rule      an arena belongs to one thread at a time (the common one to nobody: it never changes); so what a page may hold is
 *           exact, whatever the others do
 * Threads   a task is its thread's; helper threads within one operation touch nothing of it
 * Errors    a page with the wrong bytes ends the process: thaw_stress_check() does not return then */
#ifndef THAW_STRESS_WORKER_H
#define THAW_STRESS_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stress/shared.h"

/* What a page may hold. */
enum stress_holds {
	STRESS_UNMAPPED,
	STRESS_ZERO,
	STRESS_CONTENT, /* `from` in `version`, with words [at, at + len) from `over` where len is not 0 */
	STRESS_EITHER   /* that, or zero */
};
#define STRESS_LOCKED (1U << 0)
#define STRESS_WIPED (1U << 1)    /* in children */
#define STRESS_UNFORKED (1U << 2) /* not in children */
#define STRESS_READONLY (1U << 3)
#define STRESS_NO_ACCESS (1U << 4)
#define STRESS_REMARKED (1U << 5) /* WIPED or UNFORKED has been set or taken back since the restore */

struct stress_content {
	uint32_t from, version, over; /* over: a version */
	uint16_t at, len;
};
struct stress_page {
	uint8_t holds, attr;
	uint8_t has_old;
	uint16_t vma;               /* pages of one call of mmap(); 0: not known to be one mapping */
	struct stress_content is;
	struct stress_content old;  /* what a discard took away last: to name what came back */
};

struct stress_arena {
	unsigned number;
	bool owned;                 /* by the task that has it */
	uint64_t base;
	uint32_t pages, mapped;     /* the window; pages of it that are mapped */
	uint32_t end;               /* of the break's arena: where the break is, whatever is mapped below */
	uint16_t last_vma;
	uint32_t least;             /* mapped pages below which nothing is unmapped */
	struct stress_page *page;
	unsigned char *split;       /* by vma: it may be several mappings of the kernel's */
};

struct stress_big {
	uint64_t base;              /* 0: none */
	uint64_t other;             /* where it is moved to next */
	struct stress_page spot[STRESS_BIG_SPOTS];
};

#define STRESS_KIDS 8
struct stress_kid {
	pid_t pid;
	int track;
	bool doomed;
};
struct stress_task {
	struct stress_shared *s;
	struct stress_track *track;
	int number;                 /* of the track */
	uint32_t op;                /* going on */
	uint32_t told;              /* traced before it */
	const struct stress_op *now;
	struct stress_arena *arena, *brk, *common;
	struct stress_big *big;
	uint32_t version;
	struct stress_kid kid[STRESS_KIDS];
	unsigned kids;
	uint64_t rnd;
};

enum stress_done { STRESS_DONE, STRESS_REFUSED };
typedef enum stress_done stress_op_fn(struct stress_task *t, const struct stress_op *op);

/* ---- ops_memory.c: around a fork, behind which pages are shared with another process */
void thaw_stress_share_begin(void);
void thaw_stress_share_end(bool child); /* in both */

/* ---- model.c: which pages there are --------------------------------------------------------------------------- */
#define STRESS_NOWHERE UINT32_MAX
/* A page that is mapped and has none of the attributes, drawn by `a`; STRESS_NOWHERE: none. */
uint32_t thaw_stress_pick(const struct stress_arena *r, uint32_t a, unsigned without);
/* Pages from there on that are one mapping with the same attributes, at most `most`. */
uint32_t thaw_stress_extent(const struct stress_arena *r, uint32_t page, uint32_t most);
uint32_t thaw_stress_first_of(const struct stress_arena *r, uint32_t page); /* of the same run, downwards */
uint32_t thaw_stress_find_free(const struct stress_arena *r, uint32_t a, uint32_t pages);
uint32_t thaw_stress_free_from(const struct stress_arena *r, uint32_t page, uint32_t most);
uint16_t thaw_stress_new_vma(struct stress_arena *r, bool split);
void thaw_stress_map(struct stress_arena *r, uint32_t page, uint32_t pages, uint16_t vma); /* zero */
void thaw_stress_unmap(struct stress_arena *r, uint32_t page, uint32_t pages);
void thaw_stress_discard(struct stress_page *p);
void thaw_stress_set_content(struct stress_page *p, uint32_t from, uint32_t version);
void thaw_stress_attr(struct stress_arena *r, uint32_t page, uint32_t pages, unsigned set, unsigned clear);
bool thaw_stress_is_split(const struct stress_arena *r, uint32_t page);
/* mremap() from page to page: the model's half. The old range becomes unmapped, or zero. */
void thaw_stress_model_move(struct stress_arena *r, uint32_t from, uint32_t to, uint32_t pages, bool leaves_zero);
struct stress_arena *thaw_stress_arena_new(struct stress_shared *s, unsigned process, unsigned number, uint64_t base);

static inline void *thaw_stress_at(const struct stress_arena *r, uint32_t page)
{
	return (void *)(uintptr_t)(r->base + (uint64_t)page * STRESS_PAGE);
}

/* ---- check.c: the oracle --------------------------------------------------------------------------------------- */
/* Content `have` (of the page itself, or read through the kernel) against what the page may hold. Ends the process if it is
 * something else. */
void thaw_stress_check_bytes(struct stress_task *t, struct stress_page *p, uint64_t addr, const void *have);
void thaw_stress_check(struct stress_task *t, struct stress_arena *r, uint32_t page);
void thaw_stress_check_range(struct stress_task *t, struct stress_arena *r, uint32_t page, uint32_t pages);
/* While somebody discards it: content, then from some word on zero. False: something else (*why names it). */
bool thaw_stress_is_fading(uint64_t seed, const struct stress_page *p, uint64_t addr, enum stress_class *class);
void thaw_stress_expected(struct stress_task *t, const struct stress_page *p, uint64_t *words); /* where it holds content */
_Noreturn void thaw_stress_violation(struct stress_task *t, enum stress_class class, uint64_t addr, const char *expected,
				     const char *found, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* What cannot be had here; and what should not have happened anywhere (failed). */
_Noreturn void thaw_stress_failure(struct stress_shared *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void thaw_stress_trouble(struct stress_shared *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A call of the operation failed that has no reason to. */
_Noreturn void thaw_stress_failed(struct stress_task *t, uint64_t addr, const char *call, int err);

/* ---- run.c ------------------------------------------------------------------------------------------------------ */
void thaw_stress_run(struct stress_task *t);        /* the operations of its track */
void thaw_stress_final(struct stress_task *t, uint32_t most); /* looks at everything, or about so many pages of each arena */
void thaw_stress_beat(struct stress_task *t, uint64_t addr);  /* goes on, at that address */
void thaw_stress_touch(struct stress_task *t, uint64_t addr); /* the same: it reads or writes the page there */
void thaw_stress_note(struct stress_task *t, uint64_t addr, uint64_t len, uint64_t to); /* what the operation came down to */
void thaw_stress_enter_track(struct stress_task *t, int number);
uint32_t thaw_stress_next_version(struct stress_task *t);
uint32_t thaw_stress_own_number(const struct stress_task *t, const struct stress_arena *r, uint32_t page); /* of a page that it writes */
void thaw_stress_write(struct stress_task *t, struct stress_arena *r, uint32_t page); /* a new version of its own */
uint64_t thaw_stress_now_ns(void);
void thaw_stress_pause_us(unsigned us);
void thaw_stress_reap_one(struct stress_task *t, const struct stress_kid *k);
void thaw_stress_reap(struct stress_task *t, unsigned keep); /* waits for children until no more than that are left */

/* The library learns of marks (MADV_WIPEONFORK, MADV_DONTFORK) from the process's smaps, soon after a fork; they stay where they are as
 * long as a child may depend on that, and so does what had one and has not any more. Before such pages are moved or unmapped: waits
 * for the children. */
void thaw_stress_settle_marks(struct stress_task *t, const struct stress_arena *r, uint32_t page, uint32_t pages);
void thaw_stress_big_check(struct stress_task *t); /* ops_big.c */

/* ---- the operations ---------------------------------------------------------------------------------------------- */
#define STRESS_OP_FN(id, name, share, text) stress_op_fn thaw_stress_op_##id;
STRESS_OPS(STRESS_OP_FN)

#endif
