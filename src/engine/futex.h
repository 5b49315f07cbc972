/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/futex.h - sleeping on a word that other threads of the monitor change.
 * Rule      a return means "look again", never "it has changed"
 * Threads   any */
#ifndef THAW_ENGINE_FUTEX_H
#define THAW_ENGINE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

#include "kern/sys.h"

/* timeout_ns 0: no timeout */
static inline void thaw_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
	thaw_sys_futex_wait((uint32_t *)word, value, timeout_ns ? (int64_t)timeout_ns : -1, false);
}

static inline void thaw_futex_wake(_Atomic uint32_t *word, unsigned n)
{
	thaw_sys_futex_wake((uint32_t *)word, n, false);
}

#endif
