// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/tree.c - slots in address order: seek, step, insert, delete */
#include "config.h"
#include "core/tree.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"

enum { SPARES_KEPT = 8 };

/* ---- nodes ------------------------------------------------------------------------------------------------- */
static int add_spare(struct thaw_tree *t)
{
	struct thaw_node *n = thaw_core_alloc(sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->next_spare = t->spare;
	t->spare = n;
	t->spares++;
	t->memory += thaw_core_alloc_cost(sizeof(*n));
	return 0;
}

/* The caller has reserved. */
static struct thaw_node *take_node(struct thaw_tree *t, unsigned level)
{
	struct thaw_node *n = t->spare;

	t->spare = n->next_spare;
	t->spares--;
	n->n = 0;
	n->level = level;
	return n;
}

static void give_node(struct thaw_tree *t, struct thaw_node *n)
{
	n->next_spare = t->spare;
	t->spare = n;
	t->spares++;
}

static void trim_to(struct thaw_tree *t, unsigned keep)
{
	while (t->spares > keep) {
		struct thaw_node *n = t->spare;

		t->spare = n->next_spare;
		t->spares--;
		free(n);
		t->memory -= thaw_core_alloc_cost(sizeof(*n));
	}
}

void thaw_tree_trim(struct thaw_tree *t)
{
	t->in_order = false;
	trim_to(t, SPARES_KEPT);
}

static void drop_below(struct thaw_tree *t, struct thaw_node *n)
{
	for (unsigned i = 0; i < n->n; i++) {
		if (n->level)
			drop_below(t, n->child[i].node);
		else
			thaw_slot_drop(&n->slot[i], &t->memory);
	}
	give_node(t, n);
}

void thaw_tree_clear(struct thaw_tree *t)
{
	if (t->root)
		drop_below(t, t->root);
	trim_to(t, 0);
	t->root = NULL;
	t->slots = 0;
}

static uint64_t node_key(const struct thaw_node *n)
{
	return n->level ? n->child[0].key : thaw_slot_start(&n->slot[0]);
}

static uint64_t node_absent(const struct thaw_node *n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n->n; i++)
		sum += n->level ? n->child[i].absent : thaw_slot_absent(&n->slot[i]);
	return sum;
}

/* ---- finding ----------------------------------------------------------------------------------------------- */
/* How many entries of n begin at or before page. */
static unsigned count_upto(const struct thaw_node *n, uint64_t page)
{
	unsigned lo = 0, hi = n->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		uint64_t key = n->level ? n->child[mid].key : thaw_slot_start(&n->slot[mid]);

		if (key <= page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* To the leaf that `page` belongs into. idx[0] is the number of its slots that begin at or before page. */
static void descend(const struct thaw_tree *t, uint64_t page, struct thaw_path *p)
{
	struct thaw_node *n = t->root;

	p->height = n ? n->level + 1u : 0;
	while (n) {
		unsigned at = count_upto(n, page);

		p->node[n->level] = n;
		if (n->level && at)
			at--;
		p->idx[n->level] = at;
		n = n->level ? n->child[at].node : NULL;
	}
}

static void leftmost(struct thaw_path *p, unsigned level)
{
	while (level) {
		p->node[level - 1] = p->node[level]->child[p->idx[level]].node;
		p->idx[--level] = 0;
	}
}

/* The first leaf to the right of the one that p is in. */
static bool next_leaf(struct thaw_path *p)
{
	for (unsigned level = 1; level < p->height; level++) {
		if (p->idx[level] + 1 < p->node[level]->n) {
			p->idx[level]++;
			leftmost(p, level);
			return true;
		}
	}
	return false;
}

bool thaw_tree_seek(const struct thaw_tree *t, uint64_t page, struct thaw_path *p)
{
	descend(t, page, p);
	if (!p->height)
		return false;
	if (p->idx[0] && thaw_slot_end(&p->node[0]->slot[p->idx[0] - 1]) > page)
		p->idx[0]--;
	return p->idx[0] < p->node[0]->n || next_leaf(p);
}

bool thaw_tree_step(struct thaw_path *p)
{
	if (p->idx[0] + 1 < p->node[0]->n) {
		p->idx[0]++;
		return true;
	}
	return next_leaf(p);
}

/* Up to the first entry on the right with absent pages below, then down to the first such leaf. Marking goes on
 * meanwhile: a counter that has fallen to zero on the way down just sends the search up again. */
bool thaw_tree_step_absent(struct thaw_path *p)
{
	unsigned level = 1;

	while (level < p->height) {
		struct thaw_node *n = p->node[level];
		unsigned i = p->idx[level] + 1;

		while (i < n->n && !__atomic_load_n(&n->child[i].absent, __ATOMIC_RELAXED))
			i++;
		p->idx[level] = i;
		if (i >= n->n) {
			level++;
			continue;
		}
		p->node[level - 1] = n->child[i].node;
		if (level == 1) {
			p->idx[0] = 0;
			return true;
		}
		p->idx[--level] = -1u; /* the loop begins with the next one: 0 */
	}
	return false;
}

/* ---- counters and keys up the path --------------------------------------------------------------------------- */
void thaw_tree_marked(const struct thaw_path *p, uint64_t fresh)
{
	for (unsigned level = 1; fresh && level < p->height; level++)
		__atomic_fetch_sub(&p->node[level]->child[p->idx[level]].absent, fresh, __ATOMIC_RELAXED);
}

void thaw_tree_recount(const struct thaw_path *p, int64_t change)
{
	for (unsigned level = 1; level < p->height; level++) {
		struct thaw_child *c = &p->node[level]->child[p->idx[level]];

		c->absent += change;
		c->key = node_key(c->node);
	}
}

/* ---- inserting --------------------------------------------------------------------------------------------- */
int thaw_tree_reserve(struct thaw_tree *t, uint64_t slots)
{
	/* Slots that follow one another fill whole leaves (split_at() cuts where they go in) and the inner nodes above
	 * them but for two entries, and there are two nodes more at each level for the ends. */
	uint64_t need = 2 * ((t->root ? t->root->level : 0) + 3);

	for (uint64_t n = slots / (THAW_TREE_FANOUT - 2); n; n /= THAW_TREE_FANOUT - 2)
		need += n + 1;
	t->in_order = slots > 1;
	while (t->spares < need)
		if (add_spare(t))
			return -ENOMEM;
	return 0;
}

static void open_gap(struct thaw_node *n, unsigned at)
{
	if (n->level)
		memmove(&n->child[at + 1], &n->child[at], (n->n - at) * sizeof(n->child[0]));
	else
		memmove(&n->slot[at + 1], &n->slot[at], (n->n - at) * sizeof(n->slot[0]));
	n->n++;
}

static void close_child(struct thaw_node *n, unsigned at)
{
	n->n--;
	memmove(&n->child[at], &n->child[at + 1], (n->n - at) * sizeof(n->child[0]));
}

/* Entries [at, n) of `from` go behind those of `to`. */
static void move_entries(struct thaw_node *to, struct thaw_node *from, unsigned at)
{
	unsigned n = from->n - at;

	if (from->level)
		memcpy(&to->child[to->n], &from->child[at], n * sizeof(from->child[0]));
	else
		memcpy(&to->slot[to->n], &from->slot[at], n * sizeof(from->slot[0]));
	to->n += n;
	from->n = at;
}

static void split_at(struct thaw_tree *t, struct thaw_path *p, unsigned level);

/* A node beside the one that p is in at `level`, with room in the parent for it. */
static void hang_right(struct thaw_tree *t, struct thaw_path *p, unsigned level, struct thaw_node *right)
{
	struct thaw_node *left = p->node[level], *up;
	unsigned at;

	if (level + 1 == p->height) {
		up = take_node(t, level + 1);
		up->n = 1;
		up->child[0] = (struct thaw_child){ node_key(left), 0, left };
		t->root = up;
		p->node[p->height] = up;
		p->idx[p->height++] = 0;
	} else if (p->node[level + 1]->n == THAW_TREE_FANOUT) {
		split_at(t, p, level + 1);
	}
	up = p->node[level + 1];
	at = p->idx[level + 1];
	open_gap(up, at + 1);
	up->child[at].absent = node_absent(left);
	up->child[at + 1] = (struct thaw_child){ 0, 0, right };
	if (right->n) {
		up->child[at + 1].key = node_key(right);
		up->child[at + 1].absent = node_absent(right);
	}
}

/* An entry that comes behind the last of a full leaf goes to the front of the next leaf, or into a new one: what comes
 * in address order fills its nodes. */
static void leaf_behind(struct thaw_tree *t, struct thaw_path *p)
{
	struct thaw_node *up = p->height > 1 ? p->node[1] : NULL;

	if (!up || p->idx[1] + 1 == up->n || up->child[p->idx[1] + 1].node->n == THAW_TREE_FANOUT)
		hang_right(t, p, 0, take_node(t, 0));
	p->node[0] = p->node[1]->child[++p->idx[1]].node;
	p->idx[0] = 0;
}

/* The node of p at `level` is full: makes room at p's place (in a leaf the entry comes to idx, in an inner node behind
 * it). In the middle, where entries that follow one another are to come, the node is cut at their place: they
 * then go behind the last of the left part. */
static void split_at(struct thaw_tree *t, struct thaw_path *p, unsigned level)
{
	struct thaw_node *left = p->node[level], *right;
	unsigned idx = p->idx[level], at = idx + (level ? 1 : 0), cut = t->in_order ? at : left->n / 2;

	if (at == left->n) {
		if (!level) {
			leaf_behind(t, p);
			return;
		}
		cut = idx; /* an inner node is never empty: the new one begins with the entry that the child follows */
	}
	right = take_node(t, level);
	move_entries(right, left, cut);
	hang_right(t, p, level, right);
	if (level ? idx >= cut : idx > cut) {
		p->node[level] = right;
		p->idx[level] = idx - cut;
		p->idx[level + 1]++;
	}
}

void thaw_tree_insert(struct thaw_tree *t, const struct thaw_slot *s)
{
	struct thaw_path p;

	descend(t, thaw_slot_start(s), &p);
	if (!p.height) {
		t->root = p.node[0] = take_node(t, 0);
		p.idx[0] = 0;
		p.height = 1;
	} else if (p.node[0]->n == THAW_TREE_FANOUT) {
		split_at(t, &p, 0);
	}
	open_gap(p.node[0], p.idx[0]);
	*thaw_path_slot(&p) = *s;
	t->slots++;
	thaw_tree_recount(&p, thaw_slot_absent(s));
}

/* ---- deleting ---------------------------------------------------------------------------------------------- */
/* Two neighbours below node `up` that fill less than three quarters of a node together become one. */
static bool merge(struct thaw_tree *t, struct thaw_node *up, unsigned i)
{
	struct thaw_node *left, *right;

	if (i + 1 >= up->n)
		return false;
	left = up->child[i].node;
	right = up->child[i + 1].node;
	if (left->n + right->n > THAW_TREE_FANOUT * 3 / 4)
		return false;
	move_entries(left, right, 0);
	up->child[i].absent += up->child[i + 1].absent;
	close_child(up, i + 1);
	give_node(t, right);
	return true;
}

/* A root with one child, or none, is no root. */
static void lower_root(struct thaw_tree *t)
{
	while (t->root && (!t->root->n || (t->root->level && t->root->n == 1))) {
		struct thaw_node *old = t->root;

		t->root = old->n ? old->child[0].node : NULL;
		give_node(t, old);
	}
}

uint64_t thaw_tree_delete(struct thaw_tree *t, struct thaw_path *p, unsigned n)
{
	struct thaw_node *leaf = p->node[0];
	unsigned at = p->idx[0];
	uint64_t absent = 0;

	for (unsigned i = at; i < at + n; i++)
		absent += thaw_slot_absent(&leaf->slot[i]);
	memmove(&leaf->slot[at], &leaf->slot[at + n], (leaf->n - at - n) * sizeof(leaf->slot[0]));
	leaf->n -= n;
	t->slots -= n;
	for (unsigned level = 1; level < p->height; level++) {
		struct thaw_node *up = p->node[level], *below = p->node[level - 1];
		unsigned i = p->idx[level];

		if (!below->n) {
			close_child(up, i);
			give_node(t, below);
			continue;
		}
		up->child[i].absent -= absent;
		up->child[i].key = node_key(below);
		if (!merge(t, up, i) && i)
			merge(t, up, i - 1);
	}
	lower_root(t);
	return absent;
}
