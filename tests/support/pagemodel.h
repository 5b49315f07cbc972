/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* support/pagemodel.h - a page map as an array with one entry a page: slow, and easy to believe.
 *
 * Rule      same calls and same results as core/pagemap.h within its window
 * Errors    a difference ends the program (abort), after a line that says where */
#ifndef THAW_TEST_PAGEMODEL_H
#define THAW_TEST_PAGEMODEL_H

#include "core/pagemap.h"

struct pagemodel;

struct pagemodel *pagemodel_new(uint64_t base, uint64_t pages);
void pagemodel_free(struct pagemodel *m);
struct pagemodel *pagemodel_clone(const struct pagemodel *m, unsigned drop_flags);

int pagemodel_add(struct pagemodel *m, const struct thaw_extent *e);
uint64_t pagemodel_mark(struct pagemodel *m, uint64_t addr, uint64_t pages);
int64_t pagemodel_remove(struct pagemodel *m, uint64_t addr, uint64_t len);
int64_t pagemodel_move(struct pagemodel *m, uint64_t from, uint64_t to, uint64_t len);
void pagemodel_drop(struct pagemodel *m, unsigned flags);
void pagemodel_inherit(struct pagemodel *m);

bool pagemodel_has(const struct pagemodel *m, uint64_t addr, uint64_t len); /* any content */

/* Says the map the same about every page, one by one and as runs? */
void pagemodel_verify(const struct pagemodel *m, const struct thaw_pagemap *pm);

#endif
