/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/sandbox_impl.h - between the table and the handler of the filters.
 * Threads   set_role: the thread itself; in_table: any, async-signal-safe */
#ifndef THAW_KERN_SANDBOX_IMPL_H
#define THAW_KERN_SANDBOX_IMPL_H

#include <stdbool.h>

#include "kern/sandbox.h"

void thaw_sandbox_set_role(enum thaw_role role);
/* The role's filter lets this call through whatever its arguments are. */
bool thaw_sandbox_in_table(enum thaw_role role, int nr);

#endif
