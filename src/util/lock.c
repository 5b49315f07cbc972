// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/lock.c - the order of locks, checked by each thread for itself */
#include "config.h"
#include "util/lock.h"

#include <errno.h>
#include <time.h>

#include "util/assert.h"

void thaw_lock_init_named(struct thaw_lock *l, enum thaw_rank rank, const char *name)
{
	pthread_mutex_init(&l->mutex, NULL); /* cannot fail with default attributes */
#ifdef THAW_DEBUG
	THAW_ASSERT(rank < THAW_RANKS);
	l->rank = rank;
	l->name = name;
#endif
}

void thaw_lock_destroy(struct thaw_lock *l)
{
#ifdef THAW_DEBUG
	if (thaw_lock_debug_held(l))
		thaw_panic("lock %s is destroyed while it is held", l->name);
#endif
	pthread_mutex_destroy(&l->mutex);
}

#ifdef THAW_DEBUG
/* The locks that this thread holds; ranks rise strictly, so one place per rank is enough. */
static _Thread_local const struct thaw_lock *held[THAW_RANKS];
static _Thread_local int n_held;

void thaw_lock_debug_before(const struct thaw_lock *l)
{
	if (n_held > 0 && held[n_held - 1]->rank >= l->rank) {
		const struct thaw_lock *last = held[n_held - 1];

		if (last == l)
			thaw_panic("lock %s is taken twice by one thread", l->name);
		thaw_panic("wrong lock order: %s (rank %d) is taken while %s (rank %d) is held", l->name, (int)l->rank,
			   last->name, (int)last->rank);
	}
	held[n_held++] = l;
}

void thaw_lock_debug_after(const struct thaw_lock *l)
{
	int i = n_held - 1;

	while (i >= 0 && held[i] != l)
		i--;
	if (i < 0)
		thaw_panic("lock %s is released by a thread that does not hold it", l->name);
	/* Release in any order is allowed: it cannot deadlock. */
	for (; i < n_held - 1; i++)
		held[i] = held[i + 1];
	n_held--;
}

bool thaw_lock_debug_held(const struct thaw_lock *l)
{
	for (int i = 0; i < n_held; i++)
		if (held[i] == l)
			return true;
	return false;
}

static void check_innermost(const struct thaw_lock *l)
{
	if (n_held == 0 || held[n_held - 1] != l)
		thaw_panic("a wait drops %s, which is not the innermost lock (%s)", l->name,
			   n_held ? held[n_held - 1]->name : "none is held");
}
#else
static inline void check_innermost(const struct thaw_lock *l)
{
}
#endif

void thaw_cond_init(struct thaw_cond *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &attr);
	pthread_condattr_destroy(&attr);
}

void thaw_cond_destroy(struct thaw_cond *c)
{
	pthread_cond_destroy(&c->cond);
}

void thaw_cond_wait(struct thaw_cond *c, struct thaw_lock *l)
{
	check_innermost(l); /* the lock stays counted as held: it is, whenever this thread runs */
	pthread_cond_wait(&c->cond, &l->mutex);
}

bool thaw_cond_wait_until(struct thaw_cond *c, struct thaw_lock *l, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};

	check_innermost(l);
	return pthread_cond_timedwait(&c->cond, &l->mutex, &ts) != ETIMEDOUT;
}
