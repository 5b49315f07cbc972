/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/monitor.h - one monitor: its settings, its threads and the list of its spaces.
 *
 * Readers consume messages and serve faults, copiers fill ahead (and serve, where that is faster), I/O threads run the ring and place
 * what a fault waits for, the control thread does what happens by time and places answers that come from threads of the application.
 *
 * Rule      settings change only in the phase SETUP
 * Threads   settings: immutable after start. What lies under `lock` is named so. A thread that holds `lock` enters
 *           neither S nor X
 * Rank      lock: THAW_RANK_MONITOR; taken within X by whoever applies a FORK or ends a space
 * Lifetime  made by thaw_create(), ended by thaw_close() */
#ifndef THAW_ENGINE_MONITOR_H
#define THAW_ENGINE_MONITOR_H

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdbool.h>

#include "core/stats.h"
#include "engine/beside.h"
#include "engine/gate.h"
#include "engine/mm.h"
#include "engine/pace.h"
#include "engine/subscribe.h"
#include "kern/sandbox.h"
#include "thaw.h"
#include "util/lock.h"
#include "util/log.h"

struct thaw_fetch;
struct thaw_follow;
struct thaw_holder;

#define THAW_MAX_COPIERS 64
#define THAW_MAX_READERS 16
#define THAW_MAX_IO_THREADS 64
#define THAW_MAX_CHUNK (256UL << 10)
#define THAW_MAX_AROUND 64
#define THAW_BATCH 64 /* messages a read takes */

enum thaw_phase {
	THAW_PHASE_SETUP,
	THAW_PHASE_STARTING,
	THAW_PHASE_RUNNING,
	THAW_PHASE_STOPPING,
	THAW_PHASE_STOPPED
};

/* Whether to look for the next fault without sleeping, see engine/reader.c. */
struct thaw_spin {
	bool may;             /* nothing else is in this reader's hands */
	unsigned skip, again; /* turns to come without a spin; the next such number */
	bool there;           /* the last look found a message that had come while we served */
	bool got;             /* the last X read some */
	unsigned unasked;     /* X in a row without a look */
};

/* The entry of a space's list of gone pages that a thread has made last. */
struct thaw_last_gone {
	int64_t space;
	uint32_t epoch, entry;
};

struct thaw_worker {
	struct thaw *m;
	unsigned number; /* and slot in the gate */
	enum thaw_role role;
	pthread_t thread;
	bool running;         /* the starter's */
	const struct thaw_mm *served; /* the space that it serves just now, as owner */
	unsigned char *buf;   /* THAW_MAX_CHUNK of staging of its own */
	unsigned char *ahead; /* copiers: THAW_WINDOW_BYTES, for */
	struct thaw_window window;
	struct thaw_ways ways; /* copiers */
	struct thaw_pace pace; /* copiers */
	struct thaw_beside beside; /* copiers */
	_Atomic uint32_t rounds; /* readers: times it had nothing left of what epoll gave it; see thaw_monitor_reclaim() */
	struct uffd_msg msgs[THAW_BATCH];
	struct thaw_mm *late[64]; /* spaces with faults to be tried again by time (references) */
	unsigned n_late;
	struct thaw_spin spin; /* readers */
	uint64_t round_ns;     /* readers: when the last round began */
	struct thaw_follow *follow; /* readers, copiers: the pages of its latest faults */
	int nudge_fd;          /* readers: an eventfd that ends its sleep as owner of a space; else -1 */
	struct thaw_last_gone gone;
	struct thaw_invalidations inv; /* of the space in hand, between its X and what follows */
};

struct thaw_settings {
	unsigned copiers, readers, delay_ms, around, spin_us;
	size_t chunk;
	enum thaw_background background;
	enum thaw_io io;
	enum thaw_failure failure;
	bool sandbox, holder, numbering;
	int holder_log_fd; /* ours, or -1 */
	struct thaw_log log;
	thaw_event_fn *event;
	void *event_opaque;
};

#define THAW_RATE_SAMPLES 8

struct thaw {
	struct thaw_settings set;
	struct thaw_gate gate;
	struct thaw_worker *workers; /* readers, copiers, control, I/O: in this order */
	unsigned n_workers;
	struct thaw_fetch *fetch;
	struct thaw_holder *holder;  /* lock, until it has been started */
	int epoll, stop_fd;
	unsigned char *staging;      /* the workers' buffers */
	size_t staging_bytes;

	_Atomic bool stopping;
	_Atomic uint32_t standing;   /* threads that have begun. A futex */
	_Atomic int start_error;
	_Atomic bool background_on;
	_Atomic uint32_t work;       /* a futex: copiers look again */
	_Atomic uint32_t idlers;     /* copiers asleep on it */
	_Atomic uint32_t published;  /* handed to epoll; readers load it before they follow an address from there */
	_Atomic uint32_t chores;     /* a futex: the control thread looks again */
	_Atomic bool emfile_told;
	bool holder_told; /* control's */
	bool attached;               /* the filters' handler: the starter's */
	_Atomic uint64_t started_ns, first_ns, complete_ns;

	struct thaw_lock lock;
	struct thaw_cond changed;    /* a space has ended, or the monitor has stopped */
	enum thaw_phase phase;       /* lock */
	bool settled;                /* lock: a start has been tried; whether messages are taken by their numbers is final */
	struct thaw_mm *spaces;      /* lock: those living or added by the caller, oldest first */
	struct thaw_mm **spaces_end; /* lock: where the next one goes */
	struct thaw_mm *retired;     /* lock: unlinked, waiting for readers to pass */
	unsigned n_live;             /* lock */
	int64_t last_id;             /* lock */
	uint64_t n_done, n_all;      /* lock */
	int orphan[64];              /* lock: userfaultfds of forked children without a space: open, and nobody else knows them */
	unsigned n_orphan;           /* lock */
	uint64_t more_orphans;       /* lock: for which there was no room */
	struct thaw_counters *past;  /* lock: of children that are gone from the list */
	struct thaw_tally past_tally;/* lock: the same of their pages */
	struct { uint64_t ns, bytes; } rate[THAW_RATE_SAMPLES]; /* lock */
	unsigned n_rate;             /* lock */
	struct thaw_subscription subscriptions[THAW_MAX_SUBSCRIBERS];
	_Atomic uint32_t n_subscribers;
	_Atomic uint64_t drain_first_ns, drain_last_ns; /* the background copy's first and last placing */
};

struct thaw *thaw_monitor_new(void);
void thaw_monitor_free(struct thaw *m); /* stops first */
int thaw_monitor_start(struct thaw *m);
void thaw_monitor_stop(struct thaw *m);

/* threads.c: all of them stand, with their filters on, or none does. */
int thaw_threads_start(struct thaw *m);
void thaw_threads_stop(struct thaw *m);
enum thaw_role thaw_threads_role(const struct thaw *m, unsigned i);

/* Copiers have something to look at. Any thread, also within X. */
void thaw_monitor_work(struct thaw *m);
/* The control thread has. */
void thaw_monitor_chore(struct thaw *m);

void thaw_monitor_event(struct thaw *m, const struct thaw_event_info *info);

/* Takes the space, or leaves its owner a note and wakes it where it dozes: false. A thread of the monitor. */
bool thaw_monitor_own(struct thaw *m, struct thaw_mm *mm);

/* What a thread runs; each returns when m->stopping is set and it has been woken. */
void thaw_reader_run(struct thaw_worker *w);
void thaw_copier_run(struct thaw_worker *w);
void thaw_control_run(struct thaw_worker *w);

/* A forked child without a space: it waits for ever at its next absent page, as its userfaultfd stays open. Any thread. */
void thaw_monitor_orphan(struct thaw *m, int uffd);
/* How many of them there are whose memory still exists. */
uint64_t thaw_monitor_orphans(struct thaw *m);

/* Frees spaces that were unlinked before every reader's last look at what epoll had handed it. Control thread. */
void thaw_monitor_reclaim(struct thaw *m);

#endif
