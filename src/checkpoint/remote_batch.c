// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/remote_batch.c - many system calls of another process with one stop */
#include "config.h"
#include "checkpoint/remote.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "checkpoint/remote_code.h"
#include "checkpoint/tracee.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/inject.h"

#define HEAL_NAPS 250 /* of 20 ms */
#define STOP_TIMEOUT_MS 10000
#define CALL_TIMEOUT_MS 60000
#define LOST_TIMEOUT_MS 2000

/* calls[0] is the batch's own, for the way back; the caller's indexes begin behind it. */
struct thaw_batch {
	struct thaw_remote *r;
	struct thaw_call *calls;
	unsigned n, max;
	unsigned char *data; /* a copy of what the work area's data will hold */
	uint64_t data_addr;
	size_t used, size;
};

struct thaw_batch *thaw_batch_new(struct thaw_remote *r)
{
	size_t room = r->area_len - THAW_REMOTE_TABLE;
	struct thaw_batch *b = calloc(1, sizeof(*b));

	if (b) {
		b->r = r;
		b->max = (unsigned)(room / 3 / sizeof(struct thaw_call));
		b->size = room - (((size_t)b->max * sizeof(struct thaw_call) + 63) & ~(size_t)63);
		b->data_addr = r->area + r->area_len - b->size;
		b->calls = calloc(b->max, sizeof(struct thaw_call));
		b->data = malloc(b->size);
	}
	if (!b || !b->calls || !b->data) {
		thaw_batch_free(b);
		thaw_err_set(-ENOMEM, "no memory for a batch of system calls");
		return NULL;
	}
	thaw_batch_reset(b);
	return b;
}

void thaw_batch_free(struct thaw_batch *b)
{
	if (!b)
		return;
	free(b->calls);
	free(b->data);
	free(b);
}

void thaw_batch_reset(struct thaw_batch *b)
{
	b->n = 1;
	b->used = 0;
}

uint64_t thaw_batch_data(struct thaw_batch *b, const void *data, size_t len)
{
	size_t at = b->used;

	if (len > b->size || at > b->size - len)
		return 0;
	if (data)
		memcpy(b->data + at, data, len);
	else
		memset(b->data + at, 0, len);
	b->used = (at + len + 15) & ~(size_t)15;
	if (b->used > b->size)
		b->used = b->size;
	return b->data_addr + at;
}

int thaw_batch_call(struct thaw_batch *b, unsigned flags, long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		    uint64_t a4, uint64_t a5)
{
	struct thaw_call *c;

	if (b->n == b->max)
		return -ENOSPC;
	c = &b->calls[b->n];
	*c = (struct thaw_call){ .nr = nr, .args = { a0, a1, a2, a3, a4, a5 }, .result = -ENOSYS, .flags = flags };
	return (int)b->n++ - 1;
}

/* The way back for a thread whose borrower dies: a frame beside the control block, and how long to wait for us. */
static int write_control(struct thaw_batch *b, pid_t tid)
{
	struct thaw_remote *r = b->r;
	size_t room = THAW_REMOTE_TABLE - THAW_REMOTE_FRAME;
	struct thaw_remote_control ctl = { 0 };
	uint64_t altstack = 0;
	void *frame;
	int rc = 0;

	b->calls[0] = (struct thaw_call){ .nr = SYS_getpid };
	if (r->heal) {
		frame = malloc(room);
		if (!frame)
			return thaw_err_set(-ENOMEM, "no memory for a signal frame");
		rc = thaw_remote_frame(tid, r->heal, r->area + THAW_REMOTE_FRAME, frame, room, &ctl.frame_sp, &altstack);
		if (rc == 0 && ctl.frame_sp) {
			ctl.naps = HEAL_NAPS;
			b->calls[0] = (struct thaw_call){ .nr = SYS_sigaltstack, .args = { 0, altstack } };
			rc = thaw_tracee_write(tid, r->area + THAW_REMOTE_FRAME, frame, room);
		}
		free(frame);
	}
	return rc < 0 ? rc : thaw_tracee_write(tid, r->area + THAW_REMOTE_CONTROL, &ctl, sizeof(ctl));
}

static int start(struct thaw_batch *b, pid_t tid)
{
	struct thaw_remote *r = b->r;
	uint64_t table = r->area + THAW_REMOTE_TABLE;
	struct user_regs_struct regs;
	int rc;

	rc = thaw_tracee_write(tid, table, b->calls, b->n * sizeof(b->calls[0]));
	if (rc == 0 && b->used)
		rc = thaw_tracee_write(tid, b->data_addr, b->data, b->used);
	if (rc == 0)
		rc = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&regs);
	if (rc < 0)
		return rc;
	regs.orig_rax = ~0ULL;
	regs.rip = r->area;
	regs.rbx = table;
	regs.r12 = table + b->n * sizeof(b->calls[0]);
	regs.rbp = r->area + THAW_REMOTE_CONTROL;
	rc = thaw_tracee_ptrace(PTRACE_SETREGS, tid, 0, (uintptr_t)&regs);
	if (rc < 0)
		return rc;
	return THAW_INJECT("remote.continue") ? 0 : thaw_tracee_ptrace(PTRACE_CONT, tid, 0, 0);
}

/* A stop that nobody asked for: a leftover interrupt, a group stop, SIGSTOP, a clone. The thread goes on without a signal. */
static int unasked(void *opaque, pid_t tid, int status)
{
	struct thaw_remote *r = opaque;

	if (status >> 16) {
		if (!thaw_tracee_is_event_stop(status))
			thaw_tracee_ptrace(PTRACE_GETEVENTMSG, tid, 0, (uintptr_t)&r->event_msg);
	} else if (WSTOPSIG(status) == SIGSTOP) {
		r->stop_swallowed = true;
	} else {
		return thaw_err_set(-EIO, "thread %d: signal %d while system calls were made in it", tid,
				    WSTOPSIG(status));
	}
	return 0;
}

/* A call may take as long as it works, or waits for a disk: gigabytes are locked with one. No call of a batch sleeps, so a
 * thread that does has been lost, and surely one that stands in a stop that somebody was told of already. */
struct still {
	char state;
	uint64_t since;
};

static int standing_still(pid_t tid, char state, struct still *still)
{
	uint64_t now = thaw_sys_now_ns();
	bool lost = state == 't' || state == 'T';
	unsigned limit = lost ? LOST_TIMEOUT_MS : CALL_TIMEOUT_MS;

	if (state != still->state || (!lost && state != 'S'))
		*still = (struct still){ state, now };
	if (now - still->since < limit * 1000000ULL)
		return 0;
	return thaw_err_set(-ETIMEDOUT, "thread %d: system calls made in it do not return: it has been %s for %u s", tid,
			    lost ? "stopped" : "asleep", limit / 1000);
}

static int look(struct thaw_batch *b, pid_t tid, struct still *still)
{
	char state = thaw_tracee_state(tid);
	int rc;

	if (state == 0 || state == 'Z' || state == 'X')
		return thaw_err_set(-ESRCH, "thread %d has ended meanwhile", tid);
	rc = standing_still(tid, state, still);
	return rc == 0 && b->r->give_up ? b->r->give_up(b->r->opaque) : rc;
}

/* Polls the flag: microseconds for a batch of queries, which is why it yields before it sleeps. */
static int wait_done(struct thaw_batch *b, pid_t tid)
{
	uint64_t flag = b->r->area + THAW_REMOTE_CONTROL + offsetof(struct thaw_remote_control, done);
	struct timespec nap = { 0, 10000 };
	struct still still = { 0 };
	bool quick = true;
	uint32_t done;
	unsigned turn;
	int rc, status;

	for (turn = 0;; turn++) {
		rc = thaw_tracee_read(tid, flag, &done, sizeof(done));
		if (rc < 0 || done)
			return rc;
		rc = thaw_tracee_poll(tid, &status);
		if (rc > 0)
			rc = unasked(b->r, tid, status) ?: thaw_tracee_ptrace(PTRACE_CONT, tid, 0, 0);
		if (rc < 0)
			return rc;
		if (turn < 300 && quick) {
			quick = thaw_tracee_yield();
			continue;
		}
		rc = turn % 32 == 0 ? look(b, tid, &still) : 0;
		if (rc < 0)
			return rc;
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < 2000000)
			nap.tv_nsec *= 2;
	}
}

static int stop(struct thaw_batch *b, pid_t tid)
{
	int rc, status;

	rc = thaw_tracee_ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	if (rc >= 0)
		rc = thaw_tracee_halt(tid, &status, STOP_TIMEOUT_MS, unasked, b->r);
	if (rc == -ETIMEDOUT)
		thaw_err_set(rc, "thread %d did not stop within %d s", tid, STOP_TIMEOUT_MS / 1000);
	return rc < 0 ? rc : 0;
}

/* After the stop: is the thread still where we left it, in the napping loop? */
static int still_ours(struct thaw_batch *b, pid_t tid)
{
	struct user_regs_struct regs;
	int rc = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&regs);

	if (rc >= 0 && regs.rip - b->r->area >= thaw_remote_code_len())
		return thaw_err_set(-EIO, "thread %d has gone back by itself: we were too slow", tid);
	return rc < 0 ? rc : 0;
}

/* Whoever cleans up behind a failure needs a thread that is in a stop. Its sentence is the one that counts. */
static void stop_after(struct thaw_batch *b, pid_t tid, int rc)
{
	char sentence[256];

	if (rc == -ESRCH)
		return;
	snprintf(sentence, sizeof(sentence), "%s", thaw_err_text());
	if (thaw_tracee_in_event_stop(tid) < 0)
		stop(b, tid);
	thaw_err_set(rc, "%s", sentence);
}

int thaw_batch_run(struct thaw_batch *b, pid_t tid, int *failed)
{
	uint64_t table = b->r->area + THAW_REMOTE_TABLE;
	uint64_t at;
	int rc;

	if (failed)
		*failed = -1;
	rc = write_control(b, tid);
	if (rc == 0)
		rc = start(b, tid);
	if (rc >= 0) {
		rc = wait_done(b, tid);
		if (rc < 0)
			stop_after(b, tid, rc);
	}
	if (rc >= 0)
		rc = stop(b, tid);
	if (rc >= 0)
		rc = still_ours(b, tid);
	if (rc >= 0)
		rc = thaw_tracee_read(tid, table, b->calls, b->n * sizeof(b->calls[0]));
	/* Where it ended, apart from the flag: the thread writes this first, and one copy of both can have an old place and a new flag. */
	if (rc >= 0)
		rc = thaw_tracee_read(tid, b->r->area + THAW_REMOTE_CONTROL + offsetof(struct thaw_remote_control, at), &at, sizeof(at));
	if (rc < 0)
		return rc;
	at = (at - table) / sizeof(b->calls[0]);
	if (failed && at < b->n)
		*failed = (int)at - 1;
	return 0;
}

int64_t thaw_batch_result(const struct thaw_batch *b, int index)
{
	return b->calls[index + 1].result;
}

int thaw_batch_read(struct thaw_batch *b, uint64_t remote, void *buf, size_t len)
{
	return thaw_tracee_read(b->r->pid, remote, buf, len);
}
