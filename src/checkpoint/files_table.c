// SPDX-License-Identifier: LGPL-2.1-or-later
// The descriptor table of a stopped process: every number with its link, fdinfo and stat, grouped by description.
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "checkpoint/files_priv.h"

static long kcmp_file(pid_t a, pid_t b, int fa, int fb)
{
	return syscall(SYS_kcmp, a, b, KCMP_FILE, (unsigned long)fa, (unsigned long)fb);
}

int thaw_fdtable_dup(const struct thaw_dump_files *d, int num)
{
	int fd = (int)syscall(SYS_pidfd_getfd, d->pidfd, num, 0);

	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: cannot be duplicated with pidfd_getfd: %s", num, strerrordesc_np(errno));
	return fd;
}

bool thaw_info_u64(const char *info, const char *key, int base, uint64_t *v)
{
	size_t n = strlen(key);

	for (const char *line = info; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, n) && line[n] == ':') {
			*v = strtoull(line + n + 1, NULL, base);
			return true;
		}
	}
	return false;
}

/* All of a small /proc file; malloc'ed. An epoll with many entries has a long one. */
static char *slurp(int dir, const char *name)
{
	size_t room = 4096, len = 0;
	char *buf = malloc(room);
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && buf) {
		char *more;

		n = read(fd, buf + len, room - len - 1);
		if (n <= 0)
			break;
		len += (size_t)n;
		if (len + 1 < room)
			continue;
		more = realloc(buf, room *= 2);
		if (!more)
			break;
		buf = more;
	}
	if (fd >= 0)
		close(fd);
	if (n != 0 || !buf) {
		free(buf);
		return NULL;
	}
	buf[len] = 0;
	return buf;
}

static char *link_text(int dir, const char *name)
{
	char buf[8192];
	ssize_t n = readlinkat(dir, name, buf, sizeof(buf) - 1);

	if (n < 0)
		return NULL;
	buf[n] = 0;
	return strdup(buf);
}

static int read_one(struct thaw_dfd *e, int num, int fddir, int infodir)
{
	char name[16];
	uint64_t v;

	snprintf(name, sizeof(name), "%d", num);
	*e = (struct thaw_dfd){ .num = num };
	e->link = link_text(fddir, name);
	e->info = slurp(infodir, name);
	if (!e->link || !e->info || fstatat(fddir, name, &e->st, 0))
		return thaw_err_set(errno ? -errno : -EIO, "fd %d: cannot be looked at in /proc: %s", num, strerrordesc_np(errno));
	if (!thaw_info_u64(e->info, "flags", 8, &v))
		return thaw_err_set(-EIO, "fd %d: fdinfo shows no flags", num);
	e->cloexec = v & O_CLOEXEC;
	e->flags = (unsigned)v & ~(unsigned)O_CLOEXEC;
	if (thaw_info_u64(e->info, "pos", 10, &v))
		e->pos = (int64_t)v;
	return 0;
}

static int read_all(struct thaw_dump_files *d, DIR *dir, int infodir)
{
	size_t room = 0;
	struct dirent *e;

	while ((e = readdir(dir))) {
		int rc;

		if (e->d_name[0] == '.')
			continue;
		if (d->n_fds == room) {
			struct thaw_dfd *more = reallocarray(d->fds, room = room ? room * 2 : 64, sizeof(*more));

			if (!more)
				return thaw_nomem();
			d->fds = more;
		}
		rc = read_one(&d->fds[d->n_fds++], atoi(e->d_name), dirfd(dir), infodir);
		if (rc)
			return rc;
	}
	return 0;
}

/* Order: inode first (cheap), then the kernel's own order of descriptions, so that equal ones are neighbours. */
static int by_description(const void *pa, const void *pb, void *arg)
{
	const struct thaw_dfd *a = pa, *b = pb;
	struct thaw_dump_files *d = arg;
	long c;

	if (a->st.st_dev != b->st.st_dev)
		return a->st.st_dev < b->st.st_dev ? -1 : 1;
	if (a->st.st_ino != b->st.st_ino)
		return a->st.st_ino < b->st.st_ino ? -1 : 1;
	c = kcmp_file(d->pid, d->pid, a->num, b->num);
	if (c == 0)
		return (a->num > b->num) - (a->num < b->num);
	return c == 1 ? -1 : 1;
}

/* Kernels without kcmp answer ENOSYS: grouping would be a guess. */
static int kcmp_works(const struct thaw_dump_files *d)
{
	if (!d->n_fds || kcmp_file(d->pid, d->pid, d->fds[0].num, d->fds[0].num) == 0)
		return 0;
	return thaw_err_set(-errno, "kcmp of process %d: %s: shared descriptors cannot be told apart; needs CONFIG_KCMP and the right to trace",
			    d->pid, strerrordesc_np(errno));
}

static int group(struct thaw_dump_files *d)
{
	d->descs = calloc(d->n_fds + 1, sizeof(*d->descs));
	if (!d->descs)
		return thaw_nomem();
	if (d->n_fds)
		qsort_r(d->fds, d->n_fds, sizeof(*d->fds), by_description, d);
	for (size_t i = 0; i < d->n_fds; i++) {
		struct thaw_dfd *e = &d->fds[i];
		bool same = i && e->st.st_dev == e[-1].st.st_dev && e->st.st_ino == e[-1].st.st_ino &&
			    kcmp_file(d->pid, d->pid, e->num, e[-1].num) == 0;

		if (!same)
			d->descs[d->n_descs++] = (struct thaw_desc){ .fd = e, .stdio = -1 };
		e->desc = (int)d->n_descs - 1;
		/* of a description that several of 0, 1, 2 share, descriptors above belong to 1: saved output is
		 * commoner than saved input */
		if (e->num <= 2 && (d->descs[e->desc].stdio != 1))
			d->descs[e->desc].stdio = e->num;
	}
	return 0;
}

int thaw_fdtable_read(struct thaw_dump_files *d)
{
	char path[64];
	DIR *dir;
	int infodir, rc;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", d->pid);
	infodir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/fd", d->pid);
	dir = infodir < 0 ? NULL : opendir(path);
	if (!dir) {
		rc = thaw_err_set(-errno, "%s: cannot be read: %s", path, strerrordesc_np(errno));
	} else {
		rc = read_all(d, dir, infodir);
		closedir(dir);
	}
	if (infodir >= 0)
		close(infodir);
	if (!rc)
		rc = kcmp_works(d);
	return rc ? rc : group(d);
}

void thaw_fdtable_free(struct thaw_dump_files *d)
{
	for (size_t i = 0; i < d->n_fds; i++) {
		free(d->fds[i].link);
		free(d->fds[i].info);
	}
	free(d->fds);
	free(d->descs);
}

/* Ours with this link text are neighbours (one inode) in kcmp order: the first equal one, by halving. */
struct thaw_desc *thaw_fdtable_same(struct thaw_dump_files *d, pid_t pid, int fd, const char *link)
{
	size_t lo = 0, hi;

	while (lo < d->n_descs && strcmp(d->descs[lo].fd->link, link))
		lo++;
	for (hi = lo; hi < d->n_descs && !strcmp(d->descs[hi].fd->link, link);)
		hi++;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		long c = kcmp_file(pid, d->pid, fd, d->descs[mid].fd->num);

		if (c == 0)
			return &d->descs[mid];
		if (c < 0)
			return NULL;  /* not ours to look into, or gone */
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}
