// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_mapfile.c - what is behind a mapping: nothing, a file, a deleted file, a memfd, shared memory */
#include "config.h"
#include "checkpoint/dump_mapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "util/err.h"

#define DELETED " (deleted)"

static int refuse(const struct thaw_vma *v, int err, const char *sentence)
{
	return thaw_err_set(err, "mapping %llx-%llx (%.200s): %s", (unsigned long long)v->start, (unsigned long long)v->end,
			    v->path, sentence);
}

static bool begins(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

/* The path without the mark of a deleted file. */
static char *clean_path(const char *path)
{
	size_t len = strlen(path), mark = strlen(DELETED);
	char *copy = thaw_dump_strdup(path);

	if (len > mark && !strcmp(path + len - mark, DELETED))
		copy[len - mark] = '\0';
	return copy;
}

/* The mapped file itself, to be identified: not opened, which somebody might watch. /proc/PID/map_files needs
 * CAP_CHECKPOINT_RESTORE; without it the path has to do, which is enough for all that has not been deleted. -1: neither works
 * (errno). */
static int open_mapped(pid_t pid, const struct thaw_vma *v)
{
	char link[96];
	int fd;

	snprintf(link, sizeof(link), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)v->start,
		 (unsigned long long)v->end);
	fd = open(link, O_PATH | O_CLOEXEC);
	if (fd < 0 && v->path[0] == '/')
		fd = open(v->path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	return fd;
}

static bool same_file(const char *path, const struct stat *st)
{
	struct stat now;

	return lstat(path, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

static void set_object(struct thaw_dumper *d, ThawState__Mapping *m, const struct stat *st)
{
	m->has_object = 1;
	m->object = thaw_store_object(d->store, st->st_dev, st->st_ino);
}

/* Shared memory without a name, or a memfd: only the process knows its content. */
static int memory_object(struct thaw_dumper *d, ThawState__Mapping *m, const struct thaw_vma *v)
{
	struct stat st = { .st_dev = makedev(v->dev_major, v->dev_minor), .st_ino = v->ino };

	set_object(d, m, &st);
	m->has_stored = 1;
	m->stored = THAW_DUMP_TO_STORE;
	if (begins(v->path, "/memfd:")) {
		m->memfd_name = clean_path(v->path + strlen("/memfd:"));
		m->kind = v->shared ? THAW_STATE__MAPPING__KIND__FILE_SHARED : THAW_STATE__MAPPING__KIND__FILE_PRIVATE;
	} else {
		m->kind = THAW_STATE__MAPPING__KIND__SHARED_ANON;
	}
	return 0;
}

static int regular_file(struct thaw_dumper *d, ThawState__Mapping *m, const struct thaw_vma *v, int fd, const struct stat *st)
{
	bool removed = !same_file(v->path, st), marked; /* a name may end in " (deleted)" */
	char *clean = clean_path(v->path);

	m->kind = v->shared ? THAW_STATE__MAPPING__KIND__FILE_SHARED : THAW_STATE__MAPPING__KIND__FILE_PRIVATE;
	m->id = thaw_dump_alloc(sizeof(*m->id));
	thaw_state__file_id__init(m->id);
	thaw_file_id(m->id, fd);
	set_object(d, m, st);
	m->path = thaw_dump_strdup(removed ? clean : v->path);
	if (removed) {
		m->has_stored = 1;
		m->stored = THAW_DUMP_TO_STORE;
	}
	marked = strcmp(clean, v->path) != 0;
	free(clean);
	/* What is written to it others would read: a copy is another file. A private mapping shows the content alone. */
	if (removed && v->shared && st->st_nlink)
		return refuse(v, -ENOTSUP, marked ? "was removed, but the file lives on under a name that is not known: not supported; "
			      "unmap it before the checkpoint" : "the path does not lead to the mapped file (another mount, root or "
			      "namespace): not supported; unmap it before the checkpoint");
	return 0;
}

static int mapped_file(struct thaw_dumper *d, ThawState__Mapping *m, const struct thaw_vma *v)
{
	struct stat st;
	int fd, r;

	fd = open_mapped(d->pid, v);
	if (fd < 0)
		return refuse(v, -errno, errno == ENOENT || errno == EPERM ?
			      "the file has been deleted, and its content can only be had with CAP_CHECKPOINT_RESTORE: be root" :
			      strerror(errno));
	if (fstat(fd, &st) < 0)
		r = refuse(v, -errno, strerror(errno));
	else if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5) && !v->shared)
		r = 0; /* /dev/zero, private: ordinary anonymous memory */
	else if (S_ISREG(st.st_mode))
		r = regular_file(d, m, v, fd, &st);
	else
		r = refuse(v, -ENOTSUP, "a device's memory: not supported; unmap it before the checkpoint");
	close(fd);
	return r;
}

int thaw_dump_map_file(struct thaw_dumper *d, ThawState__Mapping *m, const struct thaw_vma *v)
{
	m->kind = THAW_STATE__MAPPING__KIND__ANON;
	if (begins(v->path, "[anon:") || begins(v->path, "[anon_shmem:")) {
		m->name = thaw_dump_strdup(strchr(v->path, ':') + 1);
		m->name[strlen(m->name) - 1] = '\0';
	}
	if (begins(v->path, "/memfd:") || (v->shared && (begins(v->path, "/dev/zero" DELETED) || begins(v->path, "[anon_shmem:"))))
		return memory_object(d, m, v);
	if (v->ino == 0 && v->path[0] != '/')
		return v->shared ? refuse(v, -ENOTSUP, "shared mapping of an unknown kind: not supported") : 0;
	return mapped_file(d, m, v);
}
