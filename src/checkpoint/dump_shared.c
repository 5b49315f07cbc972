// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_shared.c - mapped content that is in no file one could open again: who else has it, and storing it */
#include "config.h"
#include "checkpoint/dump.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "checkpoint/dump_mapfile.h"
#include "kern/sys.h"
#include "util/err.h"

#define PAGE 4096u
#define PIECE (1u << 20) /* what is read at once */

static bool to_store(const ThawState__Mapping *m)
{
	return m->has_stored && m->stored == THAW_DUMP_TO_STORE;
}

static bool is_shared(const ThawState__Mapping *m)
{
	return m->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED || m->kind == THAW_STATE__MAPPING__KIND__SHARED_ANON;
}

/* ---- others --------------------------------------------------------------------------------------------------- */
struct search {
	struct thaw_dumper *d;
	pid_t other;
};

static int compare(void *opaque, const struct thaw_vma *v)
{
	struct search *s = opaque;
	size_t i;

	for (i = 0; v->ino && i < s->d->n_maps; i++) {
		const struct thaw_dump_map *dm = &s->d->maps[i];

		if (dm->ino != v->ino || dm->dev_major != v->dev_major || dm->dev_minor != v->dev_minor)
			continue;
		if (!to_store(s->d->p.mappings[i]) || !is_shared(s->d->p.mappings[i]) || !v->shared)
			continue;
		return thaw_err_set(-ENOTSUP, "mapping %llx-%llx (%.200s): shared with process %d: not supported; end that "
				    "process first", (unsigned long long)dm->start, (unsigned long long)dm->end, v->path, s->other);
	}
	return 0;
}

/* The mapping whose inode this is, if it is a memfd or a removed file that is mapped shared. */
static const struct thaw_dump_map *is_inode(const struct thaw_dumper *d, const struct statx *st)
{
	for (size_t i = 0; i < d->n_maps; i++) {
		const struct thaw_dump_map *dm = &d->maps[i];

		if (d->p.mappings[i]->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED && to_store(d->p.mappings[i]) &&
		    st->stx_ino == dm->ino && st->stx_dev_major == dm->dev_major && st->stx_dev_minor == dm->dev_minor)
			return dm;
	}
	return NULL;
}

/* One that has no mapping of it now can make one, or read and write it: the way in which memory is handed over. What is open in
 * the process itself too is looked for with its descriptors. */
static int compare_descriptors(const struct search *s)
{
	char path[64], link[PATH_MAX];
	struct dirent *e;
	int r = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", s->other);
	dir = opendir(path);
	while (dir && r == 0 && (e = readdir(dir))) {
		ssize_t n = isdigit((unsigned char)e->d_name[0]) ? readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1) : -1;
		const struct thaw_dump_map *dm;
		struct statx st;

		if (n < 10 || memcmp(link + n - 10, " (deleted)", 10) ||
		    statx(dirfd(dir), e->d_name, AT_STATX_DONT_SYNC, STATX_INO, &st) < 0) /* a server may not answer */
			continue;
		link[n] = '\0';
		dm = is_inode(s->d, &st);
		if (dm)
			r = thaw_err_set(-ENOTSUP, "mapping %llx-%llx (%.200s): process %d has it open (descriptor %s): not supported; "
					 "end that process first", (unsigned long long)dm->start, (unsigned long long)dm->end, link,
					 s->other, e->d_name);
	}
	if (dir)
		closedir(dir);
	return r;
}

int thaw_dump_shared_check(struct thaw_dumper *d)
{
	struct search s = { .d = d };
	bool any = false, files = false;
	struct dirent *e;
	size_t i;
	int r = 0;
	DIR *proc;

	for (i = 0; i < d->n_maps; i++) {
		any |= to_store(d->p.mappings[i]) && is_shared(d->p.mappings[i]);
		files |= to_store(d->p.mappings[i]) && d->p.mappings[i]->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED;
	}
	if (!any)
		return 0;
	proc = opendir("/proc");
	if (!proc)
		return thaw_err_set(-errno, "/proc: %s", strerror(errno));
	/* A process that we may not look at, or that is gone, is passed over. */
	while (r != -ENOTSUP && (e = readdir(proc))) {
		s.other = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;
		if (!s.other || s.other == d->pid || s.other == getpid())
			continue;
		r = thaw_procfs_maps(s.other, compare, &s);
		if (files && r != -ENOTSUP)
			r = compare_descriptors(&s);
	}
	closedir(proc);
	return r == -ENOTSUP ? r : 0;
}

/* ---- storing ---------------------------------------------------------------------------------------------------- */
/* A descriptor of the process that refers to the inode: the way to a memfd for who may not use map_files. */
static int open_by_fd(pid_t pid, const struct thaw_dump_map *dm)
{
	char path[64];
	struct dirent *e;
	struct stat st;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && fd < 0 && (e = readdir(dir))) {
		if (!isdigit((unsigned char)e->d_name[0]) || fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
			continue;
		if (st.st_ino == dm->ino && st.st_dev == makedev(dm->dev_major, dm->dev_minor))
			fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	if (dir)
		closedir(dir);
	return fd;
}

struct copy {
	struct thaw_dumper *d;
	const ThawState__Mapping *m;
	int fd, mem_fd;
	unsigned char *buf;
};

/* As a debugger reads, whatever the protection says. */
static int read_forced(const struct copy *c, uint64_t addr, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(c->mem_fd, c->buf + done, len - done, (off_t)(addr + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ESRCH; /* 0: the mm is gone */
		done += (size_t)n;
	}
	return 0;
}

static int read_piece(const struct copy *c, uint64_t addr, size_t len)
{
	int r = thaw_sys_vm_read(c->d->pid, addr, c->buf, len);

	if (r < 0 && r != -ESRCH)
		r = read_forced(c, addr, len);
	if (r == -ESRCH)
		return thaw_err_set(r, "process %d has ended meanwhile", c->d->pid);
	if (r < 0)
		return thaw_err_set(r, "mapping %llx-%llx (shared memory): not all of it can be read (%s%s): the content can only be had with "
				    "CAP_CHECKPOINT_RESTORE: be root", (unsigned long long)c->m->start, (unsigned long long)c->m->end,
				    strerror(-r), r == -EIO || r == -EFAULT ? "; has it guard pages, or is it longer than its memory?" : "");
	return 0;
}

/* Holes stay holes. */
static int write_piece(const struct copy *c, off_t off, size_t len)
{
	for (const unsigned char *p = c->buf; len; p += PAGE, off += PAGE, len -= PAGE) {
		ssize_t n = p[0] || memcmp(p, p + 1, PAGE - 1) ? pwrite(c->fd, p, PAGE, off) : PAGE;

		if (n != PAGE)
			return thaw_err_set(n < 0 ? -errno : -EIO, "a copy of shared memory: %s", strerror(n < 0 ? errno : EIO));
	}
	return 0;
}

/* The whole mapping, since pages that this process has not touched, or not lately, have content all the same. */
static int copy_mapping(const struct copy *c)
{
	size_t len = PIECE;
	int r = 0;

	for (uint64_t at = c->m->start; r == 0 && at < c->m->end; at += len) {
		if (len > c->m->end - at)
			len = c->m->end - at;
		r = thaw_dump_abandoned(c->d);
		if (r == 0)
			r = read_piece(c, at, len);
		if (r == 0)
			r = write_piece(c, (off_t)(c->m->pgoff + (at - c->m->start)), len);
	}
	return r;
}

static int copy_object(struct copy *c, uint64_t object)
{
	const struct thaw_dumper *d = c->d;
	uint64_t size = 0;
	size_t i;
	int r = 0;

	for (i = 0; i < d->n_maps; i++) {
		const ThawState__Mapping *m = d->p.mappings[i];

		if (m->has_object && m->object == object && m->pgoff + (m->end - m->start) > size)
			size = m->pgoff + (m->end - m->start);
	}
	if (ftruncate(c->fd, (off_t)size) < 0)
		return thaw_err_set(-errno, "a copy of shared memory: %s", strerror(errno));
	for (i = 0; r == 0 && i < d->n_maps; i++) {
		c->m = d->p.mappings[i];
		if (c->m->has_object && c->m->object == object)
			r = copy_mapping(c);
	}
	return r;
}

/* Shared memory that cannot be opened is read through its mappings, which is all of it that the process can still see. */
static int copy_of_memory(struct thaw_dumper *d, uint64_t object)
{
	struct copy c = { .d = d, .buf = malloc(PIECE) };
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/mem", d->pid);
	c.mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	c.fd = memfd_create("thaw-copy", MFD_CLOEXEC);
	if (c.mem_fd < 0 || c.fd < 0 || !c.buf)
		r = thaw_err_set(-errno, "process %d: a copy of its shared memory: %s", d->pid, strerror(errno));
	else
		r = copy_object(&c, object);
	if (c.mem_fd >= 0)
		close(c.mem_fd);
	if (r < 0 && c.fd >= 0)
		close(c.fd);
	free(c.buf);
	return r < 0 ? r : c.fd;
}

static int open_content(struct thaw_dumper *d, size_t i)
{
	const ThawState__Mapping *m = d->p.mappings[i];
	const struct thaw_dump_map *dm = &d->maps[i];
	char link[96];
	int fd;

	snprintf(link, sizeof(link), "/proc/%d/map_files/%llx-%llx", d->pid, (unsigned long long)dm->start,
		 (unsigned long long)dm->end);
	fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		fd = open_by_fd(d->pid, dm);
	if (fd < 0 && m->kind == THAW_STATE__MAPPING__KIND__SHARED_ANON)
		return copy_of_memory(d, m->object);
	if (fd < 0)
		return thaw_err_set(-EPERM, "mapping %llx-%llx (%.200s): its content can only be had with CAP_CHECKPOINT_RESTORE: "
				    "be root", (unsigned long long)dm->start, (unsigned long long)dm->end,
				    m->path ? m->path : m->memfd_name ? m->memfd_name : "shared memory");
	return fd;
}

static int store(struct thaw_dumper *d, size_t i)
{
	ThawState__Mapping *m = d->p.mappings[i];
	char what[160];
	int fd, n;

	fd = open_content(d, i);
	if (fd < 0)
		return fd;
	snprintf(what, sizeof(what), "mapping %llx-%llx", (unsigned long long)m->start, (unsigned long long)m->end);
	n = thaw_store_add(d->store, fd, what);
	if (m->memfd_name) {
		m->seals = fcntl(fd, F_GET_SEALS);
		m->has_seals = m->seals >= 0;
	}
	close(fd);
	if (n < 0)
		return n;
	/* All mappings of the object: they must not be stored a second time. */
	for (; i < d->n_maps; i++)
		if (to_store(d->p.mappings[i]) && d->p.mappings[i]->object == m->object && d->p.mappings[i] != m) {
			d->p.mappings[i]->stored = n;
			d->p.mappings[i]->has_seals = m->has_seals;
			d->p.mappings[i]->seals = m->seals;
		}
	m->stored = n;
	return 0;
}

int thaw_dump_shared_store(struct thaw_dumper *d)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < d->n_maps; i++) {
		if (to_store(d->p.mappings[i]))
			r = store(d, i);
		if (r == 0)
			r = thaw_dump_abandoned(d);
	}
	return r;
}
