// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/probe.c - the list of what is needed, what for, and what to do when it is not there */
#include "config.h"
#include "kern/probe.h"
#include "kern/probe_impl.h"
#include "kern/uffd.h"
#include "util/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIB THAW_PROBE_LIBRARY
#define DUMP THAW_PROBE_CHECKPOINT
#define RESTORE THAW_PROBE_RESTORE
#define FASTER THAW_PROBE_FASTER
#define OPTION THAW_PROBE_OPTION

static const struct {
	const char *name, *what;
	unsigned need;
	int (*attempt)(char *detail);
	const char *denied, *absent; /* remedies */
} probes[] = {
	{ "kernel", "Linux 6.1 or later", LIB, thaw_try_release, "", "use Linux 6.1 or later" },
	{ "page-size", "pages of 4096 bytes", LIB, thaw_try_page_size, "", "use a kernel with 4 KiB pages" },
	{ "userfaultfd-device", "userfaultfd through /dev/userfaultfd", OPTION, thaw_try_uffd_node,
	  "chmod or chgrp /dev/userfaultfd for this user",
	  "load the node into the container (--device /dev/userfaultfd)" },
	{ "userfaultfd-call", "userfaultfd through the system call", OPTION, thaw_try_uffd_call,
	  "give CAP_SYS_PTRACE or set the sysctl vm.unprivileged_userfaultfd=1",
	  "use a kernel with CONFIG_USERFAULTFD" },
	{ "userfaultfd-events", "userfaultfd that follows fork, mremap, madvise and munmap", LIB, thaw_try_uffd_events,
	  "give CAP_SYS_PTRACE, and one of the two ways above", "use Linux 6.1 or later with CONFIG_USERFAULTFD" },
	{ "userfaultfd-poison", "SIGBUS instead of waiting when content is lost", OPTION, thaw_try_uffd_poison,
	  "see userfaultfd-device and userfaultfd-call", "use Linux 6.6 or later" },
	{ "seccomp", "system call filters for the monitor's threads", LIB, thaw_try_seccomp,
	  "allow seccomp(2) in the container's profile", "use a kernel with CONFIG_SECCOMP_FILTER" },
	{ "io_uring", "reads of the image through io_uring (else through threads)", FASTER, thaw_try_uring,
	  "set the sysctl kernel.io_uring_disabled=0, or allow io_uring in the container's profile",
	  "use a kernel with CONFIG_IO_URING, or allow io_uring in the container's profile" },
	{ "memlock", "locked memory for the monitor's buffers", FASTER, thaw_try_memlock,
	  "raise the limit (ulimit -l), or give CAP_IPC_LOCK", "" },
	{ "populate", "memory made resident in one call (MADV_POPULATE)", FASTER, thaw_try_populate, "",
	  "use Linux 5.14 or later" },
	{ "ptrace", "other processes may be seized", DUMP | RESTORE, thaw_try_ptrace,
	  "give CAP_SYS_PTRACE, or set the sysctl kernel.yama.ptrace_scope=0",
	  "allow ptrace in the container's profile" },
	{ "rseq", "the rseq area of a thread can be read", DUMP, thaw_try_rseq, "give CAP_SYS_PTRACE",
	  "use a kernel with CONFIG_RSEQ" },
	{ "process_vm_readv", "memory of another process can be read", DUMP, thaw_try_vm_readv, "give CAP_SYS_PTRACE",
	  "use a kernel with CONFIG_CROSS_MEMORY_ATTACH" },
	{ "pagemap", "which pages a process has", DUMP, thaw_try_pagemap, "give CAP_SYS_PTRACE",
	  "use a kernel with CONFIG_PROC_PAGE_MONITOR" },
	{ "pagemap-scan", "the same in one call (PAGEMAP_SCAN)", FASTER, thaw_try_pagemap_scan, "give CAP_SYS_PTRACE",
	  "use Linux 6.7 or later" },
	{ "pidfd_getfd", "descriptors of another process can be duplicated", DUMP | RESTORE, thaw_try_pidfd_getfd,
	  "give CAP_SYS_PTRACE", "allow pidfd_getfd in the container's profile" },
	{ "kcmp", "shared open files can be told from equal ones", DUMP, thaw_try_kcmp, "give CAP_SYS_PTRACE",
	  "use a kernel with CONFIG_KCMP or CONFIG_CHECKPOINT_RESTORE" },
	{ "children", "children of a process are listed", DUMP, thaw_try_children, "",
	  "use a kernel with CONFIG_PROC_CHILDREN" },
	{ "map_files", "deleted files that are mapped can be opened", OPTION, thaw_try_map_files,
	  "give CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN)", "use a kernel with CONFIG_CHECKPOINT_RESTORE" },
	{ "sock_diag", "sockets can be looked into", DUMP, thaw_try_sock_diag,
	  "allow netlink sockets in the container's profile",
	  "use a kernel with CONFIG_UNIX_DIAG and CONFIG_INET_DIAG" },
	{ "open_by_handle_at", "files that inotify watches can be found", OPTION, thaw_try_handles,
	  "give CAP_DAC_READ_SEARCH", "use a file system that has handles" },
	{ "set_tid", "threads get their old ids (clone3 with set_tid)", RESTORE, thaw_try_set_tid,
	  "give CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN)", "allow clone3 in the container's profile" },
	{ "mm_map", "brk, arguments and environment get their old place (PR_SET_MM_MAP)", RESTORE, thaw_try_mm_map,
	  "give CAP_CHECKPOINT_RESTORE (or CAP_SYS_RESOURCE)", "use a kernel with CONFIG_CHECKPOINT_RESTORE" },
	{ "pidns", "a pid namespace of its own (--pidns)", OPTION, thaw_try_pidns, "give CAP_SYS_ADMIN",
	  "use a kernel with CONFIG_PID_NS" },
};

static enum thaw_probe_state sort(int err)
{
	switch (-err) {
	case 0:
		return THAW_PROBE_YES;
	case EPERM:
	case EACCES:
		return THAW_PROBE_DENIED;
	case ENOSYS:
	case ENOENT:
	case ENXIO:
	case ENODEV:
	case EINVAL:
	case ENOTTY:
	case EOPNOTSUPP:
	case EPROTONOSUPPORT:
	case EAFNOSUPPORT:
	case EIO:
		return THAW_PROBE_ABSENT;
	default:
		return THAW_PROBE_BROKEN;
	}
}

static void run(unsigned i, struct thaw_probe_item *it)
{
	const char *remedy = "";
	int err;

	memset(it, 0, sizeof(*it));
	it->name = probes[i].name;
	it->what = probes[i].what;
	it->need = probes[i].need;
	err = probes[i].attempt(it->detail);
	it->state = sort(err);
	if (err && !it->detail[0])
		snprintf(it->detail, sizeof(it->detail), "%s", err == THAW_PROBE_WRONG ? "wrong answer" : strerror(-err));
	if (it->state == THAW_PROBE_DENIED)
		remedy = probes[i].denied;
	else if (it->state == THAW_PROBE_ABSENT)
		remedy = probes[i].absent;
	snprintf(it->remedy, sizeof(it->remedy), "%s", remedy);
}

unsigned thaw_probe_all(struct thaw_probe_item *items, unsigned max)
{
	unsigned i, n = sizeof(probes) / sizeof(probes[0]);

	for (i = 0; i < n && i < max; i++)
		run(i, &items[i]);
	return i;
}

bool thaw_probe_lacks(unsigned need, struct thaw_probe_item *item)
{
	for (unsigned i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (!(probes[i].need & need))
			continue;
		run(i, item);
		if (item->state != THAW_PROBE_YES)
			return true;
	}
	return false;
}

const char *thaw_probe_state_name(enum thaw_probe_state state)
{
	switch (state) {
	case THAW_PROBE_YES:
		return "yes";
	case THAW_PROBE_DENIED:
		return "not permitted";
	case THAW_PROBE_ABSENT:
		return "absent";
	case THAW_PROBE_BROKEN:
		return "broken";
	}
	return "unknown";
}

int thaw_probe_library(void)
{
	char detail[THAW_PROBE_DETAIL] = "";
	int fd;

	if (thaw_try_page_size(detail))
		return thaw_err_set(-EOPNOTSUPP, "pages of this kernel have %s; use a kernel with 4 KiB pages", detail);
	fd = thaw_uffd_open_features(THAW_UFFD_EVENTS, NULL);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}
