/* SPDX-License-Identifier: MIT */
/*
 * gate.S - the page at GATE_BASE in every target
 *
 * Calls made from this page are not traced (the seccomp filter tests the
 * instruction pointer), so what the tracer injects runs from here, and here a
 * thread waits for its forwarded call. Position independent, no stack, no
 * vector register; whatever register is used is given back to the program by
 * gate_leave or by the tracer.
 */
#include <asm/unistd_64.h>
#include "abi.h"
#include "batch.inc"

	.section .note.GNU-stack, "", @progbits
	.text
	.globl	_start
_start:
gate:
	.long	gate_wait - gate
	.long	gate_one - gate
	.long	gate_batch - gate
	.long	gate_end - gate

/*
 * r12: slot. The tracer has published the request and saved the program's
 * registers in the slot; rbx, rbp, r8, r9, r13-r15 and rsp still hold the
 * program's values.
 */
	.align	16
gate_wait:
	mov	SLOT_RESP_SEQ(%r12), %edx
	cmp	SLOT_REQ_SEQ(%r12), %edx
	je	gate_leave
	mov	SLOT_SPIN(%r12), %eax
	test	%eax, %eax
	jz	1f
	dec	%eax
	mov	%eax, SLOT_SPIN(%r12)
	pause
	jmp	gate_wait

1:	lea	SLOT_RESP_SEQ(%r12), %rdi
	xor	%esi, %esi			/* FUTEX_WAIT */
	xor	%r10d, %r10d			/* no timeout, or the pause */
	cmp	%r10, SLOT_PAUSE_NS(%r12)
	je	2f
	lea	SLOT_PAUSE(%r12), %r10
2:	mov	$__NR_futex, %eax
	syscall					/* any result: look again */
	mov	SLOT_PAUSE_NS(%r12), %rax
	cmp	$SLOT_PAUSE_MAX_NS, %rax
	jae	gate_wait
	mov	%rax, %rdx			/* the next one is longer */
	shr	$3, %rdx
	add	%rdx, %rax
	mov	%rax, SLOT_PAUSE_NS(%r12)
	jmp	gate_wait

gate_leave:
	cmpl	$0, SLOT_POST(%r12)
	jne	gate_stop
	cmpl	$0, SLOT_SIGNAL(%r12)
	jne	gate_stop
	mov	SLOT_REGS + 0(%r12), %rdi
	mov	SLOT_REGS + 8(%r12), %rsi
	mov	SLOT_REGS + 16(%r12), %rdx
	mov	SLOT_REGS + 24(%r12), %r10
	mov	SLOT_REGS + 40(%r12), %rcx	/* where the program goes on, */
	mov	SLOT_REGS + 48(%r12), %r11	/* and rflags: as after syscall */
	/* The arithmetic flags without a stack: OF by an addition, the rest by
	 * sahf, which leaves OF alone. */
	mov	%r11d, %eax
	mov	%al, %ah
	bt	$11, %r11d
	setc	%al
	add	$0x7f, %al
	sahf
	mov	SLOT_RESULT(%r12), %rax
	mov	SLOT_REGS + 32(%r12), %r12
	jmp	*%rcx

gate_stop:
	mov	$MAGIC_STOP, %eax
	syscall
	ud2

/* Number and arguments in registers; at the stop r14 is the result. */
	.align	16
gate_one:
	syscall
	mov	%rax, %r14
	mov	$MAGIC_STOP, %eax
	syscall
	ud2

	.align	16
gate_batch:
	RUN_BATCH
gate_end:
