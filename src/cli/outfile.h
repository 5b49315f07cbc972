/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/outfile.h - a small result file: proven writable before anything runs, put in place whole at the end.
 * Rule      a reader of the path sees the old content or all of the new; a thaw that is killed leaves nothing behind
 *           (the unnamed file of O_TMPFILE; where the file system has none, a named one beside it)
 * Threads   one
 * Lifetime  from thaw_outfile_open() to thaw_outfile_close(), which drops what was not committed
 * Errors    -errno with a sentence */
#ifndef THAW_CLI_OUTFILE_H
#define THAW_CLI_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>

struct thaw_outfile {
	const char *path; /* NULL: none was asked for, and every call does nothing */
	const char *what; /* "pidfile" */
	int fd;
	char *target;     /* where path leads to */
	char *temp;       /* its name while it has one */
	bool direct;      /* a device, a pipe, /dev/stdout: written as it is */
	bool committed;
};

int thaw_outfile_open(struct thaw_outfile *f, const char *what, const char *path);
int thaw_outfile_commit(struct thaw_outfile *f, const char *data, size_t len);
void thaw_outfile_remove(struct thaw_outfile *f); /* takes a committed file away again */
void thaw_outfile_close(struct thaw_outfile *f);
/* After a fork, where the other process goes on with the file: this one lets go of it and leaves it as it is. */
void thaw_outfile_leave(struct thaw_outfile *f);

#endif
