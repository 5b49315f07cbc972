// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_read.c - everything a restore needs from the directory and the file system, before there is a process */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "checkpoint/files.h"
#include "checkpoint/state.h"
#include "checkpoint/whole.h"
#include "checkpoint/xsave.h"
#include "kern/procfs.h"
#include "util/err.h"

static int add_special(void *opaque, const struct thaw_vma *v)
{
	struct thaw_special *s = opaque;

	if (strncmp(v->path, "[vvar", 5) && strcmp(v->path, "[vdso]"))
		return 0;
	if (s->n == THAW_RESTORE_PIECES || (s->n && s->piece[s->n - 1].end != v->start))
		return thaw_err_set(-ENOTSUP, "the vdso of this kernel is laid out in an unknown way");
	s->piece[s->n].start = v->start;
	s->piece[s->n++].end = v->end;
	if (!strcmp(v->path, "[vdso]")) {
		s->vdso_start = v->start;
		s->vdso_end = v->end;
	}
	return 0;
}

int thaw_restore_special(struct thaw_special *s)
{
	int err;

	memset(s, 0, sizeof(*s));
	err = thaw_procfs_maps(getpid(), add_special, s);
	if (err < 0)
		return thaw_err_code() == err ? err : thaw_err_set(err, "/proc/self/maps: %s", strerror(-err));
	if (!s->vdso_start || s->vdso_end != s->piece[s->n - 1].end)
		return thaw_err_set(-ENOTSUP, "there is no vdso in this process (vdso=0 on the kernel's command line?): "
				    "thaw needs one");
	return 0;
}

/* The process keeps calling into the vdso at its old addresses, so ours must be the same, byte for byte. */
static int check_kernel(const struct thaw_restore *r)
{
	const ThawState__Head *h = r->head;
	const struct thaw_special *s = &r->special;
	struct utsname u;

	if (h->page_size != (uint64_t)sysconf(_SC_PAGESIZE))
		return thaw_err_set(-ENOEXEC, "%s: made with pages of %llu bytes, this machine has %ld", r->o.dir,
				    (unsigned long long)h->page_size, sysconf(_SC_PAGESIZE));
	if (h->vdso.len == s->vdso_end - s->vdso_start && h->vvar_len == s->vdso_start - s->piece[0].start &&
	    !memcmp(h->vdso.data, (const void *)s->vdso_start, h->vdso.len))
		return 0;
	uname(&u);
	return thaw_err_set(-ENOEXEC, "%s: made on kernel %.100s, this is %s with another vdso: a process is restored on the "
			    "kernel that it was checkpointed on; for others use CRIU with thaw lazy-pages", r->o.dir,
			    h->kernel, u.release);
}

static int open_exe(struct thaw_restore *r)
{
	r->exe_fd = open(r->p->exe, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (r->exe_fd < 0)
		return thaw_err_set(-errno, "%s: %s: the process's program must be where it was", r->p->exe, strerror(errno));
	return thaw_file_id_check(r->p->exe_id, r->exe_fd, r->p->exe);
}

static bool wants_write(const ThawState__Mapping *m)
{
	return m->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED &&
	       (m->has_may_write ? (bool)m->may_write : (m->prot & PROT_WRITE) != 0);
}

/* The first mapping of the same file, opened the same way; i: there is none. Most files are mapped in neighbouring pieces. */
static size_t find_open(const struct thaw_restore *r, size_t i)
{
	const ThawState__Mapping *m = r->p->mappings[i], *e;

	for (size_t j = i; j-- > 0;) {
		e = r->p->mappings[j];
		if (r->map_fd[j] >= 0 && !strcmp(e->path, m->path) && wants_write(e) == wants_write(m))
			return (size_t)r->map_first[j];
	}
	return i;
}

/* Of a private mapping only the changed pages are in the image: the others must be what they were. */
static int check_mapped(const ThawState__Mapping *m, int fd)
{
	if (!m->id)
		return 0;
	return m->kind == THAW_STATE__MAPPING__KIND__FILE_PRIVATE ? thaw_file_id_check_exact(m->id, fd, m->path) :
								    thaw_file_id_check(m->id, fd, m->path);
}

static int open_mapping(struct thaw_restore *r, size_t i)
{
	const ThawState__Mapping *m = r->p->mappings[i];
	size_t first = find_open(r, i);

	r->map_first[i] = (int)first;
	r->map_fd[i] = first != i ? r->map_fd[first] :
				    open(m->path, (wants_write(m) ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (r->map_fd[i] < 0)
		return thaw_err_set(-errno, "%s: %s: the process had it mapped at 0x%llx", m->path, strerror(errno),
				    (unsigned long long)m->start);
	return check_mapped(m, r->map_fd[i]); /* also of a descriptor that a shared mapping has opened, which asks for less */
}

static int open_mappings(struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	int err = 0;

	r->map_fd = malloc(sizeof(*r->map_fd) * p->n_mappings);
	r->map_first = malloc(sizeof(*r->map_first) * p->n_mappings);
	if (!r->map_fd || !r->map_first)
		return thaw_err_set(-ENOMEM, "no memory for %zu mappings", p->n_mappings);
	for (size_t i = 0; i < p->n_mappings; i++)
		r->map_fd[i] = r->map_first[i] = -1;
	for (size_t i = 0; i < p->n_mappings && !err; i++)
		if (p->mappings[i]->path && !p->mappings[i]->has_stored &&
		    (p->mappings[i]->kind == THAW_STATE__MAPPING__KIND__FILE_PRIVATE ||
		     p->mappings[i]->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED))
			err = open_mapping(r, i);
	return err;
}

static void raise_file_limit(void)
{
	struct rlimit l;

	/* The process gets its own limits later; until then its files and the mappings' need room. */
	if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int by_timer_id(const void *a, const void *b)
{
	const ThawState__PosixTimer *const *x = a, *const *y = b;

	return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

/* The user did not call thaw_source_images(): the directory is what tells the reader where. */
static int source_failed(const struct thaw_restore *r)
{
	static const char call[] = "thaw_source_images: ";
	const char *text = thaw_err_text();
	int code = thaw_err_code() ? thaw_err_code() : -EIO;
	char sentence[512];

	snprintf(sentence, sizeof(sentence), "%s", strncmp(text, call, strlen(call)) ? text : text + strlen(call));
	return thaw_err_set(code, "%s: %s", r->o.dir, sentence);
}

int thaw_restore_read(struct thaw_restore *r)
{
	int err;

	r->dirfd = open(r->o.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->dirfd < 0)
		return thaw_err_set(-errno, "%s: %s", r->o.dir, strerror(errno));
	err = thaw_state_load(r->dirfd, &r->head, &r->p);
	if (err) {
		thaw_err_wrap("%s", r->o.dir);
		return err;
	}
	if (r->p->n_timers)
		qsort(r->p->timers, r->p->n_timers, sizeof(*r->p->timers), by_timer_id);
	err = thaw_restore_special(&r->special);
	if (!err)
		err = check_kernel(r);
	if (!err)
		err = thaw_restore_check(r);
	if (!err)
		err = thaw_xsave_check(r->head, r->p);
	if (!err && (err = thaw_whole_check(r->dirfd, r->head, r->p)))
		thaw_err_wrap("%s", r->o.dir);
	if (err)
		return err;
	raise_file_limit();
	r->source = thaw_source_images(r->dirfd, r->p->pid);
	if (!r->source)
		return source_failed(r);
	err = thaw_restore_sort_content(r);
	if (!err)
		err = open_exe(r);
	return err ? err : open_mappings(r);
}
