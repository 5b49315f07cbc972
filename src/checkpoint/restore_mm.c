// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_mm.c - our memory in the new process is replaced by the mappings of the image */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "checkpoint/state.h"
#include "util/err.h"

#define PAGE 4096ULL
#define AREA_LEN (512u << 10)
#define SCRATCH_LEN (2 * PAGE)

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_GUARD_INSTALL /* Linux 6.13 */
#define MADV_GUARD_INSTALL 102
#endif

/* ---- away with the old ---- */
static void unmap(struct thaw_script *s, uint64_t start, uint64_t end)
{
	if (start < end)
		THAW_STEP(s, .what = "munmap at 0x%lx", .at = start, .nr = SYS_munmap, .args = { start, end - start });
}

static void unmap_all_but(struct thaw_script *s, uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	if (b < a) {
		uint64_t t = a, t_end = a_end;

		a = b, a_end = b_end;
		b = t, b_end = t_end;
	}
	unmap(s, 0, a);
	unmap(s, a_end, b);
	unmap(s, b_end, THAW_RESTORE_TASK_SIZE);
}

static void move_special(struct thaw_script *s, const struct thaw_special *from, uint64_t old, uint64_t new)
{
	uint64_t base = from->piece[0].start;

	for (unsigned i = 0; i < from->n; i++)
		THAW_STEP(s, .what = "moving the vdso to 0x%lx", .at = new,
			  .remedy = "does the kernel seal it (CONFIG_MSEAL_SYSTEM_MAPPINGS)?", .nr = SYS_mremap,
			  .args = { old + (from->piece[i].start - base), from->piece[i].end - from->piece[i].start,
				    from->piece[i].end - from->piece[i].start, MREMAP_MAYMOVE | MREMAP_FIXED,
				    new + (from->piece[i].start - base) });
}

/* temp: a free place, when old and new place overlap. */
static void place_special(struct thaw_restore *r, struct thaw_script *s, uint64_t temp)
{
	const struct thaw_special *sp = &r->special;
	uint64_t old = sp->piece[0].start, len = sp->vdso_end - old, new = r->head->vdso_start - r->head->vvar_len;

	if (old == new)
		return;
	if (old < new + len && new < old + len) {
		move_special(s, sp, old, temp);
		old = temp;
	}
	move_special(s, sp, old, new);
}

/* ---- what is known of the program in the mm itself ---- */
static void set_mm(const struct thaw_restore *r, struct thaw_script *s)
{
	const ThawState__Process *p = r->p;
	struct { struct prctl_mm_map map; unsigned char auxv[1024]; } d = {
		.map = { .start_code = p->start_code, .end_code = p->end_code, .start_data = p->start_data,
			 .end_data = p->end_data, .start_brk = p->start_brk, .brk = p->brk, .start_stack = p->start_stack,
			 .arg_start = p->arg_start, .arg_end = p->arg_end, .env_start = p->env_start, .env_end = p->env_end,
			 .auxv_size = (uint32_t)p->auxv.len, .exe_fd = (uint32_t)r->report->exe_fd },
	};

	memcpy(d.auxv, p->auxv.data, p->auxv.len);
	d.map.auxv = (void *)offsetof(__typeof__(d), auxv);
	THAW_STEP(s, .what = "PR_SET_MM_MAP (the program's addresses and file)",
		  .remedy = "changing the program file takes CAP_CHECKPOINT_RESTORE", .nr = SYS_prctl,
		  .args = { PR_SET_MM, PR_SET_MM_MAP, 0, sizeof(d.map), 0 }, .data = &d, .len = sizeof(d),
		  .data_args = 1u << 2, .pointer = offsetof(struct prctl_mm_map, auxv));
}

/* ---- the mappings ---- */
static bool has_content(const struct thaw_restore *r, const ThawState__Mapping *m)
{
	size_t low = 0, high = r->n_eager;

	while (low < high) { /* the first run that ends behind the mapping's start */
		size_t mid = low + (high - low) / 2;

		if (r->eager[mid].addr + r->eager[mid].pages * PAGE <= m->start)
			low = mid + 1;
		else
			high = mid;
	}
	return low < r->n_eager && r->eager[low].addr < m->end;
}

static int flags_of(const ThawState__Mapping *m)
{
	int flags = MAP_FIXED_NOREPLACE | (int)(m->map_flags & MAP_NORESERVE);

	switch (m->kind) {
	case THAW_STATE__MAPPING__KIND__FILE_SHARED:
	case THAW_STATE__MAPPING__KIND__SHARED_ANON:
		return flags | MAP_SHARED;
	case THAW_STATE__MAPPING__KIND__FILE_PRIVATE:
		return flags | MAP_PRIVATE;
	default:
		if (m->map_flags & THAW_MAP_DROPPABLE) /* in place of MAP_PRIVATE */
			return flags | THAW_MAP_DROPPABLE | MAP_ANONYMOUS;
		return flags | MAP_PRIVATE | MAP_ANONYMOUS | (m->growsdown ? MAP_GROWSDOWN : 0);
	}
}

static bool is_special(const ThawState__Mapping *m)
{
	return m->kind == THAW_STATE__MAPPING__KIND__SPECIAL;
}

static void make_mapping(const struct thaw_restore *r, struct thaw_script *s, size_t i)
{
	const ThawState__Mapping *m = r->p->mappings[i];
	uint64_t len = m->end - m->start;
	/* Content is written through the page tables as the process itself would: that takes a writable mapping for now. */
	uint64_t prot = m->prot | (has_content(r, m) ? PROT_WRITE : 0);
	int fd = r->report->map[i].fd;

	THAW_STEP(s, .what = "mapping at 0x%lx", .at = m->start, .nr = SYS_mmap,
		  .args = { m->start, len, prot, (uint64_t)flags_of(m), (uint64_t)fd, fd >= 0 ? m->pgoff : 0 });
	for (size_t a = 0; a < m->n_madvise; a++)
		THAW_STEP(s, .what = "madvise at 0x%lx", .at = m->start, .nr = SYS_madvise,
			  .args = { m->start, len, m->madvise[a] });
	if (m->name)
		THAW_STEP(s, .what = "name of the mapping at 0x%lx", .at = m->start, .nr = SYS_prctl,
			  .args = { PR_SET_VMA, PR_SET_VMA_ANON_NAME, m->start, len, 0 }, .data = m->name,
			  .len = strlen(m->name) + 1, .data_args = 1u << 4);
}

static void close_descriptors(const struct thaw_restore *r, struct thaw_script *s)
{
	const struct thaw_child_report *rep = r->report;

	for (size_t i = 0; i < r->p->n_mappings; i++)
		if (rep->map[i].fd >= 0 && rep->map[i].first == (int)i)
			THAW_STEP(s, .what = "closing descriptor %ld", .at = (uint64_t)rep->map[i].fd, .nr = SYS_close,
				  .args = { (uint64_t)rep->map[i].fd });
	THAW_STEP(s, .what = "closing descriptor %ld", .at = (uint64_t)rep->exe_fd, .nr = SYS_close,
		  .args = { (uint64_t)rep->exe_fd });
	if (rep->uffd >= 0)
		THAW_STEP(s, .what = "closing descriptor %ld", .at = (uint64_t)rep->uffd, .nr = SYS_close,
			  .args = { (uint64_t)rep->uffd });
}

/* ---- in order ---- */
static int given_up(void *opaque)
{
	return thaw_restore_interrupted(opaque);
}

static int make_area(struct thaw_restore *r)
{
	const struct thaw_special *sp = &r->special;
	uint64_t args[6] = { 0, SCRATCH_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ~0ULL };
	struct thaw_remote_saved unused;
	uint64_t at = 0;
	int64_t result = 0;
	int err;

	err = thaw_restore_find_place(r, AREA_LEN + SCRATCH_LEN + (sp->vdso_end - sp->piece[0].start), &at);
	if (!err)
		err = thaw_remote_save(r->pid, &unused);
	if (!err)
		err = thaw_remote_find(&r->remote, r->pid, sp->vdso_start, sp->vdso_end - sp->vdso_start);
	r->remote.give_up = given_up;
	r->remote.opaque = r;
	if (!err)
		err = thaw_remote_map(&r->remote, r->pid, at, AREA_LEN);
	if (err)
		return err;
	args[0] = r->scratch = at + AREA_LEN;
	err = thaw_remote_one(&r->remote, r->pid, SYS_mmap, args, &result);
	if (!err && (uint64_t)result != r->scratch)
		err = thaw_err_set(result < 0 ? (int)result : -EIO, "process %d: no scratch pages", r->p->pid);
	if (err)
		return err;
	r->batch = thaw_batch_new(&r->remote);
	return r->batch ? 0 : -ENOMEM;
}

static int replace_memory(struct thaw_restore *r)
{
	const struct thaw_special *sp = &r->special;
	struct thaw_script *s = r->script;
	uint64_t free_end = r->scratch + SCRATCH_LEN;
	int err;

	thaw_script_init(s, r->batch, r->pid, r->p->pid);
	unmap_all_but(s, r->remote.area, free_end, sp->piece[0].start, sp->vdso_end);
	place_special(r, s, free_end);
	set_mm(r, s); /* while no file is mapped: the kernel changes the program file of none that is still in use */
	err = thaw_script_run(s);
	/* The instruction that single calls borrow has moved with the vdso. */
	r->remote.syscall_insn += r->head->vdso_start - sp->vdso_start;
	return err;
}

/* No huge pages, and none that are put together in the background, until the memory is registered: the first page that is written would
 * bring along hundreds of empty ones, which would pass for content that is in. */
static void forbid_huge_pages(const struct thaw_restore *r)
{
	if (!r->o.eager)
		THAW_STEP(r->script, .what = "PR_SET_THP_DISABLE", .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE, 1 });
}

int thaw_restore_mm(struct thaw_restore *r)
{
	int err = make_area(r);

	if (!err)
		err = replace_memory(r);
	if (err)
		return err;
	forbid_huge_pages(r);
	for (size_t i = 0; i < r->p->n_mappings; i++)
		if (!is_special(r->p->mappings[i]))
			make_mapping(r, r->script, i);
	close_descriptors(r, r->script);
	return thaw_script_run(r->script);
}

/* Of memory that nobody may touch (PROT_NONE, guard pages, a file's mapping beyond its end) mlock(2) sets the mapping's flag
 * and then says ENOMEM, because it cannot bring in the pages: mlockall(2), which locked it, ignores that. */
static bool can_be_filled(const ThawState__Mapping *m)
{
	return m->prot & PROT_READ && !m->n_guards && !m->path;
}

/* What could not be while content was written. */
int thaw_restore_mm_finish(struct thaw_restore *r)
{
	struct thaw_script *s = r->script;

	for (size_t i = 0; i < r->p->n_mappings; i++) {
		const ThawState__Mapping *m = r->p->mappings[i];
		uint64_t len = m->end - m->start;

		if (is_special(m))
			continue;
		if (!(m->prot & PROT_WRITE) && has_content(r, m))
			THAW_STEP(s, .what = "mprotect at 0x%lx", .at = m->start, .nr = SYS_mprotect,
				  .args = { m->start, len, m->prot });
		for (size_t g = 0; g < m->n_guards; g++)
			THAW_STEP(s, .what = "guard pages at 0x%lx", .at = m->guards[g]->start, .nr = SYS_madvise,
				  .args = { m->guards[g]->start, m->guards[g]->end - m->guards[g]->start, MADV_GUARD_INSTALL });
		if (m->locked)
			THAW_STEP(s, .what = "mlock at 0x%lx", .at = m->start, .remedy = "locking memory takes CAP_IPC_LOCK or a "
				  "higher limit", .nr = SYS_mlock2,
				  .args = { m->start, len, m->lock_onfault ? MLOCK_ONFAULT : 0 },
				  .may_fail = !can_be_filled(m));
	}
	return thaw_script_run(s);
}
