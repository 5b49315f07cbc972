// SPDX-License-Identifier: LGPL-2.1-or-later
// Descriptors with a path: regular files, directories, O_PATH, devices, deleted files, memfds, locks; refusals.
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/files_rig.h"

/* ---- regular files ---- */

static void make_regular(void)
{
	char buf[4];

	rig_write("data", "0123456789");
	rig_put(open("data", O_RDWR), 10);
	CHECK(lseek(10, 5, SEEK_SET) == 5);
	CHECK(dup3(10, 20, O_CLOEXEC) == 20);
	rig_put(open("data", O_RDONLY), 11);
	CHECK(read(11, buf, 3) == 3);
	rig_put(open("log", O_WRONLY | O_CREAT | O_APPEND, 0600), 12);
	CHECK(write(12, "line\n", 5) == 5);
	rig_put(open("data", O_RDWR | O_NONBLOCK | O_SYNC), 13);
	rig_put(open("old", O_RDWR | O_CREAT, 0600), 700);
	CHECK(!rename("old", "new name (deleted)"));
	CHECK(mkdir("dir", 0700) == 0);
	rig_put(open("dir", O_RDONLY | O_DIRECTORY), 14);
	rig_put(open("data", O_PATH), 15);
	CHECK(!symlink("data", "link"));
	rig_put(open("link", O_PATH | O_NOFOLLOW), 16);
	rig_put(open("/proc/self/stat", O_RDONLY), 17);
	rig_put(open("/proc/uptime", O_RDONLY), 18);
	CHECK(read(18, buf, 3) == 3);
	rig_write("ro", "x");
	rig_put(open("ro", O_RDONLY), 19);
}

static void grow(pid_t pid)
{
	rig_write("ro", "xy");
	int fd = open("log", O_WRONLY | O_APPEND);

	CHECK(write(fd, "more\n", 5) == 5);
	close(fd);
	(void)pid;
}

static void verify_regular(void)
{
	char buf[16];
	struct stat s, t;

	CHECK(read(20, buf, 2) == 2 && !memcmp(buf, "56", 2));
	CHECK(read(10, buf, 2) == 2 && !memcmp(buf, "78", 2));
	CHECK(read(11, buf, 2) == 2 && !memcmp(buf, "34", 2));
	CHECK(write(12, "end\n", 4) == 4);
	CHECK(!fstat(12, &s) && s.st_size == 14);
	CHECK(!fstat(700, &s) && !stat("new name (deleted)", &t) && s.st_ino == t.st_ino);
	CHECK(!fstat(16, &s) && S_ISLNK(s.st_mode));
	CHECK(read(15, buf, 1) < 0 && errno == EBADF);
	/* Bug: it came back with O_NOFOLLOW. */
	CHECK((fcntl(15, F_GETFL) & (O_PATH | O_NOFOLLOW)) == O_PATH);
	CHECK((fcntl(16, F_GETFL) & (O_PATH | O_NOFOLLOW)) == (O_PATH | O_NOFOLLOW));
	CHECK(!fchdir(14) && !chdir(".."));
	CHECK(lseek(18, 0, SEEK_CUR) == 3);
}

/* A directory in the middle of being listed goes on where it was. */
static void make_listing(void)
{
	CHECK(!mkdir("d", 0700) && !chdir("d"));
	for (int i = 0; i < 300; i++) {
		char name[200];

		snprintf(name, sizeof(name), "%0190d", i);
		rig_write(name, "");
	}
	CHECK(!chdir(".."));
	DIR *d = fdopendir(rig_put(open("d", O_RDONLY | O_DIRECTORY), 10));

	CHECK(d);
	CHECK(readdir(d) && readdir(d));
	rig_share(0, telldir(d));
	CHECK(lseek(10, telldir(d), SEEK_SET) >= 0);
}

static void verify_listing(void)
{
	DIR *d = fdopendir(10);
	int n = 0;

	CHECK(lseek(10, 0, SEEK_CUR) == rig_shared(0));
	while (readdir(d))
		n++;
	CHECK(n == 300);
}

static void make_devices(void)
{
	rig_put(open("/dev/null", O_WRONLY), 10);
	rig_put(open("/dev/zero", O_RDWR), 11);
	rig_put(open("/dev/full", O_RDWR | O_NONBLOCK), 12);
	rig_put(open("/dev/random", O_RDONLY), 13);
	rig_put(open("/dev/urandom", O_RDONLY), 14);
}

static void verify_devices(void)
{
	char a[8] = "1234567", b[8];

	CHECK(write(10, "x", 1) == 1);
	CHECK(read(11, a, 8) == 8 && !memcmp(a, "\0\0\0\0\0\0\0", 8));
	CHECK(write(12, "x", 1) == -1 && errno == ENOSPC);
	CHECK(read(14, a, 8) == 8 && read(14, b, 8) == 8 && memcmp(a, b, 8));
}

/* ---- without a name ---- */

static void make_deleted(void)
{
	rig_put(open("gone", O_RDWR | O_CREAT, 0640), 10);
	CHECK(write(10, "content", 7) == 7);
	CHECK(pwrite(10, "far", 3, 1 << 20) == 3);
	rig_put(open("gone", O_RDONLY | O_NONBLOCK), 11);
	rig_put(open("gone", O_PATH), 12);
	CHECK(!unlink("gone"));
	rig_put(open(".", O_TMPFILE | O_RDWR, 0600), 13);
	CHECK(write(13, "tmp", 3) == 3);
	if (geteuid() == 0)
		CHECK(!fchown(13, 1000, 1001));
}

static void verify_deleted(void)
{
	char buf[16] = "";
	struct stat s, t;

	CHECK(read(11, buf, 7) == 7 && !memcmp(buf, "content", 7));
	CHECK(pread(10, buf, 4, (1 << 20) - 1) == 4 && !memcmp(buf, "\0far", 4));
	CHECK(!fstat(10, &s) && !fstat(11, &t) && s.st_ino == t.st_ino && s.st_nlink == 0 && (s.st_mode & 07777) == 0640);
	CHECK(s.st_blocks < 1000);
	CHECK(!fstat(12, &t) && s.st_ino == t.st_ino);
	CHECK(access("gone", F_OK) < 0);
	CHECK(write(10, "X", 1) == 1 && pread(11, buf, 1, 7) == 1 && buf[0] == 'X');
	CHECK(pread(13, buf, 3, 0) == 3 && !memcmp(buf, "tmp", 3));
	CHECK(geteuid() || (!fstat(13, &s) && s.st_uid == 1000 && s.st_gid == 1001));
}

static void make_memfd(void)
{
	rig_put(memfd_create("plain", 0), 10);
	CHECK(!ftruncate(10, 1 << 22) && pwrite(10, "abc", 3, 100000) == 3);
	CHECK(lseek(10, 77, SEEK_SET) == 77);
	rig_put(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC), 11);
	CHECK(fcntl(11, F_SETFD, FD_CLOEXEC) == 0 && write(11, "seal", 4) == 4);
	CHECK(!fcntl(11, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE));
	rig_share(0, fcntl(10, F_GET_SEALS));
	rig_put(open("/proc/self/fd/10", O_RDONLY), 12);
}

static void verify_memfd(void)
{
	char buf[64] = "";
	struct stat s, t;

	CHECK(pread(10, buf, 3, 100000) == 3 && !memcmp(buf, "abc", 3));
	CHECK(!fstat(10, &s) && s.st_size == 1 << 22 && s.st_blocks < 1000 && !fstat(12, &t) && s.st_ino == t.st_ino);
	CHECK(fcntl(10, F_GET_SEALS) == rig_shared(0));
	CHECK(fcntl(11, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_WRITE) && write(11, "x", 1) < 0 && errno == EPERM);
	CHECK(pread(11, buf, 4, 0) == 4 && !memcmp(buf, "seal", 4));
	CHECK(readlink("/proc/self/fd/11", buf, sizeof(buf)) > 0 && !strncmp(buf, "/memfd:sealed", 13));
}

/* ---- locks and owners ---- */

static void make_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20 };

	rig_put(open("a", O_RDWR | O_CREAT, 0600), 10);
	rig_put(open("b", O_RDWR | O_CREAT, 0600), 11);
	rig_put(open("c", O_RDWR | O_CREAT, 0600), 12);
	CHECK(!flock(10, LOCK_EX) && !fcntl(11, F_SETLK, &l));
	l.l_type = F_RDLCK;
	l.l_len = 0;
	CHECK(!fcntl(12, F_OFD_SETLK, &l));
	CHECK(!fcntl(10, F_SETOWN, getpid()) && !fcntl(10, F_SETSIG, SIGUSR1));
}

static void verify_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open("a", O_RDWR), status;
	pid_t pid;

	CHECK(flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	CHECK(fcntl(10, F_GETOWN) == getpid() && fcntl(10, F_GETSIG) == SIGUSR1);
	pid = fork();
	if (!pid) {
		CHECK(!fcntl(11, F_GETLK, &l) && l.l_type == F_WRLCK && l.l_start == 10 && l.l_len == 20 && l.l_pid == getppid());
		l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
		fd = open("c", O_RDWR);
		CHECK(!fcntl(fd, F_OFD_GETLK, &l) && l.l_type == F_RDLCK && l.l_start == 10 && l.l_len == 0);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static int holder_fd;

static void hold_lock(pid_t pid)
{
	holder_fd = open("a", O_RDWR);
	CHECK(holder_fd >= 0 && !flock(holder_fd, LOCK_EX | LOCK_NB));
	(void)pid;
}

/* ---- the number is already somebody's, or beyond the limit ---- */

static void make_high(void)
{
	struct rlimit l = { 5000, 5000 };

	if (setrlimit(RLIMIT_NOFILE, &l))
		CHECK(!getrlimit(RLIMIT_NOFILE, &l));
	rig_write("f", "high");
	for (int i = 3; i < 60; i++)
		rig_put(open("f", O_RDONLY), i);
	rig_put(open("f", O_RDONLY), l.rlim_cur < 5000 ? (int)l.rlim_cur - 1 : 4999);
}

/* Lowest numbers: what the restore has open for itself in between must not stand in the way, nor be closed in its place. */
static void make_low(void)
{
	rig_put(open("gone", O_RDWR | O_CREAT, 0600), 3);
	CHECK(write(3, "three", 5) == 5 && !unlink("gone"));
	rig_put(memfd_create("four", 0), 4);
	CHECK(write(4, "four", 4) == 4);
	rig_put(dup(3), 5);
	CHECK(pipe((int[2]){ 0 }) == 0);  /* 6, 7 */
	CHECK(write(7, "pipe", 4) == 4);
	rig_put(open("gone2", O_RDWR | O_CREAT, 0600), 8);
	CHECK(write(8, "eight", 5) == 5 && !unlink("gone2"));
	rig_put(open("/proc/self/fd/8", O_RDONLY), 9);
}

static void verify_low(void)
{
	char buf[8];

	CHECK(pread(3, buf, 8, 0) == 5 && !memcmp(buf, "three", 5) && lseek(5, 0, SEEK_CUR) == 5);
	CHECK(pread(4, buf, 8, 0) == 4 && !memcmp(buf, "four", 4) && read(6, buf, 8) == 4 && !memcmp(buf, "pipe", 4));
	CHECK(pread(8, buf, 8, 0) == 5 && !memcmp(buf, "eight", 5) && read(9, buf, 8) == 5);
}

/* ---- refusals ---- */

static void make_linked(void)
{
	rig_put(open("one", O_RDWR | O_CREAT, 0600), 10);
	CHECK(!link("one", "two") && !unlink("one"));
}

static void make_rmdir(void)
{
	CHECK(!mkdir("d", 0700));
	rig_put(open("d", O_RDONLY), 10);
	CHECK(!rmdir("d"));
}

static void make_other_proc(void)
{
	rig_put(open("/proc/1/stat", O_RDONLY), 10);
}

static void make_ptmx(void)
{
	rig_put(open("/dev/ptmx", O_RDWR | O_NOCTTY), 10);
}

static void make_lease(void)
{
	rig_put(open("f", O_RDONLY | O_CREAT, 0600), 10);
	CHECK(!fcntl(10, F_SETLEASE, F_RDLCK));
}

static void make_namespace(void)
{
	rig_put(open("/proc/self/ns/net", O_RDONLY), 10);
}

static int no_ptmx(void)
{
	int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static void sleep_on(void *arg)
{
	(void)arg;
}

static void make_shared_lock(void)
{
	rig_put(open("lock", O_RDWR | O_CREAT, 0600), 9);
	CHECK(!flock(9, LOCK_EX));
	rig_helper(sleep_on, NULL);
}

static void make_shared_memfd(void)
{
	rig_put(memfd_create("both", 0), 10);
	rig_helper(sleep_on, NULL);
}

/* ---- restores that fail ---- */

static void make_file(void)
{
	rig_write("file", "0123456789");
	rig_put(open("file", O_RDWR), 10);
}

static void replace(pid_t pid)
{
	CHECK(!rename("file", "aside"));
	rig_write("file", "0123456789");
	(void)pid;
}

static void shorten(pid_t pid)
{
	CHECK(!truncate("file", 4));
	(void)pid;
}

static void take_away(pid_t pid)
{
	CHECK(!unlink("file"));
	(void)pid;
}

static void to_fifo(pid_t pid)
{
	CHECK(!unlink("file") && !mkfifo("file", 0600));
	(void)pid;
}

int main(void)
{
	static const struct rig_case cases[] = {
		{ "regular files, directories, O_PATH", make_regular, verify_regular, .between = grow },
		{ "a directory being listed", make_listing, verify_listing },
		{ "devices", make_devices, verify_devices },
		{ "deleted files", make_deleted, verify_deleted },
		{ "memfds", make_memfd, verify_memfd },
		{ "locks and owners", make_locks, verify_locks },
		{ "many and high numbers", make_high },
		{ "lowest numbers", make_low, verify_low },
		{ "removed under one of its names", make_linked,
		  .refused = "fd 10: */one (deleted): was removed, but the file lives on under a name that is not known: not supported; close it before the checkpoint" },
		{ "removed directory", make_rmdir,
		  .refused = "fd 10: */d (deleted): a removed directory: not supported; close it before the checkpoint" },
		{ "another process's /proc", make_other_proc,
		  .refused = "fd 10: /proc/1/stat of another process: not supported; close it before the checkpoint" },
		{ "pseudo-terminal master", make_ptmx, .skip = no_ptmx,
		  .refused = "fd 10: pseudo-terminal master /dev/* (5:2): not supported; close it before the checkpoint" },
		{ "lease", make_lease, .refused = "fd 10: file lease on */f: not supported; give it up before the checkpoint" },
		{ "namespace", make_namespace, .refused = "fd 10: net:[*]: not supported; close it before the checkpoint" },
		{ "lock of two processes", make_shared_lock,
		  .refused = "fd 9: lock of */lock that process * (rig-helper) holds through the same description: not supported; end that process, or if this one only inherited it start it with 9>&-" },
		{ "memfd of two processes", make_shared_memfd,
		  .refused = "fd 10: /memfd:both (deleted) that process * (rig-helper) also has open: not supported; close it in one of the two" },
		{ "replaced file", make_file, .between = replace,
		  .fails = "fd 10: */file: is not the file that was checkpointed (inode *, now *); put the old one back" },
		{ "shortened file", make_file, .between = shorten,
		  .fails = "fd 10: */file: is not the file that was checkpointed (size 10, now 4); put the old one back" },
		{ "missing file", make_file, .between = take_away,
		  .fails = "fd 10: */file: cannot be opened again: No such file or directory" },
		{ "FIFO in place of the file", make_file, .between = to_fifo,
		  .fails = "fd 10: */file: is not the file that was checkpointed (*" },
		{ "lock taken by another", make_locks, .between = hold_lock,
		  .fails = "fd 10: */a: flock cannot be taken again: Resource temporarily unavailable; another process has it" },
	};

	return rig_run(cases, sizeof(cases) / sizeof(*cases));
}
