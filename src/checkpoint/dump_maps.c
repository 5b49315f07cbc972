// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_maps.c - the mappings of a stopped process: what each one is, and which of them are refused */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoint/dump_mapfile.h"
#include "kern/sys.h"
#include "util/err.h"

/* Names that /proc gives to things which are not files. `sentence` follows the mapping's address and name. */
static const struct {
	const char *prefix, *sentence;
} refused_names[] = {
	{ "/[aio]", "ring of asynchronous I/O (io_setup): not supported; end it before the checkpoint" },
	{ "anon_inode:[io_uring]", "io_uring: not supported; close it before the checkpoint" },
	{ "anon_inode:[perf_event]", "perf event buffer: not supported; close it before the checkpoint" },
	{ "anon_inode:", "not supported; unmap it before the checkpoint" },
	{ "socket:", "not supported; unmap it before the checkpoint" },
	{ "/SYSV", "System V shared memory: not supported; detach it (shmdt) before the checkpoint" },
	{ "/anon_hugepage", "hugetlb: not supported; run the program without huge page mappings" },
	{ "/secretmem", "secret memory (memfd_secret): not supported; unmap it before the checkpoint" },
	{ "[uprobes]", "breakpoints of uprobes: not supported; remove them before the checkpoint" },
};

static const struct {
	uint32_t flag;
	const char *sentence;
} refused_flags[] = {
	{ THAW_VM_HUGETLB, "hugetlb: not supported; run the program without huge page mappings" },
	{ THAW_VM_UFFD_MISSING | THAW_VM_UFFD_WP | THAW_VM_UFFD_MINOR,
	  "registered with a userfaultfd: not supported; if the process is being restored, checkpoint it when its memory "
	  "is in (restored with --stay-lazy: when it has used all of it)" },
	{ THAW_VM_SHADOW_STACK, "shadow stack: not supported; run the program with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK" },
	{ THAW_VM_SEALED, "sealed (mseal): not supported; run the program without" },
	{ THAW_VM_IO | THAW_VM_PFNMAP | THAW_VM_MIXEDMAP, "memory of a device: not supported; unmap it before the checkpoint" },
};

static int refuse(const struct thaw_vma *v, const char *sentence)
{
	return thaw_err_set(-ENOTSUP, "mapping %llx-%llx (%.200s): %s", (unsigned long long)v->start,
			    (unsigned long long)v->end, v->path[0] ? v->path : "anonymous", sentence);
}

static int check_vma(const struct thaw_vma *v)
{
	size_t i;

	for (i = 0; i < sizeof(refused_names) / sizeof(refused_names[0]); i++)
		if (!strncmp(v->path, refused_names[i].prefix, strlen(refused_names[i].prefix)))
			return refuse(v, refused_names[i].sentence);
	for (i = 0; i < sizeof(refused_flags) / sizeof(refused_flags[0]); i++)
		if (v->flags & refused_flags[i].flag)
			return refuse(v, refused_flags[i].sentence);
	if (v->pkey && v->prot != PROT_EXEC) /* the kernel finds a key for execute-only memory by itself */
		return refuse(v, "has a protection key (pkey_mprotect): not supported");
	return 0;
}

static char special(const char *path)
{
	if (!strcmp(path, "[vdso]"))
		return 'd';
	if (!strncmp(path, "[vvar", 5))
		return 'v';
	return !strcmp(path, "[vsyscall]") ? 's' : 0;
}

/* The advice that the flags stand for, to be given again. */
static void add_advice(ThawState__Mapping *m, uint32_t flags)
{
	static const struct {
		uint32_t flag, advice;
	} table[] = {
		{ THAW_VM_SEQ_READ, MADV_SEQUENTIAL },	 { THAW_VM_RAND_READ, MADV_RANDOM },
		{ THAW_VM_DONTCOPY, MADV_DONTFORK },	 { THAW_VM_MERGEABLE, MADV_MERGEABLE },
		{ THAW_VM_HUGEPAGE, MADV_HUGEPAGE },	 { THAW_VM_NOHUGEPAGE, MADV_NOHUGEPAGE },
		{ THAW_VM_DONTDUMP, MADV_DONTDUMP },	 { THAW_VM_WIPEONFORK, MADV_WIPEONFORK },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (!(flags & table[i].flag))
			continue;
		m->madvise = thaw_dump_grow(m->madvise, m->n_madvise, sizeof(*m->madvise));
		m->madvise[m->n_madvise++] = table[i].advice;
	}
}

static void add_flags(ThawState__Mapping *m, struct thaw_dump_map *dm, uint32_t flags)
{
	m->growsdown = flags & THAW_VM_GROWSDOWN;
	m->locked = flags & THAW_VM_LOCKED;
	if (flags & THAW_VM_LOCKONFAULT)
		m->has_lock_onfault = m->lock_onfault = 1;
	m->has_may_write = 1;
	m->may_write = flags & THAW_VM_MAYWRITE;
	m->has_map_flags = 1;
	if (flags & THAW_VM_DROPPABLE) { /* made again, empty: as if the kernel had just needed the memory */
		dm->droppable = true;
		m->map_flags |= THAW_MAP_DROPPABLE;
	}
	if (flags & THAW_VM_NORESERVE)
		m->map_flags |= MAP_NORESERVE;
	add_advice(m, flags);
}

static int add_vma(void *opaque, const struct thaw_vma *v)
{
	struct thaw_dumper *d = opaque;
	struct thaw_dump_map *dm;
	ThawState__Mapping *m;
	char kind = special(v->path);
	int r;

	r = kind ? 0 : check_vma(v);
	if (r < 0 || kind == 's') /* every process has the vsyscall page */
		return r;
	d->maps = thaw_dump_grow(d->maps, d->n_maps, sizeof(*d->maps));
	d->p.mappings = thaw_dump_grow(d->p.mappings, d->n_maps, sizeof(*d->p.mappings));
	dm = &d->maps[d->n_maps];
	m = d->p.mappings[d->n_maps] = thaw_dump_alloc(sizeof(*m));
	d->p.n_mappings = ++d->n_maps;
	*dm = (struct thaw_dump_map){ .start = v->start, .end = v->end, .vm_flags = v->flags, .own_kb = v->anon_kb + v->swap_kb,
				      .ino = v->ino, .dev_major = v->dev_major, .dev_minor = v->dev_minor, .special = kind };
	thaw_state__mapping__init(m);
	m->start = v->start;
	m->end = v->end;
	m->prot = (uint32_t)v->prot;
	m->pgoff = v->off;
	if (kind) {
		m->kind = THAW_STATE__MAPPING__KIND__SPECIAL;
		return 0;
	}
	add_flags(m, dm, v->flags);
	r = thaw_dump_map_file(d, m, v);
	m->lazy = m->kind == THAW_STATE__MAPPING__KIND__ANON && !m->locked && !dm->droppable;
	return r;
}

static int read_vdso(struct thaw_dumper *d)
{
	uint64_t vvar = 0, vdso = 0, end = 0;
	size_t i;
	int r;

	for (i = 0; i < d->n_maps; i++) {
		const struct thaw_dump_map *dm = &d->maps[i];

		if (dm->special == 'v' && !vvar)
			vvar = dm->start;
		if (dm->special == 'd') {
			vdso = dm->start;
			end = dm->end;
		}
	}
	if (!vdso)
		return thaw_err_set(-ENOTSUP, "process %d has no vdso (it unmapped it, or vdso=0): not supported", d->pid);
	for (i = 0; vvar && i + 1 < d->n_maps; i++)
		if (d->maps[i].special == 'v' && d->maps[i].end != d->maps[i + 1].start)
			return thaw_err_set(-ENOTSUP, "process %d has moved its vdso away from its vvar: not supported", d->pid);
	d->head.vdso_start = vdso;
	d->head.vvar_start = vvar;
	d->head.vvar_len = vvar ? vdso - vvar : 0;
	d->head.vdso = (ProtobufCBinaryData){ end - vdso, thaw_dump_alloc(end - vdso) };
	r = thaw_sys_vm_read(d->pid, vdso, d->head.vdso.data, d->head.vdso.len);
	return r < 0 ? thaw_err_set(r, "process %d: reading its vdso: %s", d->pid, strerror(-r)) : 0;
}

int thaw_dump_maps(struct thaw_dumper *d)
{
	int r;

	thaw_err_clear();
	r = thaw_procfs_smaps(d->pid, add_vma, d);
	if (r == -ESRCH)
		return thaw_err_set(r, "process %d has ended meanwhile", d->pid);
	if (r < 0)
		return thaw_err_code() == r ? r : thaw_err_set(r, "process %d: its mappings: %s", d->pid, strerror(-r));
	return read_vdso(d);
}
