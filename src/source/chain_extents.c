// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/chain_extents.c - image directories as objects, for the local source and for the remote one */
#include "config.h"
#include "source/chain_extents.h"

struct walk {
	int (*emit)(void *opaque, const struct thaw_extent *e);
	void *opaque;
};

static int emit_run(void *opaque, unsigned level, uint64_t addr, uint64_t pages, uint64_t off)
{
	const struct walk *w = opaque;
	struct thaw_extent e = { .addr = addr, .pages = pages, .off = off, .object = level };

	return w->emit(w->opaque, &e);
}

int thaw_chain_extents(const struct thaw_image_chain *chain, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque)
{
	struct walk w = { emit, opaque };

	return thaw_image_chain_walk(chain, emit_run, &w);
}

int thaw_chain_fd(const struct thaw_image_chain *chain, uint32_t object)
{
	return object < chain->n ? chain->level[object].pages_fd : -1;
}

uint64_t thaw_chain_size(const struct thaw_image_chain *chain, uint32_t object)
{
	return object < chain->n ? chain->level[object].pm.file_pages << THAW_PAGE_SHIFT : UINT64_MAX;
}

const struct thaw_sums *thaw_chain_sums(const struct thaw_image_chain *chain, uint32_t object)
{
	return object < chain->n && chain->level[object].sums.sum ? &chain->level[object].sums : NULL;
}
