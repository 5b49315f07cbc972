// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/threads.c - the monitor's threads: who is what, how they begin and end */
#include "config.h"
#include "engine/monitor.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/fetch.h"
#include "engine/futex.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/inject.h"

#define COPIER_NICE 5
#define COPIER_SLICE_NS 8000000 /* others have 3 ms at most, unless they have asked for more */

enum thaw_role thaw_threads_role(const struct thaw *m, unsigned i)
{
	if (i < m->set.readers)
		return THAW_ROLE_READER;
	if (i < m->set.readers + m->set.copiers)
		return THAW_ROLE_COPIER;
	return i == m->set.readers + m->set.copiers ? THAW_ROLE_CONTROL : THAW_ROLE_IO;
}

static void run(struct thaw_worker *w)
{
	switch (w->role) {
	case THAW_ROLE_READER:
		thaw_reader_run(w);
		break;
	case THAW_ROLE_COPIER:
		thaw_copier_run(w);
		break;
	case THAW_ROLE_CONTROL:
		thaw_control_run(w);
		break;
	default:
		thaw_fetch_run(w->m->fetch, w);
		break;
	}
}

/* The starter waits until every thread has said that it stands, filter and all, or why not. */
static void report(struct thaw *m, int err)
{
	if (err)
		atomic_store(&m->start_error, err);
	atomic_fetch_add(&m->standing, 1);
	thaw_futex_wake(&m->standing, 1);
}

static void *thread_main(void *arg)
{
	struct thaw_worker *w = arg;
	struct thaw *m = w->m;
	char name[32];
	int err = 0;

	snprintf(name, sizeof(name), "thaw-%s", thaw_sandbox_role_name(w->role));
	thaw_sys_name_thread(name);
	if (w->role == THAW_ROLE_COPIER)
		(void)thaw_sys_give_way(COPIER_NICE, COPIER_SLICE_NS); /* where that fails they only compete more */
	if (m->set.sandbox)
		err = thaw_sandbox_enter(w->role);
	report(m, err);
	if (!err)
		run(w);
	return NULL;
}

static int wait_until_standing(struct thaw *m, unsigned n)
{
	uint32_t now;

	while ((now = atomic_load(&m->standing)) < n)
		thaw_futex_wait(&m->standing, now, 0);
	return atomic_load(&m->start_error);
}

int thaw_threads_start(struct thaw *m)
{
	unsigned started = 0;
	sigset_t all, old;
	int err = 0, ready;

	atomic_store(&m->standing, 0);
	atomic_store(&m->start_error, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; started < m->n_workers && !err; started += !err) {
		struct thaw_worker *w = &m->workers[started];

		err = THAW_INJECT("thread.create");
		if (!err)
			err = -pthread_create(&w->thread, NULL, thread_main, w);
		w->running = !err;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		thaw_err_set(err, "a thread cannot be started: %s", strerror(-err));
	ready = wait_until_standing(m, started);
	if (!err && ready)
		err = thaw_err_set(ready, "a thread cannot put on its system call filter: %s (thaw_set_sandbox() can turn"
				   " it off)", strerror(-ready));
	return err;
}

void thaw_threads_stop(struct thaw *m)
{
	int err;

	atomic_store(&m->stopping, true);
	err = thaw_sys_eventfd_raise(m->stop_fd);
	if (err) /* they look by themselves within a second */
		thaw_log_error(&m->set.log, "the readers cannot be told to stop: %s", strerror(-err));
	thaw_fetch_stop(m->fetch);
	atomic_fetch_add(&m->work, 1);
	thaw_futex_wake(&m->work, INT_MAX);
	thaw_monitor_chore(m);
	for (unsigned i = 0; i < m->n_workers; i++)
		if (m->workers[i].running)
			pthread_join(m->workers[i].thread, NULL);
	for (unsigned i = 0; i < m->n_workers; i++)
		m->workers[i].running = false;
}
