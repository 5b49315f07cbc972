// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_sort.c - which content is eager: written by us before the process runs, not brought by the monitor */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/user.h>

#include "util/err.h"

#define ARGUMENTS_PAGES 64u
#define HOT_STACK 4u /* from below the stack pointer (the red zone, the first call) */
#define HOT_TLS 3u   /* variables lie below the thread pointer, the C library's own data above */
#define HOT_PAGES (HOT_STACK + HOT_TLS + 1)

bool thaw_restore_is_lazy(const struct thaw_restore *r, const ThawState__Mapping *m)
{
	return !r->o.eager && m->lazy;
}

struct sorter {
	struct thaw_restore *r;
	size_t next, room; /* next: the first mapping that may still hold content; room: of r->eager */
	uint64_t *hot;     /* addresses of pages, ascending, some more than once */
	size_t n_hot, next_hot;
};

static int keep_run(struct sorter *s, const struct thaw_extent *e, uint64_t start, uint64_t end)
{
	struct thaw_restore *r = s->r;

	if (r->n_eager == s->room) {
		size_t room = s->room ? 2 * s->room : 256;
		struct thaw_run *bigger = realloc(r->eager, room * sizeof(*bigger));

		if (!bigger)
			return thaw_err_set(-ENOMEM, "no memory for %zu runs of pages", room);
		r->eager = bigger;
		s->room = room;
	}
	r->eager[r->n_eager++] = (struct thaw_run){ .addr = start, .pages = (end - start) / THAW_PAGE_SIZE,
						    .off = e->off + (start - e->addr), .object = e->object };
	return 0;
}

/* ---- pages of lazy memory that are needed at once ---- */
static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void add_hot(struct sorter *s, uint64_t addr, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		s->hot[s->n_hot++] = (addr & ~(THAW_PAGE_SIZE - 1)) + i * THAW_PAGE_SIZE;
}

/* What every thread touches first: its stack, its TLS with the rseq area. And arguments and environment, which others read
 * through /proc, where missing pages are not waited for: the process would have no name until they arrive. */
static int find_hot(struct sorter *s)
{
	const ThawState__Process *p = s->r->p;
	uint64_t args = p->env_end > p->arg_start ? (p->env_end - p->arg_start) / THAW_PAGE_SIZE + 2 : 1;
	struct user_regs_struct regs;

	if (args > ARGUMENTS_PAGES)
		args = ARGUMENTS_PAGES;
	s->hot = calloc(p->n_threads * HOT_PAGES + args, sizeof(*s->hot));
	if (!s->hot)
		return thaw_err_set(-ENOMEM, "no memory for %zu threads", p->n_threads);
	add_hot(s, p->arg_start, (unsigned)args);
	for (size_t i = 0; i < p->n_threads; i++) {
		memcpy(&regs, p->threads[i]->regs.data, sizeof(regs));
		add_hot(s, regs.rsp - THAW_PAGE_SIZE, HOT_STACK);
		add_hot(s, regs.fs_base - THAW_PAGE_SIZE, HOT_TLS);
		add_hot(s, p->threads[i]->rseq ? p->threads[i]->rseq->address : regs.fs_base, 1);
	}
	qsort(s->hot, s->n_hot, sizeof(*s->hot), by_address);
	return 0;
}

/* What of the run [start, end) of lazy memory is hot. */
static int keep_hot(struct sorter *s, const struct thaw_extent *e, uint64_t start, uint64_t end)
{
	int err = 0;

	while (s->next_hot < s->n_hot && s->hot[s->next_hot] < start)
		s->next_hot++;
	while (s->next_hot < s->n_hot && s->hot[s->next_hot] < end && !err) {
		uint64_t from = s->hot[s->next_hot], to = from + THAW_PAGE_SIZE;

		while (++s->next_hot < s->n_hot && s->hot[s->next_hot] < end && s->hot[s->next_hot] <= to)
			to = s->hot[s->next_hot] + THAW_PAGE_SIZE;
		err = keep_run(s, e, from, to);
	}
	return err;
}

/* ---- all content, in the order of addresses ---- */
/* One run of content, cut at the mappings that it lies in. */
static int sort_extent(void *opaque, const struct thaw_extent *e)
{
	struct sorter *s = opaque;
	const ThawState__Process *p = s->r->p;
	uint64_t at = e->addr, end = e->addr + e->pages * THAW_PAGE_SIZE;
	int err = 0;

	if (e->pages > THAW_RESTORE_TASK_SIZE / THAW_PAGE_SIZE || end > THAW_RESTORE_TASK_SIZE)
		return thaw_err_set(-EBADMSG, "pagemap-%d.img: pages at 0x%llx are outside of a process", p->pid,
				    (unsigned long long)e->addr);
	while (at < end && !err) {
		const ThawState__Mapping *m;
		uint64_t stop;

		while (s->next < p->n_mappings && p->mappings[s->next]->end <= at)
			s->next++;
		m = s->next < p->n_mappings ? p->mappings[s->next] : NULL;
		if (!m || m->start > at || (m->kind != THAW_STATE__MAPPING__KIND__ANON &&
					    m->kind != THAW_STATE__MAPPING__KIND__FILE_PRIVATE))
			return thaw_err_set(-EBADMSG, "pagemap-%d.img: pages at 0x%llx are in no private mapping of thaw.img",
					    p->pid, (unsigned long long)at);
		stop = end < m->end ? end : m->end;
		err = thaw_restore_is_lazy(s->r, m) ? keep_hot(s, e, at, stop) : keep_run(s, e, at, stop);
		at = stop;
	}
	return err;
}

int thaw_restore_sort_content(struct thaw_restore *r)
{
	struct sorter s = { .r = r };
	int err = find_hot(&s);

	if (!err)
		err = r->source->ops->extents(r->source, sort_extent, &s);
	free(s.hot);
	return err;
}
