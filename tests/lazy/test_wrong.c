// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/test_wrong.c - restorers that say something wrong, or hang up: exit status 1 and a sentence, and nobody reads zeros */
#include "config.h"
#include "lazy/restorer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE

static const struct rest_vma vmas[] = { { .addr = A, .pages = 2000 } };
static const struct rest_run runs[] = { { A, 2000, REST_LAZY } };
#define TASK .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1

static const struct rest_task tree[] = { { .pid = 11, TASK }, { .pid = 12, .zombie = true }, { .pid = 13, TASK } };

/* ---- a wrong word each ------------------------------------------------------------------------------------- */
static int uffd; /* of this process, with nothing registered */

static int open_with(uint64_t features, int flags);

#define ALL_EVENTS (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

/* Each with one of its own, where one can be made here. */
static void good_task(struct rest *r, int pid)
{
	int own = open_with(ALL_EVENTS, O_NONBLOCK);

	rest_send_pid(r, pid);
	rest_send_fds(r, own < 0 ? &uffd : &own, 1, 1);
	if (own >= 0)
		close(own);
}

static void all_tasks(struct rest *r)
{
	good_task(r, 13);
	rest_send_pid(r, -12);
	good_task(r, 11);
}

static void part(struct rest *r, const void *bytes, size_t len)
{
	LIVE_CHECK(write(r->conn, bytes, len) == (ssize_t)len);
}

static void at_once(struct rest *r) {}
static void within_pid(struct rest *r) { part(r, "\x0b\0", 2); }
static void behind_pid(struct rest *r) { rest_send_pid(r, 11); }
static void behind_task(struct rest *r) { good_task(r, 11); }
static void behind_all(struct rest *r) { all_tasks(r); }
static void within_word(struct rest *r) { all_tasks(r); part(r, "\x46\x54", 2); }
static void no_fd(struct rest *r) { rest_send_pid(r, 11); rest_send_fds(r, NULL, 0, 1); }
static void pid_zero(struct rest *r) { rest_send_pid(r, 0); }
static void pid_least(struct rest *r) { rest_send_pid(r, INT_MIN); }
static void stranger(struct rest *r) { good_task(r, 14); }
static void dead_stranger(struct rest *r) { rest_send_pid(r, -14); }
static void twice(struct rest *r) { good_task(r, 11); good_task(r, 11); }
static void dead_twice(struct rest *r) { rest_send_pid(r, -12); rest_send_pid(r, -12); }
static void zombie_lives(struct rest *r) { good_task(r, 12); }
static void wrong_word(struct rest *r) { all_tasks(r); rest_send_word(r, REST_END + 1); }
static void word_turned(struct rest *r) { all_tasks(r); rest_send_word(r, __builtin_bswap32(REST_END)); }
static void one_for_two(struct rest *r)
{
	for (int pid = 11; pid <= 13; pid += 2) {
		rest_send_pid(r, pid);
		rest_send_fds(r, &uffd, 1, 1);
	}
}

static void one_more(struct rest *r) { all_tasks(r); good_task(r, 11); }

static void two_fds(struct rest *r)
{
	int fds[] = { uffd, uffd };

	rest_send_pid(r, 11);
	rest_send_fds(r, fds, 2, 1);
}

static void many_fds(struct rest *r)
{
	int fds[16];

	for (int i = 0; i < 16; i++)
		fds[i] = uffd;
	rest_send_pid(r, 11);
	rest_send_fds(r, fds, 16, 1);
}

static void fd_with_pid(struct rest *r)
{
	rest_send_fds(r, &uffd, 1, 4);
}

static void a_pipe(struct rest *r)
{
	int p[2];

	LIVE_CHECK(!pipe2(p, O_CLOEXEC | O_NONBLOCK));
	rest_send_pid(r, 11);
	rest_send_fds(r, p, 1, 1);
	close(p[0]);
	close(p[1]);
}

static int open_with(uint64_t features, int flags)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | flags);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api))
		LIVE_DIE("UFFDIO_API: %s", strerror(errno));
	return fd;
}

static void send_special(struct rest *r, uint64_t features, int flags)
{
	int fd = open_with(features, flags);

	rest_send_pid(r, 11);
	rest_send_fds(r, fd < 0 ? &uffd : &fd, 1, 1);
	if (fd >= 0)
		close(fd);
	else
		rest_send_word(r, 0); /* may not make one here: some other wrong thing */
}

static void without_fork(struct rest *r) { send_special(r, ALL_EVENTS & ~(uint64_t)UFFD_FEATURE_EVENT_FORK, O_NONBLOCK); }
static void without_remap(struct rest *r) { send_special(r, ALL_EVENTS & ~(uint64_t)UFFD_FEATURE_EVENT_REMAP, O_NONBLOCK); }
static void without_remove(struct rest *r) { send_special(r, ALL_EVENTS & ~(uint64_t)UFFD_FEATURE_EVENT_REMOVE, O_NONBLOCK); }
static void without_unmap(struct rest *r) { send_special(r, ALL_EVENTS & ~(uint64_t)UFFD_FEATURE_EVENT_UNMAP, O_NONBLOCK); }
static void blocking(struct rest *r) { send_special(r, ALL_EVENTS, 0); }

static const struct {
	const char *name;
	void (*say)(struct rest *r);
	const char *words;
	bool special;
} wrong[] = {
	{ "EOF at once", at_once, "when 0 of 3 tasks were here" },
	{ "EOF within a pid", within_pid, "within a word of four bytes" },
	{ "EOF behind a pid", behind_pid, "before the userfaultfd of pid 11" },
	{ "EOF behind a task", behind_task, "when 1 of 3 tasks were here" },
	{ "EOF before the word", behind_all, "with all 3 tasks here, before they ran" },
	{ "EOF within the word", within_word, "within a word of four bytes" },
	{ "no descriptor", no_fd, "pid 11: the restorer sent no userfaultfd" },
	{ "two descriptors", two_fds, "pid 11: the restorer sent 2 descriptors" },
	{ "many descriptors", many_fds, "pid 11: the restorer sent 9 descriptors" },
	{ "a descriptor with the pid", fd_with_pid, "1 descriptors with the number of a process" },
	{ "a pipe", a_pipe, "pid 11: what the restorer sent is not a userfaultfd" },
	{ "pid 0", pid_zero, "sent 0 as the process number" },
	{ "the least pid", pid_least, "sent -2147483648 as the process number" },
	{ "a stranger", stranger, "pid 14: is not in the images (pstree.img has 3 tasks)" },
	{ "a dead stranger", dead_stranger, "pid 14: is not in the images" },
	{ "a task twice", twice, "pid 11: the restorer told of it twice" },
	{ "one userfaultfd for two", one_for_two, "is that of space 1 already" },
	{ "a zombie twice", dead_twice, "pid 12: the restorer told of it twice" },
	{ "a living zombie", zombie_lives, "pid 12: pagemap-12.img is missing" },
	{ "a wrong word", wrong_word, "instead of the word 0x52535446" },
	{ "the word turned round", word_turned, "0x46545352" },
	{ "one task too many", one_more, "instead of the word 0x52535446" },
	{ "no EVENT_FORK", without_fork, "does not announce fork", true },
	{ "no EVENT_REMAP", without_remap, "does not announce mremap", true },
	{ "no EVENT_REMOVE", without_remove, "does not announce madvise", true },
	{ "no EVENT_UNMAP", without_unmap, "does not announce munmap", true },
	{ "a blocking one", blocking, "is blocking", true },
};

/* Whoever sends a userfaultfd that is refused while the connection lasts is killed: its restore is over. */
static void say_apart(struct rest *r, void (*say)(struct rest *r))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		say(r);
		_exit(0);
	}
	LIVE_CHECK(waitpid(pid, &status, 0) == pid && (status == 0 || status == SIGKILL));
}

static void say_wrong_things(void)
{
	int probe = open_with(0, O_NONBLOCK);

	uffd = thaw_uffd_open();
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct rest r;

		if (wrong[i].special && probe < 0)
			continue;
		rest_begin(&r, tree, 3, true);
		LIVE_CHECK(rest_daemon(&r, NULL));
		rest_connect(&r);
		say_apart(&r, wrong[i].say);
		rest_hang_up(&r);
		rest_ended(&r, 1, wrong[i].words);
		if (strncmp(r.said, "thaw: ", 6))
			LIVE_DIE("%s: said: %s", wrong[i].name, r.said);
		rest_end(&r);
	}
	close(uffd);
	if (probe >= 0)
		close(probe);
}

/* ---- right words in small pieces, with more behind ---------------------------------------------------------- */
static void by_bytes(struct rest *r, uint32_t word)
{
	for (unsigned i = 0; i < 4; i++) {
		part(r, (char *)&word + i, 1);
		poll(NULL, 0, 2); /* so that it arrives alone, mostly */
	}
}

static void in_pieces(void)
{
	struct rest r;
	int other;

	uffd = thaw_uffd_open();
	other = thaw_uffd_open();
	rest_begin(&r, tree, 3, true);
	LIVE_CHECK(rest_daemon(&r, NULL));
	rest_connect(&r);
	by_bytes(&r, 11);
	rest_send_fds(&r, &uffd, 1, 1);
	by_bytes(&r, (uint32_t)-12);
	by_bytes(&r, 13);
	rest_send_fds(&r, &other, 1, 1);
	by_bytes(&r, REST_END);
	rest_send_word(&r, 4711); /* behind the end nothing matters */
	rest_send_fds(&r, &uffd, 1, 1);
	/* Nothing of it is registered in this process: it is told, and is no success. */
	close(uffd);
	close(other);
	rest_ended(&r, 1, "the restorer did not register their mappings");
	rest_end(&r);
}

/* ---- a restore that fails when tasks are there already ------------------------------------------------------- */
static struct {
	_Atomic int run, touched, value;
} *seen;

static int toucher(const struct rest_task *t)
{
	while (!seen->run)
		poll(NULL, 0, 2);
	seen->touched = 1;
	seen->value = 1 + *(volatile unsigned char *)(uintptr_t)(A + 1000 * P + 5);
	return 0;
}

static char state_of(pid_t pid)
{
	char path[64], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return '?';
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	return strrchr(line, ')') ? strrchr(line, ')')[2] : '?';
}

static void fails_closed(bool with_kill)
{
	const struct rest_task task = { .pid = 61, TASK, .body = toucher };
	struct rest r;

	memset(seen, 0, sizeof(*seen));
	rest_begin(&r, &task, 1, true);
	LIVE_CHECK(rest_daemon(&r, with_kill ? "--on-failure" : NULL, "kill", NULL));
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_send_word(&r, 99);
	rest_hang_up(&r);
	rest_ended(&r, 1, "0x00000063");
	if (with_kill) {
		close(r.tracks[0][0]);
		LIVE_CHECK(rest_wait(&r) == 128 + 9);
		rest_end(&r);
		return;
	}
	LIVE_CHECK(write(r.tracks[1][1], "", 1) == 1);
	seen->run = 1;
	while (!seen->touched || state_of(r.pids[0]) == 'R')
		poll(NULL, 0, 2);
	poll(NULL, 0, 300);
	if (seen->value) /* it got something, and nobody can have given it its content */
		LIVE_DIE("the task read %#x where it should wait", seen->value - 1);
	LIVE_CHECK(state_of(r.pids[0]) == 'S' || state_of(r.pids[0]) == 'D');
	rest_end(&r);
}

/* A restorer that says something wrong stays, and waits for a task whose own code sleeps on a page: it would do so for ever. The task ends,
 * unless what was wrong may have let it run. */
static void is_not_hung(bool word)
{
	const struct rest_task task[] = {
		{ .pid = 62, TASK, .early = rest_whole }, { .pid = 63, .zombie = true }
	};
	const uint32_t said[2] = { 0, REST_END };
	struct rest r;
	int fd;

	rest_begin(&r, task, 2, true);
	LIVE_CHECK(rest_daemon(&r, "-v", NULL));
	fd = openat(r.dir.fd, "pages-1.img", O_WRONLY | O_CLOEXEC);
	LIVE_CHECK(fd >= 0 && !ftruncate(fd, 100 * P));
	close(fd);
	rest_connect(&r);
	r.n = 1; /* the zombie is told of behind */
	rest_spawn(&r);
	rest_await_said(&r, "pid 62: is here (1 of 2)");
	LIVE_CHECK(rest_sleeps(r.pids[0]));
	part(&r, said, word ? sizeof(said) : sizeof(*said)); /* at once, so that it is there when the daemon gives up */
	rest_ended(&r, 1, "sent 0 as the process number");
	if (word)
		LIVE_CHECK(rest_sleeps(r.pids[0]));
	else
		LIVE_CHECK(rest_wait(&r) == 128 + 9 && strstr(r.said, "killed (they have not run yet, and cannot)"));
	rest_end(&r);
}

/* ---- no descriptors ---------------------------------------------------------------------------------------- */
#define MANY 20
#define FEW 400 /* enough that none is done before the next is received */

/* As many as it has, and three that are free: one task's. */
static void allow_no_more(pid_t pid)
{
	char path[64];
	bool used[1024] = { false };
	int limit = 0, left = 3, n;
	struct rlimit l;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	LIVE_CHECK(d);
	while ((e = readdir(d))) {
		n = atoi(e->d_name);
		if (*e->d_name != '.' && n < 1024)
			used[n] = true;
	}
	closedir(d);
	for (; left && limit < 1024; limit++)
		left -= !used[limit];
	l = (struct rlimit){ (rlim_t)limit, (rlim_t)limit };
	LIVE_CHECK(!prlimit(pid, RLIMIT_NOFILE, &l, NULL));
}

/* The daemon runs out of descriptors when everything has been said to it, so that the tasks run: a userfaultfd for which it has no number
 * was lost, and its task read zeros. */
static void without_descriptors(void)
{
	static const struct rest_vma small[] = { { .addr = A, .pages = FEW } };
	static const struct rest_run few[] = { { A, FEW, REST_LAZY } };
	struct rest_task task[MANY];
	struct rest r;

	for (int i = 0; i < MANY; i++)
		task[i] = (struct rest_task){ .pid = 70 + i, .vma = small, .n_vmas = 1, .run = few, .n_runs = 1 };
	rest_begin(&r, task, MANY, true);
	LIVE_CHECK(rest_daemon(&r, NULL));
	allow_no_more(r.daemon);
	kill(r.daemon, SIGSTOP);
	rest_connect(&r);
	rest_spawn(&r);
	rest_gather(&r);
	rest_release(&r);
	kill(r.daemon, SIGCONT);
	/* how far it gets depends on how many are left when a task is there as a whole */
	rest_ended(&r, 1, "pid 7");
	LIVE_CHECK(strstr(r.said, "no descriptor is left to receive its userfaultfd with: raise RLIMIT_NOFILE") ||
		   strstr(r.said, "Too many open files"));
	for (int i = 0; i < MANY; i++) {
		int status = 0;

		if (rest_sleeps(r.pids[i]))
			continue;
		LIVE_CHECK(waitpid(r.pids[i], &status, 0) == r.pids[i]);
		r.pids[i] = 0;
		if (status) /* 0: it was served in time */
			LIVE_DIE("task %d ended with %#x; the daemon said: %s", i, status, r.said);
	}
	rest_end(&r);
}

int main(void)
{
	if (thaw_probe() < 0) {
		printf("test_wrong: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	say_wrong_things();
	in_pieces();
	fails_closed(false);
	fails_closed(true);
	is_not_hung(false);
	is_not_hung(true);
	without_descriptors();
	return 0;
}
