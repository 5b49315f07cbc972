// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_images.c - the small image files: inventory, process tree, mappings, thaw.img */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/whole.h"
#include "image/sums.h"
#include "image/write.h"
#include "util/err.h"

static uint32_t vma_flags(const ThawState__Mapping *m, char special)
{
	uint32_t flags;

	if (special)
		return MAP_PRIVATE | MAP_ANONYMOUS;
	flags = m->kind == THAW_STATE__MAPPING__KIND__FILE_SHARED || m->kind == THAW_STATE__MAPPING__KIND__SHARED_ANON ?
		MAP_SHARED : MAP_PRIVATE;
	if (m->kind == THAW_STATE__MAPPING__KIND__ANON || m->kind == THAW_STATE__MAPPING__KIND__SHARED_ANON)
		flags |= MAP_ANONYMOUS;
	if (m->growsdown)
		flags |= MAP_GROWSDOWN;
	return m->locked ? flags | MAP_LOCKED : flags;
}

static uint32_t vma_status(const struct thaw_dumper *d, const ThawState__Mapping *m, char special)
{
	uint32_t status = THAW_VMA_REGULAR;

	if (special)
		return status | (special == 'd' ? THAW_VMA_VDSO : THAW_VMA_VVAR);
	switch (m->kind) {
	case THAW_STATE__MAPPING__KIND__FILE_PRIVATE:
		status |= THAW_VMA_FILE_PRIVATE;
		break;
	case THAW_STATE__MAPPING__KIND__FILE_SHARED:
		status |= m->memfd_name ? THAW_VMA_FILE_SHARED | THAW_VMA_MEMFD : THAW_VMA_FILE_SHARED;
		break;
	case THAW_STATE__MAPPING__KIND__SHARED_ANON:
		status |= THAW_VMA_ANON_SHARED;
		break;
	default:
		status |= THAW_VMA_ANON_PRIVATE;
	}
	if (m->start <= d->p.start_stack && d->p.start_stack < m->end)
		status |= THAW_VMA_STACK;
	if (m->start >= d->p.start_brk && m->end <= d->p.brk && d->p.start_brk < d->p.brk)
		status |= THAW_VMA_HEAP;
	return status;
}

static ThawImage__Vma *make_vma(const struct thaw_dumper *d, size_t i)
{
	const ThawState__Mapping *m = d->p.mappings[i];
	ThawImage__Vma *v = thaw_dump_alloc(sizeof(*v));
	size_t a;

	thaw_image__vma__init(v);
	v->start = m->start;
	v->end = m->end;
	v->pgoff = m->pgoff;
	v->shmid = m->has_object ? m->object : 0;
	v->prot = m->prot;
	v->flags = vma_flags(m, d->maps[i].special);
	v->status = vma_status(d, m, d->maps[i].special);
	v->fd = -1;
	for (a = 0; a < m->n_madvise; a++) {
		v->has_madv = 1;
		v->madv |= 1ULL << m->madvise[a];
	}
	return v;
}

static int write_mm(struct thaw_dumper *d)
{
	const ThawState__Process *p = &d->p;
	ThawImage__Mm mm = THAW_IMAGE__MM__INIT;
	size_t i;

	mm.start_code = p->start_code;
	mm.end_code = p->end_code;
	mm.start_data = p->start_data;
	mm.end_data = p->end_data;
	mm.start_stack = p->start_stack;
	mm.start_brk = p->start_brk;
	mm.brk = p->brk;
	mm.arg_start = p->arg_start;
	mm.arg_end = p->arg_end;
	mm.env_start = p->env_start;
	mm.env_end = p->env_end;
	mm.n_saved_auxv = p->auxv.len / sizeof(uint64_t);
	mm.saved_auxv = (uint64_t *)(void *)p->auxv.data;
	mm.has_dumpable = 1;
	mm.dumpable = (int32_t)p->dumpable_value;
	mm.has_thp_disabled = 1;
	mm.thp_disabled = p->thp_disabled;
	mm.n_vmas = d->n_maps;
	mm.vmas = thaw_dump_alloc(d->n_maps * sizeof(*mm.vmas));
	for (i = 0; i < d->n_maps; i++)
		mm.vmas[i] = make_vma(d, i);
	return thaw_image_write_mm(d->dirfd, d->pid, &mm);
}

static int write_pstree(struct thaw_dumper *d)
{
	uint32_t *tids = thaw_dump_alloc(d->p.n_threads * sizeof(*tids));
	size_t i;

	for (i = 0; i < d->p.n_threads; i++)
		tids[i] = (uint32_t)d->p.threads[i]->tid;
	return thaw_image_write_pstree(d->dirfd, d->pid, d->p.ppid, d->p.pgid, d->p.sid, tids, d->p.n_threads);
}

/* Read back: what is in the directory counts, and it is in the page cache still. */
static int list_image(void *opaque, const char *name)
{
	struct thaw_dumper *d = opaque;
	ThawState__Image *m = thaw_dump_alloc(sizeof(*m));
	int r = thaw_dump_abandoned(d);

	thaw_state__image__init(m);
	m->name = thaw_dump_strdup(name);
	if (r == 0)
		r = thaw_image_digest(d->dirfd, name, &m->length, &m->checksum);
	d->head.images = thaw_dump_grow(d->head.images, d->head.n_images, sizeof(*d->head.images));
	d->head.images[d->head.n_images++] = m;
	return r;
}

static int write_state(struct thaw_dumper *d)
{
	unsigned n = thaw_store_count(d->store), i;
	int fd, r;

	d->head.stored_sizes = thaw_dump_alloc(n * sizeof(*d->head.stored_sizes));
	d->head.n_stored_sizes = n;
	for (i = 0; i < n; i++)
		d->head.stored_sizes[i] = thaw_store_size(d->store, i);
	r = thaw_whole_names(d->pid, n, list_image, d);
	if (r < 0)
		return r;
	fd = thaw_state_write(d->dirfd, &d->head, &d->p);
	if (fd < 0)
		return fd;
	r = fsync(fd) < 0 ? thaw_err_set(-errno, THAW_STATE_FILE ": %s", strerror(errno)) : 0;
	close(fd);
	return r;
}

int thaw_dump_images(struct thaw_dumper *d)
{
	int r;

	r = thaw_image_write_inventory(d->dirfd);
	if (r == 0)
		r = write_pstree(d);
	if (r == 0)
		r = write_mm(d);
	if (r == 0)
		r = write_state(d);
	return r == 0 ? thaw_store_sync(d->store) : r;
}
