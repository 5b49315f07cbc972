/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/session_impl.h - what session.c (the connection) and members.c (who is being served) share.
 *
 * Threads   lock guards members, counters and the phase; the rest is the main thread's. It is recursive, since the engine may log
 *           within thaw_add_space(), which is called with it so that no event of a space comes before its member. A callback of
 *           the engine takes it, so nothing that waits for a thread of the engine is called with it */
#ifndef THAW_LAZY_SESSION_IMPL_H
#define THAW_LAZY_SESSION_IMPL_H

#include <pthread.h>

#include "lazy/handshake.h"
#include "lazy/lines.h"
#include "lazy/session.h"

#define THAW_LAZY_SPARES 4

struct thaw_lazy_slot {
	struct thaw_lazy_member m;
	int pidfd; /* of a root, as long as the session; -1: none */
};

struct thaw_lazy {
	struct thaw_lazy_options o;
	const struct thaw_lazy_images *im;
	struct thaw *h;
	struct thaw_handshake shake;
	bool *told;              /* by index of the images' tasks */
	int conn, events;        /* events: an eventfd, written by callbacks */
	bool broken;             /* what was said on the connection makes no sense any more */
	bool word;               /* and it stood where the last word belongs */
	unsigned char tail[4];   /* the last bytes that came */
	int spare[THAW_LAZY_SPARES]; /* descriptors for nothing: closed while one is received, so that there is a number for it; -1 */
	int reserve;             /* another, for a pidfd to kill with */
	bool left_there;         /* more of them wait in conn, for which there is no descriptor: it stays open */
	bool any_stray;          /* userfaultfds are open that are not served */
	int *stray;              /* pidfds of their processes, as far as there is one */
	size_t n_stray;

	pthread_mutex_t lock;
	enum thaw_lazy_phase phase;    /* lock */
	struct thaw_lazy_slot *slot;   /* lock: tasks, and children that live; oldest first */
	size_t n_slots, room;          /* lock */
	size_t n_spaces, n_ended;      /* lock: all there ever were */
	bool kill_wanted;              /* lock: content is not to be had, and that is what kills */
	bool cut;                      /* lock: members are missing for want of memory */
	struct thaw_lines lines;       /* its own */
};

int thaw_lazy_members_init(struct thaw_lazy *z);
void thaw_lazy_members_free(struct thaw_lazy *z);
/* Adds the task to the engine and to the members. uffd is taken over on success. */
int thaw_lazy_members_add(struct thaw_lazy *z, const struct thaw_lazy_task *t, int uffd, pid_t sender);
/* Its userfaultfd is kept, and not served. */
void thaw_lazy_members_stray(struct thaw_lazy *z, pid_t sender);
void thaw_lazy_event(void *opaque, const struct thaw_event_info *info);
void thaw_lazy_log(void *opaque, enum thaw_log_level level, const char *line);
void thaw_lazy_say(struct thaw_lazy *z, enum thaw_log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
