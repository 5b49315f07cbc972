// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/process.c - the worker processes: started from their own executable, asked for their userfaultfd, ended with all they forked */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKER "thaw-stress-worker"
#define FIRST_FREE_FD 10 /* below lie those that the worker expects */
#define START_MS 60000
#define LOOK_MS 50

extern char **environ;

/* Beside the program, above it where libtool has put the program into .libs, or where it is installed. */
static const char *find_worker(char *path, size_t size)
{
	char self[4096], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = 0;
	slash = strrchr(self, '/');
	if (slash) {
		*slash = 0;
		if (snprintf(path, size, "%s/" WORKER, self) < (int)size && !access(path, X_OK))
			return path;
		slash = strrchr(self, '/');
		if (slash && !strcmp(slash, "/.libs")) {
			*slash = 0;
			if (snprintf(path, size, "%s/" WORKER, self) < (int)size && !access(path, X_OK))
				return path;
		}
	}
	snprintf(path, size, "%s/" WORKER, PKGLIBEXECDIR);
	return path;
}

static int high(int fd)
{
	int up = fd < 0 || fd >= FIRST_FREE_FD ? fd : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);

	if (up != fd)
		close(fd);
	return up;
}

static int spawn(struct stress_process *p, unsigned number, int theirs, int shared_fd, int scratch_fd)
{
	char path[4200], text[16], parent[16], *argv[] = { (char *)WORKER, text, parent, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int err;

	snprintf(text, sizeof(text), "%u", number);
	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, theirs, STRESS_SOCKET_FD);
	posix_spawn_file_actions_adddup2(&actions, shared_fd, STRESS_SHARED_FD);
	if (scratch_fd >= 0)
		posix_spawn_file_actions_adddup2(&actions, scratch_fd, STRESS_SCRATCH_FD);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
	err = posix_spawn(&p->pid, find_worker(path, sizeof(path)), &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return err;
}

int thaw_stress_process_start(struct stress_process *p, unsigned number, int shared_fd, int scratch_fd, char *why, size_t size)
{
	int s[2], err;

	*p = (struct stress_process){ 0, -1, -1, -1, false, 0 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s)) {
		snprintf(why, size, "socketpair: %s", strerror(errno));
		return -1;
	}
	s[0] = high(s[0]);
	s[1] = high(s[1]);
	err = s[0] < 0 || s[1] < 0 ? errno : spawn(p, number, s[1], shared_fd, scratch_fd);
	close(s[1]);
	p->sock = s[0];
	if (err) {
		p->pid = 0;
		snprintf(why, size, "the program %s cannot be run: %s", WORKER, strerror(err));
		return -1;
	}
	p->pidfd = syscall(SYS_pidfd_open, p->pid, 0);
	return 0;
}

/* A worker with much memory takes its time: it is waited for in short turns. */
static bool has_sent(int sock, const volatile int *stop)
{
	struct pollfd poller = { .fd = sock, .events = POLLIN };
	uint64_t began = thaw_stress_ms();
	int n = 0;

	while (n <= 0 && !*stop && thaw_stress_ms() - began < START_MS)
		n = poll(&poller, 1, LOOK_MS);
	return n == 1 && !*stop;
}

bool thaw_stress_is_numbered(int uffd)
{
	unsigned long long features = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
	f = fopen(path, "re");
	while (f && !features && fgets(line, sizeof(line), f))
		(void)sscanf(line, "API: %*x:%llx", &features);
	if (f)
		fclose(f);
	return features & UFFD_FEATURE_EVENT_SEQ;
}

int thaw_stress_process_uffd(struct stress_process *p, const struct stress_shared *s, const volatile int *stop, char *why, size_t size)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };

	if (!has_sent(p->sock, stop) || recvmsg(p->sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg)) {
		snprintf(why, size, "a worker did not start: %s", s->trouble[0] ? s->trouble : "it sent no userfaultfd");
		return -1;
	}
	memcpy(&p->uffd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(p->uffd));
	if (s->numbers && !thaw_stress_is_numbered(p->uffd)) { /* the library would go by the gate, and nothing be shown of the other way */
		snprintf(why, size, "a worker's userfaultfd does not number its messages");
		return -1;
	}
	return 0;
}

void thaw_stress_process_go(struct stress_process *p)
{
	(void)send(p->sock, "g", 1, MSG_NOSIGNAL); /* gone already: its end is seen like any other */
}

void thaw_stress_process_kill(struct stress_process *p)
{
	if (!p->pid)
		return;
	kill(-p->pid, SIGKILL); /* those that it forked, too: they are in its group */
	kill(p->pid, SIGKILL);
	while (!p->ended && waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
		;
	p->ended = true;
	/* Its orphans are ours (we are a subreaper): all of the group. */
	while (waitpid(-p->pid, NULL, 0) > 0)
		;
}

void thaw_stress_process_close(struct stress_process *p)
{
	if (p->sock >= 0)
		close(p->sock);
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->uffd >= 0)
		close(p->uffd);
	p->sock = p->pidfd = p->uffd = -1;
}
