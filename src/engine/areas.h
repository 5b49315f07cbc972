/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/areas.h - which memory is registered with the userfaultfd of a space, where it must not be closed with any that is.
 *
 * Up to Linux 6.14 a thread that the kernel faults in for (get_user_pages(): MADV_POPULATE_*, process_vm_readv(), KVM) does not wait
 * once the last reference to a userfaultfd is being dropped. It tries again and again with mmap_lock held for reading, and the release
 * waits for that lock: neither comes to its end. So what is known to be registered is unregistered first, while such a thread still waits
 * as it should. Whole mappings only: a part would be split off, and other memory is never touched, for these kernels would take it
 * away from another userfaultfd.
 *
 * Where /proc/PID/maps of the process can be asked, known is each mapping that holds content, or something of what was registered and
 * has not been unmapped or moved since. In a forked child, whose pid no message tells, it is what has never been moved and has not
 * grown. The rest is closed as it is.
 *
 * Rule      changed in X, or before the space is published; none where the kernel needs none, or there was no memory for it
 * Errors    none: what is not known is closed with the rest */
#ifndef THAW_ENGINE_AREAS_H
#define THAW_ENGINE_AREAS_H

#include <stdbool.h>
#include <stddef.h>

struct thaw_change;
struct thaw_mm;
struct thaw_range;

void thaw_areas_new(struct thaw_mm *mm, const struct thaw_range *ranges, size_t n);
void thaw_areas_fork(struct thaw_mm *child, const struct thaw_mm *parent);
void thaw_areas_change(struct thaw_mm *mm, const struct thaw_change *c);

/* X, or nobody else has the space any more: nothing is absent, and the userfaultfd is closed next. False: not yet, there is a
 * message to be read, behind which the kernel does not say what is registered. */
bool thaw_areas_unregister(struct thaw_mm *mm);

#endif
