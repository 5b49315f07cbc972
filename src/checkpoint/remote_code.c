// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/remote_code.c - the machine code that runs batches in another process */
#include "config.h"
#include "checkpoint/remote_code.h"

#include <assert.h>

#include "checkpoint/remote.h"

/* The offsets that the code below has in it. */
static_assert(sizeof(struct thaw_call) == 72, "size of a call");
static_assert(offsetof(struct thaw_call, result) == 56, "place of the result");
static_assert(offsetof(struct thaw_call, flags) == 64, "place of the flags");
static_assert(offsetof(struct thaw_remote_control, done) == 8, "place of done");
static_assert(offsetof(struct thaw_remote_control, naps) == 12, "place of naps");
static_assert(offsetof(struct thaw_remote_control, nap) == 16, "place of the nap");
static_assert(offsetof(struct thaw_remote_control, frame_sp) == 32, "place of the frame");

/* Position independent, uses no stack, keeps rbx, rbp, r12 over system calls. When all calls are made it says so and naps
 * with select(), which is restarted by itself (other sleeps would overwrite the thread's own restart block). After `naps`
 * of them nobody is there any more: it goes back to where the thread was. */
__asm__(".pushsection .rodata\n"
	".balign 16\n"
	".global thaw_remote_code\n"
	".hidden thaw_remote_code\n"
	"thaw_remote_code:\n"
	"1:	cmp %r12, %rbx\n"
	"	jae 3f\n"
	"	mov (%rbx), %rax\n"
	"	mov 8(%rbx), %rdi\n"
	"	mov 16(%rbx), %rsi\n"
	"	mov 24(%rbx), %rdx\n"
	"	mov 32(%rbx), %r10\n"
	"	mov 40(%rbx), %r8\n"
	"	mov 48(%rbx), %r9\n"
	"	syscall\n"
	"	mov %rax, 56(%rbx)\n"
	"	testl $1, 64(%rbx)\n"
	"	jz 2f\n"
	"	cmp $-4095, %rax\n"
	"	jae 3f\n"
	"2:	add $72, %rbx\n"
	"	jmp 1b\n"
	"3:	mov %rbx, (%rbp)\n"
	"	movl $1, 8(%rbp)\n"
	"4:	movq $0, 16(%rbp)\n"
	"	movq $20000, 24(%rbp)\n"
	"	xor %edi, %edi\n"
	"	xor %esi, %esi\n"
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	lea 16(%rbp), %r8\n"
	"	mov $23, %eax\n" /* select(0, NULL, NULL, NULL, 20 ms) */
	"	syscall\n"
	"	decl 12(%rbp)\n"
	"	jnz 4b\n"
	"	mov 32(%rbp), %rsp\n"
	"	mov $15, %eax\n" /* rt_sigreturn */
	"	syscall\n"
	"	hlt\n"
	".global thaw_remote_code_end\n"
	".hidden thaw_remote_code_end\n"
	"thaw_remote_code_end:\n"
	".popsection\n");
