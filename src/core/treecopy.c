// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/treecopy.c - a whole tree at once: copied for a fork child, and checked */
#include "config.h"
#include "core/tree.h"

#include <errno.h>

#include "core/alloc.h"
#include "core/pagemap.h"

/* ---- copy -------------------------------------------------------------------------------------------------- */
static void undo(struct thaw_tree *to, struct thaw_node *n)
{
	for (unsigned i = 0; i < n->n; i++) {
		if (n->level)
			undo(to, n->child[i].node);
		else
			thaw_slot_drop(&n->slot[i], &to->memory);
	}
	free(n);
	to->memory -= thaw_core_alloc_cost(sizeof(*n));
}

static int copy_below(struct thaw_tree *to, const struct thaw_node *from, unsigned drop_flags, struct thaw_node **copy,
		      uint64_t *absent);

static int copy_child(struct thaw_tree *to, struct thaw_node *n, const struct thaw_child *from, unsigned drop_flags,
		      uint64_t *absent)
{
	struct thaw_child c = { 0 };

	if (copy_below(to, from->node, drop_flags, &c.node, &c.absent))
		return -ENOMEM;
	if (!c.node)
		return 0;
	c.key = c.node->level ? c.node->child[0].key : thaw_slot_start(&c.node->slot[0]);
	*absent += c.absent;
	n->child[n->n++] = c;
	return 0;
}

static int copy_slot(struct thaw_tree *to, struct thaw_node *n, const struct thaw_slot *from, unsigned drop_flags,
		     uint64_t *absent)
{
	if (thaw_slot_flags(from) != THAW_EXTENT_INHERITED && thaw_slot_flags(from) & drop_flags)
		return 0;
	if (thaw_slot_copy(&n->slot[n->n], from, &to->memory))
		return -ENOMEM;
	*absent += thaw_slot_absent(from);
	n->n++;
	to->slots++;
	return 0;
}

/* *copy is NULL when nothing below stays. */
static int copy_below(struct thaw_tree *to, const struct thaw_node *from, unsigned drop_flags, struct thaw_node **copy,
		      uint64_t *absent)
{
	struct thaw_node *n = thaw_core_alloc(sizeof(*n));
	int ret = 0;

	*copy = NULL;
	*absent = 0;
	if (!n)
		return -ENOMEM;
	to->memory += thaw_core_alloc_cost(sizeof(*n));
	n->n = 0;
	n->level = from->level;
	for (unsigned i = 0; i < from->n && !ret; i++) {
		if (from->level)
			ret = copy_child(to, n, &from->child[i], drop_flags, absent);
		else
			ret = copy_slot(to, n, &from->slot[i], drop_flags, absent);
	}
	if (ret || !n->n)
		undo(to, n);
	else
		*copy = n;
	return ret;
}

int thaw_tree_copy(struct thaw_tree *to, const struct thaw_tree *from, unsigned drop_flags)
{
	uint64_t absent;
	int ret = from->root ? copy_below(to, from->root, drop_flags, &to->root, &absent) : 0;

	if (ret)
		to->slots = 0;
	return ret;
}

/* ---- check ------------------------------------------------------------------------------------------------- */
struct walk {
	uint64_t slots;
	uint64_t end; /* of the slot before */
	bool sound;
};

static uint64_t walk_below(struct walk *w, const struct thaw_node *n)
{
	uint64_t absent = 0;

	w->sound &= n->n > 0 && n->n <= THAW_TREE_FANOUT;
	for (unsigned i = 0; i < n->n; i++) {
		if (!n->level) {
			w->sound &= thaw_slot_start(&n->slot[i]) >= w->end;
			w->end = thaw_slot_end(&n->slot[i]);
			w->slots++;
			absent += thaw_slot_absent(&n->slot[i]);
			continue;
		}
		const struct thaw_child *c = &n->child[i];
		uint64_t below = walk_below(w, c->node);

		w->sound &= c->node->level + 1 == n->level && c->absent == below;
		w->sound &= c->key == (c->node->level ? c->node->child[0].key : thaw_slot_start(&c->node->slot[0]));
		absent += below;
	}
	return absent;
}

bool thaw_tree_is_sound(const struct thaw_tree *t)
{
	struct walk w = { .sound = true };

	if (t->root)
		walk_below(&w, t->root);
	return w.sound && w.slots == t->slots;
}
