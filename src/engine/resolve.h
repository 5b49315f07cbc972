/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/resolve.h - messages whose order cannot be known, settled by a look at the process's mappings.
 * Rule      the owner only, between two X of its own; takes an X for the map
 * Errors    none: what cannot be read now is tried again */
#ifndef THAW_ENGINE_RESOLVE_H
#define THAW_ENGINE_RESOLVE_H

#include "engine/monitor.h"

/* Finds out whether the space is settled, where that is of use, and if so resolves its doubts. True: some are left, and the
 * owner is to come again. */
bool thaw_resolve(struct thaw_worker *w, struct thaw_mm *mm);

#endif
