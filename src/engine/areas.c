// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/areas.c - which memory is registered with the userfaultfd of a space, where it must not be closed with any that is */
#include "config.h"
#include "engine/areas.h"

#include "engine/mm.h"
#include "engine/monitor.h"
#include "kern/procfs.h"
#include "kern/uffd.h"

static void give_up(struct thaw_mm *mm)
{
	struct thaw_pagemap *areas = mm->areas;
	{
		THAW_SCOPED_LOCK(&mm->m->lock); /* for those who look at its size */
		mm->areas = NULL;
	}
	thaw_pagemap_free(areas);
}

void thaw_areas_new(struct thaw_mm *mm, const struct thaw_range *ranges, size_t n)
{
	if (!thaw_uffd_close_can_spin())
		return;
	mm->areas = thaw_pagemap_new();
	for (size_t i = 0; mm->areas && i < n; i++) {
		struct thaw_extent e = {
			.addr = ranges[i].address,
			.pages = ranges[i].length >> THAW_PAGE_SHIFT,
			.off = ranges[i].address, /* so that neighbours are joined */
			.flags = ranges[i].flags & THAW_RANGE_DONTFORK ? THAW_EXTENT_DONTFORK : 0,
		};

		if (thaw_pagemap_add(mm->areas, &e))
			give_up(mm);
	}
}

void thaw_areas_fork(struct thaw_mm *child, const struct thaw_mm *parent)
{
	if (parent->areas)
		child->areas = thaw_pagemap_clone(parent->areas, THAW_EXTENT_DONTFORK);
}

/* A move can be told with a length that it did not have (thaw_uffd_tells_old_length()): where it went to is left out, too. */
void thaw_areas_change(struct thaw_mm *mm, const struct thaw_change *c)
{
	if (!mm->areas || c->kind == THAW_CHANGE_REMOVE)
		return;
	if (thaw_pagemap_remove(mm->areas, c->start, c->len) < 0 ||
	    (c->kind == THAW_CHANGE_REMAP && thaw_pagemap_remove(mm->areas, c->to, c->len) < 0))
		give_up(mm);
}

static int unregister_mapping(void *opaque, const struct thaw_vma *v)
{
	const struct thaw_mm *mm = opaque;
	struct thaw_extent e;

	if (thaw_pagemap_next(mm->areas, v->start, v->end - v->start, &e) || thaw_pagemap_next(mm->pm, v->start, v->end - v->start, &e))
		(void)thaw_uffd_unregister(mm->uffd, v->start, v->end - v->start);
	return 0;
}

/* Registered memory beside it may be more of the same mapping. */
static enum thaw_outcome unregister_area(struct thaw_mm *mm, uint64_t start, uint64_t end)
{
	enum thaw_outcome before = thaw_uffd_is_registered(mm->uffd, start - THAW_PAGE_SIZE);
	enum thaw_outcome behind = before == THAW_NO_VMA ? thaw_uffd_is_registered(mm->uffd, end) : before;

	if (behind == THAW_NO_VMA)
		(void)thaw_uffd_unregister(mm->uffd, start, end - start);
	return behind;
}

static bool unregister_areas(struct thaw_mm *mm)
{
	uint64_t start, end = 0;
	struct thaw_extent e;

	while (thaw_pagemap_next(mm->areas, end, UINT64_MAX - end, &e)) {
		start = e.addr;
		do
			end = e.addr + (e.pages << THAW_PAGE_SHIFT);
		while (thaw_pagemap_next(mm->areas, end, THAW_PAGE_SIZE, &e));
		if (unregister_area(mm, start, end) == THAW_CHANGING)
			return false;
	}
	return true;
}

bool thaw_areas_unregister(struct thaw_mm *mm)
{
	if (!mm->areas)
		return true;
	if ((mm->maps_fd < 0 || thaw_procfs_maps_fd(mm->maps_fd, false, unregister_mapping, mm)) && !unregister_areas(mm))
		return false;
	give_up(mm);
	return true;
}
