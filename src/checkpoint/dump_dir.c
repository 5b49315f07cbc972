// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_dir.c - the image directory: written aside under another name, complete when it has its own */
#include "config.h"
#include "checkpoint/dump_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"

#define MARK ".thaw-"

/* ---- where ------------------------------------------------------------------------------------------------------ */
/* The parent is opened, the last component remembered; "." and ".." are looked up so that there is a last one. */
static int split(struct thaw_dump_dir *dir, const char *path)
{
	char *real = NULL, *copy, *slash;
	size_t len;

	copy = strdup(path);
	if (!copy)
		return thaw_err_set(-ENOMEM, "no memory for a path");
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	slash = strrchr(copy, '/');
	if (!strcmp(slash ? slash + 1 : copy, ".") || !strcmp(slash ? slash + 1 : copy, "..")) {
		real = realpath(copy, NULL);
		if (!real) {
			free(copy);
			return thaw_err_set(-errno, "%s: %s", path, strerror(errno));
		}
		free(copy);
		copy = real;
		slash = strrchr(copy, '/');
	}
	dir->name = strdup(slash ? slash + 1 : copy);
	if (slash)
		slash[slash == copy] = '\0';
	dir->parent_fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->parent_fd < 0)
		thaw_err_set(-errno, "%s: its parent directory: %s", path, strerror(errno));
	free(copy);
	if (dir->parent_fd < 0)
		return thaw_err_code();
	if (!dir->name || !*dir->name)
		return thaw_err_set(-EINVAL, "%s: cannot be an image directory: name a new one", path);
	if (strlen(dir->name) > 200)
		return thaw_err_set(-ENAMETOOLONG, "%s: the name of an image directory has at most 200 bytes", path);
	return 0;
}

static int is_empty(int fd)
{
	struct dirent *e;
	int empty = 1;
	DIR *d = fdopendir(fd);

	if (!d)
		return -errno;
	while (empty && (e = readdir(d)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	closedir(d);
	return empty;
}

/* Nothing there, or an empty directory that a rename can replace. */
static int check_target(struct thaw_dump_dir *dir)
{
	struct stat up, st;
	int fd, empty;

	if (fstatat(dir->parent_fd, dir->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : thaw_err_set(-errno, "%s: %s", dir->path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return thaw_err_set(-ENOTDIR, "%s: is there and is not a directory: name a new one", dir->path);
	if (fstat(dir->parent_fd, &up) == 0 && up.st_dev != st.st_dev)
		return thaw_err_set(-EBUSY, "%s: is where a file system is mounted, which cannot be replaced: "
				    "name a new directory in it, %s/NAME", dir->path, dir->path);
	fd = openat(dir->parent_fd, dir->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	empty = fd < 0 ? -errno : is_empty(fd);
	if (empty < 0)
		return thaw_err_set(empty, "%s: %s", dir->path, strerror(-empty));
	if (!empty)
		return thaw_err_set(-EEXIST, "%s: is not empty: images are never overwritten; name a new directory, or remove "
				    "this one", dir->path);
	return 0;
}

/* ---- aside ------------------------------------------------------------------------------------------------------ */
static void remove_tree(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(fd, e->d_name, 0);
	if (d)
		closedir(d);
	unlinkat(parent_fd, name, AT_REMOVEDIR);
}

/* Leftovers for the same name that nobody writes any more. Their lock went with their writers. */
static void remove_leftovers(struct thaw_dump_dir *dir)
{
	char prefix[256];
	int copy = openat(dir->parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	struct stat st;

	snprintf(prefix, sizeof(prefix), ".%s" MARK, dir->name);
	while (d && (e = readdir(d))) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) || strlen(e->d_name) != strlen(prefix) + 6)
			continue;
		fd = openat(dir->parent_fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0)
			remove_tree(dir->parent_fd, e->d_name);
		close(fd);
	}
	if (d)
		closedir(d);
}

static void random_name(struct thaw_dump_dir *dir)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char raw[6] = { 0 };
	char tail[7] = "";
	size_t i;

	if (getrandom(raw, sizeof(raw), GRND_NONBLOCK) != sizeof(raw))
		snprintf((char *)raw, sizeof(raw), "%d", getpid());
	for (i = 0; i < sizeof(raw); i++)
		tail[i] = letters[raw[i] % (sizeof(letters) - 1)];
	snprintf(dir->aside, sizeof(dir->aside), ".%s" MARK "%s", dir->name, tail);
}

int thaw_dump_dir_choose(struct thaw_dump_dir *dir, const char *path)
{
	int r;

	*dir = (struct thaw_dump_dir){ .path = strdup(path), .parent_fd = -1, .fd = -1 };
	r = dir->path ? split(dir, path) : thaw_err_set(-ENOMEM, "no memory for a path");
	if (r == 0)
		r = check_target(dir);
	if (r == 0) {
		remove_leftovers(dir);
		random_name(dir);
	} else {
		thaw_dump_dir_close(dir);
	}
	return r;
}

int thaw_dump_dir_make(struct thaw_dump_dir *dir)
{
	if (mkdirat(dir->parent_fd, dir->aside, 0700) < 0) {
		int err = errno;

		dir->aside[0] = '\0'; /* if it is there, it is not ours */
		return thaw_err_set(-err, "%s: a directory beside it cannot be made: %s", dir->path, strerror(err));
	}
	dir->fd = openat(dir->parent_fd, dir->aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir->fd < 0 || flock(dir->fd, LOCK_EX | LOCK_NB) < 0 || fchmod(dir->fd, 0700) < 0)
		return thaw_err_set(-errno, "%s: the directory beside it: %s", dir->path, strerror(errno));
	return 0;
}

int thaw_dump_dir_commit(struct thaw_dump_dir *dir)
{
	if (fsync(dir->fd) < 0)
		return thaw_err_set(-errno, "%s: %s", dir->path, strerror(errno));
	if (renameat(dir->parent_fd, dir->aside, dir->parent_fd, dir->name) < 0)
		return thaw_err_set(-errno, "%s: %s", dir->path, errno == ENOTEMPTY || errno == EEXIST ?
				    "is not empty any more: images are never overwritten" : strerror(errno));
	dir->aside[0] = '\0';
	if (fsync(dir->parent_fd) < 0)
		return thaw_err_set(-errno, "%s: its name: %s", dir->path, strerror(errno));
	return 0;
}

void thaw_dump_dir_remove(struct thaw_dump_dir *dir)
{
	if (dir->aside[0])
		remove_tree(dir->parent_fd, dir->aside);
	dir->aside[0] = '\0';
}

void thaw_dump_dir_close(struct thaw_dump_dir *dir)
{
	free(dir->path);
	free(dir->name);
	if (dir->parent_fd >= 0)
		close(dir->parent_fd);
	if (dir->fd >= 0)
		close(dir->fd);
	*dir = (struct thaw_dump_dir){ .parent_fd = -1, .fd = -1 };
}
