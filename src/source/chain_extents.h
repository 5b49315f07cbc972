/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source/chain_extents.h - the levels of a chain of image directories as the objects of a source: object N is the pages file of level N */
#ifndef THAW_SOURCE_CHAIN_EXTENTS_H
#define THAW_SOURCE_CHAIN_EXTENTS_H

#include "core/pagemap.h"
#include "image/chain.h"

/* Calls emit for each run of pages, by address, until it returns something else than 0, which is returned. */
int thaw_chain_extents(const struct thaw_image_chain *chain, int (*emit)(void *opaque, const struct thaw_extent *e), void *opaque);
int thaw_chain_fd(const struct thaw_image_chain *chain, uint32_t object); /* the chain's; -1: no file */
uint64_t thaw_chain_size(const struct thaw_image_chain *chain, uint32_t object); /* of that file, in bytes, as its pagemap says */
const struct thaw_sums *thaw_chain_sums(const struct thaw_image_chain *chain, uint32_t object); /* the chain's; NULL: none */

#endif
