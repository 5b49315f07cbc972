/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/show.h - a checkpoint as thaw show sees it.
 * Threads   one
 * Lifetime  head and process are freed by thaw_cmd_show()
 * Errors    -errno with a sentence */
#ifndef THAW_CLI_SHOW_H
#define THAW_CLI_SHOW_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoint/state.h"

struct thaw_show {
	const char *dir;
	ThawState__Head *head;
	ThawState__Process *process;
	unsigned kinds[8];                /* mappings of each ThawState__Mapping__Kind */
	uint64_t lazy_bytes, eager_bytes; /* stored pages, by when they come */
};

/* Reads the page map and makes sure that every page it names is in the pages image. */
int thaw_show_memory(struct thaw_show *s, int dirfd);
void thaw_show_json(const struct thaw_show *s);

const ThawState__File *thaw_show_file(const struct thaw_show *s, const ThawState__Fd *fd); /* NULL: none */
const char *thaw_show_kind(const ThawState__File *f);
const char *thaw_show_taken(const struct thaw_show *s, char *buf, size_t len);

#endif
