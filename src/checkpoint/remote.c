// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/remote.c - single remote system calls at an instruction of the vdso, and the work area made with them */
#include "config.h"
#include "checkpoint/remote.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "checkpoint/remote_code.h"
#include "checkpoint/tracee.h"
#include "util/err.h"
#include "util/inject.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define PAGE 4096u
#define CALL_TIMEOUT_MS 60000
#define CODE_MAX (32u << 20)
#define FRAME_ROOM (16u << 10) /* more than any xsave area so far */
#define RED_ZONE 128

int thaw_remote_find(struct thaw_remote *r, pid_t pid, uint64_t vdso_start, size_t vdso_len)
{
	unsigned char *image = malloc(vdso_len);
	size_t i;
	int rc;

	if (!image)
		return thaw_err_set(-ENOMEM, "no memory for the vdso of process %d", pid);
	memset(r, 0, sizeof(*r));
	r->pid = pid;
	rc = thaw_tracee_read(pid, vdso_start, image, vdso_len);
	if (rc == 0)
		rc = -ENOEXEC;
	for (i = 0; rc == -ENOEXEC && i + 1 < vdso_len; i++) {
		if (image[i] == 0x0f && image[i + 1] == 0x05) {
			r->syscall_insn = vdso_start + i;
			rc = 0;
		}
	}
	free(image);
	if (rc == -ENOEXEC)
		thaw_err_set(rc, "process %d: no system call instruction in its vdso", pid);
	return rc;
}

static uint64_t find_code(const unsigned char *code, size_t len, const char *pattern, size_t n, uint64_t start)
{
	const unsigned char *at = memmem(code, len, pattern, n);

	return at ? start + (uint64_t)(at - code) : 0;
}

void thaw_remote_find_way_back(struct thaw_remote *r, uint64_t start, size_t len)
{
	static const char call[] = "\x0f\x05\xc3", sigreturn[] = "\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05";
	unsigned char *code;

	if ((r->syscall_ret && r->sigreturn) || len > CODE_MAX)
		return;
	code = malloc(len);
	if (code && thaw_tracee_read(r->pid, start, code, len) == 0) {
		if (!r->syscall_ret)
			r->syscall_ret = find_code(code, len, call, sizeof(call) - 1, start);
		if (!r->sigreturn)
			r->sigreturn = find_code(code, len, sigreturn, sizeof(sigreturn) - 1, start);
	}
	free(code);
}

/* ---- the way back of a single call ------------------------------------------------------------------------------ */
/* A signal frame below the thread's stack pointer, where the kernel would put one, with "syscall; ret" returning into the
 * signal return. What was in that memory is kept and put back. Should we be killed before that, it is lost, so there is a frame only
 * where nobody can have anything. */
struct way_back {
	uint64_t at;      /* 0: there is none */
	unsigned char was[FRAME_ROOM];
};

static bool is_free(const struct thaw_remote *r, uint64_t at)
{
	uint64_t sp = r->heal->regs.rsp;

	return at < sp && at >= r->stack_start && sp < r->stack_end;
}

/* Page by page, should it not go at once: a page that cannot be written must not keep others from getting their content. */
static int put_back(pid_t tid, const struct way_back *w)
{
	uint64_t end = w->at + FRAME_ROOM, next;
	int rc = thaw_tracee_write(tid, w->at, w->was, FRAME_ROOM), failed = 0;

	if (rc == 0)
		return 0;
	for (uint64_t at = w->at; at < end; at = next) {
		next = (at & ~(PAGE - 1ULL)) + PAGE;
		rc = thaw_tracee_write(tid, at, w->was + (at - w->at), (next < end ? next : end) - at);
		failed = failed ? failed : rc;
	}
	return failed;
}

static void make_way_back(struct thaw_remote *r, pid_t tid, struct way_back *w)
{
	unsigned char frame[FRAME_ROOM];
	uint64_t sp, altstack;

	w->at = 0;
	if (!r->heal || !r->syscall_ret || !r->sigreturn)
		return;
	w->at = (r->heal->regs.rsp - RED_ZONE - FRAME_ROOM) & ~63ULL;
	if (!is_free(r, w->at) || thaw_remote_frame(tid, r->heal, w->at, frame, FRAME_ROOM, &sp, &altstack) < 0 || !sp ||
	    thaw_tracee_read(tid, w->at, w->was, FRAME_ROOM) < 0) {
		w->at = 0;
		return;
	}
	memcpy(frame, &r->sigreturn, sizeof(r->sigreturn));
	if (thaw_tracee_write(tid, w->at, frame, FRAME_ROOM) == 0)
		return;
	put_back(tid, w); /* what was written of it; what cannot be was not */
	w->at = 0;
}

/* A thread that cannot be given its registers is still in the call, or gone: the frame stays, and takes it back. */
static int forget_way_back(struct thaw_remote *r, pid_t tid, const struct way_back *w)
{
	struct user_regs_struct regs;
	int rc;

	if (!r->heal)
		return 0;
	regs = r->heal->regs; /* so that it goes on as it was, should we be killed before it is put back */
	thaw_remote_resolve_restart(&regs);
	rc = thaw_tracee_ptrace(PTRACE_SETREGS, tid, 0, (uintptr_t)&regs);
	return rc < 0 || !w->at ? rc : put_back(tid, w);
}

/* One stop further on the way through a system call. 1: a system call stop; 0: another stop that has been dealt with. */
static int step(struct thaw_remote *r, pid_t tid)
{
	int status, rc;

	rc = THAW_INJECT("remote.step");
	rc = rc ? thaw_err_set(rc, "thread %d: cannot be continued: %s", tid, strerror(-rc)) : thaw_tracee_ptrace(PTRACE_SYSCALL, tid, 0, 0);
	if (rc < 0)
		return rc;
	rc = thaw_tracee_wait(tid, &status, CALL_TIMEOUT_MS);
	if (rc == -ETIMEDOUT)
		return thaw_err_set(rc, "thread %d: a system call made in it did not return within %d s", tid,
				    CALL_TIMEOUT_MS / 1000);
	if (rc < 0)
		return rc;
	if (status >> 16) {
		if (!thaw_tracee_is_event_stop(status))
			thaw_tracee_ptrace(PTRACE_GETEVENTMSG, tid, 0, (uintptr_t)&r->event_msg);
		return 0;
	}
	if (WSTOPSIG(status) == SIGSTOP) {
		r->stop_swallowed = true;
		return 0;
	}
	/* With PTRACE_O_TRACESYSGOOD or without: every other SIGTRAP is blocked. */
	if ((WSTOPSIG(status) & 0x7f) == SIGTRAP)
		return 1;
	return thaw_err_set(-EIO, "thread %d: signal %d in place of a system call", tid, WSTOPSIG(status));
}

static int make_call(struct thaw_remote *r, pid_t tid, const struct way_back *way, long nr, const uint64_t args[6], int64_t *result)
{
	struct user_regs_struct regs;
	int rc, stops = 0;

	rc = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&regs);
	if (rc < 0)
		return rc;
	regs.orig_rax = ~0ULL; /* nothing to restart on the way to our instruction */
	regs.rax = (uint64_t)nr;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	regs.rip = way->at ? r->syscall_ret : r->syscall_insn;
	if (way->at)
		regs.rsp = way->at;
	rc = thaw_tracee_ptrace(PTRACE_SETREGS, tid, 0, (uintptr_t)&regs);
	while (rc >= 0 && stops < 2) {
		rc = step(r, tid);
		stops += rc > 0;
	}
	if (rc < 0)
		return rc;
	rc = thaw_tracee_ptrace(PTRACE_GETREGS, tid, 0, (uintptr_t)&regs);
	*result = (int64_t)regs.rax;
	return rc;
}

int thaw_remote_one(struct thaw_remote *r, pid_t tid, long nr, const uint64_t args[6], int64_t *result)
{
	struct way_back way;
	char sentence[512];
	int rc;

	make_way_back(r, tid, &way);
	rc = make_call(r, tid, &way, nr, args, result);
	if (rc >= 0)
		return forget_way_back(r, tid, &way);
	snprintf(sentence, sizeof(sentence), "%s", thaw_err_text());
	forget_way_back(r, tid, &way);
	return thaw_err_set(rc, "%s", sentence); /* what failed first */
}

static int map_area(struct thaw_remote *r, pid_t tid, uint64_t hint, size_t len, int prot, int64_t *res)
{
	uint64_t args[6] = { hint, len, (uint64_t)prot, MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0 };

	if (hint)
		args[3] |= MAP_FIXED_NOREPLACE;
	return thaw_remote_one(r, tid, SYS_mmap, args, res);
}

static int protect_code(struct thaw_remote *r, pid_t tid)
{
	uint64_t args[6] = { r->area, PAGE, PROT_READ | PROT_EXEC };
	int64_t res;
	int rc = thaw_remote_one(r, tid, SYS_mprotect, args, &res);

	if (rc == 0 && res)
		rc = thaw_err_set((int)res, "process %d: no code can be put into it (mprotect: %s): has it forbidden itself that "
				  "(PR_SET_MDWE), or does a security module? Not supported", r->pid, strerror((int)-res));
	return rc;
}

/* All in one where that is allowed: while single calls are made in a thread, our death would be its death. */
int thaw_remote_map(struct thaw_remote *r, pid_t tid, uint64_t hint, size_t len)
{
	bool split = false;
	int64_t res;
	int rc;

	if (len < THAW_REMOTE_AREA_MIN || len % PAGE)
		return thaw_err_set(-EINVAL, "work area of %zu bytes", len);
	rc = map_area(r, tid, hint, len, PROT_READ | PROT_WRITE | PROT_EXEC, &res);
	if (rc == 0 && (res == -EACCES || res == -EPERM)) { /* a security module that forbids writable code */
		split = true;
		rc = map_area(r, tid, hint, len, PROT_READ | PROT_WRITE, &res);
	}
	if (rc < 0)
		return rc;
	if (res < 0 && res >= -4095)
		return thaw_err_set((int)res, "process %d: mmap of %zu bytes in it: %s", r->pid, len,
				    strerror((int)-res));
	r->area = (uint64_t)res;
	r->area_len = len;
	rc = thaw_tracee_write(tid, r->area, thaw_remote_code, thaw_remote_code_len());
	if (rc == 0 && split)
		rc = protect_code(r, tid);
	if (rc < 0 && rc != -ESRCH)
		thaw_remote_unmap(r, tid);
	return rc;
}

int thaw_remote_unmap(struct thaw_remote *r, pid_t tid)
{
	uint64_t args[6] = { r->area, r->area_len };
	int64_t res;
	int rc;

	if (!r->area)
		return 0;
	rc = thaw_remote_one(r, tid, SYS_munmap, args, &res);
	if (rc < 0)
		return rc;
	if (res)
		return thaw_err_set((int)res, "process %d: munmap in it: %s", r->pid, strerror((int)-res));
	r->area = 0;
	return 0;
}
