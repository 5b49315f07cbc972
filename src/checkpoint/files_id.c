// SPDX-License-Identifier: LGPL-2.1-or-later
// Identity of files: what a path must still lead to at restore, and the sentence that says what is different.
#include "config.h"

#include <errno.h>

#include "checkpoint/files_priv.h"

void thaw_file_id(ThawState__FileId *id, int fd)
{
	struct stat s;

	if (fstat(fd, &s))
		memset(&s, 0, sizeof(s));
	id->dev = s.st_dev;
	id->ino = s.st_ino;
	id->size = (uint64_t)s.st_size;
	id->mtime_sec = s.st_mtim.tv_sec;
	id->mtime_nsec = s.st_mtim.tv_nsec;
	id->mode = s.st_mode;
}

static int differs(const char *path, const char *what, unsigned long long was, unsigned long long now)
{
	return thaw_err_set(-ESTALE, "%s: is not the file that was checkpointed (%s %llu, now %llu); put the old one back", path,
			    what, was, now);
}

static bool same_time(const ThawState__FileId *id, const struct stat *s)
{
	return s->st_mtim.tv_sec == id->mtime_sec && s->st_mtim.tv_nsec == id->mtime_nsec;
}

static int check(const ThawState__FileId *id, int fd, const char *path, bool exact)
{
	struct stat s;

	if (fstat(fd, &s))
		return thaw_err_set(-errno, "%s: fstat failed: %s", path, strerrordesc_np(errno));
	/* many file systems get another device number with every mount: then the file must not have been touched since */
	if (s.st_dev != id->dev && (s.st_ino != id->ino || !same_time(id, &s)))
		return differs(path, "device", id->dev, s.st_dev);
	if (s.st_ino != id->ino)
		return differs(path, "inode", id->ino, s.st_ino);
	if ((s.st_mode & S_IFMT) != (id->mode & S_IFMT))
		return differs(path, "file type", (id->mode & S_IFMT) >> 12, (s.st_mode & S_IFMT) >> 12);
	if (!S_ISREG(s.st_mode))
		return 0;
	if ((uint64_t)s.st_size < id->size || (exact && (uint64_t)s.st_size != id->size))
		return differs(path, "size", id->size, (unsigned long long)s.st_size);
	if (exact && !same_time(id, &s))
		return thaw_err_set(-ESTALE,
				    "%s: is not the file that was checkpointed (modified at %lld.%09lld, now %lld.%09ld); put the old one back",
				    path, (long long)id->mtime_sec, (long long)id->mtime_nsec, (long long)s.st_mtim.tv_sec,
				    s.st_mtim.tv_nsec);
	return 0;
}

int thaw_file_id_check(const ThawState__FileId *id, int fd, const char *path)
{
	return check(id, fd, path, false);
}

int thaw_file_id_check_exact(const ThawState__FileId *id, int fd, const char *path)
{
	return check(id, fd, path, true);
}
