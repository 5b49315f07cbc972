// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_dump.c - a process that is checkpointed and left running never notices, whatever happens to the dumper */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/state.h"
#include "util/err.h"
#include "support/patience.h"

static char scratch[64];

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #cond, thaw_err_text()); \
			exit(1); \
		} \
	} while (0)

/* ---- the directory ------------------------------------------------------------------------------------------------- */
static void empty(const char *path)
{
	char command[200];

	snprintf(command, sizeof(command), "rm -rf -- %s", path);
	CHECK(system(command) == 0);
}

static void clean_up(void)
{
	if (scratch[0])
		empty(scratch);
}

static unsigned entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	CHECK(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- the target ---------------------------------------------------------------------------------------------------- */
static void comm(pid_t pid, char name[32])
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	name[0] = '\0';
	if (f && fgets(name, 32, f))
		name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
}

static void await_comm(pid_t pid, const char *want)
{
	char name[32];
	int i;

	for (i = 0; i < patience(1000); i++) {
		comm(pid, name);
		if (!strcmp(name, want))
			return;
		usleep(10000);
	}
	fprintf(stderr, "process %d does not answer: it is \"%s\", not \"%s\"\n", pid, name, want);
	exit(1);
}

static pid_t start_target(void)
{
	const char *dir = getenv("THAW_BUILDDIR");
	char path[4096];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/tests/live/dump_target", dir ? dir : ".");
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); /* whatever the test was started with */
		execl(path, "dump_target", (char *)NULL);
		perror(path);
		_exit(127);
	}
	await_comm(pid, "busy");
	return pid;
}

static void is_alive(pid_t pid, unsigned *pongs)
{
	char want[32];

	CHECK(kill(pid, SIGUSR1) == 0);
	snprintf(want, sizeof(want), "alive-%u", ++*pongs);
	await_comm(pid, want);
}

static void end_target(pid_t pid)
{
	int status;

	CHECK(kill(pid, SIGTERM) == 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "the target ended with status 0x%x\n", status);
		exit(1);
	}
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */
static void check_images(const char *path)
{
	ThawState__Process *p;
	ThawState__Head *h;
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0700);
	CHECK(thaw_state_load(fd, &h, &p) == 0);
	CHECK(p->n_threads == 10 && p->n_mappings > 10 && p->n_itimers == 1);
	CHECK(fstatat(fd, "pages-1.img", &st, 0) == 0 && st.st_size >= 8192 * 4096L && (st.st_mode & 07777) == 0600);
	thaw_state_free(h, p);
	close(fd);
}

static void left_running(void)
{
	struct thaw_dump_options o = { .leave_running = true };
	struct thaw_dump_result r;
	pid_t pid = start_target();
	uint64_t most = 0, bytes = 0;
	unsigned pongs = 0;
	char path[128];
	int i;

	snprintf(path, sizeof(path), "%s/image", scratch);
	o.pid = pid;
	o.dir = path;
	for (i = 0; i < thorough(25, 2); i++) {
		CHECK(thaw_dump(&o, &r) == 0);
		CHECK(r.threads == 10 && r.bytes >= 8192 * 4096UL && r.frozen_ns > 0 && !r.zombie);
		most = r.frozen_ns > most ? r.frozen_ns : most;
		bytes = r.bytes;
		check_images(path);
		CHECK(thaw_dump(&o, &r) == -EEXIST && strstr(thaw_err_text(), "not empty"));
		empty(path);
		is_alive(pid, &pongs);
		usleep(30000);
	}
	CHECK(entries(scratch) == 0);
	end_target(pid);
	printf("left running %d times: frozen at most %.1f ms for %llu MiB\n", i, (double)most / 1e6, (unsigned long long)bytes >> 20);
}

/* The worker is adopted by us: we are a subreaper. */
static void await_worker(pid_t main_pid, pid_t target)
{
	int status, i;
	pid_t pid;

	for (i = 0; i < patience(30000); i++) { /* a disk may take its time for an fsync */
		pid = waitpid(-1, &status, WNOHANG);
		if (pid == target) {
			fprintf(stderr, "the target ended with status 0x%x\n", status);
			exit(1);
		}
		if (pid > 0 && pid != main_pid)
			return;
		/* It may not have been started yet. */
		if (pid == 0 && i > 30) {
			char path[64], line[256] = "";
			FILE *f;

			snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
			f = fopen(path, "re");
			CHECK(f && fgets(line, sizeof(line), f));
			fclose(f);
			if (atoi(line) == target && !strchr(strchr(line, ' ') + 1, ' '))
				return;
		}
		usleep(2000);
	}
	fprintf(stderr, "the worker does not end\n");
	exit(1);
}

/* kill -9 of the main program at random instants, whether the process is to run on or to end. */
static void dumper_killed(void)
{
	unsigned pongs = 0, complete = 0, rounds = thorough(60, 4), i;
	pid_t pid = start_target(), dumper;
	char path[128];

	srandom((unsigned)time(NULL));
	snprintf(path, sizeof(path), "%s/image", scratch);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	for (i = 0; i < rounds; i++) {
		dumper = fork();
		if (dumper == 0) {
			struct thaw_dump_options o = { .pid = pid, .dir = path, .leave_running = true };
			struct thaw_dump_result r;

			_exit(thaw_dump(&o, &r) < 0);
		}
		usleep((useconds_t)(random() % 250000));
		kill(dumper, SIGKILL);
		CHECK(waitpid(dumper, NULL, 0) == dumper);
		await_worker(dumper, pid);
		if (exists(path)) {
			complete++;
			check_images(path);
			empty(path);
		}
		CHECK(entries(scratch) == 0);
		is_alive(pid, &pongs);
	}
	end_target(pid);
	printf("dumper killed %u times: %u images complete, the others absent\n", rounds, complete);
}

/* Told to stop: the same, with an error and a sentence. */
static void interrupted(void)
{
	struct thaw_dump_options o = { .leave_running = true };
	struct thaw_dump_result r;
	pid_t pid = start_target(), killer;
	unsigned pongs = 0, seen = 0, i;
	char path[128];
	int rc;

	snprintf(path, sizeof(path), "%s/image", scratch);
	o.pid = pid;
	o.dir = path;
	for (i = 0; i < (unsigned)thorough(20, 4); i++) {
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigprocmask(SIG_BLOCK, &set, NULL); /* before there is anybody who sends it */
		killer = fork();
		if (killer == 0) {
			usleep((useconds_t)(i * 2000));
			_exit(kill(getppid(), SIGTERM));
		}
		rc = thaw_dump(&o, &r);
		CHECK(rc == 0 || rc == -EINTR);
		CHECK(rc == 0 || strstr(thaw_err_text(), "runs on"));
		seen += rc == -EINTR;
		CHECK(waitpid(killer, NULL, 0) == killer);
		signal(SIGTERM, SIG_IGN); /* drops one that is still pending */
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		signal(SIGTERM, SIG_DFL);
		CHECK(exists(path) == (rc == 0));
		empty(path);
		CHECK(entries(scratch) == 0);
		is_alive(pid, &pongs);
	}
	CHECK(seen > 0);
	end_target(pid);
}

/* The target dies while it is dumped: an error, nothing left behind, no hang. */
static void target_killed(void)
{
	unsigned i, failed = 0;
	char path[128];

	snprintf(path, sizeof(path), "%s/image", scratch);
	for (i = 0; i < (unsigned)thorough(15, 3); i++) {
		struct thaw_dump_options o = { .dir = path, .leave_running = true };
		struct thaw_dump_result r;
		pid_t pid = start_target(), killer;
		int rc;

		o.pid = pid;
		killer = fork();
		if (killer == 0) {
			usleep((useconds_t)(i * 5000));
			_exit(kill(pid, SIGKILL));
		}
		rc = thaw_dump(&o, &r);
		CHECK(rc == 0 || strlen(thaw_err_text()) > 10);
		CHECK(exists(path) == (rc == 0));
		failed += rc < 0;
		CHECK(waitpid(killer, NULL, 0) == killer && waitpid(pid, NULL, 0) == pid);
		empty(path);
		CHECK(entries(scratch) == 0);
	}
	CHECK(failed > 0);
	printf("target killed 15 times: %u dumps failed\n", failed);
}

/* Without --leave-running it is over, and only then. */
static void ended(void)
{
	struct thaw_dump_options o = { .leave_running = false };
	struct thaw_dump_result r;
	pid_t pid = start_target();
	char path[128];
	int status;

	snprintf(path, sizeof(path), "%s/image", scratch);
	CHECK(mkdir(path, 0755) == 0); /* an empty directory is replaced */
	o.pid = pid;
	o.dir = path;
	CHECK(thaw_dump(&o, &r) == 0);
	CHECK(r.zombie); /* we have not waited for it yet */
	CHECK(waitpid(pid, &status, WNOHANG) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	check_images(path);
	empty(path);
	CHECK(thaw_dump(&o, &r) == -ESRCH && !exists(path));
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	alarm(patience(280));
	strcpy(scratch, "/var/tmp/thaw-dump-XXXXXX");
	CHECK(mkdtemp(scratch));
	atexit(clean_up);
	left_running();
	ended();
	interrupted();
	target_killed();
	dumper_killed();
	return 0;
}
