/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/sandbox.h - system call filters by role, from one table.
 *
 * A forbidden call raises SIGSYS in the thread that made it; the handler writes one line to the given descriptor
 * ("thaw: reader thread: system call openat (257) is not allowed by its filter") and the process dies by SIGSYS.
 *
 * Rule      a filter is put on the calling thread only, and stays for its life. SIGSYS is unblocked in that thread
 * Threads   enter: the thread itself, when its set-up is done. attach, detach: any, counted
 * Signals   the process's SIGSYS handler becomes ours with attach; a SIGSYS of a thread without a role goes to
 *           the application's own action; the last detach puts that back
 * Errors    -errno with a sentence */
#ifndef THAW_KERN_SANDBOX_H
#define THAW_KERN_SANDBOX_H

enum thaw_role {
	THAW_ROLE_NONE,
	THAW_ROLE_READER,
	THAW_ROLE_COPIER,
	THAW_ROLE_IO,
	THAW_ROLE_CONTROL,
	THAW_ROLE_HOLDER,
	THAW_ROLE_REMOTE, /* the client of a page server */
	THAW_ROLE_SERVER, /* a session of thaw page-server */
	THAW_ROLES
};

/* The handler; fd: where its line goes (the caller keeps it open until detach), -1: standard error. */
int thaw_sandbox_attach(int fd);
void thaw_sandbox_detach(void);

int thaw_sandbox_enter(enum thaw_role role);

/* The same in two steps, for a process made by clone out of one with threads: compile before it, install in it
 * (async-signal-safe: no allocator, no lock; -errno without a sentence). */
struct thaw_filter;
int thaw_sandbox_compile(struct thaw_filter **out, enum thaw_role role);
int thaw_sandbox_install(const struct thaw_filter *f);
void thaw_filter_free(struct thaw_filter *f); /* NULL is fine */

/* "reader"; for messages and thread names. */
const char *thaw_sandbox_role_name(enum thaw_role role);

#endif
