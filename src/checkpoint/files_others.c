// SPDX-License-Identifier: LGPL-2.1-or-later
// Who else holds what the process holds: pipes, sockets, memfds and event descriptors open in other processes too.
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "checkpoint/files_priv.h"

void thaw_comm(pid_t pid, char *buf, size_t len)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, buf, len - 1);
	if (fd >= 0)
		close(fd);
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n > 0 ? n : 0] = 0;
	if (n <= 0)
		snprintf(buf, len, "?");
}

/* The description itself may be another's too, with what belongs to it: events, or a lock. */
static bool is_described(const struct thaw_desc *s)
{
	return !strncmp(s->fd->link, "anon_inode:", 11) || (S_ISREG(s->fd->st.st_mode) && strstr(s->fd->info, "\nlock:"));
}

/* Objects for which another holder matters: content or events would go to somebody who is not restored. */
static bool matters(const struct thaw_desc *s)
{
	const char *l = s->fd->link;

	return is_described(s) || S_ISFIFO(s->fd->st.st_mode) || S_ISSOCK(s->fd->st.st_mode) || !strncmp(l, "/memfd:", 7);
}

static int by_link(const void *pa, const void *pb)
{
	const struct thaw_desc *const *a = pa, *const *b = pb;

	return strcmp((*a)->fd->link, (*b)->fd->link);
}

struct scan {
	struct thaw_dump_files *d;
	struct thaw_desc **wanted; /* sorted by link text */
	size_t n;
	pid_t pid;             /* looked at now */
	DIR *dir;
};

static void set_holder(struct thaw_desc *s, pid_t pid)
{
	if (s->other.pid)
		return;
	s->other.pid = pid;
	thaw_comm(pid, s->other.comm, sizeof(s->other.comm));
}

/* Every description of ours for this inode gets the holder; anonymous inodes are one for all, there kcmp decides. */
static void meet(struct scan *sc, size_t i, const char *link, const char *name)
{
	struct stat s;

	if (is_described(sc->wanted[i]) && strncmp(link, "/memfd:", 7)) {
		struct thaw_desc *mine = thaw_fdtable_same(sc->d, sc->pid, atoi(name), link);

		if (mine)
			set_holder(mine, sc->pid);
		return;
	}
	if (fstatat(dirfd(sc->dir), name, &s, 0))
		return;
	for (; i < sc->n && !strcmp(sc->wanted[i]->fd->link, link); i++)
		if (sc->wanted[i]->fd->st.st_ino == s.st_ino && sc->wanted[i]->fd->st.st_dev == s.st_dev)
			set_holder(sc->wanted[i], sc->pid);
}

static void scan_one(struct scan *sc)
{
	struct dirent *e;
	char link[4096];

	while ((e = readdir(sc->dir))) {
		ssize_t n = e->d_name[0] == '.' ? -1 : readlinkat(dirfd(sc->dir), e->d_name, link, sizeof(link) - 1);
		size_t lo = 0, hi = sc->n;

		if (n < 0)
			continue;
		link[n] = 0;
		while (lo < hi) {
			size_t mid = (lo + hi) / 2;

			if (strcmp(sc->wanted[mid]->fd->link, link) < 0)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo < sc->n && !strcmp(sc->wanted[lo]->fd->link, link))
			meet(sc, lo, link, e->d_name);
	}
}

/* Calls fn's work for every process but the one and ourselves; those that may not be looked into are left out. */
static DIR *next_process(DIR *proc, pid_t except, pid_t *pid)
{
	struct dirent *e;

	while ((e = readdir(proc))) {
		char path[300];
		DIR *dir;

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		*pid = atoi(e->d_name);
		if (*pid == except || *pid == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd", e->d_name);
		dir = opendir(path);
		if (dir)
			return dir;
	}
	return NULL;
}

int thaw_others_scan(struct thaw_dump_files *d)
{
	struct scan sc = { .d = d };
	DIR *proc;

	sc.wanted = calloc(d->n_descs + 1, sizeof(*sc.wanted));
	if (!sc.wanted)
		return thaw_nomem();
	for (size_t i = 0; i < d->n_descs; i++)
		if (matters(&d->descs[i]))
			sc.wanted[sc.n++] = &d->descs[i];
	qsort(sc.wanted, sc.n, sizeof(*sc.wanted), by_link);
	proc = sc.n ? opendir("/proc") : NULL;
	while (proc && (sc.dir = next_process(proc, d->pid, &sc.pid))) {
		scan_one(&sc);
		closedir(sc.dir);
	}
	if (proc)
		closedir(proc);
	free(sc.wanted);
	return 0;
}

bool thaw_others_find(const char *link, pid_t except, struct thaw_holder *h)
{
	DIR *proc = opendir("/proc"), *dir;
	bool found = false;
	pid_t pid;

	while (proc && !found && (dir = next_process(proc, except, &pid))) {
		struct dirent *e;
		char text[4096];

		while (!found && (e = readdir(dir))) {
			ssize_t n = e->d_name[0] == '.' ? -1 : readlinkat(dirfd(dir), e->d_name, text, sizeof(text) - 1);

			found = n > 0 && (size_t)n == strlen(link) && !memcmp(text, link, (size_t)n);
		}
		closedir(dir);
	}
	if (proc)
		closedir(proc);
	if (!found)
		return false;
	h->pid = pid;
	thaw_comm(pid, h->comm, sizeof(h->comm));
	return true;
}
