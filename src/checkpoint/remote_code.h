/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/remote_code.h - the machine code that runs batches in another process, and the layout of its work area.
 *
 * Area:  [code page, read and execute][control page, then the heal frame][table of calls][data]
 * Entry: rbx first call, r12 end of the calls, rbp control block
 * Threads   immutable */
#ifndef THAW_CHECKPOINT_REMOTE_CODE_H
#define THAW_CHECKPOINT_REMOTE_CODE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define THAW_REMOTE_AREA_MIN (64u << 10)
#define THAW_REMOTE_CONTROL 4096u       /* offset of the control block */
#define THAW_REMOTE_FRAME (4096u + 256) /* offset of the heal frame */
#define THAW_REMOTE_TABLE (7 * 4096u)   /* offset of the calls */

struct thaw_remote_control {
	uint64_t at;        /* out: the call that ended the batch, or the end of the table */
	uint32_t done;      /* out: 1 when the batch has ended */
	uint32_t naps;      /* how many naps until the thread puts itself back; 0: never */
	int64_t nap[2];     /* struct timeval, scratch */
	uint64_t frame_sp;  /* stack pointer for rt_sigreturn */
};

extern const unsigned char thaw_remote_code[];
extern const unsigned char thaw_remote_code_end[];
static inline size_t thaw_remote_code_len(void)
{
	return (size_t)(thaw_remote_code_end - thaw_remote_code);
}

struct thaw_remote_saved;
struct user_regs_struct;
/* Does what the kernel would do about an interrupted system call, for ways back on which it does nothing. */
void thaw_remote_resolve_restart(struct user_regs_struct *regs);

/* Builds the signal frame for address `at` that brings the stopped thread tid back to what `s` says. *altstack: where in
 * the process the batch has to put the alternate stack (struct stack_t) first. Returns the frame's stack pointer (0: the
 * frame does not fit in `room`, there is no way back) or -errno. */
int thaw_remote_frame(pid_t tid, const struct thaw_remote_saved *s, uint64_t at, void *buf, size_t room, uint64_t *sp,
		      uint64_t *altstack);

#endif
