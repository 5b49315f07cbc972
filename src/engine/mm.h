/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/mm.h - a space inside the engine: one restored mm, its userfaultfd, its map and what is known of its pages.
 * (struct thaw_space of thaw.h is the caller's description of one.)
 *
 * The owner of a space is the one thread that may read its messages: a reader mostly, sometimes the control thread, and where that
 * is faster a copier. See engine/owner.h, engine/beside.h.
 *
 * Rule      uffd, map and events change in X only; the number of the userfaultfd is used in S or by the owner, and
 *           only after `state` has been seen to be LIVE there. So it is closed when no thread can be using it
 * Threads   fields say who; counters are atomics
 * Lifetime  counted: the monitor's list, epoll (until the readers have passed), each request and copier at work on it */
#ifndef THAW_ENGINE_MM_H
#define THAW_ENGINE_MM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "core/event.h"
#include "core/order.h"
#include "core/pagemap.h"
#include "core/stats.h"
#include "engine/content.h"
#include "engine/gate.h"
#include "engine/owner.h"
#include "thaw.h"
#include "util/lock.h"

struct thaw;
struct thaw_worker;

enum thaw_mm_state {
	THAW_MM_LIVE,
	THAW_MM_FROZEN,   /* an event could not be followed: nothing is placed any more, readers wait */
	THAW_MM_FINISHED, /* every page was in; userfaultfd closed */
	THAW_MM_GONE      /* exit or exec; userfaultfd closed */
};

struct thaw_span {
	uint64_t start, end;
};

/* Whether the mappings of a space have been registered, by whoever does that. */
enum thaw_registration {
	THAW_REGISTERED,
	THAW_REGISTERING, /* not all of them: a page without a registered mapping is one to come back to */
	THAW_REGISTRATION_SAID /* it is said that they are: the control thread looks whether it is so */
};

struct thaw_fault {
	uint64_t addr; /* of the page */
	uint64_t t0;   /* when its message was read */
};

/* Pages of content, by fate. total = placed (the counters say by what) + gone + found + absent */
struct thaw_tally {
	_Atomic uint64_t total; /* there at the start (or at the fork) */
	_Atomic uint64_t gone;  /* discarded by the process before they were needed, or not mapped any more */
	_Atomic uint64_t found; /* were there when we came */
};

/* A run whose content could not be read. */
struct thaw_bad {
	uint64_t start, end;
};
#define THAW_MAX_BAD 256

#define THAW_MAX_GONE 64

/* So many faults within so long are dense. */
#define THAW_DENSE 8
#define THAW_DENSE_NS 200000

#define THAW_HEAT_BITS 6
#define THAW_MAX_HOT 64 /* spans that a pass hands out before their turn */

/* A page that was in when it was asked for. */
struct thaw_asked {
	uint64_t addr, last_ns;
	unsigned times; /* in a row */
};

/* Where the first thread of the process runs. */
struct thaw_near {
	uint64_t next_ns, wait_ns; /* of the next look */
	uint64_t its, served;      /* faults at the last look: the thread's, and all that were served */
};

struct thaw_mm {
	struct thaw *m;
	int64_t id, parent;
	pid_t pid;        /* 0: unknown */
	int pidfd;        /* -1: none */
	int smaps_fd;     /* -1: none */
	int maps_fd;      /* -1: none, or not needed (engine/areas.h) */
	int pagemap_fd;   /* -1: none */
	int stat_fd;      /* of its first thread; -1: none */
	int holder_slot;  /* -1: none; m->lock, while it is added or the monitor is being started */
	bool child;       /* of a FORK: forgotten when it ends */
	struct thaw_mm *raise_from; /* held child: the parent (a reference) whose smaps have a say; control thread */
	_Atomic unsigned raising;   /* children that wait for its smaps: a close would unregister what is told from them */
	bool raise_told;            /* control thread: that they cannot be read now */
	_Atomic unsigned refs;

	struct thaw_gate_space gate;
	_Atomic int state;        /* enum thaw_mm_state: X */
	int uffd;                 /* X; m->lock too to take it away (-1) */
	uint64_t uffd_ino;        /* immutable: the inode of an added one; 0: not known, or a child's */
	struct thaw_pagemap *pm;  /* X; the pointer also under m->lock */
	struct thaw_events *ev;   /* X */
	struct thaw_pagemap *areas; /* X; the pointer also under m->lock: engine/areas.h, or NULL */
	struct thaw_content *content;

	/* numbered messages (else the gate's sections span read() and ioctl) */
	bool numbers;             /* immutable: the kernel does */
	bool numbered;            /* immutable once the monitor runs: and it was not forbidden */
	_Atomic uint32_t number;  /* X: of the last change in the map. Read in S or by the owner */
	_Atomic uint32_t flying;  /* fills between two S, whose descriptor must not be closed */
	struct thaw_order order;  /* X: messages held back */
	bool losing;              /* the owner's: numbers up to lost_upto are given up when lost_after events more have been read */
	uint32_t lost_upto;
	unsigned lost_after;

	struct thaw_owner owner;
	_Atomic int registration; /* enum thaw_registration: S and X load it, the control thread ends it */
	struct thaw_span *mappings; /* as they were to be registered, until that has been looked at; control thread */
	size_t n_mappings, at_mapping;
	_Atomic bool held;        /* a child whose map is not final yet: copiers pass it by, epoll does not know it */
	_Atomic bool dead;        /* somebody was answered ESRCH: the owner ends the space */
	_Atomic bool check;       /* the owner is to find out whether the mm still lives */
	_Atomic bool kicked;      /* the control thread is to own it for a moment: the last page is in, or it is dead */
	_Atomic bool unwatched; /* epoll would not be told to tell of it: the control thread looks instead */
	_Atomic bool beside;    /* a copier serves it, or is about to: readers do not linger */
	_Atomic uint64_t last_fault_ns;
	_Atomic bool dense;       /* the latest of them have come one right after the other */
	_Atomic uint64_t heat[1 << THAW_HEAT_BITS]; /* engine/follow.c: where faults are many. Hints */

	/* the owner's */
	struct thaw_fault *parked; /* faults to be tried again, oldest first */
	unsigned n_parked;
	_Atomic unsigned room_parked; /* the owner's to change */
	uint64_t backoff_ns;
	_Atomic uint64_t late_due_ns; /* when the reader that has it on its late list looks again */
	uint64_t around_next, zero_next; /* where a sequential user of memory would fault next */
	unsigned around, zero_around;    /* pages brought in beside a fault, grown and shrunk by success */
	struct thaw_asked asked[8];      /* by page */
	bool asked_told, zapped_told;
	bool fork_stuck;     /* a FORK may be in the queue that no descriptor was free for, and at the wrong place */
	bool fork_overtaken; /* and a change that came behind it has been applied, or may have been */
	bool changed;        /* a change has been applied since the queue was last found empty */
	_Atomic bool unread; /* it stays readable: epoll is not to tell of it */
	struct thaw_near near;
	uint64_t fault_ns[THAW_DENSE]; /* when the latest faults came, in turn */
	unsigned n_faults;
	bool in_epoll;                   /* before it is let go: who does that */
	bool unwatched_told;

	/* the copiers' */
	struct thaw_lock plan_lock; /* THAW_RANK_PLAN */
	uint64_t cursor;            /* plan_lock: the pass has handed out everything below */
	uint64_t hot[THAW_MAX_HOT]; /* plan_lock: and these spans, by their start */
	unsigned n_hot;             /* plan_lock */
	unsigned active;            /* plan_lock: spans and reads of this pass that are not done */
	bool exhausted;             /* plan_lock: the pass has handed out everything */
	uint64_t pass_absent;       /* plan_lock: absent pages when the pass began */
	uint64_t pass_backoff_ns, next_pass_ns; /* plan_lock */

	_Atomic unsigned ahead_pages; /* most that a callback is asked for ahead: one behind a failure, then more again */

	/* content that could not be had */
	struct thaw_lock bad_lock;  /* THAW_RANK_SPACE */
	struct thaw_bad *bad;       /* bad_lock: sorted, disjoint; THAW_MAX_BAD of them, made when the first comes */
	unsigned n_bad, n_overflows; /* bad_lock */
	uint64_t bad_retry_ns;      /* bad_lock: when the background tries them again */
	_Atomic bool bad_overflow;  /* more than that: the background leaves this space alone until bad_retry_ns */
	_Atomic bool has_bad;
	uint64_t stuck_start, stuck_end;         /* bad_lock: sleepers in here are woken at the next retry */
	uint64_t stuck_due_ns, stuck_backoff_ns; /* bad_lock */

	/* what is in no mapping (engine/gone.h) */
	struct thaw_span gone[THAW_MAX_GONE];
	_Atomic unsigned n_gone; /* S adds, X empties */
	uint32_t gone_epoch;     /* X; S loads it */

	struct thaw_tally tally;
	struct thaw_counters counters;
	_Atomic uint64_t born_ns, complete_ns;

	struct thaw_mm *next;       /* m->lock */
	uint32_t retire_rounds[16]; /* m->lock: each reader's rounds when the space was unlinked */
	bool linked;                /* m->lock */
	bool over;                  /* m->lock: ended, and everybody has been told */
};

static inline bool thaw_mm_is_live(const struct thaw_mm *mm)
{
	return atomic_load_explicit(&mm->state, memory_order_acquire) == THAW_MM_LIVE;
}

/* A new space, unpublished, one reference. Takes uffd only on success of publish. */
struct thaw_mm *thaw_mm_new(struct thaw *m);
struct thaw_mm *thaw_mm_get(struct thaw_mm *mm);
void thaw_mm_put(struct thaw_mm *mm);

/* Some mapping of it may not be registered yet. */
static inline bool thaw_mm_is_registering(const struct thaw_mm *mm)
{
	return atomic_load_explicit(&mm->registration, memory_order_acquire) != THAW_REGISTERED;
}

/* From the caller's description: checks, builds the map, publishes. The id, or -errno with a sentence. */
int64_t thaw_mm_add(struct thaw *m, const struct thaw_space *d);

/* -EEXIST: another space that has not ended has its userfaultfd. */
int thaw_mm_check_uffd(const struct thaw_mm *mm);

/* The holder, if there is one, is told whose it is; once. m->lock held. */
void thaw_mm_tell_holder_locked(struct thaw_mm *mm);

/* Settles whether its messages are taken by their numbers, when the settings are final: in the start, or when it is added later.
 * m->lock held. */
void thaw_mm_settle_numbering_locked(struct thaw_mm *mm);

/* Gives it its id, puts it on the list and hands it to epoll. -EEXIST: another space that has not ended has its userfaultfd. */
int thaw_mm_publish(struct thaw_mm *mm);

/* A child's space from a FORK message: a copy of the map, on the list, held. Within the parent's X. NULL: no memory. */
struct thaw_mm *thaw_mm_fork(struct thaw_mm *parent, int uffd);
/* Lets a held child go: its map is final. */
void thaw_mm_release(struct thaw_mm *child);

/* In S or the owner's turn: the demand that nothing has been raised since what the map says; 0 without numbers. */
uint64_t thaw_mm_match(const struct thaw_mm *mm);
void thaw_mm_rearm(struct thaw_mm *mm); /* the owner's last act: epoll tells of it again */

/* The control thread is asked to look at it as owner. Any thread. */
void thaw_mm_kick(struct thaw_mm *mm);

/* Ends the space: within X, as owner. `how`: FINISHED or GONE. Closes the userfaultfd. */
void thaw_mm_end(struct thaw_mm *mm, enum thaw_mm_state how);
/* And tells everybody: after X. */
void thaw_mm_ended(struct thaw_mm *mm, enum thaw_mm_state how);

/* Of one space and its children, or of all (0). -ENOENT. */
int thaw_mm_registered(struct thaw *m, int64_t id);
/* Looks whether it is so, gives up what lies in mappings that are not registered, lets the background begin. Control thread;
 * false: something is changing, come again. */
bool thaw_mm_check_registration(struct thaw_worker *w, struct thaw_mm *mm);

/* By id, with a reference; NULL: unknown. Takes m->lock. */
struct thaw_mm *thaw_mm_find(struct thaw *m, int64_t id);

size_t thaw_mm_memory(const struct thaw_mm *mm); /* m->lock held, or owner */

#endif
