// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/probe_try.c - attempts that need no other process */
#include "config.h"
#include "kern/probe_impl.h"
#include "kern/procfs.h"
#include "kern/ring.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SAY(detail, ...) snprintf(detail, THAW_PROBE_DETAIL, __VA_ARGS__)

int thaw_try_release(char *detail)
{
	struct utsname u;
	int err = thaw_uffd_check_release();

	if (!uname(&u))
		SAY(detail, "%s", u.release);
	return err;
}

int thaw_try_page_size(char *detail)
{
	long size = sysconf(_SC_PAGESIZE);

	SAY(detail, "%ld bytes", size);
	return size == 4096 ? 0 : -EOPNOTSUPP;
}

static int close_good(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

int thaw_try_uffd_node(char *detail)
{
	return close_good(thaw_uffd_open_node());
}

int thaw_try_uffd_call(char *detail)
{
	return close_good(thaw_uffd_open_call());
}

int thaw_try_uffd_events(char *detail)
{
	int err = close_good(thaw_uffd_open_features(THAW_UFFD_EVENTS, NULL));

	if (err && err != -EPERM) /* that one has its remedy in the table */
		SAY(detail, "%s", thaw_err_text());
	return err;
}

int thaw_try_uffd_poison(char *detail)
{
	uint64_t features = 0;
	int err = close_good(thaw_uffd_open_features(0, &features));

	if (err)
		return err;
	return features & UFFD_FEATURE_POISON ? 0 : -EOPNOTSUPP;
}

int thaw_try_seccomp(char *detail)
{
	/* What seccomp(2) answers, without a filter being set: the kernel knows the action, or refuses the call. */
	unsigned level = seccomp_api_get();

	SAY(detail, level ? "api level %u" : "seccomp(2) is refused", level);
	return level >= 2 ? 0 : level ? -EOPNOTSUPP : -EPERM;
}

int thaw_try_uring(char *detail)
{
	const char *why;

	switch (thaw_ring_probe(&why)) {
	case THAW_RING_OK:
		return 0;
	case THAW_RING_ABSENT:
		SAY(detail, "%s", why);
		return -ENOSYS;
	case THAW_RING_DENIED:
		SAY(detail, "%s", why);
		return -EPERM;
	case THAW_RING_BROKEN:
		break;
	}
	SAY(detail, "%s", why);
	return THAW_PROBE_WRONG;
}

int thaw_try_memlock(char *detail)
{
	size_t len = 16 << 20; /* what the monitor likes to lock */
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t limit = thaw_sys_lock_limit();
	int err;

	if (p == MAP_FAILED)
		return -errno;
	err = mlock(p, len) ? -errno : 0;
	munmap(p, len);
	if (limit == UINT64_MAX)
		SAY(detail, "no limit");
	else
		SAY(detail, "limit %llu KiB%s", (unsigned long long)limit / 1024,
		    err ? "" : ", not in force for this user");
	return err ? -EPERM : 0;
}

int thaw_try_populate(char *detail)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (p == MAP_FAILED)
		return -errno;
	err = madvise(p, 4096, 23 /* MADV_POPULATE_WRITE */) ? -errno : 0;
	munmap(p, 4096);
	return err;
}

struct seen {
	uint64_t start, end;
	unsigned n;
};

static int see(void *opaque, uint64_t start, uint64_t end)
{
	struct seen *s = opaque;

	s->start = start;
	s->end = end;
	s->n++;
	return 0;
}

/* One page of two is written: the answer must name just that one. */
static int ask_pagemap(struct thaw_pagemap_file *f)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct seen s = { 0 };
	int err;

	if (p == MAP_FAILED)
		return -errno;
	madvise(p, 8192, MADV_NOHUGEPAGE);
	p[4096] = 1;
	err = thaw_procfs_own_pages(f, (uintptr_t)p, (uintptr_t)p + 8192, see, &s);
	if (!err && (s.n != 1 || s.start != (uintptr_t)p + 4096 || s.end != s.start + 4096))
		err = THAW_PROBE_WRONG;
	munmap(p, 8192);
	return err;
}

int thaw_try_pagemap(char *detail)
{
	struct thaw_pagemap_file *f;
	int err = thaw_procfs_pagemap_open(getpid(), &f);

	if (err)
		return err == -ESRCH ? -ENOENT : err;
	thaw_procfs_pagemap_no_scan(f);
	err = ask_pagemap(f);
	thaw_procfs_pagemap_close(f);
	return err;
}

int thaw_try_pagemap_scan(char *detail)
{
	struct thaw_pagemap_file *f;
	int err = thaw_procfs_pagemap_open(getpid(), &f);

	if (err)
		return err == -ESRCH ? -ENOENT : err;
	err = thaw_procfs_pagemap_scans(f) ? ask_pagemap(f) : -ENOTTY;
	thaw_procfs_pagemap_close(f);
	return err;
}

/* Asks for all UNIX sockets; any answer but an error will do. */
int thaw_try_sock_diag(char *detail)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req body;
	} req = {
		.head = { .nlmsg_len = sizeof(req),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.body = { .sdiag_family = AF_UNIX, .udiag_states = ~0U },
	};
	union {
		struct nlmsghdr head;
		char bytes[16384];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), err = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (send(fd, &req, sizeof(req), 0) < 0)
		err = -errno;
	n = err ? 0 : recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		err = -errno;
	if (!err && answer.head.nlmsg_type == NLMSG_ERROR)
		err = ((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
	close(fd);
	return err;
}

int thaw_try_handles(char *detail)
{
	struct {
		struct file_handle h;
		unsigned char room[MAX_HANDLE_SZ];
	} fh = { .h = { .handle_bytes = MAX_HANDLE_SZ } };
	int mount_id, dir, fd, err;

	if (name_to_handle_at(AT_FDCWD, "/", &fh.h, &mount_id, 0))
		return -errno;
	dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = open_by_handle_at(dir, &fh.h, O_PATH | O_CLOEXEC);
	err = close_good(fd < 0 ? -errno : fd);
	close(dir);
	return err;
}

static int first_file(void *opaque, const struct thaw_vma *v)
{
	struct thaw_vma *out = opaque;

	if (!v->ino || v->path[0] != '/')
		return 0;
	*out = *v;
	return 1;
}

int thaw_try_map_files(char *detail)
{
	struct thaw_vma v = { 0 };
	char path[96];
	int fd;

	if (thaw_procfs_maps(getpid(), first_file, &v) != 1)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx", (unsigned long long)v.start,
		 (unsigned long long)v.end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return close_good(fd < 0 ? -errno : fd);
}
