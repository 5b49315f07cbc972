// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/lazystart.c - thaw lazy-pages begins: directories, log, socket, the fork of -d, and the word that it listens.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/lazy.h"
#include "kern/keep.h"
#include "lazy/receive.h"
#include "lazy/status.h"
#include "util/err.h"

#define BACKLOG 10
#define HIGH_FD 100
#define OTHER_TRIES 20
#define OTHER_PAUSE_MS 100

extern char **environ;

/* A copy out of the way of the numbers that callers give out; where the limit is lower than that, not below standard error at least. */
static int set_aside(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	return high < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : high;
}

/* ---- directories and the log ------------------------------------------------------------------------------- */
static int open_log(const char *path)
{
	int fd, high;

	if (!path)
		return 0;
	fd = strcmp(path, "-") ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600) : dup(STDOUT_FILENO);
	if (fd < 0)
		return thaw_err_set(-errno, "log file %s: cannot be opened: %s", path, strerror(errno));
	high = set_aside(fd);
	if (high < 0)
		return thaw_err_set(-errno, "log file %s: %s", path, strerror(errno));
	close(fd);
	thaw_say_log_to(high);
	return 0;
}

int thaw_lazy_enter(struct thaw_lazy_start *s, const struct thaw_lazy_command *c)
{
	const char *images = c->images_dir ? c->images_dir : ".", *work = c->work_dir ? c->work_dir : images;

	*s = (struct thaw_lazy_start){
		.imagesfd = -1, .listenfd = -1, .lockfd = -1, .watchfd = -1, .status = -1, .ready = -1, .caller = -1,
	};
	for (unsigned i = 0; i < c->n_closes; i++)
		close(c->closes[i]);
	/* The standard ones are /dev/null with -d when the byte is written. */
	if (c->status_fd >= 0)
		s->status = c->status_fd <= STDERR_FILENO ? set_aside(c->status_fd) : c->status_fd;
	if (c->status_fd >= 0 && fcntl(s->status, F_SETFD, FD_CLOEXEC))
		return thaw_err_set(-errno, "--status-fd %d: %s", c->status_fd, strerror(errno));
	s->imagesfd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->imagesfd < 0)
		return thaw_err_set(-errno, "image directory %s: %s", images, strerror(errno));
	if (chdir(work))
		return thaw_err_set(-errno, "work directory %s: %s", work, strerror(errno));
	return open_log(c->log_file);
}

/* ---- the socket -------------------------------------------------------------------------------------------- */
/* What an earlier daemon has left; never anything else. */
static int clear_name(void)
{
	struct stat st;

	if (lstat(THAW_LAZY_SOCKET, &st))
		return errno == ENOENT ? 0 : thaw_err_set(-errno, THAW_LAZY_SOCKET ": %s", strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return thaw_err_set(-EEXIST, THAW_LAZY_SOCKET ": exists in the work directory and is no socket: remove it");
	if (unlink(THAW_LAZY_SOCKET))
		return thaw_err_set(-errno, THAW_LAZY_SOCKET ": an old one cannot be removed: %s", strerror(errno));
	return 0;
}

/* Who listens here has the directory locked. True: another has. (Where there are no locks nobody is warned.) */
static bool lock_directory(struct thaw_lazy_start *s)
{
	if (s->lockfd < 0)
		s->lockfd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->lockfd >= 0 && flock(s->lockfd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
}

/* Its socket has been taken away, as criu would; it sees that, and ends. */
static void await_other(struct thaw_lazy_start *s)
{
	unsigned tries = 0;

	thaw_say(0, THAW_LAZY_SOCKET ": another daemon was listening in this work directory, without a restore: this one takes its place");
	while (lock_directory(s) && ++tries < OTHER_TRIES)
		poll(NULL, 0, OTHER_PAUSE_MS);
	if (tries == OTHER_TRIES)
		thaw_say(0, THAW_LAZY_SOCKET ": the other daemon does not end, though no restore can reach it any more: end it");
}

static void watch_name(struct thaw_lazy_start *s)
{
	s->watchfd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->watchfd >= 0 && inotify_add_watch(s->watchfd, THAW_LAZY_SOCKET, IN_ATTRIB | IN_MOVE_SELF) < 0) {
		close(s->watchfd);
		s->watchfd = -1; /* no watch is left: nobody is told */
	}
}

int thaw_lazy_watch(struct thaw_lazy_start *s)
{
	char events[4096];
	struct stat st;

	if (s->watchfd < 0 || (read(s->watchfd, events, sizeof(events)) < 0 && errno == EAGAIN) || s->listenfd < 0)
		return 0;
	if (!lstat(THAW_LAZY_SOCKET, &st)) {
		if (st.st_dev == s->dev && st.st_ino == s->ino)
			return 0;
		return thaw_err_set(-EADDRINUSE, THAW_LAZY_SOCKET ": another daemon has put its own in the place: no restore can come here any more");
	}
	if (errno != ENOENT)
		return 0;
	/* One that is just being put in the place is told of with the next look; a name that is gone stays so. */
	poll(NULL, 0, 50);
	return thaw_err_set(-ENOENT, THAW_LAZY_SOCKET ": was %s: no restore can come here any more",
			    lstat(THAW_LAZY_SOCKET, &st) ? "removed" : "replaced by another daemon's");
}

int thaw_lazy_listen(struct thaw_lazy_start *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = THAW_LAZY_SOCKET };
	struct stat st;
	bool other = lock_directory(s);
	mode_t mask;
	int err;

	err = clear_name();
	if (err)
		return err;
	s->listenfd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listenfd < 0)
		return thaw_err_set(-errno, "socket: %s", strerror(errno));
	err = thaw_receive_prepare(s->listenfd);
	if (err)
		return err;
	mask = umask(077); /* whoever may connect hands us descriptors and is believed */
	err = bind(s->listenfd, (void *)&a, offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path)) ? -errno : 0;
	umask(mask);
	if (err)
		return thaw_err_set(err, THAW_LAZY_SOCKET ": cannot be made in the work directory: %s", strerror(-err));
	err = thaw_keep_init();
	if (err)
		return thaw_err_set(err, "no memory for the list of sockets");
	thaw_keep_add_arrivals(s->listenfd);
	if (listen(s->listenfd, BACKLOG) || lstat(THAW_LAZY_SOCKET, &st))
		return thaw_err_set(-errno, THAW_LAZY_SOCKET ": %s", strerror(errno));
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	watch_name(s);
	if (other)
		await_other(s);
	return 0;
}

void thaw_lazy_unlisten(struct thaw_lazy_start *s)
{
	struct stat st;

	if (s->listenfd < 0)
		return;
	thaw_keep_remove(s->listenfd);
	close(s->listenfd);
	s->listenfd = -1;
	if (s->lockfd >= 0)
		close(s->lockfd);
	s->lockfd = -1;
	/* The watch stays open: its end waits for a grace period of the kernel, and the first task for us. */
	/* Another daemon may have put its own in the place. */
	if (!lstat(THAW_LAZY_SOCKET, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(THAW_LAZY_SOCKET);
}

static int accept_one(const struct thaw_lazy_start *s)
{
	int conn;

	do
		conn = accept4(s->listenfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (conn < 0 && (errno == EINTR || errno == ECONNABORTED));
	return conn;
}

int thaw_lazy_accept(struct thaw_lazy_start *s)
{
	int conn = accept_one(s);

	/* What waits may hold all userfaultfds of tasks that run, and they would be closed with it. The lock goes now in any case. */
	if (conn < 0 && (errno == EMFILE || errno == ENFILE) && s->lockfd >= 0) {
		close(s->lockfd);
		s->lockfd = -1;
		conn = accept_one(s);
	}
	if (conn < 0)
		return errno == EAGAIN ? -EAGAIN : thaw_err_set(-errno, THAW_LAZY_SOCKET ": accept: %s", strerror(errno));
	/* A userfaultfd that has been sent is open nowhere else should we die before we receive it. The session takes it off. */
	thaw_keep_add_arrivals(conn);
	thaw_lazy_unlisten(s);
	return conn;
}

int thaw_lazy_accept_last(struct thaw_lazy_start *s)
{
	int conn = s->listenfd < 0 || shutdown(s->listenfd, SHUT_RD) ? -EAGAIN : thaw_lazy_accept(s);

	return conn < 0 ? -EAGAIN : conn; /* EINVAL: nobody is there, and nobody can come */
}

/* ---- the background ---------------------------------------------------------------------------------------- */
static int write_pidfile(const struct thaw_lazy_command *c, pid_t pid)
{
	struct thaw_outfile f;
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)pid), r = thaw_outfile_open(&f, "pidfile", c->pidfile);

	if (!r)
		r = thaw_outfile_commit(&f, text, n);
	thaw_outfile_close(&f);
	return r;
}

/* The daemon's word: its exit status, 0 when it serves. */
static int await_daemon(int ready, pid_t pid)
{
	int status = thaw_await_ready(ready);

	if (status >= 0)
		return status;
	thaw_say_error("the daemon (pid %d) died before it served", (int)pid);
	return THAW_EXIT_FAILURE;
}

static int be_parent(const struct thaw_lazy_command *c, pid_t pid, int go, int ready)
{
	int status;

	/* The pidfile first, so that it is there when anybody is told that we listen. */
	if (write_pidfile(c, pid) < 0) {
		close(go); /* without the byte it leaves */
		return thaw_say_failure();
	}
	if (write(go, "", 1) != 1)
		thaw_say(1, "the daemon is gone");
	status = await_daemon(ready, pid);
	if (status && c->pidfile)
		unlink(c->pidfile);
	return status;
}

static void become_daemon(struct thaw_lazy_start *s, int go, int ready)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char byte;

	setsid();
	if (read(go, &byte, 1) != 1)
		_exit(THAW_EXIT_FAILURE); /* the parent has said why */
	close(go);
	s->ready = ready;
	s->caller = set_aside(STDERR_FILENO);
	thaw_say_redirect(s->caller); /* until it serves */
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
}

int thaw_lazy_detach(struct thaw_lazy_start *s, const struct thaw_lazy_command *c, int *status)
{
	int go[2], ready[2];
	pid_t pid;

	if (!c->detach)
		return c->pidfile ? write_pidfile(c, getpid()) : 0;
	if (pipe2(go, O_CLOEXEC) || pipe2(ready, O_CLOEXEC))
		return thaw_err_set(-errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return thaw_err_set(-errno, "fork: %s", strerror(errno));
	close(pid ? go[0] : go[1]);
	close(pid ? ready[1] : ready[0]);
	if (!pid) {
		become_daemon(s, go[0], ready[1]);
		return 0;
	}
	*status = be_parent(c, pid, go[1], ready[0]);
	return 1;
}

void thaw_lazy_tell_parent(struct thaw_lazy_start *s, int status)
{
	unsigned char byte = status;

	if (s->ready < 0)
		return;
	if (write(s->ready, &byte, 1) < 0)
		thaw_say(1, "the caller is gone");
	close(s->ready);
	s->ready = -1;
	if (status)
		return;
	/* Whoever reads what it wrote there until the end would wait for ours. */
	thaw_say_redirect(-1);
	if (s->caller >= 0)
		close(s->caller);
	s->caller = -1;
}

/* ---- ready ------------------------------------------------------------------------------------------------- */
/* Set to what a script is to see; system(3) would let signals through that we have blocked. */
static int run_script(const char *script)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	posix_spawnattr_t a;
	sigset_t none;
	pid_t pid;
	int status, err;

	sigemptyset(&none);
	posix_spawnattr_init(&a);
	posix_spawnattr_setsigmask(&a, &none);
	posix_spawnattr_setflags(&a, POSIX_SPAWN_SETSIGMASK);
	err = posix_spawn(&pid, "/bin/sh", NULL, &a, argv, environ);
	posix_spawnattr_destroy(&a);
	if (err)
		return thaw_err_set(-err, "action script %s: %s", script, strerror(err));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return thaw_err_set(-errno, "action script %s: %s", script, strerror(errno));
	if (WIFSIGNALED(status))
		return thaw_err_set(-EIO, "action script %s: was killed by signal %d at status-ready", script, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return thaw_err_set(-EIO, "action script %s: failed with exit status %d at status-ready", script,
				    WEXITSTATUS(status));
	return 0;
}

static int run_scripts(const struct thaw_lazy_start *s, const struct thaw_lazy_command *c)
{
	char link[48], dir[4096];
	ssize_t n;
	int ret = 0;

	if (!c->n_scripts)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", s->imagesfd);
	n = readlink(link, dir, sizeof(dir) - 1);
	dir[n > 0 ? n : 0] = '\0';
	setenv("CRTOOLS_SCRIPT_ACTION", "status-ready", 1);
	setenv("CRTOOLS_IMAGE_DIR", dir, 1);
	for (unsigned i = 0; i < c->n_scripts && !ret; i++)
		ret = run_script(c->script[i]);
	unsetenv("CRTOOLS_SCRIPT_ACTION");
	unsetenv("CRTOOLS_IMAGE_DIR");
	return ret;
}

int thaw_lazy_ready(const struct thaw_lazy_start *s, const struct thaw_lazy_command *c)
{
	int ret = run_scripts(s, c), null;

	if (ret || c->status_fd < 0)
		return ret;
	if (write(s->status, "", 1) != 1)
		ret = thaw_err_set(-errno, "--status-fd %d: cannot be written: %s", c->status_fd, strerror(errno));
	close(s->status);
	/* Who waits for the end gets it, and the number does not become another file's. */
	null = c->status_fd <= STDERR_FILENO ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	if (null >= 0) {
		dup2(null, c->status_fd);
		close(null);
		if (c->status_fd == STDERR_FILENO && s->caller < 0)
			thaw_say_redirect(STDERR_FILENO); /* it has another descriptor of what that was */
	}
	return ret;
}
