/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/procfs.h - what /proc says about a process: mappings, status, stat, tasks, children, pages.
 * Rule      a snapshot of a running process may be torn; only a stopped one is described exactly
 * Threads   any
 * Errors    -errno; -ESRCH: the process is gone; -EPROTO: a line that cannot be read. No sentence: the caller adds it
 *           ("pid 7: /proc/7/smaps: ..."). A callback's nonzero result ends the walk and is returned */
#ifndef THAW_KERN_PROCFS_H
#define THAW_KERN_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Two-letter names of the VmFlags line as bits; others are passed over. */
enum thaw_vmflag {
	THAW_VM_GROWSDOWN = 1 << 0,   /* gd */
	THAW_VM_LOCKED = 1 << 1,      /* lo */
	THAW_VM_LOCKONFAULT = 1 << 2, /* lf */
	THAW_VM_DONTCOPY = 1 << 3,    /* dc: MADV_DONTFORK */
	THAW_VM_DONTEXPAND = 1 << 4,  /* de */
	THAW_VM_NORESERVE = 1 << 5,   /* nr */
	THAW_VM_HUGETLB = 1 << 6,     /* ht */
	THAW_VM_WIPEONFORK = 1 << 7,  /* wf */
	THAW_VM_DONTDUMP = 1 << 8,    /* dd */
	THAW_VM_HUGEPAGE = 1 << 9,    /* hg */
	THAW_VM_NOHUGEPAGE = 1 << 10, /* nh */
	THAW_VM_MERGEABLE = 1 << 11,  /* mg */
	THAW_VM_UFFD_MISSING = 1 << 12, /* um */
	THAW_VM_UFFD_WP = 1 << 13,    /* uw */
	THAW_VM_UFFD_MINOR = 1 << 14, /* ui */
	THAW_VM_IO = 1 << 15,         /* io */
	THAW_VM_PFNMAP = 1 << 16,     /* pf */
	THAW_VM_MIXEDMAP = 1 << 17,   /* mm */
	THAW_VM_SEQ_READ = 1 << 18,   /* sr */
	THAW_VM_RAND_READ = 1 << 19,  /* rr */
	THAW_VM_ACCOUNT = 1 << 20,    /* ac */
	THAW_VM_SHADOW_STACK = 1 << 21, /* ss */
	THAW_VM_SEALED = 1 << 22,     /* sl */
	THAW_VM_DROPPABLE = 1 << 23,  /* dp */
	THAW_VM_SOFTDIRTY = 1 << 24,  /* sd */
	THAW_VM_MAYSHARE = 1 << 25,   /* ms */
	THAW_VM_MAYWRITE = 1 << 26    /* mw */
};

struct thaw_vma {
	uint64_t start, end, off; /* off: bytes in the file */
	int prot;                 /* PROT_* */
	bool shared;
	uint32_t dev_major, dev_minor;
	uint64_t ino;             /* 0: no file */
	const char *path; /* as /proc writes it, "\012" decoded; "" anonymous, "[heap]", "/x (deleted)". For the call
			     only */
	uint32_t flags;           /* THAW_VM_*; 0 unless asked for */
	uint64_t anon_kb, swap_kb, locked_kb; /* of smaps; 0 unless asked for */
	uint64_t pkey;                        /* protection key, also of smaps */
};
typedef int thaw_vma_fn(void *opaque, const struct thaw_vma *v);
int thaw_procfs_maps(pid_t pid, thaw_vma_fn *fn, void *opaque);
int thaw_procfs_smaps(pid_t pid, thaw_vma_fn *fn, void *opaque); /* with flags; walks the page tables: slow */
/* The same from an open /proc/PID/maps (smaps: true for /proc/PID/smaps), which is read again from its start. */
int thaw_procfs_maps_fd(int fd, bool smaps, thaw_vma_fn *fn, void *opaque);

struct thaw_proc_status {
	char name[64], state;
	pid_t tgid, pid, ppid, tracer, ns_pid; /* ns_pid: in its own (innermost) pid namespace */
	unsigned ns_depth;                     /* how many pid namespaces deep, 1: ours */
	uint32_t uid[4], gid[4];               /* real, effective, saved, fs */
	unsigned n_groups;                     /* all of them; the first 64 are in groups */
	uint32_t groups[64];
	unsigned umask, threads, fd_size;
	uint64_t sig_pending, shared_pending, sig_blocked, sig_ignored, sig_caught;
	uint64_t cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient;
	bool no_new_privs, thp_enabled;
	int seccomp, seccomp_filters;          /* mode 0, 1, 2 */
	uint64_t vm_locked_kb, vm_size_kb, vm_rss_kb, hugetlb_kb;
};
int thaw_procfs_status(pid_t pid, struct thaw_proc_status *s);         /* pid may be a thread's id */
int thaw_procfs_task_status(pid_t pid, pid_t tid, struct thaw_proc_status *s);

struct thaw_proc_stat {
	char comm[64], state;
	pid_t ppid, pgrp, session, tpgid;
	int tty_nr, nice, exit_signal, cpu;
	unsigned flags, policy, rt_priority;
	unsigned long long utime, stime, starttime; /* clock ticks */
	uint64_t faults; /* minor and major */
	uint64_t start_code, end_code, start_stack, start_data, end_data, start_brk;
	uint64_t arg_start, arg_end, env_start, env_end;
};
int thaw_procfs_stat(pid_t pid, struct thaw_proc_stat *s);
int thaw_procfs_task_stat(pid_t pid, pid_t tid, struct thaw_proc_stat *s);
int thaw_procfs_stat_fd(int fd, struct thaw_proc_stat *s); /* of a descriptor of one of these files; as often as wanted */

typedef int thaw_pid_fn(void *opaque, pid_t pid);
int thaw_procfs_tasks(pid_t pid, thaw_pid_fn *fn, void *opaque);       /* thread ids */
int thaw_procfs_children(pid_t pid, thaw_pid_fn *fn, void *opaque);    /* of all its threads; direct ones */
int thaw_procfs_descendants(pid_t pid, thaw_pid_fn *fn,
			    void *opaque); /* children first seen before theirs; not pid itself */

/* Pages of [start, end) that hold content of the process's own: present or swapped out, anonymous (in a private file
 * mapping: changed ones only; in a shared one: none), not the zero page. Runs in address order.
 * With PAGEMAP_SCAN (Linux 6.7), else by reading /proc/PID/pagemap, which cannot tell the zero page without
 * privilege. */
struct thaw_pagemap_file;
/* Is any of n pages from number `first` on in memory or in swap? 1, 0, or -errno. fd: an open /proc/PID/pagemap; -ESRCH: the
 * process is gone. Under every filter. */
int thaw_procfs_any_page(int fd, uint64_t first, uint64_t n);
int thaw_procfs_pagemap_open(pid_t pid, struct thaw_pagemap_file **out);
void thaw_procfs_pagemap_close(struct thaw_pagemap_file *f);
bool thaw_procfs_pagemap_scans(const struct thaw_pagemap_file *f); /* PAGEMAP_SCAN is used */
void thaw_procfs_pagemap_no_scan(struct thaw_pagemap_file *f);     /* tests: read the file instead */
typedef int thaw_run_fn(void *opaque, uint64_t start, uint64_t end);
int thaw_procfs_own_pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque);
/* The same with the zero page, which in a private mapping of a file hides the file's content. */
int thaw_procfs_changed_pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque);
/* Guard pages (MADV_GUARD_INSTALL, Linux 6.13), of every kind of mapping; told from swapped out ones since Linux 6.15, before
 * that there are none here. The others leave them out. */
int thaw_procfs_guard_pages(struct thaw_pagemap_file *f, uint64_t start, uint64_t end, thaw_run_fn *fn, void *opaque);

/* A small file of /proc/PID whole, with a final NUL: bytes read, or -errno (-E2BIG: it does not fit). */
ssize_t thaw_procfs_read(pid_t pid, const char *name, char *buf, size_t size);

#endif
