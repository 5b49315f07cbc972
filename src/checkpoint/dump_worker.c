// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_worker.c - a checkpoint from the first look to the end of the process, in order */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "checkpoint/dump_dir.h"
#include "image/write.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/inject.h"

#define AREA_LEN (256u << 10)
#define REAP_WAIT_MS 200
#define HURRY_NICE (-15)

static int look(struct thaw_dumper *d)
{
	int r = thaw_procfs_status(d->pid, &d->status);

	if (r == 0)
		r = thaw_procfs_stat(d->pid, &d->stat);
	if (r == -ENOENT || r == -ESRCH)
		return thaw_err_set(-ESRCH, "process %d has ended meanwhile", d->pid);
	return r < 0 ? thaw_err_set(r, "process %d: its status: %s", d->pid, strerror(-r)) : 0;
}

/* Refusals that need no stop: most processes that are refused never notice. */
static int before(struct thaw_dumper *d)
{
	int r = thaw_seize_check(d->pid);

	if (r == 0)
		r = look(d);
	return r < 0 ? r : thaw_dump_refuse_process(d);
}

/* mlockall(MCL_FUTURE) shows in what it does to the work area. */
static int find_mlockall(struct thaw_dumper *d, uint64_t locked_kb)
{
	struct thaw_proc_status now;
	int r = thaw_procfs_status(d->pid, &now);

	if (r < 0)
		return thaw_err_set(r, "process %d: its status: %s", d->pid, strerror(-r));
	if (now.vm_locked_kb < locked_kb + (AREA_LEN >> 10))
		return 0;
	d->p.has_mlockall_flags = 1;
	d->p.mlockall_flags = 2; /* MCL_FUTURE; what is mapped now tells by itself whether it is locked */
	return 0;
}

static uint64_t end_of_vdso(const struct thaw_dumper *d)
{
	return d->head.vdso_start + d->head.vdso.len;
}

/* What the leader needs to find its way back from a single call. */
static void find_way_back(struct thaw_dumper *d)
{
	struct thaw_remote *remote = &d->sz.remote;
	uint64_t sp = d->sz.threads[0].saved.regs.rsp;

	for (size_t i = 0; i < d->n_maps; i++) {
		const ThawState__Mapping *m = d->p.mappings[i];

		if (m->kind == THAW_STATE__MAPPING__KIND__FILE_PRIVATE && m->prot == (PROT_READ | PROT_EXEC))
			thaw_remote_find_way_back(remote, m->start, m->end - m->start);
		if (m->growsdown && m->prot & PROT_WRITE && m->start <= sp && sp < m->end) {
			remote->stack_start = m->start;
			remote->stack_end = m->end;
		}
	}
}

static int given_up(void *opaque)
{
	return thaw_dump_abandoned(opaque);
}

/* Everything that the process itself has to be asked. Afterwards it has its own registers and mappings again. */
static int ask(struct thaw_dumper *d)
{
	struct thaw_seized_thread *leader = &d->sz.threads[0];
	int r;

	r = thaw_remote_find(&d->sz.remote, d->pid, d->head.vdso_start, end_of_vdso(d) - d->head.vdso_start);
	d->sz.remote.give_up = given_up;
	d->sz.remote.opaque = d;
	if (r == 0)
		find_way_back(d);
	if (r == 0)
		r = thaw_seize_borrow(&d->sz, leader);
	if (r == 0)
		r = thaw_remote_map(&d->sz.remote, leader->tid, 0, AREA_LEN);
	if (r == 0)
		r = find_mlockall(d, d->status.vm_locked_kb);
	if (r == 0)
		r = thaw_dump_process_remote(d);
	if (r == 0)
		r = thaw_seize_give_back(&d->sz, leader);
	if (r == 0)
		r = thaw_dump_threads(d);
	if (r == 0)
		r = thaw_seize_borrow(&d->sz, leader);
	if (r == 0)
		r = thaw_dump_timers(d);
	if (r == 0)
		r = thaw_remote_unmap(&d->sz.remote, leader->tid);
	if (r == 0)
		r = thaw_seize_give_back(&d->sz, leader);
	return r;
}

/* While the process stands still nobody else's work should come before ours. Without the privilege it takes longer. */
static void hurry(bool on)
{
	static int before;

	if (on)
		before = getpriority(PRIO_PROCESS, 0);
	setpriority(PRIO_PROCESS, 0, on ? HURRY_NICE : before);
}

/* The process stands still. Refusals come first, what is written last. */
static int frozen(struct thaw_dumper *d)
{
	int r = look(d);

	if (r == 0)
		r = thaw_dump_refuse_process(d);
	if (r == 0)
		r = thaw_procfs_pagemap_open(d->pid, &d->pagemap);
	if (r < 0)
		return thaw_err_code() == r ? r : thaw_err_set(r, "process %d: its page map: %s", d->pid, strerror(-r));
	r = thaw_dump_maps(d);
	if (r == 0)
		r = thaw_dump_shared_check(d);
	if (r == 0)
		r = thaw_dump_process_early(d);
	thaw_dump_phase(d, THAW_DUMP_DISK); /* deleted files are stored */
	if (r == 0)
		r = thaw_files_dump(&d->p, d->pid, d->sz.pidfd, d->store);
	if (r == 0)
		r = thaw_dump_abandoned(d);
	thaw_dump_phase(d, THAW_DUMP_QUICK);
	if (r == 0)
		r = ask(d);
	if (r == 0)
		r = thaw_dump_abandoned(d);
	thaw_dump_phase(d, THAW_DUMP_DISK);
	if (r == 0)
		r = thaw_dump_shared_store(d);
	return r < 0 ? r : thaw_dump_memory(d);
}

/* Onto the disk, then the name. */
static int finish(struct thaw_dumper *d, struct thaw_dump_dir *dir)
{
	int r = thaw_dump_memory_sync(d);

	if (r == 0)
		r = thaw_dump_images(d);
	if (r == 0)
		r = thaw_dump_abandoned(d);
	if (r < 0)
		return r;
	thaw_dump_phase(d, THAW_DUMP_ENDING); /* before: should we be killed now, there may be an image */
	(void)THAW_INJECT("dump.name"); /* delays only */
	r = thaw_dump_dir_commit(dir);
	(void)THAW_INJECT("dump.name");
	if (r < 0 && dir->aside[0])
		thaw_dump_phase(d, THAW_DUMP_QUICK); /* there is none */
	return r;
}

/* A process whose parent does not wait for it keeps its pid. */
static bool stays_zombie(pid_t pid)
{
	struct thaw_proc_stat st;
	int ms;

	for (ms = 0; ms < REAP_WAIT_MS; ms += 10) {
		if (thaw_procfs_stat(pid, &st) < 0 || st.state != 'Z')
			return false;
		usleep(10000);
	}
	return true;
}

static int end_process(struct thaw_dumper *d, struct thaw_dump_result *res)
{
	int r;

	r = thaw_seize_kill(&d->sz);
	if (r < 0)
		return r;
	res->zombie = stays_zombie(d->pid);
	return 0;
}

static void report(const struct thaw_dumper *d, struct thaw_dump_result *res)
{
	res->bytes = d->bytes;
	res->threads = (unsigned)d->p.n_threads;
	res->files = (unsigned)d->p.n_fds;
	res->mappings = (unsigned)d->n_maps;
}

static int work(struct thaw_dumper *d, const struct thaw_dump_options *o, struct thaw_dump_dir *dir, struct thaw_dump_result *res)
{
	uint64_t stopped_at;
	int r;

	r = before(d);
	if (r < 0)
		return r;
	d->store = thaw_store_new(dir->fd);
	if (!d->store)
		return thaw_err_code() ? thaw_err_code() : -ENOMEM;
	thaw_dump_phase(d, THAW_DUMP_DISK);
	r = thaw_dump_memory_prepare(d, o->leave_running);
	if (r < 0)
		return r;
	thaw_dump_phase(d, THAW_DUMP_QUICK);
	r = thaw_dump_landlock_prepare(d, d->status.uid[0], d->status.gid[0]);
	if (r < 0)
		return r;
	thaw_dump_sleep_look(d);
	hurry(true);
	r = thaw_seize(&d->sz, o->pid);
	if (r < 0)
		return r;
	stopped_at = d->sz.stopped_at;
	thaw_dump_sleep_check(d);
	r = frozen(d);
	if (r < 0) {
		thaw_seize_release(&d->sz);
		return r;
	}
	report(d, res);
	if (o->leave_running) {
		thaw_seize_release(&d->sz);
		hurry(false);
		res->frozen_ns = thaw_sys_now_ns() - stopped_at;
		return finish(d, dir);
	}
	r = finish(d, dir);
	if (r < 0) {
		thaw_seize_release(&d->sz);
		return r;
	}
	r = end_process(d, res);
	res->frozen_ns = thaw_sys_now_ns() - stopped_at;
	return r;
}

int thaw_dump_work(const struct thaw_dump_options *o, struct thaw_dump_dir *dir, int abandon_fd, struct thaw_dump_pulse *pulse,
		   struct thaw_dump_result *res)
{
	struct thaw_dumper d = { .pid = o->pid, .dirfd = dir->fd, .abandon_fd = abandon_fd, .pulse = pulse, .pages_fd = -1 };
	int r;

	thaw_state__head__init(&d.head);
	thaw_state__process__init(&d.p);
	d.sz.pidfd = -1;
	r = work(&d, o, dir, res);
	thaw_dump_landlock_end(&d);
	return r;
}
