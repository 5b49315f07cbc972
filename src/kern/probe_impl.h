/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/probe_impl.h - the attempts behind the probes.
 * Errors    0: it works; else -errno, which the table sorts: not permitted, absent, broken. `detail` (THAW_PROBE_DETAIL
 *           bytes, "" before) may be given a figure or a cause */
#ifndef THAW_KERN_PROBE_IMPL_H
#define THAW_KERN_PROBE_IMPL_H

#define THAW_PROBE_DETAIL 160
#define THAW_PROBE_WRONG (-4095) /* it answered, but not the truth */

int thaw_try_release(char *detail);
int thaw_try_page_size(char *detail);
int thaw_try_uffd_node(char *detail);
int thaw_try_uffd_call(char *detail);
int thaw_try_uffd_events(char *detail);
int thaw_try_uffd_poison(char *detail);
int thaw_try_seccomp(char *detail);
int thaw_try_uring(char *detail);
int thaw_try_memlock(char *detail);
int thaw_try_populate(char *detail);
int thaw_try_pagemap(char *detail);
int thaw_try_pagemap_scan(char *detail);
int thaw_try_sock_diag(char *detail);
int thaw_try_handles(char *detail);
int thaw_try_map_files(char *detail);

/* These make processes. */
int thaw_try_ptrace(char *detail);
int thaw_try_rseq(char *detail);
int thaw_try_vm_readv(char *detail);
int thaw_try_pidfd_getfd(char *detail);
int thaw_try_kcmp(char *detail);
int thaw_try_children(char *detail);
int thaw_try_set_tid(char *detail);
int thaw_try_mm_map(char *detail);
int thaw_try_pidns(char *detail);

#endif
