// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore.c - a process is made again from an image directory, step by step, or not at all */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "checkpoint/files.h"
#include "checkpoint/state.h"
#include "checkpoint/tracee.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"

static struct thaw_restore *restore_new(const struct thaw_restore_options *o)
{
	struct thaw_restore *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->o = *o;
	r->dirfd = r->exe_fd = r->pidfd = r->init_pidfd = r->control = r->uffd = -1;
	r->sid = getsid(0);
	r->pgid = getpgrp();
	r->script = malloc(sizeof(*r->script));
	if (!r->script) {
		free(r);
		return NULL;
	}
	return r;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What was only needed to make the process. */
static void drop_files(struct thaw_restore *r)
{
	for (size_t i = 0; r->map_fd && i < r->p->n_mappings; i++)
		if (r->map_first[i] == (int)i)
			close(r->map_fd[i]);
	free(r->map_fd);
	free(r->map_first);
	r->map_fd = NULL;
	r->map_first = NULL;
	close_one(&r->exe_fd);
}

static void restore_free(struct thaw_restore *r)
{
	drop_files(r);
	thaw_batch_free(r->batch);
	free(r->script);
	free(r->tids);
	free(r->eager);
	thaw_source_close(r->source);
	if (r->head || r->p)
		thaw_state_free(r->head, r->p);
	if (r->report)
		munmap(r->report, r->report_len);
	close_one(&r->dirfd);
	close_one(&r->control);
	close_one(&r->uffd);
	close_one(&r->init_pidfd);
	close_one(&r->pidfd);
	free(r);
}

int thaw_restore_interrupted(const struct thaw_restore *r)
{
	if (!r->o.interrupted || !r->o.interrupted(r->o.opaque))
		return 0;
	return thaw_err_set(-EINTR, "interrupted before the process ran: it was not restored");
}

static int take_uffd(struct thaw_restore *r)
{
	if (r->o.eager)
		return 0;
	r->uffd = thaw_sys_pidfd_getfd(r->pidfd, r->report->uffd);
	if (r->uffd < 0)
		return thaw_err_set(r->uffd, "taking over the userfaultfd of process %d: %s", r->p->pid, strerror(-r->uffd));
	return 0;
}

static bool has_lazy(const struct thaw_restore *r)
{
	for (size_t i = 0; i < r->p->n_mappings; i++)
		if (thaw_restore_is_lazy(r, r->p->mappings[i]))
			return true;
	return false;
}

static int prepare(struct thaw_restore *r)
{
	int err = thaw_restore_read(r);

	if (!err && !has_lazy(r)) /* all of it is locked, say: a monitor would have nothing to do */
		r->o.eager = true;
	if (!err)
		err = thaw_restore_spawn(r);
	if (!err)
		err = take_uffd(r); /* before it is traced: its descriptors are what they were */
	if (!err)
		err = thaw_restore_seize(r);
	if (!err)
		err = thaw_restore_mm(r);
	if (err)
		return err;
	drop_files(r);
	err = thaw_restore_content(r);
	return err ? err : thaw_restore_mm_finish(r);
}

int thaw_restore_prepare(const struct thaw_restore_options *o, struct thaw_restored *out)
{
	struct thaw_restore *r;
	int err;

	memset(out, 0, sizeof(*out));
	out->pidfd = out->uffd = -1;
	thaw_err_clear();
	err = thaw_uffd_check_release();
	if (err)
		return err;
	r = restore_new(o);
	if (!r)
		return thaw_err_set(-ENOMEM, "no memory for a restore");
	err = prepare(r);
	if (err) {
		thaw_restore_kill(r);
		restore_free(r);
		return err;
	}
	out->impl = r;
	out->pid = r->pid;
	out->pidfd = r->pidfd;
	out->uffd = r->uffd;
	out->written = r->written;
	return 0;
}

/* The mappings that the monitor serves. */
static struct thaw_range *lazy_ranges(const struct thaw_restore *r, size_t *n)
{
	const ThawState__Process *p = r->p;
	struct thaw_range *v = calloc(p->n_mappings, sizeof(*v));

	*n = 0;
	for (size_t i = 0; v && i < p->n_mappings; i++) {
		const ThawState__Mapping *m = p->mappings[i];
		struct thaw_range *range = &v[*n];

		if (!thaw_restore_is_lazy(r, m))
			continue;
		range->address = m->start;
		range->length = m->end - m->start;
		range->kind = THAW_KIND_ANON;
		range->prot = (int)m->prot;
		for (size_t a = 0; a < m->n_madvise; a++)
			range->flags |= m->madvise[a] == MADV_WIPEONFORK ? THAW_RANGE_WIPEONFORK :
					m->madvise[a] == MADV_DONTFORK	 ? THAW_RANGE_DONTFORK : 0;
		++*n;
	}
	return v;
}

int thaw_restore_add_space(struct thaw_restored *out, struct thaw *monitor)
{
	struct thaw_restore *r = out->impl;
	struct thaw_space space = { .size = sizeof(space), .uffd = r->uffd, .pidfd = r->pidfd, .pid = r->pid,
				    .source = r->source, .register_ranges = 1 };
	struct thaw_range *ranges;
	int64_t id;

	if (r->uffd < 0)
		return 0;
	ranges = lazy_ranges(r, &space.n_ranges);
	if (!ranges)
		return thaw_err_set(-ENOMEM, "no memory for %zu ranges", r->p->n_mappings);
	space.ranges = ranges;
	id = thaw_add_space(monitor, &space);
	free(ranges);
	if (id < 0)
		return thaw_err_set(-(thaw_get_errno() ? thaw_get_errno() : EIO), "%s", thaw_get_error());
	r->uffd = out->uffd = -1; /* the monitor's now */
	return 0;
}

/* Threads that are let go run at once; the leader, held to the last, dies with us (PTRACE_O_EXITKILL) and takes them along
 * should we not get to the end. */
static int let_go(struct thaw_restore *r)
{
	int err = 0;

	for (size_t i = r->p->n_threads; i-- > 0 && !err;)
		err = thaw_tracee_ptrace(PTRACE_DETACH, r->tids[i], 0, 0);
	/* A SIGSTOP that came while it was made has been taken for one of our stops. */
	if (err >= 0 && r->remote.stop_swallowed)
		thaw_sys_pidfd_signal(r->pidfd, SIGSTOP);
	return err < 0 ? err : 0;
}

static int resume(struct thaw_restore *r)
{
	int err = thaw_files_watch(r->p, r->pidfd); /* all files are open; while the process has our credentials */

	if (!err)
		err = thaw_restore_numbers(r);
	if (!err)
		err = thaw_restore_threads(r);
	if (!err)
		err = thaw_restore_registers(r);
	if (!err)
		err = thaw_restore_release_init(r);
	return err ? err : let_go(r);
}

/* We and the process take turns in small steps: on one CPU that costs a switch each, on two the waking of a halted CPU,
 * which is several times as much. Its threads get their own affinity back one by one. */
int thaw_restore_resume(struct thaw_restored *out)
{
	struct thaw_restore *r = out->impl;
	cpu_set_t mine[8], here[8];
	int cpu = sched_getcpu(), err;
	bool pinned;

	memset(here, 0, sizeof(here));
	CPU_SET_S((size_t)(cpu < 0 ? 0 : cpu), sizeof(here), here);
	pinned = cpu >= 0 && sched_getaffinity(0, sizeof(mine), mine) >= 0 && !sched_setaffinity(r->pid, sizeof(here), here) &&
		 !sched_setaffinity(0, sizeof(here), here);
	err = resume(r);
	if (pinned)
		sched_setaffinity(0, sizeof(mine), mine); /* cannot fail: it was so */
	if (err)
		thaw_restore_abort(out);
	return err;
}

void thaw_restore_abort(struct thaw_restored *out)
{
	struct thaw_restore *r = out->impl;

	if (r)
		thaw_restore_kill(r);
}

bool thaw_restore_modes(const struct thaw_restored *out, struct termios *modes)
{
	const struct thaw_restore *r = out->impl;

	return r && r->p && thaw_files_modes(r->p, modes);
}

void thaw_restore_free(struct thaw_restored *out)
{
	struct thaw_restore *r = out->impl;

	if (!r)
		return;
	restore_free(r);
	out->impl = NULL;
	out->pidfd = out->uffd = -1;
}
