/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/lock.h - mutexes that know their place in the order.
 * Rule      a thread takes locks in strictly rising rank: two of one rank are never held together. No lock is held
 *           across a system call that waits, an establishing ioctl, a ring submission or a callback
 * Threads   any; a lock is released by the thread that took it
 * Errors    none: debug builds (THAW_DEBUG) end the program with a sentence that names both locks when the order is
 *           wrong, when a lock is taken twice or released by another thread; release builds only lock */
#ifndef THAW_UTIL_LOCK_H
#define THAW_UTIL_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The order, outermost first. The gate (S and X of a space) is no lock of this list: within S no lock is taken
 * at all, within X those from THAW_RANK_PLAN on. */
enum thaw_rank {
	THAW_RANK_COMMAND, /* the program: what a subcommand shares with its callbacks */
	THAW_RANK_MONITOR, /* the list of spaces, the life of threads */
	THAW_RANK_SPACE,   /* one space's mutable state that is not under its gate */
	THAW_RANK_PLAN,    /* what copiers do next */
	THAW_RANK_IO,      /* requests under way, the staging pool */
	THAW_RANK_RING,    /* the queues of reads: a request is submitted from anywhere above */
	THAW_RANK_STATS,   /* histograms and rates */
	THAW_RANK_LOG,     /* the sink of a caller that serialises lines */
	THAW_RANKS
};

struct thaw_lock {
	pthread_mutex_t mutex;
#ifdef THAW_DEBUG
	enum thaw_rank rank;
	const char *name; /* of the variable that it was initialised through */
#endif
};

struct thaw_cond {
	pthread_cond_t cond;
};

#ifdef THAW_DEBUG
#define THAW_LOCK_INIT(variable, rank_) { PTHREAD_MUTEX_INITIALIZER, (rank_), #variable }
void thaw_lock_debug_before(const struct thaw_lock *l); /* checks, then counts the lock as held */
void thaw_lock_debug_after(const struct thaw_lock *l);  /* released */
bool thaw_lock_debug_held(const struct thaw_lock *l);
#else
#define THAW_LOCK_INIT(variable, rank_) { PTHREAD_MUTEX_INITIALIZER }
static inline void thaw_lock_debug_before(const struct thaw_lock *l)
{
}
static inline void thaw_lock_debug_after(const struct thaw_lock *l)
{
}
#endif

void thaw_lock_init_named(struct thaw_lock *l, enum thaw_rank rank, const char *name);
#define thaw_lock_init(l, rank) thaw_lock_init_named((l), (rank), #l)
void thaw_lock_destroy(struct thaw_lock *l);

static inline void thaw_lock_acquire(struct thaw_lock *l)
{
	thaw_lock_debug_before(l); /* before: a wrong order is reported, not waited for */
	pthread_mutex_lock(&l->mutex);
}

static inline void thaw_lock_release(struct thaw_lock *l)
{
	thaw_lock_debug_after(l);
	pthread_mutex_unlock(&l->mutex);
}

static inline void thaw_lock_release_scoped(struct thaw_lock **l)
{
	thaw_lock_release(*l);
}

/* Holds l until the end of the enclosing block. */
#define THAW_LOCK_JOIN_(a, b) a##b
#define THAW_LOCK_NAME_(line) THAW_LOCK_JOIN_(thaw_scoped_lock_, line)
#define THAW_SCOPED_LOCK(l) \
	__attribute__((cleanup(thaw_lock_release_scoped), unused)) struct thaw_lock *THAW_LOCK_NAME_(__LINE__) = \
		(thaw_lock_acquire(l), (l))

#ifdef THAW_DEBUG
#include "util/assert.h"
#define THAW_LOCK_ASSERT_HELD(l) \
	(thaw_lock_debug_held(l) ? (void)0 : thaw_panic("%s: called without %s", __func__, (l)->name))
#else
#define THAW_LOCK_ASSERT_HELD(l) ((void)sizeof(l))
#endif

/* Condition variables on CLOCK_MONOTONIC. Waiting drops the lock; it must be the innermost one held. */
void thaw_cond_init(struct thaw_cond *c);
void thaw_cond_destroy(struct thaw_cond *c);
void thaw_cond_wait(struct thaw_cond *c, struct thaw_lock *l);
/* deadline_ns: CLOCK_MONOTONIC. False when it has passed. */
bool thaw_cond_wait_until(struct thaw_cond *c, struct thaw_lock *l, uint64_t deadline_ns);

static inline void thaw_cond_signal(struct thaw_cond *c)
{
	pthread_cond_signal(&c->cond);
}

static inline void thaw_cond_broadcast(struct thaw_cond *c)
{
	pthread_cond_broadcast(&c->cond);
}

#endif
