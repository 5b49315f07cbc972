// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_ahead.c - words that the kernel reads or writes itself without waiting for their pages: they are there before
 *
 * Each is read here, which waits for the monitor. An address that cannot be read is the program's own affair. */
#include "config.h"
#include "checkpoint/restore.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#include "kern/sys.h"

static bool bring(const struct thaw_restore *r, uint64_t at, void *buf, size_t len)
{
	return thaw_sys_vm_read(r->pid, at, buf, len) == 0;
}

static void bring_word(const struct thaw_restore *r, uint64_t at)
{
	uint32_t word;

	if (at)
		bring(r, at, &word, sizeof(word));
}

/* The word of a PI futex: FUTEX_LOCK_PI that is made again would fail with EFAULT. */
static void bring_futex(const struct thaw_restore *r, const struct user_regs_struct *regs)
{
	if (regs->orig_rax != SYS_futex)
		return;
	bring_word(r, regs->rdi);
	bring_word(r, regs->r8); /* the second one, of FUTEX_WAIT_REQUEUE_PI */
}

/* What the kernel does for a thread that ends: it marks the robust futexes that the thread holds, and clears a word. Where a page is
 * missing it leaves that, and who waits for it does so for ever. The list is followed as the kernel does, and as far. What a thread
 * enters later it writes to, and to its neighbours in the list. */
static void bring_robust(const struct thaw_restore *r, uint64_t head_at)
{
	struct robust_list_head head;
	uint64_t at;

	if (!head_at || !bring(r, head_at, &head, sizeof(head)))
		return;
	if (head.list_op_pending)
		bring_word(r, ((uint64_t)head.list_op_pending & ~1ULL) + (uint64_t)head.futex_offset);
	at = (uint64_t)head.list.next & ~1ULL; /* bit 0: with priority inheritance */
	for (int n = 0; n < ROBUST_LIST_LIMIT && at != head_at; n++) {
		struct robust_list entry;

		if (!bring(r, at, &entry, sizeof(entry)))
			return;
		bring_word(r, at + (uint64_t)head.futex_offset);
		at = (uint64_t)entry.next & ~1ULL;
	}
}

void thaw_restore_bring_ahead(const struct thaw_restore *r, const ThawState__Thread *t, const struct user_regs_struct *regs)
{
	if (r->o.eager)
		return;
	bring_futex(r, regs);
	bring_robust(r, t->robust_list);
	bring_word(r, t->clear_child_tid);
}
