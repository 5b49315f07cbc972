// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/keep.c - the list of connections that outlive the monitor */
#include "config.h"
#include "kern/keep.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#define KEPT 64
#define ARRIVALS 0x40000000 /* with the number */

static int *list; /* KEPT numbers + 1, 0: empty; MAP_SHARED. Written once, before threads or a holder look */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make(void)
{
	void *p = mmap(NULL, KEPT * sizeof(*list), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	list = p == MAP_FAILED ? NULL : p;
}

int thaw_keep_init(void)
{
	pthread_once(&once, make);
	return list ? 0 : -ENOMEM;
}

static bool swap(int from, int to)
{
	for (unsigned i = 0; list && i < KEPT; i++) {
		int want = from;

		/* Nothing else is told by it: whoever looks has been told of the descriptor otherwise. */
		if (__atomic_compare_exchange_n(&list[i], &want, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

void thaw_keep_add(int fd)
{
	swap(0, fd + 1);
}

void thaw_keep_add_arrivals(int fd)
{
	swap(0, (fd + 1) | ARRIVALS);
}

void thaw_keep_remove(int fd)
{
	if (!swap(fd + 1, 0))
		swap((fd + 1) | ARRIVALS, 0);
}

bool thaw_keep_has_arrivals(void)
{
	for (unsigned i = 0; list && i < KEPT; i++)
		if (__atomic_load_n(&list[i], __ATOMIC_ACQUIRE) & ARRIVALS)
			return true;
	return false;
}

static bool has(int entry)
{
	for (unsigned i = 0; list && i < KEPT; i++)
		if (__atomic_load_n(&list[i], __ATOMIC_ACQUIRE) == entry)
			return true;
	return false;
}

bool thaw_keep_has(int fd)
{
	return has(fd + 1);
}

bool thaw_keep_is_arrivals(int fd)
{
	return has((fd + 1) | ARRIVALS);
}
