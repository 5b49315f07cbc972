// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/signals.c - SIGTERM while somebody waits ended the daemon as if nobody were there, when only forked children of a task
 * that had ended were left: it stays, and names who waits. To find their numbers it had split a mapping of each, and mremap failed there */
#include "config.h"
#include "lazy/restorer.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/procfs.h"

#define A LIVE_BASE
#define B (LIVE_BASE + (1ULL << 32))
#define P LIVE_PAGE
#define PAGES 400
#define KEPT 100

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

enum { CHILD, GO, STRANGER, MOVED };

static int waits(const struct rest_task *t)
{
	if (!rest_await(GO, 1))
		return 1;
	return rest_whole(t);
}

/* What realloc(3) does: a mapping that is one may be moved and made longer. */
static bool may_move(void)
{
	void *to = (void *)(B + (1ULL << 32));

	return mremap((void *)A, PAGES * P, (PAGES + 1) * P, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to &&
	       mremap(to, PAGES * P, PAGES * P, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)A) == (void *)A;
}

/* Leaves a child behind, which waits for nothing yet but has all its memory to come. */
static int leaves(const struct rest_task *t)
{
	pid_t pid = fork();

	if (pid < 0)
		return 2;
	if (!pid) {
		if (mmap((void *)B, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			_exit(4);
		rest_words[CHILD] = getpid();
		if (!rest_await(GO, 1))
			_exit(1);
		rest_words[MOVED] = may_move() ? 1 : 2;
		_exit(rest_whole(t));
	}
	return rest_await(CHILD, 1) ? 0 : 3;
}

/* A process that has nothing to do with it, with a userfaultfd of its own for memory at that address, which also watches its writes. */
static pid_t stranger(uint64_t at, bool watched)
{
	struct uffdio_register reg = { .range = { at, 4 * P }, .mode = UFFDIO_REGISTER_MODE_MISSING |
								       (watched ? UFFDIO_REGISTER_MODE_WP : 0) };
	pid_t pid = fork();
	int fd;

	if (pid) {
		LIVE_CHECK(pid > 0 && rest_await(STRANGER, 1));
		rest_words[STRANGER] = 0;
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = thaw_uffd_open();
	if (fd < 0 || mmap((void *)at, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    ioctl(fd, UFFDIO_REGISTER, &reg))
		_exit(1);
	rest_words[STRANGER] = 1;
	for (;;)
		pause();
}

/* One where the restored process has something of its own that is not served; and one where it has what is served, as two restores of one
 * image have. */
struct strangers {
	pid_t pid[2];
};

static struct strangers strangers(void)
{
	return (struct strangers){ { stranger(B, false), stranger(A, true) } };
}

static void end_strangers(const struct strangers *s)
{
	for (unsigned i = 0; i < 2; i++) {
		kill(s->pid[i], SIGKILL);
		LIVE_CHECK(waitpid(s->pid[i], NULL, 0) == s->pid[i]);
	}
}

static int count_at_b(void *opaque, const struct thaw_vma *v)
{
	*(int *)opaque += v->start >= B && v->start < B + 4 * P && v->flags & THAW_VM_UFFD_MISSING;
	return 0;
}

/* How many mappings of the process at B a userfaultfd serves. */
static int served_at_b(pid_t pid)
{
	int n = 0;

	LIVE_CHECK(!thaw_procfs_smaps(pid, count_at_b, &n));
	return n;
}

static _Noreturn int waits_for_ever(const struct rest_task *t)
{
	for (;;)
		pause();
}

/* What the restorer's own code touches cannot be had: it sleeps. */
static void cut(struct rest *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_WRONLY | O_CLOEXEC);

	LIVE_CHECK(fd >= 0 && !ftruncate(fd, KEPT * P));
	close(fd);
}

/* late: the daemon has read nothing of it yet, and is stopped. */
static void restore(struct rest *r, const struct rest_task *task, bool late)
{
	rest_begin(r, task, 1, true);
	LIVE_CHECK(rest_daemon(r, "--stay-lazy", NULL));
	if (late)
		kill(r->daemon, SIGSTOP);
	rest_connect(r);
	rest_spawn(r);
	rest_gather(r);
	rest_release(r);
}

/* The child of leaves(), when the daemon knows that its parent has ended. */
static pid_t left_behind(struct rest *r)
{
	LIVE_CHECK(rest_await(CHILD, 1));
	LIVE_CHECK(rest_wait(r) == 0);
	usleep(600000); /* its end is noticed by looking, four times a second */
	return rest_words[CHILD];
}

static void stays(rest_body *body, int sig, bool late)
{
	const struct rest_task task = { .pid = 81, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = body };
	char want[64];
	struct strangers others = { { 0 } };
	pid_t who, root;
	struct rest r;

	restore(&r, &task, late);
	who = root = r.pids[0];
	if (body == leaves) {
		who = left_behind(&r);
		others = strangers();
	}
	kill(r.daemon, sig);
	if (late)
		kill(r.daemon, SIGCONT);
	snprintf(want, sizeof(want), ": %spid %d: not all memory is in", body == leaves ? "children of " : "", (int)root);
	rest_await_said(&r, want);
	LIVE_CHECK(!kill(r.daemon, 0) && waitpid(r.daemon, NULL, WNOHANG) == 0);
	if (body == leaves) {
		LIVE_CHECK(served_at_b(others.pid[0]) == 1 && served_at_b(who) == 0);
		end_strangers(&others);
	}
	rest_words[GO] = 1;
	if (body == leaves)
		LIVE_CHECK(rest_await(MOVED, 1) && rest_words[MOVED] == 1);
	else
		LIVE_CHECK(rest_wait(&r) == 0);
	rest_ended(&r, 0, want);
	rest_end(&r);
}

/* Nor does the holder, which looks for those who wait when the daemon has been killed. */
static void dies(void)
{
	const struct rest_task task = { .pid = 81, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = leaves };
	char want[64];
	struct rest r;
	struct strangers others;
	pid_t who;

	restore(&r, &task, false);
	who = left_behind(&r);
	others = strangers();
	kill(r.daemon, SIGKILL);
	snprintf(want, sizeof(want), "pid %d: waits for memory", (int)who);
	rest_await_said(&r, want);
	LIVE_CHECK(served_at_b(others.pid[0]) == 1 && served_at_b(who) == 0);
	end_strangers(&others);
	kill(who, SIGKILL);
	rest_ended(&r, 128 + SIGKILL, want);
	rest_end(&r);
}

/* While the tree is arriving a signal ends the restore: what has come and sleeps ends too, and has not run. */
static void ends(void)
{
	const struct rest_task task[] = {
		{ .pid = 82, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .early = rest_whole, .before = NULL },
		{ .pid = 83, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .before = waits_for_ever },
	};
	struct rest r;

	rest_begin(&r, task, 2, true);
	LIVE_CHECK(rest_daemon(&r, "-v", NULL));
	cut(&r);
	rest_connect(&r);
	rest_spawn(&r);
	rest_await_said(&r, "pid 82: is here (1 of 2)");
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	kill(r.daemon, SIGTERM);
	rest_ended(&r, 1, "ended by signal 15 (Terminated) when 1 of 2 tasks were here");
	kill(r.pids[1], SIGKILL);
	LIVE_CHECK(rest_wait(&r) == 128 + SIGKILL);
	rest_end(&r);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("signals: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	stays(waits, SIGTERM, false);
	stays(waits, SIGINT, true);
	stays(leaves, SIGTERM, false);
	dies();
	ends();
	return 0;
}
