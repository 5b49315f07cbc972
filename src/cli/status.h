/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/status.h - the parts of thaw status: asking, and showing.
 * Threads   the main thread only
 * Errors    -errno with a sentence in util/err.h */
#ifndef THAW_CLI_STATUS_H
#define THAW_CLI_STATUS_H

#include "lazy/status.h"

/* Asks the daemon at a path (or, with dir, at its usual socket there). s is to be freed in any case. -ENOENT, -ECONNREFUSED:
 * nobody is there (any more). */
int thaw_status_ask(const char *socket, const char *dir, struct thaw_status *s);

/* As text, at most so many lines (0: all). For free(); NULL: no memory. */
char *thaw_status_to_text(const struct thaw_status *s, unsigned lines);

#endif
