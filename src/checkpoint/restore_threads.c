// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_threads.c - all threads made with their numbers, and what each does itself before it is the program's */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/tracee.h"
#include "util/err.h"

#define START_TIMEOUT_MS 10000
#define SS_FLAGS_KEPT (2u | 1u << 31) /* SS_DISABLE, SS_AUTODISARM; not "on it": it is not while this is done */

struct clone_request {
	struct clone_args args;
	int32_t tid;
};

static int make_thread(struct thaw_restore *r, size_t i)
{
	const ThawState__Thread *t = r->p->threads[i];
	struct clone_request q = {
		.args = { .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
			  .set_tid = r->scratch + offsetof(struct clone_request, tid), .set_tid_size = 1 },
		.tid = t->tid,
	};
	uint64_t args[6] = { r->scratch, sizeof(q.args) };
	int64_t result = 0;
	int status, err;

	r->remote.event_msg = 0;
	err = thaw_tracee_write(r->pid, r->scratch, &q, sizeof(q));
	if (!err)
		err = thaw_remote_one(&r->remote, r->pid, SYS_clone3, args, &result);
	if (err)
		return err;
	if (result == -EEXIST)
		return thaw_err_set(-EEXIST, "number %d of a thread of process %d is taken: end what has it, or restore with "
				    "--pidns", t->tid, r->p->pid);
	if (result < 0 || !r->remote.event_msg)
		return thaw_err_set(result < 0 ? (int)result : -EIO, "process %d: making thread %d: %s", r->p->pid, t->tid,
				    strerror(result < 0 ? (int)-result : EIO));
	r->tids[i] = (pid_t)r->remote.event_msg;
	err = thaw_tracee_wait(r->tids[i], &status, START_TIMEOUT_MS);
	if (err == -ETIMEDOUT)
		thaw_err_set(err, "thread %d did not stop within %d s", t->tid, START_TIMEOUT_MS / 1000);
	return err < 0 ? err : 0;
}

/* Always, as all threads are on one CPU while they are made (restore.c). */
static void affinity_steps(struct thaw_script *s, const ThawState__Thread *t)
{
	THAW_STEP(s, .what = "CPU affinity (does this machine have the CPUs that the thread was bound to?)",
		  .nr = SYS_sched_setaffinity, .args = { 0, t->affinity.len }, .data = t->affinity.data,
		  .len = t->affinity.len, .data_args = 1u << 2);
}

struct attr { /* as sched_setattr takes it, version 0 */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void schedule_steps(struct thaw_script *s, const ThawState__Thread *t)
{
	struct attr a = { .size = sizeof(a), .policy = t->policy, .flags = t->sched_flags, .nice = t->nice,
			  .priority = t->rt_priority };

	if (t->policy != (unsigned)sched_getscheduler(0) || t->sched_flags || t->rt_priority ||
	    t->nice != getpriority(PRIO_PROCESS, 0))
		THAW_STEP(s, .what = "scheduling policy", .remedy = "raising it takes CAP_SYS_NICE", .nr = SYS_sched_setattr,
			  .data = &a, .len = sizeof(a), .data_args = 1u << 1);
	if (t->has_io_prio && t->io_prio)
		THAW_STEP(s, .what = "I/O priority", .nr = SYS_ioprio_set, .args = { 1, 0, t->io_prio });
}

/* Ours is inherited. */
static void policy_steps(struct thaw_script *s, const ThawState__Thread *t)
{
	int mine = MPOL_DEFAULT;

	if (!t->has_mempolicy && (syscall(SYS_get_mempolicy, &mine, NULL, 0, NULL, 0) < 0 || mine == MPOL_DEFAULT))
		return;
	THAW_STEP(s, .what = "memory policy (does this machine have the nodes that the thread was bound to?)",
		  .nr = SYS_set_mempolicy, .args = { t->mempolicy, 0, t->mempolicy_nodes.len ? t->mempolicy_nodes.len * 8 + 1 : 0 },
		  .data = t->mempolicy_nodes.data, .len = t->mempolicy_nodes.len,
		  .data_args = t->mempolicy_nodes.len ? 1u << 1 : 0);
}

/* State that only the thread itself can set, and that needs no privilege it may be about to lose. */
static void thread_steps(struct thaw_script *s, const struct thaw_restore *r, const ThawState__Thread *t)
{
	stack_t ss = { .ss_sp = (void *)t->altstack_sp, .ss_flags = (int)(t->altstack_flags & SS_FLAGS_KEPT),
		       .ss_size = t->altstack_size };
	char name[16] = { 0 };

	strncpy(name, t->name, sizeof(name) - 1);
	THAW_STEP(s, .what = "robust list", .nr = SYS_set_robust_list, .args = { t->robust_list, t->robust_len },
		  .may_fail = !t->robust_list);
	THAW_STEP(s, .what = "clear_child_tid", .nr = SYS_set_tid_address, .args = { t->clear_child_tid });
	THAW_STEP(s, .what = "alternate stack at 0x%lx", .at = t->altstack_sp, .nr = SYS_sigaltstack, .args = { 0, 0 },
		  .data = &ss, .len = sizeof(ss), .data_args = 1u << 0);
	THAW_STEP(s, .what = "thread name", .nr = SYS_prctl, .args = { PR_SET_NAME }, .data = name, .len = sizeof(name),
		  .data_args = 1u << 1);
	THAW_STEP(s, .what = "timer slack", .nr = SYS_prctl, .args = { PR_SET_TIMERSLACK, t->timer_slack });
	for (size_t i = 0; i < t->n_speculation; i++)
		if (t->speculation[i])
			THAW_STEP(s, .what = "speculation control %ld", .at = i, .nr = SYS_prctl,
				  .args = { PR_SET_SPECULATION_CTRL, i, t->speculation[i] });
	affinity_steps(s, t);
	policy_steps(s, t);
	schedule_steps(s, t);
	for (unsigned i = 0; t->has_tls && i < 3; i++)
		THAW_STEP(s, .what = "TLS descriptor", .nr = SYS_set_thread_area, .data = t->tls.data + 16 * i, .len = 16,
			  .data_args = 1u << 0);
	thaw_restore_pending_steps(s, r, t);
}

/* The last state of a thread: from here on it has the program's credentials. */
static void last_steps(struct thaw_restore *r, struct thaw_script *s, const ThawState__Thread *t)
{
	thaw_restore_creds_steps(s, t->creds);
	/* A process in the background would get the signal when the monitor behind it has done its work. */
	THAW_STEP(s, .what = "parent death signal", .nr = SYS_prctl,
		  .args = { PR_SET_PDEATHSIG, r->o.foreground ? t->pdeathsig : 0 });
	if (t->rseq)
		THAW_STEP(s, .what = "restartable sequences at 0x%lx", .at = t->rseq->address, .nr = SYS_rseq,
			  .args = { t->rseq->address, t->rseq->length, t->rseq->flags, t->rseq->signature });
}

static int finish_thread(struct thaw_restore *r, size_t i)
{
	const ThawState__Thread *t = r->p->threads[i];
	struct thaw_remote_saved unused;
	int err = thaw_remote_save(r->tids[i], &unused);

	if (err)
		return err;
	thaw_script_init(r->script, r->batch, r->tids[i], t->tid);
	thread_steps(r->script, r, t);
	last_steps(r, r->script, t);
	err = thaw_script_run(r->script);
	return err ? err : thaw_restore_xsave(r->tids[i], t);
}

static int make_threads(struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	int err = 0;

	r->tids = calloc(p->n_threads, sizeof(*r->tids));
	if (!r->tids)
		return thaw_err_set(-ENOMEM, "no memory for %zu threads", p->n_threads);
	r->tids[0] = r->pid;
	for (size_t i = 1; i < p->n_threads && !err; i++)
		err = make_thread(r, i);
	return err;
}

int thaw_restore_threads(struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	int err;

	thaw_script_init(r->script, r->batch, r->pid, p->pid);
	thaw_restore_process_first(r->script, r);
	err = thaw_script_run(r->script);
	if (!err)
		err = make_threads(r);
	for (size_t i = 1; i < p->n_threads && !err; i++)
		err = finish_thread(r, i);
	if (err)
		return err;
	/* The leader last: what belongs to the whole process needs all threads, and its first credentials. */
	thaw_script_init(r->script, r->batch, r->pid, p->pid);
	thread_steps(r->script, r, p->threads[0]);
	err = thaw_restore_process_steps(r->script, r);
	if (err)
		return err;
	last_steps(r, r->script, p->threads[0]);
	thaw_restore_process_last(r->script, r);
	err = thaw_script_run(r->script);
	return err ? err : thaw_restore_xsave(r->pid, p->threads[0]);
}
