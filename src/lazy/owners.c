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

#include "kern/procfs.h"
#include "kern/sys.h"
#include "kern/uffd.h"

#define PAGE 4096

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

/* The first mapping at or behind `start` that has the flag. */
struct mapping {
	uint32_t flag;
	uint64_t start, end;
};

static int look(void *opaque, const struct thaw_vma *v)
{
	struct mapping *m = opaque;

	if (v->start < m->start || !(v->flags & m->flag))
		return 0;
	m->start = v->start;
	m->end = v->end;
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

/* Each of ours that has memory there is asked to watch writes, too, to a page of the process's own mapping: when the process then shows
 * it, it is this one. Taken back at once; no write is held up by it, since no page is write-protected. A descriptor that has been closed
 * meanwhile, and is another of ours by now, does no harm: whatever of ours the process shows makes it ours. */
static bool is_ours(pid_t pid, const struct fds *f)
{
	struct mapping v = { .flag = THAW_VM_UFFD_MISSING };
	bool ours = false;

	if (thaw_procfs_smaps(pid, look, &v) != 1)
		return false;
	for (size_t i = 0; i < f->n && !ours; i++) {
		struct mapping seen = { .flag = THAW_VM_UFFD_WP, .start = v.start };

		if (!has_registered(f->fd[i], v.start) || thaw_uffd_watch_writes(f->fd[i], v.start, PAGE, true))
			continue;
		ours = thaw_procfs_smaps(pid, look, &seen) == 1 && seen.start == v.start;
		(void)thaw_uffd_watch_writes(f->fd[i], v.start, PAGE, false);
	}
	return ours;
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
