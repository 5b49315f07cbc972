// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_remote.c - a process whose threads make system calls for us must not notice */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "checkpoint/remote.h"
#include "checkpoint/tracee.h"
#include "kern/procfs.h"
#include "util/err.h"
#include "util/inject.h"
#include "support/patience.h"

#define AREA (256u << 10)

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond, thaw_err_text()); \
			exit(1); \
		} \
	} while (0)

static int ready[2], gate[2];

static int64_t ms_since(const struct timespec *t0)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - t0->tv_sec) * 1000 + (t.tv_nsec - t0->tv_nsec) / 1000000;
}

/* How long a target sleeps or computes: long enough to be stopped in it. */
#define NAP_MS (2300 + patience(200))

/* ---- targets: exit 0 when nothing odd was seen -------------------------------------------------------------- */
static void on_signal(int sig)
{
	(void)sig;
}

static int sleeps(void)
{
	struct timespec t0, want = { NAP_MS / 1000, NAP_MS % 1000 * 1000000 };
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (syscall(SYS_nanosleep, &want, NULL))
		return 2;
	ms = ms_since(&t0);
	return ms >= NAP_MS - 1 && ms < NAP_MS + patience(1000) ? 0 : 3;
}

static int polls(void)
{
	struct timespec t0;
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (poll(NULL, 0, NAP_MS))
		return 2;
	ms = ms_since(&t0);
	return ms >= NAP_MS - 1 && ms < NAP_MS + patience(1000) ? 0 : 3;
}

static int waits_for_signal(void)
{
	sigset_t none, now, old;

	sigemptyset(&none);
	signal(SIGUSR1, on_signal);
	sigemptyset(&old);
	sigaddset(&old, SIGUSR1);
	sigaddset(&old, SIGHUP);
	sigprocmask(SIG_SETMASK, &old, NULL);
	alarm(patience(20));
	if (sigsuspend(&none) != -1 || errno != EINTR)
		return 2;
	sigprocmask(SIG_SETMASK, NULL, &now);
	return sigismember(&now, SIGUSR1) && sigismember(&now, SIGHUP) && !sigismember(&now, SIGTERM) ? 0 : 3;
}

static int reads_pipe(void)
{
	char c;

	return read(gate[0], &c, 1) == 1 && c == 'g' ? 0 : 2;
}

/* Computes with every general and vector register it can; a register that changes under it shows in the sum. */
static int computes(void)
{
	struct timespec t0;

	signal(SIGTRAP, SIG_IGN);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	while (ms_since(&t0) < NAP_MS + 300) {
		uint64_t in = 0x0123456789abcdefULL, out[4] = { 0 };

		__asm__ volatile("movq %1, %%xmm0\n movq %1, %%xmm7\n movq %1, %%xmm15\n mov %1, %%r13\n mov %1, %%r9\n"
				 "mov $2000000, %%ecx\n"
				 "1: dec %%ecx\n jnz 1b\n"
				 "movq %%xmm0, (%0)\n movq %%xmm7, 8(%0)\n movq %%xmm15, 16(%0)\n"
				 "xor %%r9, %%r13\n add %1, %%r13\n mov %%r13, 24(%0)\n"
				 :
				 : "r"(out), "r"(in)
				 : "xmm0", "xmm7", "xmm15", "r9", "r13", "rcx", "memory", "cc");
		if (out[0] != in || out[1] != in || out[2] != in || out[3] != in)
			return 2;
	}
	return signal(SIGTRAP, SIG_DFL) == SIG_IGN ? 0 : 3;
}

enum { PIECE = 4096 };

static void fill(uint64_t *p, size_t len)
{
	for (size_t i = 0; i < len / sizeof(*p); i++)
		p[i] = (uintptr_t)&p[i] * 0x9e3779b97f4a7c15ULL;
}

static bool is_filled(const uint64_t *p, size_t len)
{
	for (size_t i = 0; i < len / sizeof(*p); i++)
		if (p[i] != (uintptr_t)&p[i] * 0x9e3779b97f4a7c15ULL)
			return false;
	return true;
}

static ucontext_t outside, inside;
static int inside_result;

static void reads_inside(void)
{
	inside_result = reads_pipe();
}

/* On a stack of its own, below which there is something else, of which a part can be written. */
static int reads_on_coroutine(void)
{
	char *p = mmap(NULL, 6 * PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	fill((uint64_t *)p, 4 * PIECE);
	if (p == MAP_FAILED || mprotect(p + 3 * PIECE, PIECE, PROT_READ) || getcontext(&inside))
		return 2;
	inside.uc_stack.ss_sp = p + 4 * PIECE;
	inside.uc_stack.ss_size = 2 * PIECE;
	inside.uc_link = &outside;
	makecontext(&inside, reads_inside, 0);
	if (swapcontext(&outside, &inside))
		return 2;
	return inside_result ? inside_result : is_filled((uint64_t *)p, 4 * PIECE) ? 0 : 3;
}

/* What it has below the end of its stack is nobody's, but should be what it was. No call is made, which would write there. */
static int __attribute__((noinline)) reads_above_data(void)
{
	uint64_t *low;
	long got, nr = SYS_read, fd = gate[0], len = 1;
	char c;

	__asm__ volatile("lea -20480(%%rsp), %0" : "=r"(low)); /* up to where a leaf function may have data */
	for (int i = 0; i < 2500; i++)
		low[i] = (uintptr_t)&low[i] * 0x9e3779b97f4a7c15ULL;
	__asm__ volatile("syscall" : "=a"(got) : "a"(nr), "D"(fd), "S"(&c), "d"(len) : "rcx", "r11", "memory");
	for (int i = 0; i < 2500; i++)
		if (low[i] != (uintptr_t)&low[i] * 0x9e3779b97f4a7c15ULL)
			return 3;
	return got == 1 ? 0 : 2;
}

/* ---- the borrower ------------------------------------------------------------------------------------------- */
static pid_t target(int (*body)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(write(ready[1], "r", 1) == 1);
		_exit(body());
	}
	CHECK(read(ready[0], (char[1]){ 0 }, 1) == 1);
	usleep(100000);
	return pid;
}

static void find_vdso(pid_t pid, uint64_t *start, uint64_t *end)
{
	unsigned long long a = 0, b = 0;
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]"))
			CHECK(sscanf(line, "%llx-%llx", &a, &b) == 2);
	fclose(f);
	CHECK(a);
	*start = a;
	*end = b;
}

static void seize(struct thaw_remote *r, pid_t pid)
{
	uint64_t start, end;
	int status;

	find_vdso(pid, &start, &end);
	CHECK(thaw_tracee_ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
	CHECK(thaw_tracee_ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
	CHECK(thaw_tracee_wait(pid, &status, patience(5000)) == 0 && thaw_tracee_is_event_stop(status));
	CHECK(thaw_remote_find(r, pid, start, end - start) == 0);
}

/* Two batches, the second longer than a millisecond, with results and data checked. */
static void run_batches(struct thaw_remote *r, pid_t pid)
{
	struct thaw_batch *b = thaw_batch_new(r);
	int failed, first, at, i;
	char name[16];
	uint64_t data;

	CHECK(b);
	first = thaw_batch_call(b, 0, SYS_getpid, 0, 0, 0, 0, 0, 0);
	CHECK(first == 0);
	data = thaw_batch_data(b, "borrowed", 9);
	CHECK(data);
	CHECK(thaw_batch_call(b, 0, SYS_prctl, PR_SET_NAME, data, 0, 0, 0, 0) == 1);
	data = thaw_batch_data(b, NULL, 16);
	CHECK(thaw_batch_call(b, 0, SYS_prctl, PR_GET_NAME, data, 0, 0, 0, 0) == 2);
	CHECK(thaw_batch_run(b, pid, &failed) == 0);
	CHECK(failed == -1 && thaw_batch_result(b, 0) == pid && thaw_batch_result(b, 1) == 0);
	CHECK(thaw_batch_read(b, data, name, sizeof(name)) == 0 && !strcmp(name, "borrowed"));

	thaw_batch_reset(b);
	for (i = 0; (at = thaw_batch_call(b, 0, SYS_getppid, 0, 0, 0, 0, 0, 0)) >= 0 && i < 300; i++)
		;
	CHECK(thaw_batch_call(b, THAW_CALL_STOP, SYS_close, 9999, 0, 0, 0, 0, 0) == at + 1);
	CHECK(thaw_batch_call(b, 0, SYS_exit_group, 77, 0, 0, 0, 0, 0) == at + 2);
	CHECK(thaw_batch_run(b, pid, &failed) == 0);
	CHECK(failed == at + 1 && thaw_batch_result(b, failed) == -EBADF && thaw_batch_result(b, 5) == getpid());
	thaw_batch_free(b);
}

static void borrow(pid_t pid)
{
	struct thaw_remote_saved saved;
	struct thaw_remote r;

	seize(&r, pid);
	CHECK(thaw_remote_save(pid, &saved) == 0);
	CHECK(thaw_remote_map(&r, pid, 0, AREA) == 0);
	r.heal = &saved;
	run_batches(&r, pid);
	CHECK(thaw_remote_unmap(&r, pid) == 0);
	CHECK(thaw_remote_restore(pid, &saved) == 0);
	CHECK(thaw_tracee_ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
}

static void expect_exit(pid_t pid, const char *what)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "%s: noticed (status 0x%x)\n", what, status);
		exit(1);
	}
}

static void unnoticed(int (*body)(void), const char *what, int rounds)
{
	struct timespec t0;
	pid_t pid;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	pid = target(body);
	for (i = 0; i < rounds && ms_since(&t0) < NAP_MS - 500; i++) /* a slow machine: it ends by itself */
		borrow(pid);
	CHECK(i > 1);
	if (body == reads_pipe)
		CHECK(write(gate[1], "g", 1) == 1);
	if (body == waits_for_signal)
		CHECK(kill(pid, SIGUSR1) == 0);
	expect_exit(pid, what);
}

/* SIGSTOP while the thread is borrowed: it goes on, and we are told. */
static void stop_signal(void)
{
	struct thaw_remote_saved saved;
	struct thaw_remote r;
	pid_t pid = target(reads_pipe);

	seize(&r, pid);
	CHECK(thaw_remote_save(pid, &saved) == 0);
	CHECK(kill(pid, SIGSTOP) == 0);
	CHECK(thaw_remote_map(&r, pid, 0, AREA) == 0);
	run_batches(&r, pid);
	CHECK(r.stop_swallowed);
	CHECK(thaw_remote_unmap(&r, pid) == 0);
	CHECK(thaw_remote_restore(pid, &saved) == 0);
	CHECK(thaw_tracee_ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
	CHECK(write(gate[1], "g", 1) == 1);
	expect_exit(pid, "SIGSTOP");
}

/* A target killed in the middle of a batch: an error with a sentence, not a hang. */
static void death(void)
{
	struct thaw_remote_saved saved;
	struct thaw_batch *b;
	struct thaw_remote r;
	pid_t pid = target(reads_pipe), killer;
	struct timespec t0;
	uint64_t data;

	seize(&r, pid);
	CHECK(thaw_remote_save(pid, &saved) == 0);
	CHECK(thaw_remote_map(&r, pid, 0, AREA) == 0);
	b = thaw_batch_new(&r);
	CHECK(b);
	data = thaw_batch_data(b, &(struct timespec){ 30, 0 }, sizeof(struct timespec));
	CHECK(thaw_batch_call(b, 0, SYS_nanosleep, data, 0, 0, 0, 0, 0) == 0);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	killer = fork();
	if (killer == 0) {
		usleep(50000);
		_exit(kill(pid, SIGKILL));
	}
	CHECK(thaw_batch_run(b, pid, NULL) == -ESRCH);
	CHECK(strstr(thaw_err_text(), "ended") && ms_since(&t0) < patience(5000));
	thaw_batch_free(b);
	expect_exit(killer, "killer");
}

/* The borrower is killed in the middle of a batch: the target finds its way back. */
static void heals(void)
{
	pid_t pid = target(computes), borrower = fork();
	int status;

	if (borrower == 0) {
		struct thaw_remote_saved saved;
		struct thaw_batch *b;
		struct thaw_remote r;

		seize(&r, pid);
		CHECK(thaw_remote_save(pid, &saved) == 0);
		CHECK(thaw_remote_map(&r, pid, 0, AREA) == 0);
		r.heal = &saved;
		b = thaw_batch_new(&r);
		CHECK(b && thaw_batch_call(b, 0, SYS_kill, (uint64_t)getpid(), SIGKILL, 0, 0, 0, 0) == 0);
		thaw_batch_run(b, pid, NULL);
		_exit(1);
	}
	CHECK(waitpid(borrower, &status, 0) == borrower && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	expect_exit(pid, "a dead borrower");
}

static int add_code(void *opaque, const struct thaw_vma *v)
{
	struct thaw_remote *r = opaque;

	if (!strcmp(v->path, "[stack]")) {
		r->stack_start = v->start;
		r->stack_end = v->end;
	}
	if (v->prot == (PROT_READ | PROT_EXEC))
		thaw_remote_find_way_back(opaque, v->start, v->end - v->start);
	return 0;
}

/* The same in the middle of a single call. */
static void heals_single_call(void)
{
	pid_t pid = target(computes), borrower = fork();
	int status;

	if (borrower == 0) {
		uint64_t args[6] = { (uint64_t)getpid(), SIGKILL };
		struct thaw_remote_saved saved;
		struct thaw_remote r;
		int64_t result;

		seize(&r, pid);
		CHECK(thaw_procfs_maps(pid, add_code, &r) == 0);
		CHECK(r.syscall_ret && r.sigreturn);
		CHECK(thaw_remote_save(pid, &saved) == 0);
		r.heal = &saved;
		thaw_remote_one(&r, pid, SYS_kill, args, &result);
		_exit(1);
	}
	CHECK(waitpid(borrower, &status, 0) == borrower && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	expect_exit(pid, "a borrower that died in a single call");
}

/* A single call, with all that a way back takes, and what it was answered. */
static int one_call(pid_t pid)
{
	uint64_t args[6] = { 0 };
	struct thaw_remote_saved saved;
	struct thaw_remote r;
	int64_t result = -1;
	int rc;

	seize(&r, pid);
	CHECK(thaw_procfs_maps(pid, add_code, &r) == 0 && r.syscall_ret && r.sigreturn);
	CHECK(thaw_remote_save(pid, &saved) == 0);
	r.heal = &saved;
	rc = thaw_remote_one(&r, pid, SYS_getppid, args, &result);
	CHECK(rc < 0 || result == getpid());
	CHECK(rc >= 0 || strstr(thaw_err_text(), "cannot be continued"));
	CHECK(thaw_remote_restore(pid, &saved) == 0);
	CHECK(thaw_tracee_ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
	return rc;
}

static void go(pid_t pid, const char *what)
{
	CHECK(write(gate[1], "g", 1) == 1);
	expect_exit(pid, what);
}

/* The signal frame of a single call was put below any stack, over what lay there; where only a part of it could be written, that part was
 * never put back, nor was any of it when the call failed. */
static void puts_back(void)
{
	pid_t pid = target(reads_on_coroutine);

	CHECK(one_call(pid) == 0);
	go(pid, "data below a coroutine's stack");
	pid = target(reads_above_data);
	CHECK(one_call(pid) == 0);
	go(pid, "data below the stack");
#ifdef THAW_DEBUG
	for (int i = 0; i < 2; i++) {
		pid = target(reads_above_data);
		CHECK(thaw_inject_arm(i ? "remote.step:EIO:2" : "remote.step:EIO:1") == 0);
		CHECK(one_call(pid) == -EIO);
		CHECK(thaw_inject_arm(NULL) == 0);
		go(pid, "data below the stack, after a call that failed");
	}
#endif
}

int main(void)
{
	alarm(patience(60));
	CHECK(pipe(ready) == 0 && pipe(gate) == 0);
	unnoticed(sleeps, "nanosleep", 20);
	unnoticed(polls, "poll", 20);
	unnoticed(waits_for_signal, "sigsuspend", 20);
	unnoticed(reads_pipe, "read of a pipe", 20);
	unnoticed(computes, "registers", 100);
	stop_signal();
	death();
	heals();
	heals_single_call();
	puts_back();
	return 0;
}
