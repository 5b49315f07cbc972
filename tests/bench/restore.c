// SPDX-License-Identifier: LGPL-2.1-or-later
/* restore.c - how soon a checkpointed process runs its first instruction again, with the thaw program */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The process looks at the clock in a loop. A gap longer than this is the time that it did not exist. */
#define GAP_NS 5000000

struct beat {
	uint64_t magic, last, resumed, memory;
};

void run_restore_subject(size_t bytes)
{
	static volatile struct beat beat;
	uint64_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), i, now;
	char line[64];

	if (memory == MAP_FAILED)
		exit(1);
	for (i = 0; i < bytes / PG; i++)
		memory[i * (PG / sizeof(*memory))] = page_word(i);
	beat.last = now_ns();
	beat.memory = (uintptr_t)memory;
	snprintf(line, sizeof(line), "%p\n", (void *)&beat);
	if (write(1, line, strlen(line)) < 0)
		exit(1);
	close(1);
	for (;;) {
		now = now_ns();
		if (now - beat.last > GAP_NS)
			beat.resumed = now;
		beat.last = now;
	}
}

static int run(const struct bench *b, const char *const argv[], bool quiet)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		if (quiet)
			dup2(null, 2);
		execv(b->program, (char *const *)argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static pid_t start_subject(const struct bench *b, uint64_t *beat)
{
	char bytes[32], line[64], self[4096];
	int fds[2];
	ssize_t n;
	pid_t pid;

	snprintf(bytes, sizeof(bytes), "%zu", b->size);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	if (pipe2(fds, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 2);
		dup2(fds[1], 1);
		close_range(3, ~0U, 0); /* what our caller has open is not to be checkpointed */
		setsid();
		execl(self, self, "--subject", bytes, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	n = read(fds[0], line, sizeof(line) - 1);
	close(fds[0]);
	line[n > 0 ? n : 0] = '\0';
	*beat = strtoull(line, NULL, 16);
	return pid;
}

static bool look(pid_t pid, uint64_t at, void *to, size_t len)
{
	struct iovec local = { to, len }, far = { (void *)(uintptr_t)at, len };

	return process_vm_readv(pid, &local, 1, &far, 1, 0) == (ssize_t)len;
}

static pid_t read_pid(const char *path)
{
	FILE *f = fopen(path, "r");
	int pid = 0;

	if (f) {
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	return pid;
}

/* Restores once; milliseconds from the start of the program to the first look at the clock; < 0: it failed. */
static double restore(const struct bench *b, const char *dir, uint64_t at, bool eager)
{
	char pidfile[128];
	const char *argv[] = {
		b->program, "restore", "-q", "-d", "-D", dir, "--pidfile", pidfile, eager ? "--eager" : NULL, NULL
	};
	struct timespec nap = { .tv_nsec = 1000000 };
	struct beat beat = { 0 };
	uint64_t start = now_ns(), word, page;
	double ms = -1;
	pid_t pid;
	int i;

	snprintf(pidfile, sizeof(pidfile), "%s.pid", dir);
	if (run(b, argv, false))
		return -1;
	pid = read_pid(pidfile);
	for (i = 0; i < 5000 && !beat.resumed; i++) {
		if (pid <= 0 || !look(pid, at, &beat, sizeof(beat)))
			break;
		if (!beat.resumed)
			nanosleep(&nap, NULL);
	}
	if (beat.resumed > start)
		ms = (beat.resumed - start) / 1e6;
	for (page = 0; ms >= 0 && page < b->size / PG; page += b->size / PG / 64)
		if (!look(pid, beat.memory + page * PG, &word, sizeof(word)) || word != page_word(page))
			die("page %llu of the restored process does not hold its content", (unsigned long long)page);
	if (pid > 0)
		kill(pid, SIGKILL);
	unlink(pidfile);
	while (pid > 0 && kill(pid, 0) == 0) { /* reaped by us as its subreaper, or by init */
		waitpid(pid, NULL, WNOHANG);
		nanosleep(&nap, NULL);
	}
	return ms;
}

static void remove_dir(const char *dir)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command))
		fprintf(stderr, "thaw-bench: %s is left over\n", dir);
}

/* The monitors of detached restores come to us when their parent ends. */
static void reap(void)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	int i;

	for (i = 0; i < 2000 && waitpid(-1, NULL, WNOHANG) >= 0; i++)
		nanosleep(&nap, NULL);
}

void measure_restore(struct bench *b)
{
	char top[] = "/var/tmp/thaw-bench-XXXXXX", dir[64], pid_text[16];
	const char *argv[] = { b->program, "checkpoint", "-q", "-t", pid_text, "-D", dir, NULL };
	uint64_t beat;
	double lazy, eager;
	pid_t pid;

	if (!b->program)
		return;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!mkdtemp(top))
		die("%s: %s", top, strerror(errno));
	snprintf(dir, sizeof(dir), "%s/image", top);
	pid = start_subject(b, &beat);
	snprintf(pid_text, sizeof(pid_text), "%d", (int)pid);
	if (!beat || run(b, argv, false)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		remove_dir(top);
		die("the subject cannot be checkpointed with %s", b->program);
	}
	waitpid(pid, NULL, 0);
	lazy = restore(b, dir, beat, false);
	eager = lazy < 0 ? -1 : restore(b, dir, beat, true);
	reap();
	remove_dir(top);
	if (lazy < 0 || eager < 0)
		die("the subject cannot be restored with %s", b->program);
	figure("thaw.restore.first_instruction", "ms", LOWER, lazy);
	figure("thaw.restore.eager", "ms", LOWER, eager);
}
