// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/procfs.c - status, stat, tasks and children of a process */
#include "config.h"
#include "kern/procfs.h"
#include "util/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A process that ends while its files are read gives ESRCH, or no such directory at all. */
static int gone(int err)
{
	return err == ENOENT ? -ESRCH : -err;
}

static ssize_t read_path(const char *path, char *buf, size_t size)
{
	int fd = THAW_INJECT_ERRNO("procfs.open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	ssize_t n = 0;
	int err = 0;

	if (fd < 0)
		return gone(errno);
	while (at < size - 1 && (n = THAW_INJECT_ERRNO("procfs.read") ? -1 :
	       read(fd, buf + at, THAW_INJECT_SHORT("procfs.read", size - 1 - at, 1))) > 0)
		at += n;
	if (n < 0)
		err = -errno;
	else if (at == size - 1 && read(fd, &(char){ 0 }, 1) == 1)
		err = -E2BIG;
	close(fd);
	buf[at] = '\0';
	return err ? err : (ssize_t)at;
}

ssize_t thaw_procfs_read(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return read_path(path, buf, size);
}

/* ---- status ---------------------------------------------------------------------------------------------- */

static void set_name(struct thaw_proc_status *s, const char *v)
{
	snprintf(s->name, sizeof(s->name), "%s", v);
}

static void set_ids(uint32_t id[4], const char *v)
{
	sscanf(v, "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]);
}

static void set_groups(struct thaw_proc_status *s, const char *v)
{
	char *end;

	for (;; v = end) {
		unsigned long g = strtoul(v, &end, 10);

		if (end == v)
			return;
		if (s->n_groups < sizeof(s->groups) / sizeof(s->groups[0]))
			s->groups[s->n_groups] = g;
		s->n_groups++;
	}
}

/* "NSpid: 812 5": one number for each namespace from ours inwards. */
static void set_ns_pid(struct thaw_proc_status *s, const char *v)
{
	char *end;

	for (;; v = end) {
		long pid = strtol(v, &end, 10);

		if (end == v)
			return;
		s->ns_pid = pid;
		s->ns_depth++;
	}
}

enum form { DEC, OCT, HEX, U64, BOOL };

static void set_number(void *to, enum form form, const char *v)
{
	switch (form) {
	case DEC:
		*(int *)to = atoi(v);
		break;
	case OCT:
		*(unsigned *)to = strtoul(v, NULL, 8);
		break;
	case HEX:
		*(uint64_t *)to = strtoull(v, NULL, 16);
		break;
	case U64:
		*(uint64_t *)to = strtoull(v, NULL, 10);
		break;
	case BOOL:
		*(bool *)to = atoi(v) != 0;
	}
}

static const struct {
	const char *key;
	enum form form;
	size_t at;
} status_fields[] = {
#define F(key, form, field) { key, form, offsetof(struct thaw_proc_status, field) }
	F("Umask", OCT, umask),
	F("Tgid", DEC, tgid),
	F("Pid", DEC, pid),
	F("PPid", DEC, ppid),
	F("TracerPid", DEC, tracer),
	F("FDSize", DEC, fd_size),
	F("Threads", DEC, threads),
	F("SigPnd", HEX, sig_pending),
	F("ShdPnd", HEX, shared_pending),
	F("SigBlk", HEX, sig_blocked),
	F("SigIgn", HEX, sig_ignored),
	F("SigCgt", HEX, sig_caught),
	F("CapInh", HEX, cap_inheritable),
	F("CapPrm", HEX, cap_permitted),
	F("CapEff", HEX, cap_effective),
	F("CapBnd", HEX, cap_bounding),
	F("CapAmb", HEX, cap_ambient),
	F("NoNewPrivs", BOOL, no_new_privs),
	F("Seccomp", DEC, seccomp),
	F("Seccomp_filters", DEC, seccomp_filters),
	F("THP_enabled", BOOL, thp_enabled),
	F("VmLck", U64, vm_locked_kb),
	F("VmSize", U64, vm_size_kb),
	F("VmRSS", U64, vm_rss_kb),
	F("HugetlbPages", U64, hugetlb_kb),
#undef F
};

static void status_line(struct thaw_proc_status *s, const char *key, const char *v)
{
	size_t i;

	for (i = 0; i < sizeof(status_fields) / sizeof(status_fields[0]); i++)
		if (!strcmp(key, status_fields[i].key)) {
			set_number((char *)s + status_fields[i].at, status_fields[i].form, v);
			return;
		}
	if (!strcmp(key, "Name"))
		set_name(s, v);
	else if (!strcmp(key, "State"))
		s->state = *v;
	else if (!strcmp(key, "Uid"))
		set_ids(s->uid, v);
	else if (!strcmp(key, "Gid"))
		set_ids(s->gid, v);
	else if (!strcmp(key, "Groups"))
		set_groups(s, v);
	else if (!strcmp(key, "NSpid"))
		set_ns_pid(s, v);
}

static int read_status(const char *path, struct thaw_proc_status *s)
{
	size_t size = 1 << 20; /* NGROUPS_MAX groups of eleven characters fit */
	char *buf = malloc(size), *line, *next, *v;
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	n = read_path(path, buf, size);
	for (line = buf; n > 0 && *line; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = '\0';
		v = strchr(line, ':');
		if (!v)
			continue;
		*v++ = '\0';
		status_line(s, line, v + strspn(v, "\t "));
	}
	free(buf);
	return n < 0 ? n : s->pid ? 0 : -EPROTO;
}

int thaw_procfs_status(pid_t pid, struct thaw_proc_status *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	return read_status(path, s);
}

int thaw_procfs_task_status(pid_t pid, pid_t tid, struct thaw_proc_status *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	return read_status(path, s);
}

/* ---- stat ------------------------------------------------------------------------------------------------ */

/* The numbers behind the name, field 4 of proc(5) at index 0. */
#define STAT_FIELDS 49

static int parse_stat(char *buf, struct thaw_proc_stat *s)
{
	unsigned long long f[STAT_FIELDS];
	char *open, *close, *at, *end;
	int i;

	open = strchr(buf, '(');
	close = strrchr(buf, ')'); /* the name may hold brackets itself */
	if (!open || !close || close < open || close[1] != ' ')
		return -EPROTO;
	memset(s, 0, sizeof(*s));
	snprintf(s->comm, sizeof(s->comm), "%.*s", (int)(close - open - 1), open + 1);
	s->state = close[2];
	at = close + 3;
	for (i = 0; i < STAT_FIELDS; i++, at = end) {
		f[i] = strtoull(at, &end, 10); /* "-1" becomes ULLONG_MAX, and -1 again in an int */
		if (end == at)
			return -EPROTO;
	}
#define FIELD(n) f[(n) - 4]
	s->ppid = FIELD(4);
	s->pgrp = FIELD(5);
	s->session = FIELD(6);
	s->tty_nr = FIELD(7);
	s->tpgid = FIELD(8);
	s->flags = FIELD(9);
	s->faults = FIELD(10) + FIELD(12);
	s->utime = FIELD(14);
	s->stime = FIELD(15);
	s->nice = FIELD(19);
	s->starttime = FIELD(22);
	s->start_code = FIELD(26);
	s->end_code = FIELD(27);
	s->start_stack = FIELD(28);
	s->exit_signal = FIELD(38);
	s->cpu = FIELD(39);
	s->rt_priority = FIELD(40);
	s->policy = FIELD(41);
	s->start_data = FIELD(45);
	s->end_data = FIELD(46);
	s->start_brk = FIELD(47);
	s->arg_start = FIELD(48);
	s->arg_end = FIELD(49);
	s->env_start = FIELD(50);
	s->env_end = FIELD(51);
#undef FIELD
	return 0;
}

static int read_stat(const char *path, struct thaw_proc_stat *s)
{
	char buf[2048];
	ssize_t n = read_path(path, buf, sizeof(buf));

	return n < 0 ? (int)n : parse_stat(buf, s);
}

int thaw_procfs_stat_fd(int fd, struct thaw_proc_stat *s)
{
	char buf[2048];
	ssize_t n = THAW_INJECT_ERRNO("procfs.read") ? -1 : pread(fd, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return parse_stat(buf, s);
}

int thaw_procfs_stat(pid_t pid, struct thaw_proc_stat *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	return read_stat(path, s);
}

int thaw_procfs_task_stat(pid_t pid, pid_t tid, struct thaw_proc_stat *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	return read_stat(path, s);
}

/* ---- tasks and children ---------------------------------------------------------------------------------- */

int thaw_procfs_tasks(pid_t pid, thaw_pid_fn *fn, void *opaque)
{
	char path[48];
	struct dirent *e;
	int err = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	if (!d)
		return gone(errno);
	while (!err && (e = readdir(d)))
		if (e->d_name[0] != '.')
			err = fn(opaque, atoi(e->d_name));
	closedir(d);
	return err;
}

struct children_walk {
	pid_t pid;
	thaw_pid_fn *fn;
	void *opaque;
	bool deep;
	unsigned depth;
};

static int walk_children(const struct children_walk *w);

static int children_of_task(void *opaque, pid_t tid)
{
	const struct children_walk *w = opaque;
	size_t size = 1 << 18;
	char path[64], *buf, *at, *end;
	ssize_t n;
	int err = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)w->pid, (int)tid);
	buf = malloc(size);
	if (!buf)
		return -ENOMEM;
	n = read_path(path, buf, size);
	for (at = buf; n > 0 && !err; at = end) {
		struct children_walk below = *w;

		below.pid = strtol(at, &end, 10);
		if (end == at)
			break;
		below.depth++;
		err = w->fn(w->opaque, below.pid);
		if (!err && w->deep && below.depth < 64)
			err = walk_children(&below);
	}
	free(buf);
	if (err)
		return err;
	return n == -ESRCH || n > 0 ? 0 : n; /* a thread that ended meanwhile has no children any more */
}

static int walk_children(const struct children_walk *w)
{
	int err = thaw_procfs_tasks(w->pid, children_of_task, (void *)w);

	return err == -ESRCH && w->depth ? 0 : err;
}

int thaw_procfs_children(pid_t pid, thaw_pid_fn *fn, void *opaque)
{
	return walk_children(&(struct children_walk){ .pid = pid, .fn = fn, .opaque = opaque });
}

int thaw_procfs_descendants(pid_t pid, thaw_pid_fn *fn, void *opaque)
{
	return walk_children(&(struct children_walk){ .pid = pid, .fn = fn, .opaque = opaque, .deep = true });
}
