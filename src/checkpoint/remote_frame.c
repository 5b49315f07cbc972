// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/remote_frame.c - a signal frame that brings a borrowed thread back without us */
#include "config.h"
#include "checkpoint/remote_code.h"

#include <asm/sigcontext.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "checkpoint/remote.h"
#include "checkpoint/tracee.h"
#include "util/err.h"

#define SW_OFFSET 464        /* of struct _fpx_sw_bytes in the legacy area */
#define XSTATE_BV_OFFSET 512 /* of the xsave header */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define UC_FP_XSTATE 1
#define UC_STRICT_RESTORE_SS 4

struct frame_stack {
	uint64_t sp;
	int32_t flags;
	uint64_t size;
};

/* What the kernel reads at rt_sigreturn, from the word before the stack pointer on. */
struct frame {
	uint64_t pretcode;
	uint64_t uc_flags, uc_link;
	struct frame_stack uc_stack;
	struct sigcontext_64 mc;
	uint64_t uc_sigmask;
};

/* A sleep with a restart block starts anew: its remaining time went with us. One that was restarted before cannot. */
void thaw_remote_resolve_restart(struct user_regs_struct *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return;
	switch (-(int64_t)regs->rax) {
	case ERESTART_RESTARTBLOCK:
		if (regs->orig_rax == SYS_restart_syscall) {
			regs->rax = (uint64_t)-EINTR;
			break;
		}
		__attribute__((fallthrough));
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
		regs->rax = regs->orig_rax;
		regs->rip -= 2;
		break;
	}
	regs->orig_rax = ~0ULL;
}

static void fill_context(struct user_regs_struct copy, struct sigcontext_64 *mc)
{
	const struct user_regs_struct *regs = &copy;

	thaw_remote_resolve_restart(&copy); /* rt_sigreturn restarts nothing */
	mc->r8 = regs->r8;
	mc->r9 = regs->r9;
	mc->r10 = regs->r10;
	mc->r11 = regs->r11;
	mc->r12 = regs->r12;
	mc->r13 = regs->r13;
	mc->r14 = regs->r14;
	mc->r15 = regs->r15;
	mc->di = regs->rdi;
	mc->si = regs->rsi;
	mc->bp = regs->rbp;
	mc->bx = regs->rbx;
	mc->dx = regs->rdx;
	mc->ax = regs->rax;
	mc->cx = regs->rcx;
	mc->sp = regs->rsp;
	mc->ip = regs->rip;
	mc->flags = regs->eflags;
	mc->cs = (__u16)regs->cs;
	mc->ss = (__u16)regs->ss;
}

/* The xsave area of a signal frame is that of ptrace with a header in its software bytes and a word behind. */
static int fill_xstate(pid_t tid, unsigned char *x, size_t room, size_t *len)
{
	struct iovec iov = { x, (room - 4) & ~(size_t)7 };
	struct _fpx_sw_bytes sw;
	uint32_t magic2 = FP_XSTATE_MAGIC2;
	int r;

	r = thaw_tracee_ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, (uintptr_t)&iov);
	if (r < 0)
		return r;
	memset(&sw, 0, sizeof(sw));
	sw.magic1 = FP_XSTATE_MAGIC1;
	sw.extended_size = (uint32_t)iov.iov_len + 4;
	sw.xstate_size = (uint32_t)iov.iov_len;
	memcpy(&sw.xfeatures, x + SW_OFFSET, 8); /* ptrace puts XCR0 there */
	memcpy(x + SW_OFFSET, &sw, sizeof(sw));
	memcpy(x + iov.iov_len, &magic2, 4);
	*len = iov.iov_len + 4;
	return 0;
}

int thaw_remote_frame(pid_t tid, const struct thaw_remote_saved *s, uint64_t at, void *buf, size_t room, uint64_t *sp,
		      uint64_t *altstack)
{
	uint64_t x_at = (at + sizeof(struct frame) + 63) & ~63ULL;
	struct frame *f = buf;
	size_t x_len;
	int r;

	*sp = 0;
	memset(buf, 0, room);
	r = fill_xstate(tid, (unsigned char *)buf + (x_at - at), room - (x_at - at), &x_len);
	if (r < 0)
		return r;
	if (x_at - at + x_len >= room) /* a state larger than any so far: then there is no way back by itself */
		return 0;
	fill_context(s->regs, &f->mc);
	f->uc_flags = UC_FP_XSTATE | UC_STRICT_RESTORE_SS;
	f->uc_sigmask = s->sigmask;
	f->mc.fpstate = x_at;
	*altstack = at + offsetof(struct frame, uc_stack);
	*sp = at + 8; /* the return address has been popped when a handler ends */
	return 0;
}
