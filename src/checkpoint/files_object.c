// SPDX-License-Identifier: LGPL-2.1-or-later
// Objects without a name: memfds and deleted files, made again from file-N.raw, one inode for all who map or open it.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "checkpoint/files_priv.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* 6.3 */
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

/* ---- dump ---- */

int thaw_dump_memfd(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;
	const char *name = e->link + strlen("/memfd:");
	size_t len = strlen(name);
	int n;

	if (thaw_strange_fs(t->dup))
		return thaw_refuse(e->num, "%s in huge pages: not supported; close it before the checkpoint", e->link);
	if (t->desc->other.pid)
		return thaw_refuse(e->num, "%s that process %d (%s) also has open: not supported; close it in one of the two", e->link,
				   t->desc->other.pid, t->desc->other.comm);
	if (len > 10 && !strcmp(name + len - 10, " (deleted)"))
		len -= 10;
	f->kind = e->flags & O_PATH ? KIND(PATH) : KIND(MEMFD);
	f->memfd_name = strndup(name, len);
	f->file = malloc(sizeof(*f->file));
	f->object = thaw_dump_object(t);
	f->has_object = true;
	if (!f->memfd_name || !f->file || !f->object)
		return thaw_nomem();
	thaw_state__file_id__init(f->file);
	thaw_file_id(f->file, t->dup);
	n = thaw_store_add(t->d->store, t->dup, e->link);
	if (n < 0)
		return thaw_err_wrap("fd %d", e->num);
	f->has_stored = f->has_seals = f->has_uid = f->has_gid = true;
	f->stored = n;
	f->uid = e->st.st_uid;
	f->gid = e->st.st_gid;
	f->seals = fcntl(t->dup, F_GET_SEALS);
	if (f->seals < 0)
		f->has_seals = false;  /* O_PATH shows none */
	return 0;
}

/* ---- restore ---- */

/* The new process is single-threaded and short: one table is enough. */
static struct {
	uint64_t object;
	int fd;
} *cache;
static size_t n_cache;

/* What is known of an object, from a File or else from a Mapping. */
struct origin {
	int stored;
	const char *memfd;
	const char *path;
	uint32_t mode;
};

static bool find_origin(const ThawState__Process *p, uint64_t object, struct origin *o)
{
	for (size_t i = 0; i < p->n_files; i++) {
		const File *f = p->files[i];

		if (f->has_object && f->object == object && f->has_stored) {
			*o = (struct origin){ f->stored, f->memfd_name, f->path, f->file ? f->file->mode : 0600 };
			return true;
		}
	}
	for (size_t i = 0; i < p->n_mappings; i++) {
		const ThawState__Mapping *m = p->mappings[i];

		if (m->has_object && m->object == object && m->has_stored) {
			*o = (struct origin){ m->stored, m->memfd_name, m->path, m->id ? m->id->mode : 0600 };
			return true;
		}
	}
	return false;
}

static int make_memfd(const char *name, uint32_t mode)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create(name, flags | (mode & 0111 ? MFD_EXEC : 0));

	return fd < 0 && errno == EINVAL ? memfd_create(name, flags) : fd;
}

/* An unlinked file in the directory dir. */
static int make_unlinked(const char *dir)
{
	char name[4200];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	/* a file system without O_TMPFILE: the name lives for a moment */
	snprintf(name, sizeof(name), "%s/.thaw-XXXXXX", dir);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/* Where it was; if that directory is gone or full of "no", anywhere: nobody can see where an unlinked file is. */
static int make_deleted(const char *path)
{
	char dir[4096];
	char *slash;
	int fd = -1;

	snprintf(dir, sizeof(dir), "%s", path ? path : "");
	slash = strrchr(dir, '/');
	if (slash) {
		slash[slash == dir] = 0;
		fd = make_unlinked(dir);
	}
	if (fd < 0)
		fd = make_unlinked("/tmp");
	return fd < 0 ? make_memfd("deleted", 0) : fd;
}

static int fill(int dirfd, int stored, int fd, const char *what)
{
	char name[32];
	struct stat s;
	int in, rc;

	snprintf(name, sizeof(name), "file-%d.raw", stored);
	in = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0)
		return thaw_err_set(-errno, "%s: cannot be opened: %s; the image is not complete", name, strerrordesc_np(errno));
	rc = fstat(in, &s) ? -errno : thaw_copy_sparse(in, fd, s.st_size);
	close(in);
	if (rc)
		return thaw_err_set(rc, "%s: cannot be copied into %s: %s", name, what, strerrordesc_np(-rc));
	return 0;
}

static int remember(uint64_t object, int fd)
{
	void *more = reallocarray(cache, n_cache + 1, sizeof(*cache));

	if (!more)
		return thaw_nomem();
	cache = more;
	cache[n_cache].object = object;
	cache[n_cache++].fd = fd;
	return fd;
}

/* r: the table is being made, a low number may be somebody's. NULL: not yet */
static int object_fd(const ThawState__Process *p, int dirfd, uint64_t object, const struct thaw_fr *r)
{
	struct origin o;
	const char *what;
	int fd, rc;

	for (size_t i = 0; i < n_cache; i++)
		if (cache[i].object == object)
			return cache[i].fd;
	if (!find_origin(p, object, &o))
		return thaw_err_set(-EINVAL, "object %llu has no stored content; the image is damaged", (unsigned long long)object);
	what = o.memfd ? o.memfd : o.path ? o.path : "shared memory";
	fd = o.memfd ? make_memfd(o.memfd, o.mode) : o.path ? make_deleted(o.path) : make_memfd("shared", 0);
	if (fd < 0)
		return thaw_err_set(-errno, "%s: cannot be made again: %s", what, strerrordesc_np(errno));
	if (r) {
		fd = thaw_fr_out(r, fd);
		if (fd < 0)
			return fd;
	}
	rc = fill(dirfd, o.stored, fd, what);
	if (!rc)
		rc = remember(object, fd);
	if (rc < 0)
		close(fd);
	return rc;
}

int thaw_files_object(const ThawState__Process *p, int dirfd, const ThawState__Mapping *m)
{
	int fd = m->has_object ? object_fd(p, dirfd, m->object, NULL) : -EINVAL, dup;

	if (fd < 0)
		return m->has_object ? fd : thaw_err_set(-EINVAL, "mapping at %#llx has no object; the image is damaged",
							 (unsigned long long)m->start);
	dup = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return dup < 0 ? thaw_err_set(-errno, "dup failed: %s", strerrordesc_np(errno)) : dup;
}

int thaw_restore_stored(struct thaw_fr *r, const File *f)
{
	int object = object_fd(r->p, r->dirfd, f->object, r), fd, rc;
	const char *what = f->path ? f->path : f->memfd_name;

	if (object < 0)
		return thaw_err_wrap("fd %d", thaw_fr_num(r, f));
	if (f->kind == KIND(PATH))
		fd = thaw_reopen(object, O_PATH);
	else
		fd = thaw_reopen(object, (int)f->flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_ASYNC | O_TMPFILE));
	if (fd < 0)
		return thaw_err_set(fd, "fd %d: %s (deleted): cannot be opened again: %s", thaw_fr_num(r, f), what, strerrordesc_np(-fd));
	if (f->kind == KIND(PATH))
		return fd;
	rc = thaw_fr_setfl(r, f, fd);
	if (!rc && lseek(fd, (off_t)f->pos, SEEK_SET) < 0)
		rc = thaw_err_set(-errno, "fd %d: %s: position %llu cannot be set: %s", thaw_fr_num(r, f), what,
				  (unsigned long long)f->pos, strerrordesc_np(errno));
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

size_t thaw_objects_count(void)
{
	return n_cache;
}

size_t thaw_objects_move(struct thaw_fr *r, int *stay, size_t n)
{
	for (size_t i = 0; i < n_cache; i++)
		stay[n++] = cache[i].fd = thaw_fr_out(r, cache[i].fd);
	return n;
}

/* A sealed object may be mapped still, and the seals would forbid it: then they come last (thaw_files_late). */
bool thaw_seals_wait(const ThawState__Process *p, const File *f)
{
	if (!(f->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return false;
	for (size_t i = 0; i < p->n_mappings; i++)
		if (p->mappings[i]->has_object && p->mappings[i]->object == f->object)
			return true;
	return false;
}

static int finish_one(struct thaw_fr *r, const File *f)
{
	int fd = object_fd(r->p, r->dirfd, f->object, r);
	struct stat s;

	if (fd < 0)
		return fd;
	if (f->has_uid && f->has_gid && !fstat(fd, &s) && (s.st_uid != f->uid || s.st_gid != f->gid) &&
	    fchown(fd, f->uid, f->gid) && geteuid() == 0)
		return thaw_err_set(-errno, "fd %d: owner of a stored file cannot be set: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	if (f->file && fchmod(fd, f->file->mode & 07777))
		return thaw_err_set(-errno, "fd %d: mode of a stored file cannot be set: %s", thaw_fr_num(r, f), strerrordesc_np(errno));
	if (f->has_seals && f->kind == KIND(MEMFD) && f->seals && !thaw_seals_wait(r->p, f) &&
	    (fcntl(fd, F_GET_SEALS) & F_SEAL_SEAL) == 0 && fcntl(fd, F_ADD_SEALS, f->seals))
		return thaw_err_set(-errno, "fd %d: memfd %s: seals %#x cannot be set: %s", thaw_fr_num(r, f), f->memfd_name,
				    (unsigned)f->seals, strerrordesc_np(errno));
	return 0;
}

int thaw_objects_finish(struct thaw_fr *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->p->n_files && !rc; i++)
		if (r->p->files[i]->has_stored)
			rc = finish_one(r, r->p->files[i]);
	for (size_t i = 0; i < n_cache; i++)
		close(cache[i].fd);
	free(cache);
	cache = NULL;
	n_cache = 0;
	return rc;
}
