// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/outfile.c - a result file that appears whole or not at all.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/outfile.h"
#include "util/err.h"

static int fail(const struct thaw_outfile *f, int error)
{
	return thaw_err_set(-error, "%s %s: cannot be written: %s", f->what, f->path, strerror(error));
}

static char *sibling(const char *path)
{
	char *name;

	return asprintf(&name, "%s.%d.new", path, (int)getpid()) < 0 ? NULL : name;
}

static int open_unnamed(const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -1;
	int fd = open(dirname(copy), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
	int error = errno;

	free(copy);
	errno = error;
	return fd;
}

/* What must not be replaced by a new file: devices and pipes, and links in /dev and /proc that stand for a descriptor. */
static bool is_direct(const char *path)
{
	struct stat st;

	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return true;
	return !lstat(path, &st) && S_ISLNK(st.st_mode) && (!strncmp(path, "/dev/", 5) || !strncmp(path, "/proc/", 6));
}

static int open_direct(struct thaw_outfile *f)
{
	f->direct = true;
	f->fd = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
	return f->fd < 0 ? fail(f, errno) : 0;
}

static bool has_no_tmpfile(int error)
{
	return error == EOPNOTSUPP || error == EISDIR || error == ENOENT || error == EINVAL;
}

static int open_named(struct thaw_outfile *f)
{
	f->temp = sibling(f->target);
	if (!f->temp)
		return fail(f, ENOMEM);
	f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (f->fd < 0) {
		int error = errno;

		free(f->temp); /* not made by us: not ours to remove */
		f->temp = NULL;
		return fail(f, error);
	}
	return 0;
}

int thaw_outfile_open(struct thaw_outfile *f, const char *what, const char *path)
{
	*f = (struct thaw_outfile){ .path = path, .what = what, .fd = -1 };
	if (!path)
		return 0;
	if (is_direct(path))
		return open_direct(f);
	f->target = realpath(path, NULL); /* a link stays a link; none if there is no such file yet */
	if (!f->target)
		f->target = strdup(path);
	if (!f->target)
		return fail(f, ENOMEM);
	f->fd = open_unnamed(f->target);
	if (f->fd >= 0)
		return 0;
	return has_no_tmpfile(errno) ? open_named(f) : fail(f, errno);
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		data += n;
		len -= n;
	}
	return 0;
}

/* Gives the unnamed file a name beside the path, so that rename(2) can put it in place. */
static int name_it(struct thaw_outfile *f)
{
	char self[64];

	if (f->temp)
		return 0;
	f->temp = sibling(f->target);
	if (!f->temp)
		return ENOMEM;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	if (!linkat(AT_FDCWD, self, AT_FDCWD, f->temp, AT_SYMLINK_FOLLOW))
		return 0;
	int error = errno;
	free(f->temp);
	f->temp = NULL;
	return error;
}

int thaw_outfile_commit(struct thaw_outfile *f, const char *data, size_t len)
{
	if (!f->path)
		return 0;
	int error = write_all(f->fd, data, len);
	if (!error && !f->direct) {
		error = name_it(f);
		if (!error && rename(f->temp, f->target))
			error = errno;
		if (!error) {
			free(f->temp);
			f->temp = NULL;
		}
	}
	f->committed = !error;
	return error ? fail(f, error) : 0;
}

void thaw_outfile_remove(struct thaw_outfile *f)
{
	if (f->committed && !f->direct)
		unlink(f->target);
	f->committed = false;
}

void thaw_outfile_close(struct thaw_outfile *f)
{
	if (f->temp)
		unlink(f->temp);
	thaw_outfile_leave(f);
}

void thaw_outfile_leave(struct thaw_outfile *f)
{
	free(f->temp);
	free(f->target);
	f->temp = f->target = NULL;
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
