// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/procfs_maps.c - the mappings of a process, from /proc/PID/maps and smaps */
#include "config.h"
#include "kern/procfs.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Lines of a file that is read at explicit offsets, so that one descriptor can be read again and again. */
struct lines {
	int fd;
	off_t off;
	size_t at, end;
	char buf[20480]; /* a path of PATH_MAX bytes, each written as four, and the numbers */
};

/* The next line without its newline; NULL at the end (*err 0) or on failure. */
static char *next_line(struct lines *l, int *err)
{
	char *nl, *line;
	ssize_t n;

	for (;;) {
		nl = memchr(l->buf + l->at, '\n', l->end - l->at);
		if (nl) {
			line = l->buf + l->at;
			*nl = '\0';
			l->at = nl + 1 - l->buf;
			return line;
		}
		memmove(l->buf, l->buf + l->at, l->end - l->at);
		l->end -= l->at;
		l->at = 0;
		if (l->end == sizeof(l->buf)) {
			*err = -EPROTO;
			return NULL;
		}
		n = THAW_INJECT_ERRNO("procfs.read") ? -1 : pread(l->fd, l->buf + l->end, sizeof(l->buf) - l->end, l->off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*err = n < 0 ? -errno : l->end ? -EPROTO : 0;
			return NULL;
		}
		l->off += n;
		l->end += n;
	}
}

/* Only the newline is written as an escape there; a backslash stands for itself. */
static void decode_path(char *path, const char *text)
{
	while (*text) {
		if (!strncmp(text, "\\012", 4)) {
			*path++ = '\n';
			text += 4;
		} else {
			*path++ = *text++;
		}
	}
	*path = '\0';
}

static int parse_vma(const char *line, struct thaw_vma *v, char *path)
{
	unsigned long long start, end, off, ino;
	unsigned major, minor;
	char perms[5];
	int used = 0;

	memset(v, 0, sizeof(*v));
	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu%n", &start, &end, perms, &off, &major, &minor, &ino, &used) !=
	    7)
		return -EPROTO;
	v->start = start;
	v->end = end;
	v->off = off;
	v->ino = ino;
	v->dev_major = major;
	v->dev_minor = minor;
	v->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
		  (perms[2] == 'x' ? PROT_EXEC : 0);
	v->shared = perms[3] == 's';
	decode_path(path, line + used + strspn(line + used, " "));
	v->path = path;
	return 0;
}

static const struct {
	char name[3];
	uint32_t bit;
} vm_flags[] = {
	{ "gd", THAW_VM_GROWSDOWN },	{ "lo", THAW_VM_LOCKED },	{ "dc", THAW_VM_DONTCOPY },
	{ "de", THAW_VM_DONTEXPAND },	{ "nr", THAW_VM_NORESERVE },	{ "ht", THAW_VM_HUGETLB },
	{ "wf", THAW_VM_WIPEONFORK },	{ "dd", THAW_VM_DONTDUMP },	{ "hg", THAW_VM_HUGEPAGE },
	{ "nh", THAW_VM_NOHUGEPAGE },	{ "mg", THAW_VM_MERGEABLE },	{ "um", THAW_VM_UFFD_MISSING },
	{ "uw", THAW_VM_UFFD_WP },	{ "ui", THAW_VM_UFFD_MINOR },	{ "io", THAW_VM_IO },
	{ "pf", THAW_VM_PFNMAP },	{ "mm", THAW_VM_MIXEDMAP },	{ "sr", THAW_VM_SEQ_READ },
	{ "rr", THAW_VM_RAND_READ },	{ "ac", THAW_VM_ACCOUNT },	{ "ss", THAW_VM_SHADOW_STACK },
	{ "sl", THAW_VM_SEALED },	{ "dp", THAW_VM_DROPPABLE },	{ "sd", THAW_VM_SOFTDIRTY },
	{ "ms", THAW_VM_MAYSHARE },	{ "lf", THAW_VM_LOCKONFAULT },	{ "mw", THAW_VM_MAYWRITE },
};

static uint32_t parse_flags(const char *text)
{
	uint32_t flags = 0;
	size_t i;

	for (text += strspn(text, " "); text[0] && text[1]; text += 2, text += strspn(text, " "))
		for (i = 0; i < sizeof(vm_flags) / sizeof(vm_flags[0]); i++)
			if (!memcmp(text, vm_flags[i].name, 2))
				flags |= vm_flags[i].bit;
	return flags;
}

/* A line of a mapping's block in smaps. True: it was the last one. */
static bool smaps_line(const char *line, struct thaw_vma *v)
{
	static const struct {
		const char *key;
		size_t at;
	} sizes[] = {
		{ "Anonymous:", offsetof(struct thaw_vma, anon_kb) },
		{ "Swap:", offsetof(struct thaw_vma, swap_kb) },
		{ "Locked:", offsetof(struct thaw_vma, locked_kb) },
		{ "ProtectionKey:", offsetof(struct thaw_vma, pkey) },
	};
	size_t i;

	if (!strncmp(line, "VmFlags:", 8)) {
		v->flags = parse_flags(line + 8);
		return true;
	}
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!strncmp(line, sizes[i].key, strlen(sizes[i].key)))
			*(uint64_t *)((char *)v + sizes[i].at) = strtoull(line + strlen(sizes[i].key), NULL, 10);
	return false;
}

static int walk(struct lines *l, char *path, bool smaps, thaw_vma_fn *fn, void *opaque)
{
	struct thaw_vma v;
	bool open = false; /* v is begun and not yet handed out */
	char *line;
	int err = 0;

	while (!err && (line = next_line(l, &err))) {
		if (!open) {
			err = parse_vma(line, &v, path);
			open = smaps;
			if (!err && !smaps)
				err = fn(opaque, &v);
		} else if (smaps_line(line, &v)) {
			open = false;
			err = fn(opaque, &v);
		}
	}
	return !err && open ? -EPROTO : err;
}

int thaw_procfs_maps_fd(int fd, bool smaps, thaw_vma_fn *fn, void *opaque)
{
	struct {
		struct lines lines;
		char path[sizeof(((struct lines *)0)->buf)];
	} *w = malloc(sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->lines.fd = fd;
	w->lines.off = 0;
	w->lines.at = w->lines.end = 0;
	err = walk(&w->lines, w->path, smaps, fn, opaque);
	free(w);
	return err;
}

static int walk_pid(pid_t pid, const char *name, bool smaps, thaw_vma_fn *fn, void *opaque)
{
	char path[48];
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = THAW_INJECT_ERRNO("procfs.open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	err = thaw_procfs_maps_fd(fd, smaps, fn, opaque);
	close(fd);
	return err;
}

int thaw_procfs_maps(pid_t pid, thaw_vma_fn *fn, void *opaque)
{
	return walk_pid(pid, "maps", false, fn, opaque);
}

int thaw_procfs_smaps(pid_t pid, thaw_vma_fn *fn, void *opaque)
{
	return walk_pid(pid, "smaps", true, fn, opaque);
}
