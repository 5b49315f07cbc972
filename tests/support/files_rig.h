/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* support/files_rig.h - takes the open files of one process to another: make() in a child that stops, dump, the child
 * dies, restore in a second child, which compares numbers, flags, positions and sharing and then runs verify().
 * Rule      every case runs in a directory of its own (the current one), removed afterwards */
#ifndef THAW_TESTS_FILES_RIG_H
#define THAW_TESTS_FILES_RIG_H

#include <sys/types.h>

struct rig_case {
	const char *name;
	void (*make)(void);          /* in the process to be dumped */
	void (*verify)(void);        /* in the new one; NULL: what the rig compares is enough */
	void (*between)(pid_t pid);  /* in the test, when the old process is dead */
	const char *refused;         /* the sentence of the dump; '*' stands for anything */
	const char *fails;           /* the sentence of the restore */
	const char *gone;            /* this name must not exist after a failure */
	int (*skip)(void);           /* 1: cannot be tried here */
};

int rig_run(const struct rig_case *cases, unsigned n); /* for main(): 0, 1 or 77 */

/* In make() and verify(): ends the process with the line when it is not so. */
#define CHECK(what) rig_check(!!(what), #what, __FILE__, __LINE__)
void rig_check(int ok, const char *what, const char *file, int line);
int rig_put(int fd, int number);             /* moves fd to number (no close-on-exec) */
pid_t rig_helper(void (*fn)(void *), void *arg); /* another process, in make(); killed with the case */
int rig_same(int a, int b);                  /* one description? */
void rig_write(const char *path, const char *text);
long rig_shared(int i);                      /* 64 numbers that make() may leave for verify() */
void rig_share(int i, long v);

#endif
