// SPDX-License-Identifier: LGPL-2.1-or-later
// support/files_rig.c - dump and restore of open files between two children of a test.
#include "config.h"

#include "support/files_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/files.h"
#include "util/err.h"

static int report = 2;          /* where a child's complaints go */
static struct {
	long numbers[64];
	pid_t helpers[16];
	unsigned n_helpers;
	int helper_runs;
	char sentence[1024];
} *shared;

void rig_check(int ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	dprintf(report, "%s:%d: not so: %s (errno %d)\n", file, line, what, errno);
	_exit(1);
}

int rig_put(int fd, int number)
{
	CHECK(fd >= 0);
	if (fd == number)
		return fd;
	CHECK(dup2(fd, number) == number);
	close(fd);
	return number;
}

int rig_same(int a, int b)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, (long)a, (long)b) == 0;
}

void rig_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

long rig_shared(int i)
{
	return shared->numbers[i];
}

void rig_share(int i, long v)
{
	shared->numbers[i] = v;
}

pid_t rig_helper(void (*fn)(void *), void *arg)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_NAME, "rig-helper");
		fn(arg);
		__atomic_store_n(&shared->helper_runs, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	shared->helpers[shared->n_helpers++] = pid;
	while (!__atomic_exchange_n(&shared->helper_runs, 0, __ATOMIC_ACQUIRE))
		usleep(1000);
	return pid;
}

static int matches(const char *pattern, const char *text)
{
	if (*pattern == '*')
		return matches(pattern + 1, text) || (*text && matches(pattern, text + 1));
	if (!*pattern || !*text)
		return *pattern == *text;
	return *pattern == *text && matches(pattern + 1, text + 1);
}

/* ---- the two children ---- */

static pid_t start_target(const struct rig_case *c)
{
	pid_t pid = fork();
	int status;

	if (pid)
		return pid > 0 && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) ? pid : -1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(3, ~0U, 0);
	c->make();
	raise(SIGSTOP);
	_exit(0);
}

static const ThawState__File *file_of(const ThawState__Process *p, uint32_t id)
{
	for (size_t i = 0; i < p->n_files; i++)
		if (p->files[i]->id == id)
			return p->files[i];
	return NULL;
}

/* Exactly the numbers of the checkpoint, and keep. */
static void compare_numbers(const ThawState__Process *p, int keep)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	size_t n = 0;

	while ((e = readdir(d))) {
		int fd = atoi(e->d_name), known = 0;

		if (e->d_name[0] == '.' || fd == dirfd(d) || fd == keep)
			continue;
		for (size_t i = 0; i < p->n_fds; i++)
			known |= p->fds[i]->fd == fd;
		if (!known)
			dprintf(report, "fd %d is open and should not be\n", fd);
		CHECK(known);
		n++;
	}
	closedir(d);
	CHECK(n == p->n_fds);
}

/* These are as the restoring program has them. */
static int leads_out(const ThawState__File *f)
{
	return f->kind == THAW_STATE__FILE__KIND__INHERITED || f->kind == THAW_STATE__FILE__KIND__TTY;
}

static void compare_one(const ThawState__Process *p, const ThawState__Fd *d)
{
	const ThawState__File *f = file_of(p, d->file);
	int mask = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_PATH | O_SYNC | O_DSYNC | O_NOATIME | O_ASYNC | O_DIRECTORY;
	int flags = fcntl(d->fd, F_GETFL);

	if (leads_out(f))
		return;
	if (f->has_stored)
		mask &= ~O_DIRECTORY;
	if ((flags & mask) != ((int)f->flags & mask))
		dprintf(report, "fd %d: flags %#o, were %#o\n", d->fd, flags, f->flags);
	CHECK((flags & mask) == ((int)f->flags & mask));
	if (f->kind == THAW_STATE__FILE__KIND__REG || f->kind == THAW_STATE__FILE__KIND__MEMFD)
		CHECK((uint64_t)lseek(d->fd, 0, SEEK_CUR) == f->pos);
}

static void compare(const ThawState__Process *p, int keep)
{
	compare_numbers(p, keep);
	for (size_t i = 0; i < p->n_fds; i++) {
		const ThawState__Fd *d = p->fds[i];

		CHECK(!!(fcntl(d->fd, F_GETFD) & FD_CLOEXEC) == !!d->cloexec);
		compare_one(p, d);
		for (size_t k = 0; k < i; k++)
			if (!leads_out(file_of(p, d->file)) && !leads_out(file_of(p, p->fds[k]->file)))
				CHECK(rig_same(d->fd, p->fds[k]->fd) == (d->file == p->fds[k]->file));
	}
}

/* As the restore does it: late calls after everything else. */
static int late(const ThawState__Process *p)
{
	struct thaw_late *calls;
	int n = thaw_files_late(p, &calls), rc = 0;

	for (int i = 0; i < n && !rc; i++)
		if (syscall(calls[i].nr, calls[i].fd, calls[i].cmd,
			    calls[i].len ? (uint64_t)(uintptr_t)calls[i].data : calls[i].value) < 0)
			rc = thaw_err_set(-errno, "%s: %s", calls[i].what, strerror(errno));
	if (n >= 0)
		free(calls);
	if (n >= 0 && !rc) {
		int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

		rc = thaw_files_watch(p, pidfd);
		close(pidfd);
	}
	return n < 0 ? n : rc;
}

static void new_process(const struct rig_case *c, const ThawState__Process *p, int image)
{
	int keep = dup(2), rc;
	int *keeps[] = { &keep };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rc = thaw_files_restore(p, image, keeps, 1);
	report = keep;
	if (!rc)
		rc = late(p);
	if (rc) {
		snprintf(shared->sentence, sizeof(shared->sentence), "%s", thaw_err_text());
		_exit(rc == thaw_err_code() ? 2 : 1);
	}
	compare(p, keep);
	if (c->verify)
		c->verify();
	_exit(0);
}

/* ---- one case ---- */

/* Through bytes, as an image would do. */
static ThawState__Process *pack_unpack(ThawState__Process *p)
{
	uint8_t *bytes = malloc(thaw_state__process__get_packed_size(p));
	size_t len = thaw_state__process__pack(p, bytes);
	ThawState__Process *q = thaw_state__process__unpack(NULL, len, bytes);

	free(bytes);
	thaw_state__process__free_unpacked(p, NULL);
	return q;
}

static ThawState__Process *new_message(pid_t pid)
{
	ThawState__Process *p = malloc(sizeof(*p));
	char dir[4096];

	thaw_state__process__init(p);
	p->pid = pid;
	p->cwd = strdup(getcwd(dir, sizeof(dir)));
	p->root = strdup("/");
	p->exe = strdup("");
	p->exe_id = malloc(sizeof(*p->exe_id));
	thaw_state__file_id__init(p->exe_id);
	p->auxv.data = malloc(1);
	p->auxv.len = 0;
	return p;
}

static int expect(const struct rig_case *c, const char *what, const char *want)
{
	if (want && matches(want, shared->sentence))
		return 0;
	fprintf(stderr, "%s: %s: %s\n", c->name, what, shared->sentence);
	if (want)
		fprintf(stderr, "%s:   wanted: %s\n", c->name, want);
	return 1;
}

static int restore(const struct rig_case *c, const ThawState__Process *p, int image)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		new_process(c, p, image);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		fprintf(stderr, "%s: the new process ended with status %#x\n", c->name, status);
		return 1;
	}
	if (c->fails) {
		if (WEXITSTATUS(status) != 2)
			fprintf(stderr, "%s: the restore should have failed\n", c->name);
		return WEXITSTATUS(status) != 2 || expect(c, "restore", c->fails) || (c->gone && !access(c->gone, F_OK));
	}
	return WEXITSTATUS(status) == 2 ? expect(c, "restore", NULL) : WEXITSTATUS(status);
}

static int take_over(const struct rig_case *c, pid_t pid, int image)
{
	struct thaw_store *store = thaw_store_new(image);
	ThawState__Process *p = new_message(pid);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), rc = thaw_files_dump(p, pid, pidfd, store), bad = 0;

	close(pidfd);
	snprintf(shared->sentence, sizeof(shared->sentence), "%s", rc ? thaw_err_text() : "(it was not refused)");
	if (rc || c->refused)
		bad = expect(c, "dump", c->refused);
	if (!rc && thaw_store_sync(store))
		bad = 1;
	thaw_store_free(store);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (!rc && !bad) {
		p = pack_unpack(p);
		if (c->between)
			c->between(pid);
		bad = restore(c, p, image);
	}
	thaw_state__process__free_unpacked(p, NULL);
	return bad;
}

static void remove_tree(const char *dir)
{
	char cmd[300];

	snprintf(cmd, sizeof(cmd), "rm -rf -- '%s'", dir);
	if (system(cmd))
		fprintf(stderr, "%s could not be removed\n", dir);
}

static int run_case(const struct rig_case *c)
{
	char dir[] = "/tmp/thaw-files-XXXXXX", image[64];
	pid_t pid;
	int fd, bad;

	if (!mkdtemp(dir) || chdir(dir))
		return 1;
	snprintf(image, sizeof(image), "%s.img", dir);
	mkdir(image, 0700);
	fd = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(shared, 0, sizeof(*shared));
	pid = start_target(c);
	if (pid < 0)
		fprintf(stderr, "%s: the process to be dumped did not come so far\n", c->name);
	bad = pid < 0 || take_over(c, pid, fd);
	for (unsigned i = 0; i < shared->n_helpers; i++)
		kill(shared->helpers[i], SIGKILL);
	close(fd);
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (chdir("/"))
		bad = 1;
	remove_tree(dir);
	remove_tree(image);
	printf("%s %s\n", bad ? "FAIL" : "ok  ", c->name);
	return bad;
}

int rig_run(const struct rig_case *cases, unsigned n)
{
	int bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 1L, 1L)) {
		fprintf(stderr, "no kcmp here\n");
		return 77;
	}
	for (unsigned i = 0; i < n; i++) {
		if (cases[i].skip && cases[i].skip())
			printf("skip %s\n", cases[i].name);
		else
			bad |= run_case(&cases[i]);
	}
	return bad;
}
