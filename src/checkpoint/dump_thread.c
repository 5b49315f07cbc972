// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_thread.c - the state of each thread */
#include "config.h"
#include "checkpoint/dump.h"

#include <elf.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <linux/mempolicy.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checkpoint/tracee.h"
#include "util/err.h"

#define XSAVE_MAX (64u << 10)
#define AFFINITY_MAX 8192
#define GDT_TLS_FIRST 12
#define GDT_TLS 3
#define IOPRIO_WHO_PROCESS 1
#define SPECULATIONS 2 /* store bypass, indirect branches */
#define NODES_MAX 1024 /* of NUMA that a kernel may know */

static int fail(const struct thaw_dumper *d, pid_t tid, const char *what, int err)
{
	return thaw_err_set(err, "process %d: thread %d: %s: %s", d->pid, tid, what, strerror(-err));
}

/* ---- registers ----------------------------------------------------------------------------------------------------- */
static int dump_xsave(struct thaw_dumper *d, pid_t tid, ThawState__Thread *t)
{
	struct iovec iov = { thaw_dump_alloc(XSAVE_MAX), XSAVE_MAX };
	int r;

	r = thaw_tracee_ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, (uintptr_t)&iov);
	if (r < 0)
		return r == -ESRCH ? r : fail(d, tid, "its vector registers (a CPU without xsave?)", r);
	t->xsave = thaw_dump_bytes(iov.iov_base, iov.iov_len);
	free(iov.iov_base);
	return 0;
}

struct user_tls { /* struct user_desc */
	uint32_t entry, base, limit, flags;
};
#define TLS_EMPTY 0x28u /* read_exec_only and seg_not_present: what the kernel says of an unused entry */

static int dump_tls(pid_t tid, ThawState__Thread *t)
{
	struct user_tls tls[GDT_TLS];
	bool used = false;
	int i, r;

	memset(tls, 0, sizeof(tls));
	for (i = 0; i < GDT_TLS; i++) {
		r = thaw_tracee_ptrace(25 /* PTRACE_GET_THREAD_AREA */, tid, (uintptr_t)(GDT_TLS_FIRST + i), (uintptr_t)&tls[i]);
		if (r == -ESRCH)
			return r;
		if (r < 0) /* a kernel without them */
			return 0;
		used |= tls[i].base || tls[i].limit || (tls[i].flags & 0x7f) != TLS_EMPTY;
	}
	if (used) {
		t->has_tls = 1;
		t->tls = thaw_dump_bytes(tls, sizeof(tls));
	}
	return 0;
}

static int dump_rseq(pid_t tid, ThawState__Thread *t)
{
	struct __ptrace_rseq_configuration c;
	int r;

	r = thaw_tracee_ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(c), (uintptr_t)&c);
	if (r == -ESRCH)
		return r;
	if (r < 0 || !c.rseq_abi_pointer)
		return 0;
	t->rseq = thaw_dump_alloc(sizeof(*t->rseq));
	thaw_state__rseq__init(t->rseq);
	t->rseq->address = c.rseq_abi_pointer;
	t->rseq->length = c.rseq_abi_size;
	t->rseq->signature = c.signature;
	t->rseq->flags = c.flags;
	return 0;
}

/* Linux 6.4; before, nobody tells. */
struct user_dispatch {
	uint64_t mode, selector, offset, len;
};
#define GET_SYSCALL_USER_DISPATCH 0x4211

static int refuse_dispatch(const struct thaw_dumper *d, pid_t tid)
{
	struct user_dispatch u = { 0 };
	int r = thaw_tracee_ptrace(GET_SYSCALL_USER_DISPATCH, tid, sizeof(u), (uintptr_t)&u);

	if (r < 0 || !u.mode)
		return r == -ESRCH ? r : 0;
	return thaw_err_set(-ENOTSUP, "process %d: thread %d takes system calls itself (PR_SET_SYSCALL_USER_DISPATCH, as wine "
			    "does): not supported", d->pid, tid);
}

/* ---- credentials --------------------------------------------------------------------------------------------------- */
/* More groups than the status keeps are read from the line itself. */
static int dump_groups(struct thaw_dumper *d, pid_t tid, const struct thaw_proc_status *s, ThawState__Creds *c)
{
	size_t size = 4096 + (size_t)s->n_groups * 11, i;
	char name[48], *buf, *at, *end;
	ssize_t n;

	c->groups = thaw_dump_alloc(s->n_groups * sizeof(*c->groups));
	c->n_groups = s->n_groups;
	if (s->n_groups <= 64) {
		memcpy(c->groups, s->groups, s->n_groups * sizeof(*c->groups));
		return 0;
	}
	buf = thaw_dump_alloc(size);
	snprintf(name, sizeof(name), "task/%d/status", tid);
	n = thaw_procfs_read(d->pid, name, buf, size);
	at = n > 0 ? strstr(buf, "\nGroups:") : NULL;
	if (!at)
		return fail(d, tid, "its groups", n < 0 ? (int)n : -EPROTO);
	at += strlen("\nGroups:");
	for (i = 0; i < c->n_groups; i++, at = end)
		c->groups[i] = (uint32_t)strtoul(at, &end, 10);
	free(buf);
	return 0;
}

static int dump_creds(struct thaw_dumper *d, pid_t tid, const struct thaw_proc_status *s, ThawState__Thread *t)
{
	ThawState__Creds *c = t->creds = thaw_dump_alloc(sizeof(*c));

	thaw_state__creds__init(c);
	c->uid = s->uid[0];
	c->euid = s->uid[1];
	c->suid = s->uid[2];
	c->fsuid = s->uid[3];
	c->gid = s->gid[0];
	c->egid = s->gid[1];
	c->sgid = s->gid[2];
	c->fsgid = s->gid[3];
	c->no_new_privs = s->no_new_privs;
	c->caps = thaw_dump_alloc(sizeof(*c->caps));
	thaw_state__caps__init(c->caps);
	c->caps->inheritable = s->cap_inheritable;
	c->caps->permitted = s->cap_permitted;
	c->caps->effective = s->cap_effective;
	c->caps->bounding = s->cap_bounding;
	c->caps->ambient = s->cap_ambient;
	return dump_groups(d, tid, s, c);
}

/* ---- scheduling ------------------------------------------------------------------------------------------------------ */
static int dump_sched(struct thaw_dumper *d, pid_t tid, ThawState__Thread *t)
{
	struct sched_attr a = { .size = sizeof(a) };
	unsigned char mask[AFFINITY_MAX];
	long n;

	if (syscall(SYS_sched_getattr, tid, &a, sizeof(a), 0) < 0)
		return fail(d, tid, "its scheduling", -errno);
	if (a.sched_policy == 6)
		return thaw_err_set(-ENOTSUP, "process %d: thread %d has a deadline (SCHED_DEADLINE): not supported", d->pid, tid);
	t->policy = a.sched_policy;
	t->nice = a.sched_nice;
	t->rt_priority = a.sched_priority;
	if (a.sched_flags & 1) {
		t->has_sched_flags = 1;
		t->sched_flags = 1; /* SCHED_FLAG_RESET_ON_FORK */
	}
	n = syscall(SYS_sched_getaffinity, tid, sizeof(mask), mask);
	if (n < 0)
		return fail(d, tid, "its CPU affinity", -errno);
	t->affinity = thaw_dump_bytes(mask, (size_t)n);
	n = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);
	if (n > 0) {
		t->has_io_prio = 1;
		t->io_prio = (uint32_t)n;
	}
	return 0;
}

/* ---- what the thread has to be asked ---------------------------------------------------------------------------------- */
struct alt_stack { /* struct stack_t */
	uint64_t sp;
	int32_t flags;
	uint64_t size;
};

struct memory_policy {
	int32_t mode, pad;
	unsigned char nodes[NODES_MAX / 8];
};

static int take_policy(struct thaw_batch *b, int call, uint64_t at, ThawState__Thread *t)
{
	struct memory_policy policy;
	int r = thaw_batch_read(b, at, &policy, sizeof(policy));

	if (r < 0 || thaw_batch_result(b, call) < 0 /* a kernel without NUMA */ || policy.mode == MPOL_DEFAULT)
		return r;
	t->has_mempolicy = t->has_mempolicy_nodes = 1;
	t->mempolicy = (uint32_t)policy.mode;
	t->mempolicy_nodes = thaw_dump_bytes(policy.nodes, sizeof(policy.nodes));
	return 0;
}

static int ask(struct thaw_dumper *d, struct thaw_batch *b, struct thaw_seized_thread *st, ThawState__Thread *t)
{
	uint64_t stack_at, tid_at, death_at, policy_at, tid_address = 0;
	struct alt_stack stack;
	int32_t death = 0;
	int landlock, policy, r;

	r = thaw_dump_landlock_prepare(d, t->creds->uid, t->creds->gid);
	if (r == 0)
		r = thaw_seize_borrow(&d->sz, st);
	if (r < 0)
		return r;
	thaw_batch_reset(b);
	stack_at = thaw_batch_data(b, NULL, sizeof(stack));
	tid_at = thaw_batch_data(b, NULL, 8);
	death_at = thaw_batch_data(b, NULL, 8);
	policy_at = thaw_batch_data(b, NULL, sizeof(struct memory_policy));
	thaw_batch_call(b, 0, SYS_sigaltstack, 0, stack_at, 0, 0, 0, 0);
	thaw_batch_call(b, 0, SYS_prctl, PR_GET_TID_ADDRESS, tid_at, 0, 0, 0, 0);
	thaw_batch_call(b, 0, SYS_prctl, PR_GET_PDEATHSIG, death_at, 0, 0, 0, 0);
	thaw_batch_call(b, 0, SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0, 0);
	thaw_batch_call(b, 0, SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0, 0);
	for (unsigned which = 0; which < SPECULATIONS; which++)
		thaw_batch_call(b, 0, SYS_prctl, PR_GET_SPECULATION_CTRL, which, 0, 0, 0, 0);
	landlock = thaw_batch_call(b, 0, SYS_kcmp, (uint64_t)d->landlock.subject, (uint64_t)d->landlock.subject, KCMP_VM, 0, 0, 0);
	policy = thaw_batch_call(b, 0, SYS_get_mempolicy, policy_at, policy_at + offsetof(struct memory_policy, nodes), NODES_MAX + 1,
				 0, 0, 0);
	r = thaw_batch_run(b, st->tid, NULL);
	if (r == 0)
		r = thaw_batch_read(b, stack_at, &stack, sizeof(stack));
	if (r == 0)
		r = thaw_batch_read(b, tid_at, &tid_address, sizeof(tid_address));
	if (r == 0)
		r = thaw_batch_read(b, death_at, &death, sizeof(death));
	if (r == 0)
		r = take_policy(b, policy, policy_at, t);
	if (r < 0)
		return r;
	if (thaw_batch_result(b, 0) < 0)
		return fail(d, st->tid, "its alternate signal stack", (int)thaw_batch_result(b, 0));
	if (thaw_batch_result(b, 1) < 0)
		return fail(d, st->tid, "its clear_child_tid (does the kernel have CONFIG_CHECKPOINT_RESTORE?)",
			    (int)thaw_batch_result(b, 1));
	t->altstack_sp = stack.sp;
	t->altstack_flags = (uint32_t)stack.flags;
	t->altstack_size = stack.size;
	t->clear_child_tid = tid_address;
	t->pdeathsig = (uint32_t)death;
	t->creds->securebits = (uint32_t)thaw_batch_result(b, 3);
	t->timer_slack = (uint64_t)thaw_batch_result(b, 4);
	t->speculation = thaw_dump_alloc(SPECULATIONS * sizeof(*t->speculation));
	for (t->n_speculation = 0; t->n_speculation < SPECULATIONS; t->n_speculation++) {
		int64_t v = thaw_batch_result(b, 5 + (int)t->n_speculation);

		/* What the thread could set, and has. */
		t->speculation[t->n_speculation] = v > 0 && v & PR_SPEC_PRCTL ?
			(uint32_t)v & (PR_SPEC_DISABLE | PR_SPEC_FORCE_DISABLE | PR_SPEC_DISABLE_NOEXEC) : 0;
	}
	return thaw_dump_landlock_check(d, st->tid, thaw_batch_result(b, landlock));
}

static int dump_thread(struct thaw_dumper *d, struct thaw_batch *b, struct thaw_seized_thread *st, ThawState__Thread *t)
{
	struct thaw_proc_status s;
	struct thaw_proc_stat stat;
	size_t robust_len = 0;
	void *robust = NULL;
	int r;

	r = thaw_procfs_task_status(d->pid, st->tid, &s);
	if (r == 0)
		r = thaw_procfs_task_stat(d->pid, st->tid, &stat);
	if (r < 0)
		return r == -ENOENT ? thaw_err_set(-ESRCH, "process %d: thread %d has ended meanwhile", d->pid, st->tid) :
				      fail(d, st->tid, "its status", r);
	t->tid = st->tid;
	t->name = thaw_dump_strdup(stat.comm);
	t->regs = thaw_dump_bytes(&st->saved.regs, sizeof(st->saved.regs));
	t->sigmask = st->saved.sigmask;
	if (syscall(SYS_get_robust_list, st->tid, &robust, &robust_len) < 0)
		return fail(d, st->tid, "its robust list", -errno);
	t->robust_list = (uint64_t)(uintptr_t)robust;
	t->robust_len = robust_len;
	r = refuse_dispatch(d, st->tid);
	if (r == 0)
		r = dump_xsave(d, st->tid, t);
	if (r == 0)
		r = dump_tls(st->tid, t);
	if (r == 0)
		r = dump_rseq(st->tid, t);
	if (r == 0)
		r = dump_creds(d, st->tid, &s, t);
	if (r == 0)
		r = dump_sched(d, st->tid, t);
	if (r == 0)
		r = ask(d, b, st, t);
	if (r == 0)
		r = thaw_seize_give_back(&d->sz, st);
	if (r == 0)
		thaw_dump_sleep_left(d, st, t);
	return r;
}

int thaw_dump_threads(struct thaw_dumper *d)
{
	struct thaw_batch *b = thaw_batch_new(&d->sz.remote);
	unsigned i;
	int r = b ? 0 : -ENOMEM;

	d->p.threads = thaw_dump_alloc(d->sz.n * sizeof(*d->p.threads));
	for (i = 0; r == 0 && i < d->sz.n; i++) {
		ThawState__Thread *t = d->p.threads[i] = thaw_dump_alloc(sizeof(*t));

		thaw_state__thread__init(t);
		d->p.n_threads++;
		r = dump_thread(d, b, &d->sz.threads[i], t);
		if (r == 0)
			r = thaw_dump_abandoned(d);
	}
	thaw_batch_free(b);
	return r;
}
