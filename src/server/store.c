// SPDX-License-Identifier: LGPL-2.1-or-later
/* server/store.c - the processes of a directory, and where their pages are */
#include "config.h"
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"

static int count_pages(void *opaque, unsigned level, uint64_t addr, uint64_t pages, uint64_t off)
{
	*(uint64_t *)opaque += pages;
	return 0;
}

/* A zombie has no memory, and no page map. */
static bool has_memory(int dirfd, int pid)
{
	char name[32];

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	return !faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) || errno != ENOENT;
}

static int add_task(struct thaw_store *s, int dirfd, int pid)
{
	struct thaw_store_task *t = &s->task[s->n];
	const struct thaw_image_pagemap *pm = &t->chain.level[0].pm;
	int err;

	if (!has_memory(dirfd, pid))
		return 0;
	err = thaw_image_chain_open(dirfd, pid, &t->chain);
	if (err)
		return thaw_err_wrap("process %d", pid);
	t->pid = pid;
	s->n++;
	if (pm->n && s->layout == THAW_FRAME_UNKNOWN)
		s->layout = pm->wide ? THAW_FRAME_NEW : THAW_FRAME_OLD;
	return thaw_image_chain_walk(&t->chain, count_pages, &s->pages);
}

static int by_pid(const void *a, const void *b)
{
	const struct thaw_store_task *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

int thaw_store_open(struct thaw_store *s, int dirfd)
{
	struct thaw_image_index index;
	int err = thaw_image_index_load(dirfd, &index);

	*s = (struct thaw_store){ 0 };
	if (err)
		return err;
	s->task = calloc(index.n, sizeof(*s->task));
	if (!s->task)
		err = thaw_err_set(-ENOMEM, "no memory for %zu processes", index.n);
	for (size_t i = 0; i < index.n && !err; i++)
		err = add_task(s, dirfd, index.task[i].pid);
	if (!err && !s->n)
		err = thaw_err_set(-ENOENT, "pstree.img: none of its %zu processes has a page map here", index.n);
	thaw_image_index_free(&index);
	if (err) {
		thaw_store_close(s);
		return err;
	}
	qsort(s->task, s->n, sizeof(*s->task), by_pid);
	if (s->layout == THAW_FRAME_UNKNOWN)
		s->layout = THAW_FRAME_NEW;
	return 0;
}

void thaw_store_close(struct thaw_store *s)
{
	for (size_t i = 0; i < s->n; i++)
		thaw_image_chain_close(&s->task[i].chain);
	free(s->task);
	*s = (struct thaw_store){ 0 };
}

uint64_t thaw_store_find(const struct thaw_store *s, uint64_t id, uint64_t addr, const struct thaw_image_level **level, uint64_t *off)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct thaw_image_chain *chain = &s->task[mid].chain;
		unsigned at = 0;
		uint64_t pages;

		if ((uint64_t)s->task[mid].pid != id) {
			if ((uint64_t)s->task[mid].pid < id)
				lo = mid + 1;
			else
				hi = mid;
			continue;
		}
		pages = thaw_image_chain_find(chain, addr, &at, off);
		*level = pages ? &chain->level[at] : NULL;
		return pages;
	}
	return 0;
}
