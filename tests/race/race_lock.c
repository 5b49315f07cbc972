// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/race/race_lock.c - a queue under one lock and two conditions: nothing lost, nothing seen half done */
#include "config.h"

#include <stdio.h>

#include "util/lock.h"

enum { ITEMS = 20000, ROOM = 8, PAIRS = 2 };

static struct thaw_lock lock = THAW_LOCK_INIT(lock, THAW_RANK_PLAN);
static struct thaw_lock sum_lock = THAW_LOCK_INIT(sum_lock, THAW_RANK_STATS);
static struct thaw_cond not_empty, not_full;
static int queue[ROOM], head, fill;
static long long sum;

static void *put(void *arg)
{
	for (int i = 1; i <= ITEMS; i++) {
		THAW_SCOPED_LOCK(&lock);
		while (fill == ROOM)
			thaw_cond_wait(&not_full, &lock);
		queue[(head + fill++) % ROOM] = i;
		thaw_cond_signal(&not_empty);
	}
	return NULL;
}

static void *get(void *arg)
{
	for (int i = 0; i < ITEMS; i++) {
		THAW_SCOPED_LOCK(&lock);
		while (fill == 0)
			thaw_cond_wait(&not_empty, &lock);
		{
			THAW_SCOPED_LOCK(&sum_lock);
			sum += queue[head];
		}
		head = (head + 1) % ROOM;
		fill--;
		thaw_cond_signal(&not_full);
	}
	return NULL;
}

int main(void)
{
	pthread_t t[2 * PAIRS];
	long long want = (long long)PAIRS * ITEMS * (ITEMS + 1) / 2;

	thaw_cond_init(&not_empty);
	thaw_cond_init(&not_full);
	for (int i = 0; i < 2 * PAIRS; i++)
		if (pthread_create(&t[i], NULL, i % 2 ? get : put, NULL)) {
			puts("pthread_create failed");
			return 1;
		}
	for (int i = 0; i < 2 * PAIRS; i++)
		pthread_join(t[i], NULL);
	if (sum != want) {
		printf("sum %lld instead of %lld\n", sum, want);
		return 1;
	}
	return 0;
}
