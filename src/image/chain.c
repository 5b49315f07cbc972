// SPDX-License-Identifier: LGPL-2.1-or-later
/* image/chain.c - a directory of images and its parents: opened level by level, walked as one */
#include "config.h"
#include "image/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/pages_file.h"
#include "util/err.h"

enum { PAGE = 4096 };

/* ---- walk -------------------------------------------------------------------------------------------------- */
/* The first run that ends behind addr. */
static size_t find_run(const struct thaw_image_pagemap *pm, uint64_t addr)
{
	size_t lo = 0, hi = pm->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (pm->run[mid].addr + pm->run[mid].pages * PAGE <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int missing(unsigned level, uint64_t addr)
{
	if (!level)
		return thaw_err_set(-EBADMSG,
				    "pagemap: the page at 0x%lx is said to be in a parent directory, and there is none",
				    addr);
	return thaw_err_set(-EBADMSG,
			    "pagemap: the page at 0x%lx is said to be in a parent directory, but parent %u does "
			    "not have it",
			    addr, level);
}

static bool is_remote(const struct thaw_image_chain *chain, unsigned level, const struct thaw_image_run *run)
{
	return !level && chain->how & THAW_CHAIN_REMOTE && run->flags & THAW_PE_LAZY;
}

/* Pages [addr, addr + pages) of one run that is in the images, from `level` on down to where its content is. */
static int walk_range(const struct thaw_image_chain *chain, unsigned level, uint64_t addr, uint64_t pages,
		      thaw_chain_emit *emit, void *opaque)
{
	const struct thaw_image_pagemap *pm = &chain->level[level].pm;
	int ret = 0;

	for (size_t i = find_run(pm, addr); pages && !ret; i++) {
		const struct thaw_image_run *run;
		uint64_t skip, n;

		if (i == pm->n || pm->run[i].addr > addr)
			return missing(level, addr);
		run = &pm->run[i];
		skip = (addr - run->addr) / PAGE;
		n = run->pages - skip < pages ? run->pages - skip : pages;
		if (is_remote(chain, level, run))
			ret = emit(opaque, THAW_CHAIN_ELSEWHERE, addr, n, addr);
		else if (run->flags & THAW_PE_PRESENT)
			ret = emit(opaque, level, addr, n, run->off + skip * PAGE);
		else if (!(run->flags & THAW_PE_PARENT))
			ret = thaw_err_set(
				-ENOTSUP,
				"pagemap: the content of 0x%lx was left with the dump (--lazy-pages): it can "
				"only come from its page server",
				addr);
		else if (level + 1 == chain->n)
			ret = missing(level, addr);
		else
			ret = walk_range(chain, level + 1, addr, n, emit, opaque);
		addr += n * PAGE;
		pages -= n;
	}
	return ret;
}

int thaw_image_chain_walk(const struct thaw_image_chain *chain, thaw_chain_emit *emit, void *opaque)
{
	const struct thaw_image_pagemap *pm = &chain->level[0].pm;
	int ret = 0;

	for (size_t i = 0; i < pm->n && !ret; i++)
		if (!(chain->how & THAW_CHAIN_LAZY_ONLY) || pm->run[i].flags & THAW_PE_LAZY)
			ret = walk_range(chain, 0, pm->run[i].addr, pm->run[i].pages, emit, opaque);
	return ret;
}

uint64_t thaw_image_chain_find(const struct thaw_image_chain *chain, uint64_t addr, unsigned *level, uint64_t *off)
{
	uint64_t most = UINT64_MAX;

	for (unsigned l = 0; l < chain->n; l++) {
		const struct thaw_image_pagemap *pm = &chain->level[l].pm;
		size_t i = find_run(pm, addr);
		const struct thaw_image_run *run = &pm->run[i];
		uint64_t skip;

		if (i == pm->n || run->addr > addr || is_remote(chain, l, run))
			return 0;
		skip = (addr - run->addr) / PAGE;
		if (run->pages - skip < most)
			most = run->pages - skip;
		if (run->flags & THAW_PE_PRESENT) {
			*level = l;
			*off = run->off + skip * PAGE;
			return most;
		}
		if (!(run->flags & THAW_PE_PARENT))
			return 0;
	}
	return 0;
}

/* ---- open -------------------------------------------------------------------------------------------------- */
/* Does anything have to be read from the pages file of this level? */
static bool needs_pages(const struct thaw_image_chain *chain, const struct thaw_image_level *level)
{
	bool top = level == &chain->level[0];

	if (!top || !(chain->how & THAW_CHAIN_REMOTE))
		return true;
	for (size_t i = 0; i < level->pm.n && !(chain->how & THAW_CHAIN_LAZY_ONLY); i++)
		if ((level->pm.run[i].flags & (THAW_PE_PRESENT | THAW_PE_LAZY)) == THAW_PE_PRESENT)
			return true;
	return false;
}

static int open_level(int dirfd, int pid, struct thaw_image_chain *chain)
{
	struct thaw_image_level *level = &chain->level[chain->n];
	int ret = thaw_image_check_owner(dirfd, "image directory");

	if (!ret)
		ret = thaw_image_pagemap_load(dirfd, pid, &level->pm);
	if (!ret) {
		level->pages_fd = -1;
		level->sums.sum = NULL;
		chain->n++;
		ret = needs_pages(chain, level) ? thaw_image_pages_open(dirfd, &level->pm, &level->pages_fd, &level->sums) : 0;
	}
	return ret;
}

static bool needs_parent(const struct thaw_image_pagemap *pm)
{
	for (size_t i = 0; i < pm->n; i++)
		if (pm->run[i].flags & THAW_PE_PARENT)
			return true;
	return false;
}

/* The directory that `parent` leads to. Whoever could have made the link could have chosen the content. */
static int open_parent(int dirfd)
{
	struct stat st;
	int fd;

	if (fstatat(dirfd, "parent", &st, AT_SYMLINK_NOFOLLOW)) {
		if (errno == ENOENT)
			return thaw_err_set(-EBADMSG,
					    "parent: pages are said to be in a parent directory, but there is no link "
					    "\"parent\" to it");
		return thaw_err_set(-errno, "parent: %s", strerror(errno));
	}
	if (!thaw_image_is_ours(st.st_uid))
		return thaw_err_set(-EPERM,
				    "parent: the link belongs to user %u: only your own images, or root's, are read",
				    st.st_uid);
	fd = openat(dirfd, "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? thaw_err_set(-errno, "parent: %s", strerror(errno)) : fd;
}

/* Has the walk been in this directory before? */
static int remember(int dirfd, struct stat seen[], unsigned n)
{
	if (fstat(dirfd, &seen[n]))
		return thaw_err_set(-errno, "image directory: %s", strerror(errno));
	for (unsigned i = 0; i < n; i++)
		if (seen[i].st_dev == seen[n].st_dev && seen[i].st_ino == seen[n].st_ino)
			return thaw_err_set(
				-ELOOP, "parent: the parent directories go round in a circle (level %u is level %u)", n,
				i);
	return 0;
}

static int open_levels(int dirfd, int pid, struct thaw_image_chain *chain)
{
	struct stat seen[THAW_CHAIN_MOST];
	int own = -1, ret = 0;

	while (!ret) {
		int at = own < 0 ? dirfd : own, next;

		if (chain->n == THAW_CHAIN_MOST)
			ret = thaw_err_set(-ELOOP, "parent: more than %d directories behind one another",
					   THAW_CHAIN_MOST);
		else
			ret = remember(at, seen, chain->n);
		if (!ret)
			ret = open_level(at, pid, chain);
		if (ret && own >= 0)
			thaw_err_wrap("parent directory");
		if (ret || chain->how & THAW_CHAIN_LAZY_ONLY || !needs_parent(&chain->level[chain->n - 1].pm))
			break;
		next = open_parent(at);
		if (own >= 0)
			close(own);
		own = next;
		ret = next < 0 ? next : 0;
	}
	if (own >= 0)
		close(own);
	return ret;
}

static int nothing(void *opaque, unsigned level, uint64_t addr, uint64_t pages, uint64_t off)
{
	return 0;
}

int thaw_image_chain_open_how(int dirfd, int pid, unsigned how, struct thaw_image_chain *chain)
{
	int ret;

	chain->n = 0;
	chain->how = how;
	ret = open_levels(dirfd, pid, chain);
	if (!ret)
		ret = thaw_image_chain_walk(chain, nothing, NULL);
	if (ret)
		thaw_image_chain_close(chain);
	return ret;
}

int thaw_image_chain_open(int dirfd, int pid, struct thaw_image_chain *chain)
{
	return thaw_image_chain_open_how(dirfd, pid, THAW_CHAIN_ALL, chain);
}

void thaw_image_chain_forget(struct thaw_image_chain *chain)
{
	for (unsigned i = 0; i < chain->n; i++) {
		struct thaw_image_pagemap *pm = &chain->level[i].pm;

		free(pm->run);
		pm->run = NULL;
		pm->n = pm->room = 0;
	}
}

void thaw_image_chain_close(struct thaw_image_chain *chain)
{
	for (unsigned i = 0; i < chain->n; i++) {
		thaw_image_pages_close(&chain->level[i].pages_fd, &chain->level[i].sums);
		thaw_image_pagemap_free(&chain->level[i].pm);
	}
	chain->n = 0;
}
