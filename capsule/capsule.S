/* SPDX-License-Identifier: MIT */
/*
 * capsule.S - everything that runs inside a shadow
 *
 * One page of text at CAPSULE_BASE, the daemon's read-only page behind it, and
 * guest memory: nothing else is mapped, and nothing of it is writable and
 * ours. State is in registers. All of it is position independent, so moving
 * the capsule means moving its pages and adding a number to each thread's
 * instruction pointer.
 *
 * Leader and mapper are always stopped under ptrace between their calls; the
 * daemon injects those at capsule_syscall, or as a table at capsule_batch.
 * Executors run on their own.
 *
 * An executor: r12 slot, r13d the last req_seq seen, r15d a signal (abi.h), rsp
 * how often it looks for a request before it sleeps, an odd number where its
 * target is in a VM, and rbx how often this time: not at all where the last one
 * was long in coming. Every field of the slot is read once: the target may
 * change it meanwhile.
 */
#include <asm/unistd_64.h>
#include "abi.h"
#include "batch.inc"

#define F_GETFD	1	/* fcntl.h is not for assembly */

	.section .note.GNU-stack, "", @progbits
	.text
	.globl	_start
capsule:
	.long	capsule_syscall - capsule
	.long	capsule_batch - capsule
	.long	executor - capsule
	.long	executor_taken - capsule
	.long	executor_called - capsule
	.long	capsule_exit - capsule
	.long	capsule_end - capsule

_start:
	ud2			/* the daemon takes over at the exec stop */

	.align	16
capsule_syscall:
	syscall
	ud2

	.align	16
capsule_batch:
	RUN_BATCH

	.align	16
capsule_exit:
	xor	%edi, %edi
	mov	$__NR_exit, %eax
	syscall
	ud2

	.align	64
executor:
	mov	%rbx, %r14
1:	mov	SLOT_REQ_SEQ(%r12), %eax
	and	$-2, %eax
	cmp	%r13d, %eax
	jne	executor_take
	dec	%r14
	js	executor_sleep
	pause
	jmp	1b

executor_sleep:
	rdtsc
	shl	$32, %rdx
	lea	(%rdx,%rax), %r14		/* when */
	mov	$EXECUTOR_SOON, %ebp
	mov	$EXECUTOR_SOON_VM, %eax
	test	$1, %spl
	cmovnz	%eax, %ebp
	mov	%ebp, %eax
	shr	$2, %eax
	test	%rbx, %rbx			/* looked for in vain? */
	cmovnz	%eax, %ebp
	lock btsl $0, SLOT_REQ_SEQ(%r12)
1:	mov	SLOT_REQ_SEQ(%r12), %edx
	mov	%edx, %eax
	and	$-2, %eax
	cmp	%r13d, %eax
	jne	2f
	lea	SLOT_REQ_SEQ(%r12), %rdi
	xor	%esi, %esi			/* FUTEX_WAIT */
	xor	%r10d, %r10d			/* no timeout */
	mov	$__NR_futex, %eax
	syscall
	jmp	1b

2:	mov	%eax, %ecx
	rdtsc
	shl	$32, %rdx
	add	%rdx, %rax
	sub	%r14, %rax
	xor	%ebx, %ebx
	cmp	%rbp, %rax
	cmovb	%rsp, %rbx
	mov	%ecx, %eax

executor_take:
	mov	%eax, %r13d
executor_taken:
	mov	SLOT_OP(%r12), %ebp
	cmp	$SLOT_CLOSE, %ebp
	je	close_and_fill
	mov	SLOT_NR(%r12), %eax
	mov	SLOT_ARGS + 0(%r12), %rdi
	mov	SLOT_ARGS + 8(%r12), %rsi
	mov	SLOT_ARGS + 16(%r12), %rdx
	mov	SLOT_ARGS + 24(%r12), %r10
	mov	SLOT_ARGS + 32(%r12), %r8
	mov	SLOT_ARGS + 40(%r12), %r9
	syscall
executor_called:
	test	%ebp, %ebp			/* SLOT_CALL */
	jz	respond
	cmp	$-4095, %rax
	jae	respond
	cmp	$SLOT_OPEN, %ebp
	jne	look_for_fresh

	/* A new descriptor: move it to the number that the target chose. */
	mov	SLOT_NEWFD(%r12), %esi
	mov	%eax, %r14d
	cmp	%eax, %esi
	je	respond
	mov	%eax, %edi
	xor	%edx, %edx
	mov	$__NR_dup3, %eax
	syscall
	mov	%rax, %r8
	mov	%r14d, %edi
	mov	$__NR_close, %eax
	syscall
	mov	%r8, %rax
	jmp	respond

/* Are the numbers that were free still free? */
look_for_fresh:
	mov	%rax, %r14
	mov	SLOT_NEWFD(%r12), %ebp
	mov	%ebp, %r8d
	shr	$SLOT_MAKES_COUNT, %r8d
	and	$(1 << SLOT_MAKES_COUNT) - 1, %ebp
1:	dec	%r8d
	js	2f
	mov	%ebp, %edi
	mov	$F_GETFD, %esi
	mov	$__NR_fcntl, %eax
	syscall
	inc	%ebp
	test	%eax, %eax
	js	1b
	or	$SLOT_FRESH, %r15d
2:	mov	%r14, %rax
	jmp	respond

/*
 * The number must never be free, or another thread's new descriptor could
 * land there: replace it by a filler, then close the last copy, whose result
 * (EIO, EDQUOT) is what close(2) reports.
 */
close_and_fill:
	mov	SLOT_NEWFD(%r12), %ebp
	mov	%ebp, %edi
	mov	$__NR_dup, %eax
	syscall
	cmp	$-4095, %rax
	jae	respond
	mov	%eax, %r14d
	mov	$SHADOW_FD_FILLER, %edi
	mov	%ebp, %esi
	xor	%edx, %edx
	mov	$__NR_dup3, %eax
	syscall
	mov	%r14d, %edi
	mov	$__NR_close, %eax
	syscall

respond:
	mov	%r15d, SLOT_SIGNAL(%r12)
	mov	%rax, SLOT_RESULT(%r12)
	xor	%r15d, %r15d
	mov	%r13d, %eax
	xchg	%eax, SLOT_RESP_SEQ(%r12)	/* publishes the result */
	test	$1, %al
	jz	executor
	lea	SLOT_RESP_SEQ(%r12), %rdi	/* the target sleeps */
	mov	$1, %esi			/* FUTEX_WAKE: all, as a watch of
						 * the tracer's may be one */
	mov	$0x7fffffff, %edx
	mov	$__NR_futex, %eax
	syscall
	mov	$__NR_sched_yield, %eax		/* it may need this very core */
	syscall
	jmp	executor
capsule_end:
