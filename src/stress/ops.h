/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stress/ops.h - the operations by name: what --ops, replay files, the summary and the worker call them.
 *
 * Rule      the one list; a new operation gets its line here and its function in the worker's table
 * Threads   immutable */
#ifndef THAW_STRESS_OPS_H
#define THAW_STRESS_OPS_H

#include <stdint.h>

/* identifier, name, share of the draws (0: only when named), what it does */
#define STRESS_OPS(X) \
	X(READ, "read", 30, "reads pages here and there") \
	X(READ_ORDER, "read-order", 10, "reads pages upwards") \
	X(READ_COMMON, "read-common", 8, "reads pages that all threads and children read at the same time") \
	X(WRITE, "write", 14, "writes whole pages") \
	X(WRITE_PART, "write-part", 10, "writes a few words within a page") \
	X(DONTNEED, "dontneed", 16, "MADV_DONTNEED, and reads a part of it again") \
	X(FREE, "free", 5, "MADV_FREE") \
	X(REMOVE, "remove", 1, "MADV_REMOVE, which private memory refuses") \
	X(DONTNEED_LOCKED, "dontneed-locked", 4, "MADV_DONTNEED_LOCKED") \
	X(WIPEONFORK, "wipeonfork", 2, "MADV_WIPEONFORK (processes that were restored, not their children)") \
	X(DONTFORK, "dontfork", 2, "MADV_DONTFORK (likewise)") \
	X(PAGEOUT, "pageout", 3, "MADV_PAGEOUT") \
	X(POPULATE, "populate", 4, "MADV_POPULATE_READ or MADV_POPULATE_WRITE") \
	X(UNMAP, "unmap", 4, "munmap of an end, of the middle, of several mappings and the holes between") \
	X(MAP_FIXED, "map-fixed", 3, "mmap(MAP_FIXED) over restored memory") \
	X(PROTECT, "protect", 8, "mprotect of a part, for a while") \
	X(LOCK, "lock", 3, "mlock, mlock2(MLOCK_ONFAULT) or munlock") \
	X(BRK, "brk", 3, "brk down and up") \
	X(MOVE, "remap-move", 8, "mremap to where nothing is") \
	X(MOVE_PART, "remap-part", 6, "mremap of a part of a mapping") \
	X(MOVE_FIXED, "remap-fixed", 5, "mremap onto restored memory") \
	X(MOVE_DONTUNMAP, "remap-dontunmap", 5, "mremap that leaves the old range mapped") \
	X(GROW, "remap-grow", 4, "mremap that grows in place") \
	X(GROW_MOVE, "remap-grow-move", 4, "mremap that grows and moves") \
	X(SHRINK, "remap-shrink", 4, "mremap that shrinks") \
	X(SHRINK_MOVE, "remap-shrink-move", 4, "mremap that shrinks and moves, to where nothing is or onto restored memory") \
	X(ROTATE, "remap-rotate", 4, "three mremaps that exchange two ranges") \
	X(TAKEOVER, "remap-takeover", 4, "one thread moves a range away, another moves one to its place before the first is through") \
	X(MOVE_READ, "remap-read", 4, "mremap while another thread reads the range") \
	X(DISCARD_READ, "dontneed-read", 4, "MADV_DONTNEED while another thread reads the range") \
	X(BIG_DISCARD, "big-dontneed", 3, "MADV_DONTNEED of more than 4 GiB") \
	X(BIG_MOVE, "big-remap", 2, "mremap of more than 4 GiB") \
	X(BIG_READ, "big-read", 4, "reads and writes in the range of more than 4 GiB") \
	X(SHATTER, "shatter", 1, "mprotect of every other page") \
	X(FORK, "fork", 6, "fork; the child goes on with operations of its own") \
	X(FORK_EXIT, "fork-exit", 2, "fork; the child ends at once") \
	X(FORK_KILL, "fork-kill", 2, "fork; the child is killed in the middle of its changes") \
	X(FORK_EXEC, "fork-exec", 2, "fork; the child calls exec after its operations") \
	X(KILL, "kill", 1, "the process is killed in the middle of its changes") \
	X(EXEC, "exec", 1, "the process calls exec in the middle of what its threads and children do") \
	X(SYS_READ, "sys-read", 4, "read(2) into restored memory") \
	X(SYS_WRITE, "sys-write", 4, "write(2) from restored memory") \
	X(VM_READV, "vm-readv", 4, "process_vm_readv(2) of restored memory") \
	X(VMSPLICE, "vmsplice", 3, "vmsplice(2) of restored memory") \
	X(DIRECT, "direct", 3, "reads and writes of a file with O_DIRECT") \
	X(URING, "uring", 2, "io_uring with restored memory as a fixed buffer") \
	X(FUTEX, "futex", 3, "futex(2) on a word of restored memory") \
	X(PAUSE, "pause", 4, "sleeps for up to a millisecond") \
	X(PLANT_STALE, "plant-stale", 0, "plants a violation: a discarded page gets its old content back") \
	X(PLANT_FAILED, "plant-failed", 0, "plants a violation: memory that is to be there is not") \
	X(PLANT_ZERO, "plant-zero", 0, "plants a violation: the source has lost a page") \
	X(PLANT_WRONG, "plant-wrong", 0, "plants a violation: the source has another page in its place") \
	X(PLANT_TORN, "plant-torn", 0, "plants a violation: the source has one half of a page from elsewhere") \
	X(PLANT_LOST, "plant-lost", 0, "plants a violation: the source never answers for a page") \
	X(PLANT_UNFINISHED, "plant-unfinished", 0, "plants a violation: a child that nobody knows of lives on, and so does its space")

#define STRESS_OP_ID_(id, name, share, text) STRESS_OP_##id,
enum stress_kind { STRESS_OPS(STRESS_OP_ID_) STRESS_KINDS };

struct stress_kind_info {
	const char *name;
	unsigned share;
	const char *text;
};
extern const struct stress_kind_info thaw_stress_kinds[STRESS_KINDS];

int thaw_stress_kind_find(const char *name, unsigned len); /* -1: none */

/* One operation of a schedule; a, b, c are drawn once and taken modulo what there is to choose from at the time. */
struct stress_op {
	uint16_t kind, c;
	uint32_t a, b;
	int32_t child; /* the track of the child that it makes; -1: none */
};

#endif
