/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/tree.h - the slots of a page map in address order: a B+-tree whose inner nodes count absent pages.
 *
 * Each inner entry has the exact smallest page below it and the number of absent pages below it, so a search
 * for absent pages passes over finished subtrees. Nodes that fall empty go; two neighbours that fit well into one node
 * are made one. There is no other rebalancing: the height never exceeds that of the fullest time.
 *
 * Rule      slots do not overlap; the counters of a path never fall below what the bits say, so a subtree
 *           with counter zero is done (marking sets bits first, then lowers the counters from the leaf up)
 * Threads   caller excludes, but for the counters, which thaw_tree_marked lowers beside readers and itself
 * Cost      O(log n) each; thaw_tree_step amortised O(1)
 * Errors    -ENOMEM leaves the tree as it was */
#ifndef THAW_CORE_TREE_H
#define THAW_CORE_TREE_H

#include "core/slot.h"

#define THAW_TREE_FANOUT 62u
#define THAW_TREE_HEIGHT 16u

struct thaw_node {
	unsigned short n;
	unsigned short level; /* 0: leaf */
	union {
		struct thaw_slot slot[THAW_TREE_FANOUT];
		struct thaw_child {
			uint64_t key;           /* smallest page below */
			uint64_t absent;        /* atomic in the shared section */
			struct thaw_node *node;
		} child[THAW_TREE_FANOUT];
		struct thaw_node *next_spare;
	};
};

struct thaw_tree {
	struct thaw_node *root; /* NULL: empty */
	struct thaw_node *spare;
	unsigned spares;
	bool in_order; /* a row of slots is being inserted */
	uint64_t slots;
	size_t memory;
};

/* A place in the tree: the nodes from the root (height - 1) down to the leaf (0), and the index in each. */
struct thaw_path {
	unsigned height; /* 0: the tree is empty */
	struct thaw_node *node[THAW_TREE_HEIGHT];
	unsigned idx[THAW_TREE_HEIGHT];
};

static inline struct thaw_slot *thaw_path_slot(const struct thaw_path *p)
{
	return &p->node[0]->slot[p->idx[0]];
}

void thaw_tree_clear(struct thaw_tree *t);

/* The slot that holds `page` or, failing that, the first one behind it. False: there is none. */
bool thaw_tree_seek(const struct thaw_tree *t, uint64_t page, struct thaw_path *p);
bool thaw_tree_step(struct thaw_path *p);        /* the next slot */
bool thaw_tree_step_absent(struct thaw_path *p); /* the next leaf with absent pages, at its first slot */

/* Gets the memory for inserting so many slots, all of one gap and in address order. */
int thaw_tree_reserve(struct thaw_tree *t, uint64_t slots);
/* Puts a slot in; it overlaps none, and room for it has been reserved. Its block becomes the tree's. */
void thaw_tree_insert(struct thaw_tree *t, const struct thaw_slot *s);
/* Takes n slots of one leaf out, from p on (their blocks are the caller's then); p is void afterwards. Returns the
 * absent pages that they had. */
uint64_t thaw_tree_delete(struct thaw_tree *t, struct thaw_path *p, unsigned n);
/* Ends a reservation: no more than a few nodes are kept. */
void thaw_tree_trim(struct thaw_tree *t);

/* `fresh` pages of the slot at p have been marked done. */
void thaw_tree_marked(const struct thaw_path *p, uint64_t fresh);
/* The slot at p has been replaced by one with other counts or another start. */
void thaw_tree_recount(const struct thaw_path *p, int64_t change);

/* A copy without the slots that have one of drop_flags; `to` is empty. On -ENOMEM `to` is empty again. */
int thaw_tree_copy(struct thaw_tree *to, const struct thaw_tree *from, unsigned drop_flags);

/* Tests: are keys, order, counters and fill right? */
bool thaw_tree_is_sound(const struct thaw_tree *t);

#endif
