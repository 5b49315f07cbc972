// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/test_tasks.c - restores served from local images: every byte of every task is what it should be */
#include "config.h"
#include "lazy/restorer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define A LIVE_BASE
#define B (LIVE_BASE + (1ULL << 32))
#define P LIVE_PAGE

static const struct rest_vma vmas[] = {
	{ .addr = A, .pages = 3000 },
	{ .addr = A + 3000 * P, .pages = 100, .prot = PROT_READ }, /* right behind */
	{ .addr = B, .pages = 600 },
};
/* One run goes over two mappings; some pages come eagerly, some are in no run and read as zero. */
static const struct rest_run runs[] = {
	{ A + 10 * P, 500, REST_LAZY },
	{ A + 510 * P, 3, REST_EAGER },
	{ A + 513 * P, 1487, REST_LAZY },
	{ A + 2100 * P, 950, REST_LAZY },
	{ B, 1, REST_EAGER },
	{ B + 1 * P, 299, REST_LAZY },
	{ B + 400 * P, 20, REST_EAGER },
};
#define TASK .vma = vmas, .n_vmas = 3, .run = runs, .n_runs = 7

/* What the processes of a test tell each other. */
static struct {
	_Atomic int early, late;
} *flags;

static bool await_flag(_Atomic int *flag, int value)
{
	for (unsigned i = 0; i < 60000; i++) {
		if (atomic_load(flag) >= value)
			return true;
		poll(NULL, 0, 2);
	}
	fprintf(stderr, "waited in vain\n");
	return false;
}

static void restored(const struct rest_task *task, unsigned n, bool wide, const char *option, const char *value)
{
	struct rest r;

	rest_begin(&r, task, n, wide);
	LIVE_CHECK(rest_daemon(&r, option, value, NULL));
	rest_restore(&r);
	rest_ended(&r, 0, NULL);
	LIVE_CHECK(faccessat(r.dir.fd, "lazy-pages.socket", F_OK, 0) && errno == ENOENT);
	rest_end(&r);
}

/* ---- one task ---------------------------------------------------------------------------------------------- */
static void one(void)
{
	const struct rest_task task = { .pid = 100, TASK };

	restored(&task, 1, true, NULL, NULL);
	restored(&task, 1, false, NULL, NULL); /* entries as up to CRIU 4.1 */
	restored(&task, 1, true, "--stay-lazy", NULL);
	restored(&task, 1, true, "--copiers", "5");
	restored(&task, 1, true, "--chunk", "4K");
	restored(&task, 1, true, "--read-around", "0");
	restored(&task, 1, true, "--background-delay", "300");
}

/* All pages come although the task touches none until then. */
static int idle(const struct rest_task *t)
{
	return await_flag(&flags->late, 1) ? rest_whole(t) : 1;
}

static void untouched(void)
{
	const struct rest_task task = { .pid = 100, TASK, .body = idle };
	struct rest r;

	flags->late = 0;
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	rest_ended(&r, 0, "pid 100: ");
	flags->late = 1;
	LIVE_CHECK(rest_wait(&r) == 0);
	rest_end(&r);
}

/* Nothing is lazy, nothing is in the images at all, or there is nothing but zombies. */
static void little(void)
{
	static const struct rest_run eager[] = { { A, 7, REST_EAGER } };
	const struct rest_task none = { .pid = 7, .vma = vmas, .n_vmas = 3, .run = eager, .n_runs = 1 };
	const struct rest_task empty = { .pid = 7, .vma = vmas, .n_vmas = 1 };
	const struct rest_task dead[] = { { .pid = 7, .zombie = true }, { .pid = 8, .zombie = true } };

	restored(&none, 1, true, NULL, NULL);
	restored(&empty, 1, true, NULL, NULL);
	restored(dead, 2, true, NULL, NULL);
}

/* ---- trees ------------------------------------------------------------------------------------------------- */
static void many(void)
{
	static struct rest_task task[24];

	for (int i = 0; i < 24; i++) {
		task[i] = (struct rest_task){ .pid = 300 - i, TASK, .zombie = i == 3 || i == 23 };
		if (i % 5 == 4)
			task[i].n_runs = 0;
	}
	restored(task, 24, true, NULL, NULL);
	restored(task, 24, false, "--copiers", "1");
}

/* More tasks than the daemon may have files open, where it may raise that. */
static void few_descriptors(void)
{
	static struct rest_task task[38];
	struct rlimit before, few;

	for (int i = 0; i < 38; i++)
		task[i] = (struct rest_task){ .pid = 400 + i, TASK };
	LIVE_CHECK(!getrlimit(RLIMIT_NOFILE, &before));
	few = before;
	few.rlim_cur = 32;
	if (few.rlim_max < 400)
		return;
	LIVE_CHECK(!setrlimit(RLIMIT_NOFILE, &few));
	restored(task, 38, true, NULL, NULL);
	LIVE_CHECK(!setrlimit(RLIMIT_NOFILE, &before));
}

/* The first task needs its memory before the second has even sent its userfaultfd. */
static int touch_early(const struct rest_task *t)
{
	if (!rest_page_is(t, A + 20 * P) || !rest_page_is(t, A + 999 * P) || !rest_page_is(t, A + 5 * P) ||
	    !rest_page_is(t, B + 599 * P))
		return 1;
	flags->early = 1;
	return 0;
}

static int wait_for_the_other(const struct rest_task *t)
{
	return !await_flag(&flags->early, 1);
}

static void arriving(void)
{
	const struct rest_task task[] = {
		{ .pid = 1, TASK, .early = touch_early },
		{ .pid = 2, TASK, .before = wait_for_the_other },
		{ .pid = 3, TASK, .early = rest_whole },
	};

	flags->early = 0;
	restored(task, 3, true, NULL, NULL);
}

/* ---- what tasks do ----------------------------------------------------------------------------------------- */
static int forker(const struct rest_task *t)
{
	int status, bad = 0;

	for (int i = 0; i < 4; i++) {
		pid_t pid = fork();

		if (!pid) { /* a grandchild each, whose parent does not wait for its memory */
			pid = fork();
			if (!pid)
				_exit(rest_whole(t));
			bad = i % 2 ? rest_whole(t) : 0;
			_exit(waitpid(pid, &status, 0) != pid || status || bad);
		}
	}
	while (wait(&status) > 0)
		bad |= status;
	return bad || rest_whole(t);
}

static int discarder(const struct rest_task *t)
{
	char *a = (char *)(uintptr_t)A, *moved;

	if (madvise(a + 100 * P, 300 * P, MADV_DONTNEED) || munmap(a + 600 * P, 100 * P))
		return 2;
	moved = mremap(a + 800 * P, 200 * P, 200 * P, MREMAP_MAYMOVE | MREMAP_FIXED, a + (1ULL << 30));
	if (moved != a + (1ULL << 30))
		return 3;
	if (mmap(a + 600 * P, 100 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return 4;
	if (!live_is_zero(A + 100 * P, 300) || !live_is_zero(A + 600 * P, 100) ||
	    !live_moved_is(A + (1ULL << 30), A + 800 * P, 200, t->pid, 0))
		return 5;
	for (uint64_t i = 0; i < 3000; i++) {
		bool away = (i >= 100 && i < 400) || (i >= 600 && i < 700) || (i >= 800 && i < 1000);

		if (!away && !rest_page_is(t, A + i * P))
			return 6;
	}
	return 0;
}

static int leaver(const struct rest_task *t)
{
	return rest_page_is(t, A + 2999 * P) ? 0 : 1;
}

static int changer(const struct rest_task *t)
{
	execl("/bin/true", "true", (char *)NULL);
	return 5;
}

static void busy(void)
{
	const struct rest_task task[] = {
		{ .pid = 21, TASK, .body = forker },
		{ .pid = 22, TASK, .body = discarder },
		{ .pid = 23, TASK, .body = leaver },
		{ .pid = 24, TASK, .body = changer },
		{ .pid = 25, TASK },
	};

	restored(task, 5, true, NULL, NULL);
	restored(task, 5, true, "--stay-lazy", NULL);
	restored(task, 5, false, "--copiers", "8");
}

/* A fork leaves out what is marked so, in the images or since. */
static int marker(const struct rest_task *t)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(!live_is_zero(A, 50) || !live_is(B, 50, t->pid, 0));
	return waitpid(pid, &status, 0) != pid || status || rest_whole(t);
}

static void marked(void)
{
	static const struct rest_vma wiped[] = {
		{ .addr = A, .pages = 50, .madv = 1ULL << MADV_WIPEONFORK },
		{ .addr = B, .pages = 50 },
	};
	static const struct rest_run all[] = { { A, 50, REST_LAZY }, { B, 50, REST_LAZY } };
	const struct rest_task task = { .pid = 9, .vma = wiped, .n_vmas = 2, .run = all, .n_runs = 2, .body = marker };

	restored(&task, 1, true, "--stay-lazy", NULL);
	restored(&task, 1, true, NULL, NULL);
}

/* ---- parents ----------------------------------------------------------------------------------------------- */
/* What is in a parent directory comes from the restorer; only the lazy pages of the uppermost are the daemon's. */
static void parents(void)
{
	static const struct rest_run top[] = {
		{ A, 100, REST_PARENT }, { A + 100 * P, 400, REST_LAZY }, { A + 500 * P, 250, REST_PARENT }, { B, 60, REST_LAZY },
	};
	static const struct rest_run below[] = { { A, 100, REST_LAZY }, { A + 500 * P, 250, REST_EAGER } };
	const struct rest_task task = { .pid = 31, .vma = vmas, .n_vmas = 3, .run = top, .n_runs = 4 };
	const struct rest_task old = { .pid = 31, .vma = vmas, .n_vmas = 3, .run = below, .n_runs = 2 };
	struct rest r, parent;

	rest_begin(&parent, &old, 1, false);
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(!symlinkat(parent.dir.path, r.dir.fd, "parent"));
	LIVE_CHECK(rest_daemon(&r, NULL));
	rest_restore(&r);
	rest_ended(&r, 0, NULL);
	rest_end(&r);
	rest_end(&parent);
}

/* ---- dedup ------------------------------------------------------------------------------------------------- */
/* What is on the disk: blocks that are still to be chosen for what was just written are counted in their own way. */
static blkcnt_t blocks(const struct rest *r)
{
	int fd = openat(r->dir.fd, "pages-1.img", O_RDONLY | O_CLOEXEC);
	struct stat st;

	LIVE_CHECK(fd >= 0 && !fsync(fd) && !fstat(fd, &st));
	close(fd);
	return st.st_blocks;
}

static void dedup(void)
{
	const struct rest_task task = { .pid = 41, TASK };
	blkcnt_t before, after;
	struct rest r;

	rest_begin(&r, &task, 1, true);
	before = blocks(&r);
	LIVE_CHECK(rest_daemon(&r, "--auto-dedup", NULL));
	rest_restore(&r);
	rest_ended(&r, 0, NULL);
	after = blocks(&r);
	if (before > 20000 && after >= before / 4) /* the file system counts as it should: 3236 lazy pages of 3260 are 8 blocks each */
		LIVE_DIE("of %lld blocks %lld are left; the daemon said: %s", (long long)before, (long long)after, r.said);
	/* What is left is no image any more: its holes are zeros. */
	LIVE_CHECK(!rest_daemon(&r, NULL));
	rest_ended(&r, 1, "pages-1.img: an earlier restore has given its disk space back (--auto-dedup)");
	rest_end(&r);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("test_tasks: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	flags = mmap(NULL, sizeof(*flags), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	one();
	untouched();
	little();
	many();
	few_descriptors();
	arriving();
	busy();
	marked();
	parents();
	dedup();
	return 0;
}
