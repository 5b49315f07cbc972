// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_layout.c - a place in the new process that neither its old nor its new mappings use */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kern/procfs.h"
#include "util/err.h"

#define DISTANCE (2ULL << 20) /* kept to all neighbours: a stack may grow meanwhile */

struct busy {
	struct { uint64_t start, end; } *v;
	size_t n, room;
	int err;
};

static int add(struct busy *b, uint64_t start, uint64_t end)
{
	if (b->n == b->room) {
		size_t room = b->room ? 2 * b->room : 512;
		void *bigger = realloc(b->v, room * sizeof(*b->v));

		if (!bigger)
			return thaw_err_set(-ENOMEM, "no memory for %zu mappings", room);
		b->v = bigger;
		b->room = room;
	}
	b->v[b->n].start = start;
	b->v[b->n++].end = end;
	return 0;
}

static int add_vma(void *opaque, const struct thaw_vma *v)
{
	return v->end <= THAW_RESTORE_TASK_SIZE ? add(opaque, v->start, v->end) : 0;
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t find_gap(struct busy *b, uint64_t len)
{
	uint64_t end = THAW_RESTORE_MIN_ADDR;

	qsort(b->v, b->n, sizeof(*b->v), by_start);
	for (size_t i = 0; i <= b->n; i++) {
		uint64_t start = i < b->n ? b->v[i].start : THAW_RESTORE_TASK_SIZE;

		if (start > end && start - end >= len + 2 * DISTANCE)
			return end + DISTANCE;
		if (i < b->n && b->v[i].end > end)
			end = b->v[i].end;
	}
	return 0;
}

/* len bytes free now in process pid and in the image's layout. */
int thaw_restore_find_place(const struct thaw_restore *r, uint64_t len, uint64_t *at)
{
	const struct thaw_special *s = &r->special;
	uint64_t vdso_len = s->vdso_end - s->vdso_start;
	struct busy b = { 0 };
	int err = thaw_procfs_maps(r->pid, add_vma, &b);

	if (err < 0 && thaw_err_code() != err)
		thaw_err_set(err, "/proc/%d/maps: %s", (int)r->pid, strerror(-err));
	for (size_t i = 0; i < r->p->n_mappings && !err; i++)
		if (r->p->mappings[i]->kind != THAW_STATE__MAPPING__KIND__SPECIAL)
			err = add(&b, r->p->mappings[i]->start, r->p->mappings[i]->end);
	if (!err)
		err = add(&b, r->head->vdso_start - r->head->vvar_len, r->head->vdso_start + vdso_len);
	if (!err) {
		*at = find_gap(&b, len);
		if (!*at)
			err = thaw_err_set(-ENOMEM, "process %d leaves no gap of %llu bytes in its address space", r->p->pid,
					   (unsigned long long)len);
	}
	free(b.v);
	return err;
}
