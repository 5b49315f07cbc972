// SPDX-License-Identifier: LGPL-2.1-or-later
/* test_holder.c - a monitor killed at random instants: its processes wait, are named, and never read a zero */
#include "config.h"
#include "engine/holder.h"
#include "kern/keep.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "thaw.h"
#include "util/err.h"
#include "support/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 16384
#define ROUNDS 36

/* Who serves: the smallest loop that can, or the library, with and without its background copy. */
enum server { SMALLEST, LIBRARY_LAZY, LIBRARY_RUN, SERVERS };

static struct {
	atomic_int uffd;    /* the process's number of it, + 1 */
	atomic_int serving; /* the monitor is at work */
	atomic_int holder;
	atomic_int wrong, right, clean;
} *shared;

static char *region;
static int failures;

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	failures++;
}

static uint64_t word(unsigned page)
{
	return page * 0x9e3779b97f4a7c15ULL | 1; /* never zero */
}

static void nap(unsigned us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000L };

	nanosleep(&t, NULL);
}

/* ---- the process ----------------------------------------------------------------------------------------- */

static void read_pages(unsigned seed, unsigned n)
{
	while (n--) {
		unsigned page = rand_r(&seed) % PAGES;
		uint64_t got = *(volatile uint64_t *)(region + page * 4096UL);

		if (got == word(page))
			shared->right++;
		else
			shared->wrong++;
	}
}

/* Nothing here outlives the test for long, even when the test is killed or fails: each has an alarm, and a bound. */
static void process(unsigned seed)
{
	unsigned forks;
	int fd;

	alarm(patience(60));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	region = mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(region, PAGES * 4096UL, MADV_NOHUGEPAGE);
	fd = thaw_uffd_open_features(THAW_UFFD_EVENTS, NULL);
	if (fd < 0 || thaw_uffd_register(fd, (uintptr_t)region, PAGES * 4096UL)) {
		fprintf(stderr, "%s\n", thaw_err_text());
		_exit(1);
	}
	*(char **)(shared + 1) = region;
	shared->uffd = fd + 1;
	while (!shared->serving)
		nap(100);
	close(fd);
	for (forks = 0; forks < 500 && !shared->wrong; forks++) {
		read_pages(seed++, 20);
		if (fork() == 0) {
			alarm(patience(60));
			read_pages(seed + 1000, 50);
			if (seed % 2 && fork() == 0) { /* a grandchild that loses its parent */
				alarm(patience(60));
				nap(100);
				read_pages(seed + 2000, 50);
			}
			_exit(0);
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	for (;;) /* the region is never whole: whoever reads on waits in the end */
		read_pages(seed++, 20);
}

/* ---- the monitor ----------------------------------------------------------------------------------------- */

/* The smallest that serves: one thread, so that section 5 of the rule (only the reader fills) holds. */
static void serve(int first)
{
	static uint64_t page[512];
	struct pollfd fds[512] = { { .fd = first, .events = POLLIN } };
	unsigned n = 1, i, k;

	for (;;) {
		if (poll(fds, n, -1) < 0)
			continue;
		for (i = 0; i < n; i++) {
			struct uffd_msg m;

			if (!fds[i].revents || thaw_uffd_read(fds[i].fd, &m, 1) <= 0)
				continue;
			if (m.event == UFFD_EVENT_FORK && n < 512) {
				fds[n++] = (struct pollfd){ .fd = m.arg.fork.ufd, .events = POLLIN };
			} else if (m.event == UFFD_EVENT_PAGEFAULT) {
				uint64_t at = m.arg.pagefault.address & ~4095UL;
				enum thaw_outcome o;

				for (k = 0; k < 512; k++)
					page[k] = word((at - (uintptr_t)region) / 4096);
				while ((o = thaw_uffd_copy(fds[i].fd, at, page, 4096, true).outcome) == THAW_CHANGING)
					nap(50);
				if (o == THAW_PRESENT || o == THAW_NO_VMA)
					thaw_uffd_wake(fds[i].fd, at, 4096);
			}
		}
	}
}

static void die_of(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_exit(1);
}

static void serve_by_library(pid_t pid, int uffd, int log_fd, bool run)
{
	struct thaw_memfile_range whole = { (uintptr_t)region, PAGES * 4096UL, 0 };
	struct thaw_range range = { .address = whole.address, .length = whole.length, .prot = PROT_READ | PROT_WRITE };
	struct thaw_space space = {
		.size = sizeof(space), .uffd = uffd, .pidfd = -1, .pid = pid, .ranges = &range, .n_ranges = 1
	};
	struct thaw *h = thaw_create();
	int file = memfd_create("content", MFD_CLOEXEC);
	uint64_t *p;
	unsigned i;

	if (ftruncate(file, PAGES * 4096UL))
		die_of("ftruncate");
	p = mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	for (i = 0; i < PAGES; i++)
		p[i * 512] = word(i);
	space.source = thaw_source_memfile(file, &whole, 1);
	if (thaw_set_background(h, run ? THAW_BACKGROUND_RUN : THAW_BACKGROUND_STAY_LAZY, 0) ||
	    thaw_set_holder(h, 1, log_fd) || thaw_add_space(h, &space) < 0 || thaw_start(h))
		die_of(thaw_get_error());
	shared->serving = 1;
	for (;;)
		pause();
}

static void take_uffd(pid_t pid, int *pidfd, int *uffd)
{
	*pidfd = thaw_sys_pidfd_open(pid);
	while (!shared->uffd)
		nap(100);
	*uffd = thaw_sys_pidfd_getfd(*pidfd, shared->uffd - 1);
	region = *(char **)(shared + 1);
	if (*uffd < 0)
		die_of("pidfd_getfd");
}

static void library_monitor(pid_t pid, int log_fd, bool run)
{
	int pidfd, uffd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	take_uffd(pid, &pidfd, &uffd);
	close(pidfd);
	serve_by_library(pid, uffd, log_fd, run);
}

/* full: with as many descriptors as it may have when it dies. A holder that could open nothing more looked at no process, and
 * let go of all. */
static void monitor(pid_t pid, int log_fd, bool full)
{
	struct rlimit few = { 40, 40 };
	struct thaw_holder *h;
	int pidfd, uffd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (full && setrlimit(RLIMIT_NOFILE, &few))
		die_of("setrlimit");
	if (thaw_holder_start(&h, log_fd, true))
		die_of(thaw_err_text());
	shared->holder = thaw_holder_pid(h);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		fail("the holder is a child that wait() sees");
	take_uffd(pid, &pidfd, &uffd);
	if (thaw_holder_add_pid(h, pid, pidfd) < 0)
		die_of("thaw_holder_add_pid");
	while (full && dup(uffd) >= 0)
		;
	shared->serving = 1;
	serve(uffd);
}

/* ---- looking --------------------------------------------------------------------------------------------- */

/* What comes out of the pipe until its last writer has gone (which is a check of its own), or for ten seconds. */
static bool read_log(int fd, char *buf, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t at = 0;
	ssize_t n;

	while (poll(&p, 1, patience(10000)) == 1) {
		n = read(fd, buf + at, size - 1 - at);
		if (n <= 0) {
			buf[at] = '\0';
			return n == 0;
		}
		at += n;
	}
	buf[at] = '\0';
	return false;
}

static int compare_pids(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The pids after "kill -9"; the same as after "pid". */
static unsigned named(const char *line, int *pids)
{
	const char *at = strstr(line, "kill -9 "), *list = strstr(line, "died; pid ");
	unsigned n = 0, k;
	char *end;

	if (!at || !list || strncmp(line, "thaw: the monitor (pid ", 23) || !strstr(line, "restore again"))
		return 0;
	for (at += 8; (pids[n] = strtol(at, &end, 10)) > 0; at = end)
		n++;
	list += strcspn(list, "0123456789");
	for (k = 0; k < n; k++, list = end + 2)
		if (strtol(list, &end, 10) != pids[k])
			fail("the two lists of the line differ");
	qsort(pids, n, sizeof(*pids), compare_pids);
	return n;
}

static bool gone_within(pid_t pid, unsigned ms)
{
	for (ms = patience(ms); ms; ms--) {
		if (waitpid(pid, NULL, __WALL | WNOHANG) == pid)
			return true;
		nap(1000);
	}
	return false;
}

/* Everything below us is ended, whatever happened. */
static void reap_all(void)
{
	while (waitpid(-1, NULL, __WALL | WNOHANG) >= 0) {
		char path[64], list[4096], *at = list, *end;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
		f = fopen(path, "r");
		list[f ? fread(list, 1, sizeof(list) - 1, f) : 0] = '\0';
		if (f)
			fclose(f);
		for (; strtol(at, &end, 10) > 0; at = end)
			kill(strtol(at, NULL, 10), SIGKILL);
		nap(1000);
	}
}

/* Is the process (or was it: then nobody is hit) a descendant of ours? */
static bool below_us(pid_t pid)
{
	char path[64], line[512], *at;
	FILE *f;

	while (pid > 1 && pid != getpid()) {
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		f = fopen(path, "r");
		if (!f)
			return true;
		at = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
		fclose(f);
		pid = at ? atoi(at + 4) : 0;
	}
	return pid == getpid();
}

/* Kills all that are named. Returns whether the process itself is. */
static bool check_line(const char *log, pid_t mon, pid_t proc)
{
	int pids[2048], n = named(log, pids), i;
	char want[64];

	snprintf(want, sizeof(want), "thaw: the monitor (pid %d) died;", mon);
	if (n < 1 || strncmp(log, want, strlen(want)) || !strchr(log, '\n') || strchr(log, '\n')[1]) {
		fprintf(stderr, "the log holds: %s\n", log);
		fail("no line, or not one");
	}
	for (i = 0; i < n; i++)
		if (!below_us(pids[i])) {
			fail("a stranger is named");
			return true;
		}
	/* A child that found all its pages in has ended by itself meanwhile. */
	for (i = 0; i < n; i++)
		if (kill(pids[i], SIGKILL) && pids[i] == proc)
			fail("the restored process is not there");
	return bsearch(&proc, pids, n, sizeof(*pids), compare_pids) != NULL;
}

/* Of those below us, which by now includes whom the monitor left. 0: there is none. */
static pid_t find_holder(void)
{
	char path[64], list[4096], name[32], *at = list, *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	f = fopen(path, "r");
	list[f ? fread(list, 1, sizeof(list) - 1, f) : 0] = '\0';
	if (f)
		fclose(f);
	for (; strtol(at, &end, 10) > 0; at = end) {
		snprintf(path, sizeof(path), "/proc/%ld/comm", strtol(at, NULL, 10));
		f = fopen(path, "r");
		name[f ? fread(name, 1, sizeof(name) - 1, f) : 0] = '\0';
		if (f)
			fclose(f);
		if (!strcmp(name, "uffd-holder\n"))
			return strtol(at, NULL, 10);
	}
	return 0;
}

/* All was in when the monitor died: nobody waits, so nothing is said, and the process works on. */
static void check_silence(pid_t proc)
{
	int right = shared->right, i;

	for (i = 0; i < 2000 && shared->right == right; i++)
		nap(1000);
	if (shared->right == right)
		fail("no line, and the process waits");
	kill(proc, SIGKILL);
}

static void round_of(unsigned seed, enum server server)
{
	char log[65536];
	int fds[2];
	pid_t proc, mon, holder, gone;
	unsigned left;

	memset(shared, 0, 4096);
	if (pipe2(fds, O_CLOEXEC))
		exit(1);
	proc = fork();
	if (proc == 0) {
		close(fds[0]);
		close(fds[1]);
		process(seed * 100);
	}
	mon = fork();
	if (mon == 0 && server == SMALLEST)
		monitor(proc, fds[1], seed % 2);
	if (mon == 0)
		library_monitor(proc, fds[1], server == LIBRARY_RUN);
	close(fds[1]);
	while (!shared->serving)
		nap(100);
	nap(rand_r(&seed) % 30000);
	kill(mon, SIGKILL);
	waitpid(mon, NULL, 0);
	if (!read_log(fds[0], log, sizeof(log)))
		fail("the log's pipe was not let go of");
	close(fds[0]);
	nap(20000); /* time for a page that should not come */
	holder = find_holder();
	if (server == LIBRARY_RUN && !log[0]) {
		check_silence(proc);
	} else {
		if (!holder || waitpid(holder, NULL, __WALL | WNOHANG))
			fail("the holder went before the processes");
		if (!check_line(log, mon, proc)) { /* all of its own was in, a child's not */
			if (server != LIBRARY_RUN)
				fail("the restored process is not named");
			check_silence(proc);
		}
	}
	if (holder && !gone_within(holder, 5000))
		fail("the holder did not end with the processes");
	if (shared->wrong)
		fail("a wrong page was read");
	if (kill(proc, 0) && errno == ESRCH)
		fail("the process was not ours to wait for");
	waitpid(proc, NULL, 0);
	/* Nobody who waits is left: all the others end by themselves, or by the signal that is on its way. */
	for (left = patience(2000); left && (gone = waitpid(-1, NULL, __WALL | WNOHANG)) >= 0; left -= !gone)
		if (!gone)
			nap(1000);
	if (!left)
		fail("a process that waits was not named");
	reap_all();
}

/* The clean end is silent, and leaves no process. */
static void clean_end(void)
{
	struct thaw_holder *h;
	char log[256];
	int fds[2], slot;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) || thaw_holder_start(&h, fds[1], true)) {
		fail(thaw_err_text());
		return;
	}
	pid = thaw_holder_pid(h);
	slot = thaw_holder_add_pid(h, getpid(), -1);
	if (slot != 0)
		fail("the first slot is not 0");
	thaw_holder_remove_pid(h, slot);
	if (kill(pid, 0) || getsid(pid) != pid)
		fail("the holder is not there, in a session of its own");
	thaw_holder_finish(h);
	if (!kill(pid, 0))
		fail("the holder is there after finish");
	close(fds[1]);
	if (!read_log(fds[0], log, sizeof(log)) || log[0])
		fail("a clean end was not silent");
	close(fds[0]);
}

/* Killed before its time: that is seen, and the end is orderly. */
static void killed_holder(void)
{
	struct thaw_holder *h;
	unsigned i;

	if (thaw_holder_start(&h, -1, true)) {
		fail(thaw_err_text());
		return;
	}
	if (!thaw_holder_is_alive(h))
		fail("a holder that was just made is taken for dead");
	kill(thaw_holder_pid(h), SIGKILL);
	for (i = 0; i < (unsigned)patience(5000) && thaw_holder_is_alive(h); i++)
		nap(1000);
	if (thaw_holder_is_alive(h))
		fail("a dead holder is taken for alive");
	thaw_holder_finish(h);
}

/* A monitor that calls exec is as dead. Also: the pipe of a tool that dies is not held when nobody waits. */
static void exec_ends(void)
{
	char *argv[] = { "sleep", "20", NULL }, log[256];
	struct thaw_holder *h;
	int fds[2];
	pid_t mon;

	memset(shared, 0, 4096);
	if (pipe2(fds, O_CLOEXEC))
		exit(1);
	mon = fork();
	if (mon == 0) {
		if (thaw_holder_start(&h, fds[1], true))
			_exit(1);
		shared->holder = thaw_holder_pid(h);
		execvp(argv[0], argv);
		_exit(1);
	}
	close(fds[1]);
	if (!read_log(fds[0], log, sizeof(log)) || log[0])
		fail("after an exec of the monitor the holder did not end in silence");
	close(fds[0]);
	kill(mon, SIGKILL);
	waitpid(mon, NULL, 0);
	gone_within(shared->holder, 1000);
}

/* Bug: to take in what had arrived the holder read every socket empty and shut it, those that others have as well included: standard
 * input of a shell beside it. */
static void shared_socket(void)
{
	int pipe_fds[2], typed[2], arrivals[2];
	struct thaw_holder *h;
	char text[256];
	pid_t mon;

	if (pipe2(pipe_fds, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, typed) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, arrivals) || thaw_keep_init())
		exit(1);
	mon = fork();
	if (mon == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(typed[1]);
		close(arrivals[1]);
		if (dup2(typed[0], STDIN_FILENO) || dup2(typed[0], 90) != 90) /* as a log file has it that is standard output */
			_exit(1);
		thaw_keep_add_arrivals(arrivals[0]);
		if (thaw_holder_start(&h, pipe_fds[1], true))
			_exit(1);
		shared->holder = thaw_holder_pid(h);
		raise(SIGKILL);
	}
	close(pipe_fds[1]);
	if (write(typed[1], "typed", 5) != 5 || write(arrivals[1], "task", 4) != 4)
		fail("nothing can be sent");
	waitpid(mon, NULL, 0);
	if (!read_log(pipe_fds[0], text, sizeof(text)) || !gone_within(shared->holder, 5000))
		fail("the holder does not end");
	if (recv(typed[0], text, sizeof(text), MSG_DONTWAIT) != 5 || send(typed[1], "more", 4, MSG_NOSIGNAL) != 4)
		fail("the holder has read, or shut, a socket that others have");
	if (recv(arrivals[0], text, sizeof(text), MSG_DONTWAIT) > 0 || send(arrivals[1], "more", 4, MSG_NOSIGNAL) == 4)
		fail("the holder has not taken in what had arrived");
	thaw_keep_remove(arrivals[0]);
	for (unsigned i = 0; i < 2; i++) {
		close(typed[i]);
		close(arrivals[i]);
	}
	close(pipe_fds[0]);
}

int main(void)
{
	unsigned i;
	int fd = thaw_uffd_open_features(THAW_UFFD_EVENTS, NULL);

	if (fd < 0) {
		fprintf(stderr, "%s\n", thaw_err_text());
		return 77;
	}
	close(fd);
	alarm(patience(200));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	clean_end();
	killed_holder();
	exec_ends();
	shared_socket();
	for (i = 0; i < (unsigned)thorough(ROUNDS, 2 * SERVERS) && !failures; i++)
		round_of(i + 1, i % SERVERS);
	reap_all();
	return failures ? 1 : 0;
}
