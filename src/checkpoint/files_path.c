// SPDX-License-Identifier: LGPL-2.1-or-later
// Descriptors that a path leads to: regular files, directories, O_PATH handles and the harmless character devices.
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "checkpoint/files_priv.h"

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

/* File systems whose regular files are handles of something else: the path alone does not bring them back. */
const char *thaw_strange_fs(int fd)
{
	static const struct {
		long magic;
		const char *name;
	} strange[] = {
		{ MQUEUE_MAGIC, "POSIX message queue" }, { NSFS_MAGIC, "namespace" }, { BPF_FS_MAGIC, "BPF object" },
		{ TRACEFS_MAGIC, "tracefs file" }, { DEBUGFS_MAGIC, "debugfs file" }, { HUGETLBFS_MAGIC, "hugetlb file" },
		{ 0x50494446 /* pidfs, 6.9 */, "pidfd" },
	};
	struct statfs s;

	if (fstatfs(fd, &s))
		return NULL;
	for (size_t i = 0; i < sizeof(strange) / sizeof(*strange); i++)
		if ((unsigned long)s.f_type == (unsigned long)strange[i].magic)
			return strange[i].name;
	return NULL;
}

static bool on_proc(int fd)
{
	struct statfs s;

	return !fstatfs(fd, &s) && s.f_type == PROC_SUPER_MAGIC;
}

/* /proc/PID/... of another process is refused; our own is opened again under the same pid. */
static int check_proc(struct thaw_dt *t)
{
	const char *p = t->fd->link;
	char *rest;
	long pid;

	if (strncmp(p, "/proc/", 6) || !isdigit((unsigned char)p[6]))
		return 0;
	pid = strtol(p + 6, &rest, 10);
	if (pid != t->d->pid)
		return thaw_refuse(t->fd->num, "%s of another process: not supported; close it before the checkpoint", p);
	if (!strncmp(rest, "/task/", 6) && isdigit((unsigned char)rest[6]) && strtol(rest + 6, NULL, 10) != pid)
		return thaw_refuse(t->fd->num, "%s of a thread: not supported; close it before the checkpoint", p);
	return 0;
}

static bool has_suffix(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && !strcmp(s + n - m, end);
}

static int new_id(File *f, int fd)
{
	f->file = malloc(sizeof(*f->file));
	if (!f->file)
		return thaw_nomem();
	thaw_state__file_id__init(f->file);
	thaw_file_id(f->file, fd);
	return 0;
}

static int dump_deleted(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;
	int n;

	if (!strncmp(e->link, "/secretmem", 10))
		return thaw_refuse(e->num, "secret memory (memfd_secret): not supported; close it before the checkpoint");
	if (e->st.st_nlink)
		return thaw_refuse(e->num, "%s: was removed, but the file lives on under a name that is not known: not supported; close it before the checkpoint",
				   e->link);
	if (!S_ISREG(e->st.st_mode))
		return thaw_refuse(e->num, "%s: a removed %s: not supported; close it before the checkpoint", e->link,
				   S_ISDIR(e->st.st_mode) ? "directory" : "special file");
	n = thaw_store_add(t->d->store, t->dup, e->link);
	if (n < 0)
		return thaw_err_wrap("fd %d", e->num);
	f->has_stored = true;
	f->stored = n;
	f->has_uid = f->has_gid = true;
	f->uid = e->st.st_uid;
	f->gid = e->st.st_gid;
	if (has_suffix(f->path, " (deleted)"))
		f->path[strlen(f->path) - 10] = 0;
	return 0;
}

/* Does the path still lead to the file that is open? The kernel follows renames; mounts on top and other roots it does not. */
static int verify(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;
	struct stat s;

	if (!lstat(e->link, &s) && s.st_ino == e->st.st_ino && s.st_dev == e->st.st_dev)
		return 0;
	if (has_suffix(e->link, " (deleted)"))
		return dump_deleted(t, f);
	return thaw_refuse(e->num, "%s: the path does not lead to the open file (another mount, root or namespace): not supported; close it before the checkpoint",
			   e->link);
}

int thaw_dump_path(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;
	const char *strange = thaw_strange_fs(t->dup);
	int rc;

	f->kind = e->flags & O_PATH ? KIND(PATH) : S_ISDIR(e->st.st_mode) ? KIND(DIR) : KIND(REG);
	f->path = strdup(e->link);
	f->has_object = true;
	f->object = thaw_dump_object(t);
	if (!f->path || !f->object)
		return thaw_nomem();
	if (strange)
		return thaw_refuse(e->num, "%s %s: not supported; close it before the checkpoint", strange, e->link);
	if (on_proc(t->dup))
		return check_proc(t);  /* its inodes are made anew: no identity to keep */
	rc = new_id(f, t->dup);
	return rc ? rc : verify(t, f);
}

int thaw_dump_chr(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;
	unsigned ma = major(e->st.st_rdev), mi = minor(e->st.st_rdev);
	struct stat s;

	f->path = strdup(e->link);
	if (!f->path)
		return thaw_nomem();
	f->has_rdev_major = f->has_rdev_minor = true;
	f->rdev_major = ma;
	f->rdev_minor = mi;
	if (thaw_is_tty(&e->st)) {
		f->kind = KIND(TTY);
		for (size_t i = 0; i < t->d->n_descs; i++) {
			const struct thaw_desc *o = &t->d->descs[i];

			/* /dev/tty is whichever terminal the process has: that of its stdio, if there is one */
			if (o->stdio >= 0 && S_ISCHR(o->fd->st.st_mode) && thaw_is_tty(&o->fd->st) &&
			    (o->fd->st.st_rdev == e->st.st_rdev || e->st.st_rdev == makedev(5, 0))) {
				f->has_inherit = true;
				f->inherit = o->stdio;
			}
		}
		return 0;
	}
	f->kind = KIND(CHR);
	if (ma != 1 || !(mi == 3 || mi == 5 || mi == 7 || mi == 8 || mi == 9))
		return thaw_refuse(e->num, "%s %s (%u:%u): not supported; close it before the checkpoint",
				   ma == 5 && mi == 2 ? "pseudo-terminal master" : "device", e->link, ma, mi);
	if (stat(e->link, &s) || s.st_rdev != e->st.st_rdev)
		return thaw_refuse(e->num, "device %s (%u:%u): the path does not lead to it any more: not supported; close it before the checkpoint",
				   e->link, ma, mi);
	return 0;
}

/* ---- restore ---- */

static int open_failed(const struct thaw_fr *r, const File *f)
{
	return thaw_err_set(-errno, "fd %d: %s: cannot be opened again: %s", thaw_fr_num(r, f), f->path, strerrordesc_np(errno));
}

/* Its own files in /proc: the number in the path may be another one in another pid namespace. */
static const char *path_now(const struct thaw_fr *r, const File *f, char *buf, size_t room)
{
	char own[32];
	size_t n = (size_t)snprintf(own, sizeof(own), "/proc/%d", r->p->pid);

	if (f->file || strncmp(f->path, own, n) || (f->path[n] && f->path[n] != '/'))
		return f->path;
	snprintf(buf, room, "/proc/self%s", f->path + n);
	return buf;
}

/* Opening the wrong file can hang (FIFO) or do something (device): so look first, through O_PATH. */
static int look_first(const struct thaw_fr *r, const File *f)
{
	int fd = open(f->path, O_PATH | O_NOFOLLOW | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return open_failed(r, f);
	if (thaw_file_id_check(f->file, fd, f->path))
		rc = thaw_err_wrap("fd %d", thaw_fr_num(r, f));
	close(fd);
	return rc;
}

/* Flags of open(2): those that act on the name or once are gone, the status flags are set afterwards. */
static int open_flags(const File *f)
{
	return (int)f->flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC | (O_TMPFILE & ~O_DIRECTORY)) &
	       ~(S_ISDIR(f->file ? f->file->mode : S_IFDIR) ? 0 : O_DIRECTORY);
}

int thaw_restore_path(struct thaw_fr *r, const File *f)
{
	char own[4096];
	const char *path = path_now(r, f, own, sizeof(own));
	int fd, rc = f->file ? look_first(r, f) : 0;

	if (rc)
		return rc;
	if (f->kind == KIND(PATH)) /* its flags, which F_GETFL shows: a link was opened with O_NOFOLLOW, nothing else needs it */
		fd = open(path, open_flags(f) | O_CLOEXEC);
	else
		fd = open(path, open_flags(f) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return open_failed(r, f);
	if (f->file && thaw_file_id_check(f->file, fd, f->path)) {
		rc = thaw_err_wrap("fd %d", thaw_fr_num(r, f));
	} else if (f->kind != KIND(PATH)) {
		rc = thaw_fr_setfl(r, f, fd);
		if (!rc && lseek(fd, (off_t)f->pos, SEEK_SET) < 0 && f->file && f->kind == KIND(REG))
			rc = thaw_err_set(-errno, "fd %d: %s: position %llu cannot be set: %s", thaw_fr_num(r, f), f->path,
					  (unsigned long long)f->pos, strerrordesc_np(errno));
	}
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

int thaw_restore_chr(struct thaw_fr *r, const File *f)
{
	struct stat s;
	int fd, rc;

	if (stat(f->path, &s))
		return open_failed(r, f);
	if (!S_ISCHR(s.st_mode) || major(s.st_rdev) != f->rdev_major || minor(s.st_rdev) != f->rdev_minor)
		return thaw_err_set(-ESTALE, "fd %d: %s: is not the device %u:%u that was checkpointed", thaw_fr_num(r, f), f->path,
				    f->rdev_major, f->rdev_minor);
	fd = open(f->path, open_flags(f) | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return open_failed(r, f);
	rc = thaw_fr_setfl(r, f, fd);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}
