/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/machine.h - a virtual machine of one processor in real mode, which adds up the words of a segment of its memory.
 *
 * Each segment is a memory slot of its own, and can be put anywhere in the calling process's memory, taken away, and put elsewhere.
 * A machine that does not run here is no error: machine_make() says why, and 77.
 *
 * Rule      one machine a process; machine_set() and machine_sum() in one thread at a time, machine_drop() in any. Behind a drop no
 *           sum is made of the segment; one that is being made is lost. (It may wait for a page: a drop does not, and the slot then goes
 *           when the page has come.)
 * Errors    0, -errno, or what else it ended with */
#ifndef TESTS_SUPPORT_MACHINE_H
#define TESTS_SUPPORT_MACHINE_H

#include <stdint.h>

#define MACHINE_SEGMENTS 8
#define MACHINE_SEGMENT 0x10000UL
#define MACHINE_STEP 64 /* of so many bytes the first four are added up */
#define MACHINE_LOST (-1000)   /* to add up: the segment is not there, or not any more; to set: it is there still */
#define MACHINE_NOT_HERE 77

int machine_make(void);
int machine_set(unsigned segment, uint64_t host);
int machine_drop(uint32_t segments); /* as bits */
int machine_sum(unsigned segment, uint32_t *sum);
uint32_t machine_sum_of(const unsigned char *segment); /* what it must be */

#endif
