// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/pagemap_file.c - pagemap-PID.img: which pages an image has, and where in pages-N.img */
#include "config.h"
#include "image/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

enum { RECORD_MOST = 4096, PAGE = 4096 };
#define PAGES_MOST (UINT64_C(1) << 44) /* of one pages file: offsets stay far below 2^63 */

static int corrupt(const struct thaw_image_file *f, const char *what, uint64_t value)
{
	return thaw_err_set(-EBADMSG, "%s: corrupt: the entry at byte %zu has %s 0x%lx", f->name, f->record, what,
			    value);
}

static unsigned entry_flags(const ThawImage__PagemapEntry *e)
{
	if (e->has_flags)
		return e->flags;
	return e->has_in_parent && e->in_parent ? THAW_PE_PARENT : THAW_PE_PRESENT;
}

static int add_run(struct thaw_image_pagemap *pm, const struct thaw_image_run *run)
{
	struct thaw_image_run *last = pm->n ? &pm->run[pm->n - 1] : NULL;

	if (last && last->flags == run->flags && last->addr + last->pages * PAGE == run->addr) {
		last->pages += run->pages; /* the file's pages follow too: nothing came between */
		return 0;
	}
	if (pm->n == pm->room) {
		size_t room = pm->room ? pm->room * 2 : 64;
		struct thaw_image_run *bigger = realloc(pm->run, room * sizeof(*bigger));

		if (!bigger)
			return thaw_err_set(-ENOMEM, "pagemap: no memory for %zu entries", room);
		pm->run = bigger;
		pm->room = room;
	}
	pm->run[pm->n++] = *run;
	return 0;
}

static int take_entry(struct thaw_image_file *f, struct thaw_image_pagemap *pm, const ThawImage__PagemapEntry *e,
		      uint64_t *end)
{
	struct thaw_image_run run = { .addr = e->vaddr, .flags = entry_flags(e) };

	if (e->base.n_unknown_fields)
		return thaw_err_set(-ENOTSUP, "%s: the entry at byte %zu has the field %u, which is not known here: pages of newer images"
				    " may be compressed, and are not read then; dump without compression", f->name, f->record,
				    e->base.unknown_fields[0].tag);
	run.pages = e->has_nr_pages ? e->nr_pages : e->compat_nr_pages;
	pm->wide |= e->has_nr_pages;
	if (run.addr % PAGE)
		return corrupt(f, "an address that is not a page's:", run.addr);
	if (!run.pages || run.pages > (UINT64_MAX - run.addr) / PAGE || run.pages > PAGES_MOST)
		return corrupt(f, "an impossible number of pages:", run.pages);
	if (run.addr < *end)
		return corrupt(f, "an address before the end of the entry in front of it:", run.addr);
	if (run.flags & ~7u || !run.flags ||
	    (run.flags & THAW_PE_PARENT && run.flags & (THAW_PE_PRESENT | THAW_PE_LAZY)))
		return corrupt(f, "impossible flags:", run.flags);
	*end = run.addr + run.pages * PAGE;
	if (run.flags & THAW_PE_PRESENT) {
		run.off = pm->file_pages * PAGE;
		pm->file_pages += run.pages;
		if (pm->file_pages > PAGES_MOST)
			return corrupt(f, "an impossible sum of pages:", pm->file_pages);
	}
	return add_run(pm, &run);
}

static int take_entries(struct thaw_image_file *f, struct thaw_image_pagemap *pm)
{
	ProtobufCMessage *m;
	uint64_t end = 0;
	int ret;

	while ((ret = thaw_image_next(f, &thaw_image__pagemap_entry__descriptor, RECORD_MOST, &m)) > 0) {
		ret = take_entry(f, pm, (ThawImage__PagemapEntry *)m, &end);
		protobuf_c_message_free_unpacked(m, NULL);
		if (ret)
			return ret;
	}
	return ret;
}

/* The runs may live as long as the restored process; what doubling has left over does not. */
static void trim(struct thaw_image_pagemap *pm)
{
	struct thaw_image_run *exact = pm->n ? realloc(pm->run, pm->n * sizeof(*exact)) : NULL;

	if (exact) {
		pm->run = exact;
		pm->room = pm->n;
	}
}

int thaw_image_pagemap_parse(struct thaw_image_file *f, struct thaw_image_pagemap *pm)
{
	ProtobufCMessage *m;
	int ret;

	memset(pm, 0, sizeof(*pm));
	ret = thaw_image_next(f, &thaw_image__pagemap_head__descriptor, RECORD_MOST, &m);
	if (!ret)
		ret = thaw_err_set(-EBADMSG, "%s: truncated: no head behind the magic number (byte %zu)", f->name,
				   f->at);
	if (ret < 0)
		return ret;
	pm->pages_id = ((ThawImage__PagemapHead *)m)->pages_id;
	protobuf_c_message_free_unpacked(m, NULL);
	ret = take_entries(f, pm);
	if (ret)
		thaw_image_pagemap_free(pm);
	else
		trim(pm);
	return ret;
}

int thaw_image_pagemap_load(int dirfd, int pid, struct thaw_image_pagemap *pm)
{
	struct thaw_image_file f;
	char name[32];
	int ret;

	memset(pm, 0, sizeof(*pm));
	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	ret = thaw_image_load(&f, dirfd, name, THAW_IMAGE_PAGEMAP_MAGIC);
	if (ret)
		return ret;
	ret = thaw_image_pagemap_parse(&f, pm);
	thaw_image_unload(&f);
	return ret;
}

void thaw_image_pagemap_free(struct thaw_image_pagemap *pm)
{
	free(pm->run);
	memset(pm, 0, sizeof(*pm));
}
