// SPDX-License-Identifier: LGPL-2.1-or-later
// inotify descriptors: the watches, each with its number. The kernel names a watched inode by a file handle; the path
// to watch it again comes from opening that handle, or from places that a process is likely to watch.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "checkpoint/files_priv.h"

#define MASK_BITS (IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT)

/* ---- dump ---- */

struct watch {
	unsigned wd, mask;
	unsigned long ino;
	dev_t dev;
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + 128];
	} u;
};

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse(const char *line, struct watch *w)
{
	unsigned sdev, bytes = 0, type = 0;
	const char *p = strstr(line, "f_handle:"), *end = strchr(line, '\n');

	memset(w, 0, sizeof(*w));
	if (sscanf(line, "inotify wd:%x ino:%lx sdev:%x mask:%x", &w->wd, &w->ino, &sdev, &w->mask) != 4)
		return false;
	w->dev = makedev(sdev >> 20, sdev & 0xfffff);
	if (!p || (end && p > end) || sscanf(strstr(line, "fhandle-bytes:") ?: "", "fhandle-bytes:%x fhandle-type:%x", &bytes, &type) != 2)
		return true;  /* a file system that has no handles */
	p += strlen("f_handle:");
	if (bytes > 128 || strlen(p) < 2 * bytes)
		return true;
	w->u.h.handle_bytes = bytes;
	w->u.h.handle_type = (int)type;
	for (unsigned i = 0; i < bytes; i++)
		w->u.h.f_handle[i] = (unsigned char)(hex(p[2 * i]) << 4 | hex(p[2 * i + 1]));
	return true;
}

static bool leads_to(const char *path, const struct watch *w)
{
	struct stat s;

	return !stat(path, &s) && s.st_ino == w->ino && s.st_dev == w->dev;
}

/* Opens the handle on the mount of `dir` and asks for the name. */
static bool by_handle_on(const struct watch *w, const char *dir, char *path)
{
	int mnt = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = mnt < 0 ? -1 : open_by_handle_at(mnt, (struct file_handle *)&w->u.h, O_PATH | O_CLOEXEC);
	char link[40];
	ssize_t n;

	if (mnt >= 0)
		close(mnt);
	if (fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_MAX - 1);
	close(fd);
	path[n > 0 ? n : 0] = 0;
	return n > 0 && leads_to(path, w);
}

/* On any mount of that device. The root first: in a chroot it is no mount that mountinfo shows. Needs CAP_DAC_READ_SEARCH. */
static bool by_handle(const struct watch *w, char *path)
{
	char line[8192], dir[4096];
	unsigned ma, mi;
	struct stat root;
	bool found;
	FILE *f;

	if (!w->u.h.handle_bytes)
		return false;
	found = !stat("/", &root) && root.st_dev == w->dev && by_handle_on(w, "/", path);
	f = found ? NULL : fopen("/proc/self/mountinfo", "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*d %*d %u:%u %*s %4095s", &ma, &mi, dir) == 3 && makedev(ma, mi) == w->dev &&
			by_handle_on(w, dir, path);
	if (f)
		fclose(f);
	return found;
}

/* Without the capability: where the process stands and what it has open, and the directories above. */
static bool by_guess(const struct thaw_dt *t, const struct watch *w, char *path)
{
	static const char *const links[] = { "cwd", "root", "exe" };
	size_t n_links = sizeof(links) / sizeof(*links);

	for (size_t i = 0; i < n_links + t->d->n_fds; i++) {
		if (i < n_links) {
			char link[64];
			ssize_t n;

			snprintf(link, sizeof(link), "/proc/%d/%s", t->d->pid, links[i]);
			n = readlink(link, path, PATH_MAX - 1);
			path[n > 0 ? n : 0] = 0;
		} else {
			snprintf(path, PATH_MAX, "%s", t->d->fds[i - n_links].link);
		}
		while (path[0] == '/') {
			if (leads_to(path, w))
				return true;
			if (!path[1])
				break;
			strrchr(path, '/')[strrchr(path, '/') == path] = 0;
		}
	}
	return false;
}

static int add_watch(struct thaw_dt *t, File *f, const struct watch *w, size_t *room)
{
	char path[PATH_MAX];
	ThawState__InotifyWatch *i;

	if (!by_handle(w, path) && !by_guess(t, w, path))
		return thaw_refuse(t->fd->num, "inotify watch %u on inode %lu of device %u:%u: its path cannot be found: not supported; run as root (CAP_DAC_READ_SEARCH) or remove the watch",
				   w->wd, w->ino, major(w->dev), minor(w->dev));
	if (f->n_inotify == *room) {
		ThawState__InotifyWatch **more = reallocarray(f->inotify, *room = *room ? *room * 2 : 16, sizeof(*more));

		if (!more)
			return thaw_nomem();
		f->inotify = more;
	}
	i = malloc(sizeof(*i));
	if (!i)
		return thaw_nomem();
	thaw_state__inotify_watch__init(i);
	f->inotify[f->n_inotify++] = i;
	i->wd = (int32_t)w->wd;
	i->mask = w->mask & MASK_BITS;
	i->path = strdup(path);
	i->id = malloc(sizeof(*i->id));
	if (!i->path || !i->id)
		return thaw_nomem();
	thaw_state__file_id__init(i->id);
	i->id->dev = w->dev;
	i->id->ino = w->ino;
	return 0;
}

static int by_wd(const void *pa, const void *pb)
{
	const ThawState__InotifyWatch *const *a = pa, *const *b = pb;

	return ((*a)->wd > (*b)->wd) - ((*a)->wd < (*b)->wd);
}

/* Before the content of removed files is read, which somebody may watch who has them. */
int thaw_inotify_unread(const struct thaw_dump_files *d)
{
	for (size_t i = 0; i < d->n_descs; i++) {
		const struct thaw_dfd *e = d->descs[i].fd;
		int unread = 0, dup;

		if (strcmp(e->link, "anon_inode:inotify"))
			continue;
		dup = thaw_fdtable_dup(d, e->num);
		if (dup < 0)
			return dup;
		if (ioctl(dup, FIONREAD, &unread))
			unread = 0;
		close(dup);
		if (unread)
			return thaw_refuse(e->num, "inotify with %d bytes of events that have not been read: not supported; read them first",
					   unread);
	}
	return 0;
}

int thaw_dump_inotify(struct thaw_dt *t, File *f)
{
	size_t room = 0;

	f->kind = KIND(INOTIFY);
	for (const char *p = t->fd->info; p; p = strchr(p, '\n')) {
		struct watch w;
		int rc;

		p += *p == '\n';
		if (strncmp(p, "inotify ", 8))
			continue;
		if (!parse(p, &w))
			return thaw_refuse(t->fd->num, "inotify: fdinfo of this kernel is not understood: not supported");
		rc = add_watch(t, f, &w, &room);
		if (rc)
			return rc;
	}
	if (f->n_inotify)
		qsort(f->inotify, f->n_inotify, sizeof(*f->inotify), by_wd);
	return 0;
}

/* ---- restore: numbers first, with watches that see nothing; what they watch for when the restore touches files no more ---- */

static void drain(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

/* Numbers only ever go up by one: watches are made and removed until the next one is ours. */
static int reach(int fd, const ThawState__InotifyWatch *w, int *next)
{
	while (*next < w->wd) {
		int wd = inotify_add_watch(fd, w->path, IN_DELETE_SELF);

		if (wd < 0 || inotify_rm_watch(fd, wd))
			return -1;
		drain(fd);
		*next = wd + 1;
	}
	return 0;
}

static int check_path(struct thaw_fr *r, const File *f, const ThawState__InotifyWatch *w)
{
	struct stat s;

	if (stat(w->path, &s))
		return thaw_err_set(-errno, "fd %d: inotify watch on %s: %s", thaw_fr_num(r, f), w->path, strerrordesc_np(errno));
	if (s.st_ino != w->id->ino || s.st_dev != w->id->dev)
		return thaw_err_set(-ESTALE, "fd %d: inotify watch on %s: is not the file that was checkpointed (inode %llu, now %llu)",
				    thaw_fr_num(r, f), w->path, (unsigned long long)w->id->ino, (unsigned long long)s.st_ino);
	return 0;
}

int thaw_restore_inotify(struct thaw_fr *r, const File *f)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), next = 1, rc = 0;

	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: no inotify: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	for (size_t i = 0; i < f->n_inotify && !rc; i++) {
		const ThawState__InotifyWatch *w = f->inotify[i];
		int wd;

		rc = check_path(r, f, w);
		if (rc)
			break;
		wd = reach(fd, w, &next) ? -1 : inotify_add_watch(fd, w->path, IN_UNMOUNT); /* which every watch has */
		if (wd != w->wd)
			rc = thaw_err_set(wd < 0 ? -errno : -EIO, "fd %d: inotify watch %d on %s cannot be made again: %s",
					  thaw_fr_num(r, f), w->wd, w->path, wd < 0 ? strerrordesc_np(errno) : "number is in use");
		next = wd + 1;
	}
	if (!rc)
		rc = thaw_fr_setfl(r, f, fd);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

/* A watch that is there already keeps its number. */
static int set_masks(const File *f, int num, int fd)
{
	for (size_t i = 0; i < f->n_inotify; i++) {
		const ThawState__InotifyWatch *w = f->inotify[i];
		int wd = inotify_add_watch(fd, w->path, w->mask);

		if (wd != w->wd)
			return thaw_err_set(wd < 0 ? -errno : -ESTALE, "fd %d: inotify watch %d on %s: %s", num, w->wd, w->path,
					    wd < 0 ? strerrordesc_np(errno) : "another file has come there meanwhile");
	}
	return 0;
}

int thaw_files_watch(const ThawState__Process *p, int pidfd)
{
	int rc = 0;

	for (size_t i = 0; i < p->n_files && !rc; i++) {
		const File *f = p->files[i];
		int num = -1, fd;

		for (size_t k = 0; f->kind == KIND(INOTIFY) && k < p->n_fds && num < 0; k++)
			if (p->fds[k]->file == f->id)
				num = p->fds[k]->fd;
		if (num < 0)
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, num, 0);
		if (fd < 0)
			return thaw_err_set(-errno, "fd %d: inotify: pidfd_getfd: %s", num, strerrordesc_np(errno));
		rc = set_masks(f, num, fd);
		close(fd);
	}
	return rc;
}
