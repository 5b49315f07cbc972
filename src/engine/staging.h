/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/staging.h - memory that content is read into before it is placed: locked, page by page as it is used.
 * Where RLIMIT_MEMLOCK does not allow that, it is used unlocked and the log says so: if the kernel swaps a page of it out,
 * a copy waits for it inside S, which is slower and still right.
 * Threads   any
 * Errors    -ENOMEM with a sentence */
#ifndef THAW_ENGINE_STAGING_H
#define THAW_ENGINE_STAGING_H

#include <stddef.h>

#include "util/log.h"

int thaw_staging_new(unsigned char **out, size_t bytes, const struct thaw_log *log);
void thaw_staging_free(unsigned char *p, size_t bytes);

#endif
