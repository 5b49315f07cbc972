/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/alloc.h - memory for the page map, with an accounted size and a way for tests to run out of it.
 *
 * Threads   any; the failure counter is thread-local
 * Errors    NULL: no memory */
#ifndef THAW_CORE_ALLOC_H
#define THAW_CORE_ALLOC_H

#include <stddef.h>
#include <stdlib.h>

#include "util/inject.h"

/* Tests: how many allocations of this thread still succeed; negative: all of them. */
extern _Thread_local long thaw_core_alloc_left;

static inline void *thaw_core_alloc(size_t size)
{
	if (thaw_core_alloc_left >= 0 && thaw_core_alloc_left-- == 0) {
		thaw_core_alloc_left = 0; /* and goes on failing */
		return NULL;
	}
	return THAW_INJECT("memory.core") ? NULL : malloc(size);
}

/* What an allocation costs with the allocator's header and rounding. */
static inline size_t thaw_core_alloc_cost(size_t size)
{
	return (size + 8 + 15) & ~(size_t)15;
}

#endif
