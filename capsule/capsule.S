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
 * An executor: r12 slot, r13d the last req_seq seen, r15d a signal (abi.h).
 * Every field of the slot is read once: the target may change it meanwhile.
 */
#include <asm/unistd_64.h>
#include "abi.h"
#include "batch.inc"

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
	mov	SLOT_REQ_SEQ(%r12), %r14d
	cmp	%r13d, %r14d
	jne	1f
	lea	SLOT_REQ_SEQ(%r12), %rdi
	xor	%esi, %esi			/* FUTEX_WAIT */
	mov	%r13d, %edx
	xor	%r10d, %r10d			/* no timeout */
	mov	$__NR_futex, %eax
	syscall
	jmp	executor

1:	mov	%r14d, %r13d
executor_taken:
	mov	SLOT_OP(%r12), %ebp
	mov	SLOT_NEWFD(%r12), %ebx
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
	cmp	$SLOT_OPEN, %ebp
	jne	respond
	cmp	$-4095, %rax
	jae	respond

	/* A new descriptor: move it to the number that the target chose. */
	mov	%eax, %r14d
	cmp	%eax, %ebx
	je	respond
	mov	%eax, %edi
	mov	%ebx, %esi
	xor	%edx, %edx
	mov	$__NR_dup3, %eax
	syscall
	mov	%rax, %r8
	mov	%r14d, %edi
	mov	$__NR_close, %eax
	syscall
	mov	%r8, %rax
	jmp	respond

/*
 * The number must never be free, or another thread's new descriptor could
 * land there: replace it by a filler, then close the last copy, whose result
 * (EIO, EDQUOT) is what close(2) reports.
 */
close_and_fill:
	mov	%ebx, %edi
	mov	$__NR_dup, %eax
	syscall
	cmp	$-4095, %rax
	jae	respond
	mov	%eax, %r14d
	mov	$SHADOW_FD_FILLER, %edi
	mov	%ebx, %esi
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
	mov	%r13d, SLOT_RESP_SEQ(%r12)	/* publishes the result */
	lea	SLOT_RESP_SEQ(%r12), %rdi
	mov	$1, %esi			/* FUTEX_WAKE */
	mov	$1, %edx
	mov	$__NR_futex, %eax
	syscall
	jmp	executor
capsule_end:
