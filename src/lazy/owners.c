// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/owners.c - each process with missing memory is asked whether one of our userfaultfds is its own */
#include "config.h"
#include "lazy/owners.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/pagemap.h"
#include "kern/procfs.h"
#include "kern/sys.h"
#include "kern/uffd.h"

struct fds {
	int *fd;
	size_t n, room;
};

/* Numbers of a directory. */
static void each_number(const char *path, void (*fn)(void *opaque, int number), void *opaque)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			fn(opaque, atoi(e->d_name));
	if (d)
		closedir(d);
}

static void note_fd(void *opaque, int fd)
{
	struct fds *f = opaque;

	if (!thaw_uffd_is_one(fd))
		return;
	if (f->n == f->room) {
		size_t room = f->room ? f->room * 2 : 16;
		int *more = realloc(f->fd, room * sizeof(*more));

		if (!more)
			return;
		f->fd = more;
		f->room = room;
	}
	f->fd[f->n++] = fd;
}

struct mapping {
	uint64_t start, end;
};

/* The first mapping that a userfaultfd serves, and whose writes none watches yet. */
static int look(void *opaque, const struct thaw_vma *v)
{
	struct mapping *m = opaque;

	if (!(v->flags & THAW_VM_UFFD_MISSING) || v->flags & THAW_VM_UFFD_WP)
		return 0;
	*m = (struct mapping){ v->start, v->end };
	return 1;
}

struct page {
	uint64_t addr;
	bool watched;
};

static int look_at_page(void *opaque, const struct thaw_vma *v)
{
	struct page *p = opaque;

	if (p->addr < v->start || p->addr >= v->end)
		return 0;
	p->watched = v->flags & THAW_VM_UFFD_WP;
	return 1;
}

#define CHANGING_TRIES 100 /* a millisecond each */

/* Asked before anything else: the process whose it is may be another one, where something lies at that address which is nobody's
 * business, and which registering would make ours. */
static bool has_registered(int uffd, uint64_t addr)
{
	enum thaw_outcome out = thaw_uffd_is_registered(uffd, addr);

	for (unsigned i = 0; out == THAW_CHANGING && i < CHANGING_TRIES; i++) {
		usleep(1000);
		out = thaw_uffd_is_registered(uffd, addr);
	}
	return out == THAW_PRESENT;
}

/* Each of ours that has memory there is asked to watch writes, too, to a page of the process's own that nobody watches: when the process
 * then shows it, it is this one. The kernel has no way to take it back but to give up the page; no write is held up by it, since
 * no page is write-protected, but the page is a mapping of its own from then on (owners.h). The next search takes another page, and so
 * do others who look at the same time. A descriptor that has been closed meanwhile, and is another of ours by now, does no harm:
 * whatever of ours the process shows makes it ours. */
static bool is_ours(pid_t pid, const struct fds *f)
{
	static unsigned turn;
	struct mapping m;
	struct page p = { 0 };

	if (thaw_procfs_smaps(pid, look, &m) != 1)
		return false;
	p.addr = m.start + (getpid() * 2654435761UL + turn++) % ((m.end - m.start) / THAW_PAGE_SIZE) * THAW_PAGE_SIZE;
	for (size_t i = 0; i < f->n && !p.watched; i++)
		if (has_registered(f->fd[i], p.addr) && !thaw_uffd_watch_writes(f->fd[i], p.addr, THAW_PAGE_SIZE))
			(void)thaw_procfs_smaps(pid, look_at_page, &p);
	return p.watched;
}

struct search {
	struct fds fds;
	unsigned long long born;
	unsigned found;
	void (*fn)(void *opaque, pid_t pid, int pidfd);
	void *opaque;
};

static void consider(void *opaque, int pid)
{
	struct search *s = opaque;
	struct thaw_proc_stat st;
	int pidfd = -1;

	if (pid == getpid() || thaw_procfs_stat(pid, &st) || st.starttime < s->born)
		return;
	pidfd = thaw_sys_pidfd_open(pid); /* first: what is seen behind it is of this process, if it still lives then */
	if (pidfd < 0)
		return;
	if (is_ours(pid, &s->fds) && !thaw_sys_pidfd_exited(pidfd)) {
		s->found++;
		s->fn(s->opaque, pid, pidfd);
	}
	close(pidfd);
}

unsigned thaw_owners_each(void (*fn)(void *opaque, pid_t pid, int pidfd), void *opaque)
{
	struct search s = { .fn = fn, .opaque = opaque };
	struct thaw_proc_stat self;

	if (!thaw_procfs_stat(getpid(), &self))
		s.born = self.starttime;
	each_number("/proc/self/fd", note_fd, &s.fds);
	if (s.fds.n)
		each_number("/proc", consider, &s);
	free(s.fds.fd);
	return s.found;
}
