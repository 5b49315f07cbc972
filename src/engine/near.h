/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* engine/near.h - a reader goes to the CPU of the thread that it serves, while copiers keep the CPUs busy.
 *
 * A fault is a round trip between two threads. On one CPU that is two switches; between two it is two interrupts as well, each of which
 * waits for what runs there, and in a virtual machine for its host: two to four times as long. The kernel leaves a thread where
 * it ran last unless another CPU is idle, and a copier that gives way to everybody makes its CPU look like the less busy one.
 *
 * Rule      asked only of a process's first thread, and only where that is who faults; the reader may be moved away again at once, and
 *           then asks more and more seldom
 * Threads   the owner of the space, a reader
 * Errors    none: it stays where it is */
#ifndef THAW_ENGINE_NEAR_H
#define THAW_ENGINE_NEAR_H

#include "engine/mm.h"

void thaw_near(struct thaw_mm *mm);

#endif
