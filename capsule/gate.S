/* SPDX-License-Identifier: MIT */
/*
 * gate.S - what runs in every target at GATE_BASE: gate, stub, sites' code
 *
 * Calls made from here and from sites' code behind it are not traced (the
 * seccomp filter tests the instruction pointer). What the tracer injects runs
 * from the gate, and in the gate a thread waits for its forwarded call.
 *
 * The fast tier. A patched site jumps to its trampoline (guest/patch.h), and
 * from there to its site_code, which decides by number and descriptor: a call
 * that concerns the target alone is made there and then, what is the tracer's
 * goes back to the trampoline's own, traced `syscall`, and the rest comes here,
 * to the stub. It takes a lane, puts all of the program's registers there,
 * decides the rest in C on the lane's stack, and either publishes a request
 * and waits for it as for the tracer's, or goes back without one. Where its lane
 * has no executor the C code moves to one that has, before it does anything else.
 *
 * The arithmetic flags are kept without a stack, as lahf and seto leave them in
 * ax: bits 8..15 are bits 0..7 of rflags, bit 0 is OF. In site_code they go to
 * r11 and back by way of rax, which is in rcx meanwhile.
 *
 * The program's stack is never touched, nor is any register but those that
 * `syscall` changes, until everything is in the lane. What there is of state at
 * each instruction is known to the tracer (guest/stub.c), which may find a
 * signal anywhere: so no label and no byte of site_code, of the search for a
 * lane and of leaving moves without it. No vector register is used.
 */
#include <asm/unistd_64.h>
#include "abi.h"
#include "batch.inc"

#define LANE(i) (gate + (SLOT_BASE - GATE_BASE) + (LANE_FIRST + (i)) * SLOT_STRIDE)

/* C code runs with DF clear; what the program has is in SLOT_RFLAGS. */
	.macro RESTORE_DF
	testl	$0x400, SLOT_RFLAGS(%r12)
	jz	.Ldf\@
	std
.Ldf\@:
	.endm

	.section .note.GNU-stack, "", @progbits
	.text
	.globl	_start
_start:
gate:
	.long	gate_wait - gate
	.long	gate_one - gate
	.long	gate_batch - gate
	.long	leave - gate
	.long	left - gate
	.long	gate_finish - gate
	.long	gate_finished - gate
	.long	stub - gate
	.long	stub_taken0 - stub
	.long	stub_r12_0 - stub
	.long	stub_refuse - gate
	.long	stub_enter - gate
	.long	stub_saved - gate
	.long	stub_flags - gate
	.long	stub_moved - gate
	.long	stub_let_go - gate
	.long	stub_commit - gate
	.long	stub_published - gate
	.long	stub_undone - gate
	.long	stub_done - gate
	.long	stub_back - gate
	.long	stub_trap - gate
	.long	stub_end - gate
	.long	site_code - gate
	.long	site_entry - site_code
	.long	site_save_rcx - site_code
	.long	site_saved - site_code
	.long	site_local - site_code
	.long	site_local_rcx - site_code
	.long	site_local_flags - site_code
	.long	site_call - site_code
	.long	site_called - site_code
	.long	site_more - site_code
	.long	site_refuse - site_code
	.long	site_refuse_rcx - site_code
	.long	site_refuse_flags - site_code
	.long	site_refused - site_code
	.long	site_stub - site_code
	.long	site_leave_trap - site_code
	.long	site_leave_local - site_code
	.long	site_leave_done - site_code
	.long	site_end - site_code
	.long	gate_end - gate

/*
 * r12: slot, which holds the program's registers; rbx, rbp and r13-r15 are
 * still the program's. The request has been published.
 */
	.align	64
gate_wait:
	mov	SLOT_SPIN(%r12), %eax
	mov	SLOT_REQ_SEQ(%r12), %esi
	and	$-2, %esi
1:	mov	SLOT_RESP_SEQ(%r12), %edx
	and	$-2, %edx
	cmp	%esi, %edx
	je	gate_answered
	dec	%eax
	js	2f
	pause
	jmp	1b

	/* It takes long: look for less long next time, and sleep. As long as
	 * the answer to a request that found its executor looking takes,
	 * sleep does not pay. */
2:	mov	SLOT_SPIN(%r12), %eax
	mov	SLOT_SPIN_MAX(%r12), %edx
	shr	$2, %eax
	shr	$6, %edx
	cmp	%edx, %eax
	cmovb	%edx, %eax
	mov	%eax, SLOT_SPIN(%r12)
gate_sleep:
	xor	%r10d, %r10d			/* no timeout, or the pause */
	cmp	%r10, SLOT_PAUSE_NS(%r12)
	je	1f
	lea	SLOT_PAUSE(%r12), %r10
	mov	SLOT_RESP_SEQ(%r12), %edx
	jmp	2f
1:	mov	$CPUNODE_SEGMENT, %ecx
	lsl	%ecx, %ecx
	and	$0xfff, %ecx
	inc	%ecx
	mov	%ecx, SLOT_CPU(%r12)
	lock btsl $0, SLOT_RESP_SEQ(%r12)
	mov	SLOT_RESP_SEQ(%r12), %edx
2:	mov	SLOT_REQ_SEQ(%r12), %esi
	xor	%edx, %esi
	cmp	$1, %esi			/* alike but for bit 0 */
	jbe	gate_answered_late
	lea	SLOT_RESP_SEQ(%r12), %rdi
	xor	%esi, %esi			/* FUTEX_WAIT */
	mov	$__NR_futex, %eax
	syscall					/* any result: look again */
	mov	SLOT_PAUSE_NS(%r12), %rax
	cmp	$SLOT_PAUSE_MAX_NS, %rax
	jae	gate_sleep
	mov	%rax, %rdx			/* the next one is longer */
	shr	$3, %rdx
	add	%rdx, %rax
	mov	%rax, SLOT_PAUSE_NS(%r12)
	jmp	gate_sleep

gate_answered:
	mov	SLOT_SPIN(%r12), %eax		/* to have looked was right */
	lea	16(%rax,%rax), %eax
	cmp	SLOT_SPIN_MAX(%r12), %eax
	cmova	SLOT_SPIN_MAX(%r12), %eax
	mov	%eax, SLOT_SPIN(%r12)
gate_answered_late:
	cmpl	$0, SLOT_POST(%r12)
	jne	gate_stop
	cmpl	$0, SLOT_SIGNAL(%r12)
	jne	gate_stop
	mov	SLOT_RESULT(%r12), %rax
	mov	%rax, SLOT_VALUE(%r12)
	cmpl	$STAGE_NONE, SLOT_STAGE(%r12)
	je	leave
gate_finish:
	mov	%r12, %rdi
	cld
	call	stub_finish
gate_finished:
	RESTORE_DF
	cmpl	$0, SLOT_POST(%r12)
	jne	gate_stop

/* All that the program had, with SLOT_VALUE as its rax; on at SLOT_RIP. */
leave:
	mov	SLOT_RDI(%r12), %rdi
	mov	SLOT_RSI(%r12), %rsi
	mov	SLOT_RDX(%r12), %rdx
	mov	SLOT_R10(%r12), %r10
	mov	SLOT_R8(%r12), %r8
	mov	SLOT_R9(%r12), %r9
	mov	SLOT_RSP(%r12), %rsp
	cmpq	$0, SLOT_SITE(%r12)
	jne	1f
	mov	SLOT_FLAGS(%r12), %rax
	add	$0x7f, %al
	sahf
	mov	SLOT_VALUE(%r12), %rax
	mov	SLOT_RIP(%r12), %rcx
	mov	SLOT_RFLAGS(%r12), %r11
	mov	SLOT_R12(%r12), %r12
	jmp	*%rcx

1:	mov	SLOT_FLAGS(%r12), %rax
	add	$0x7f, %al
	sahf
	mov	SLOT_VALUE(%r12), %rax
	mov	SLOT_RFLAGS(%r12), %rcx
	mov	%r12, %r11
	mov	SLOT_R12(%r11), %r12
	jmp	*SLOT_RIP(%r11)			/* one of site_leave */
left:

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

/* --- the stub -------------------------------------------------------------- */

	.align	64
stub:
	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
stub_lane\i:
	cmpl	$0, LANE(\i) + SLOT_FREE(%rip)
	je	1f
	lock btrl $0, LANE(\i) + SLOT_FREE(%rip)
stub_taken\i:
	jnc	1f
	mov	%r12, LANE(\i) + SLOT_R12(%rip)
	lea	LANE(\i)(%rip), %r12
stub_r12_\i:
	jmp	stub_enter
	.balign	STUB_LANE_SIZE
1:
	.endr
stub_refuse:
	add	$(site_refuse - site_code), %rcx
	jmp	*%rcx

stub_enter:
	mov	%rdi, SLOT_RDI(%r12)
	mov	%rsi, SLOT_RSI(%r12)
	mov	%rdx, SLOT_RDX(%r12)
	mov	%r10, SLOT_R10(%r12)
	mov	%r8, SLOT_R8(%r12)
	mov	%r9, SLOT_R9(%r12)
	mov	%rsp, SLOT_RSP(%r12)
	mov	%rbx, SLOT_RBX(%r12)
	mov	%rbp, SLOT_RBP(%r12)
	mov	%r13, SLOT_R13(%r12)
	mov	%r14, SLOT_R14(%r12)
	mov	%r15, SLOT_R15(%r12)
	mov	%r11, SLOT_FLAGS(%r12)
	mov	%rax, SLOT_VALUE(%r12)
	mov	%rcx, SLOT_SITE(%r12)
	movl	$STAGE_NONE, SLOT_STAGE(%r12)
	movl	$0, SLOT_MOVED(%r12)
stub_saved:
	lea	SLOT_STRIDE(%r12), %rsp
	mov	%eax, SLOT_NR(%r12)
	mov	%rdi, SLOT_ARGS + 0(%r12)
	mov	%rsi, SLOT_ARGS + 8(%r12)
	mov	%rdx, SLOT_ARGS + 16(%r12)
	mov	%r10, SLOT_ARGS + 24(%r12)
	mov	%r8, SLOT_ARGS + 32(%r12)
	mov	%r9, SLOT_ARGS + 40(%r12)
	/* rflags: what lahf and seto have seen, and the rest as it is now. */
	pushfq
	pop	%rdx
	and	$~0x8d5, %edx
	mov	%r11d, %eax
	movzbl	%ah, %ecx
	or	%ecx, %edx
	movzbl	%al, %eax
	shl	$11, %eax
	or	%eax, %edx
	mov	%rdx, SLOT_RFLAGS(%r12)
	mov	%r12, %rdi
stub_flags:
	cld
	call	stub_decide
	cmp	%r12, %rdx
	je	1f
	mov	%r12, %rcx
	lea	SLOT_STRIDE(%rdx), %rsp
stub_moved:
	mov	%rdx, %r12
	movl	$0, SLOT_FREE(%r12)		/* nobody's any more */
	movl	$1, SLOT_FREE(%rcx)
stub_let_go:
1:	RESTORE_DF
	cmp	$DECIDED_LOCAL, %eax
	je	stub_local
	jb	stub_trap
	mov	SLOT_SITE(%r12), %rcx
	add	$(site_leave_done - site_code), %rcx
	mov	%rcx, SLOT_RIP(%r12)
	cmp	$DECIDED_DONE, %eax
	je	stub_done
stub_commit:
	cmpl	$0, SLOT_POST(%r12)
	jne	stub_undone
	mov	SLOT_REQ_SEQ(%r12), %eax
	and	$-2, %eax
	add	$2, %eax
	xchg	%eax, SLOT_REQ_SEQ(%r12)
stub_published:
	test	$1, %al
	jz	gate_wait
	cmpq	$0, SLOT_PAUSE_NS(%r12)		/* the executor sleeps, */
	jne	gate_stop			/* in a VM on the host's side */
	lea	SLOT_REQ_SEQ(%r12), %rdi
	mov	$1, %esi			/* FUTEX_WAKE */
	mov	$1, %edx
	mov	$__NR_futex, %eax
	syscall
	jmp	gate_wait

	/* A signal is held: the tracer makes the call. */
stub_undone:
	mov	%r12, %rdi
	cld
	call	stub_undo
	RESTORE_DF
	jmp	stub_trap

stub_done:
	cmpl	$0, SLOT_POST(%r12)
	jne	gate_stop
	jmp	leave
stub_back:
stub_local:
	mov	SLOT_SITE(%r12), %rcx
	add	$(site_leave_local - site_code), %rcx
	mov	%rcx, SLOT_RIP(%r12)
	jmp	leave
stub_trap:
	mov	SLOT_SITE(%r12), %rcx
	add	$(site_leave_trap - site_code), %rcx
	mov	%rcx, SLOT_RIP(%r12)
	jmp	leave
stub_end:

/* --- a patched site -------------------------------------------------------- */

	.align	64
site_code:
site_after:	.quad	0			/* struct site_code */
site_trap:	.quad	0
site_rip:	.quad	0
site_class:	.quad	0
site_fds:	.quad	0
site_to_stub:	.quad	0

site_entry:
	mov	%rax, %rcx
site_save_rcx:
	lahf
	seto	%al
	movzwl	%ax, %r11d
	mov	%rcx, %rax
site_saved:
	cmp	$STUB_NRS, %rax
	jae	site_refuse
	mov	site_class(%rip), %rcx
	movzbl	(%rcx,%rax), %ecx
	cmp	$STUB_FD, %ecx
	jb	site_local
	ja	site_more
	cmp	$STUB_FDS, %edi
	jae	site_refuse
	mov	site_fds(%rip), %rcx
	bt	%edi, (%rcx)
	jc	site_stub
site_local:
	mov	%rax, %rcx
site_local_rcx:
	mov	%r11d, %eax
	add	$0x7f, %al
	sahf
site_local_flags:
	mov	%rcx, %rax
site_call:
	syscall
site_called:
	mov	site_rip(%rip), %rcx
	jmp	*site_after(%rip)

site_more:
	cmp	$STUB_TRAP, %ecx
	jne	site_stub
site_refuse:
	mov	%rax, %rcx
site_refuse_rcx:
	mov	%r11d, %eax
	add	$0x7f, %al
	sahf
site_refuse_flags:
	mov	%rcx, %rax
site_refused:
	jmp	*site_trap(%rip)

site_stub:
	lea	site_code(%rip), %rcx
	jmp	*site_to_stub(%rip)

site_leave_trap:
	movl	$1, SLOT_FREE(%r11)
	jmp	*site_trap(%rip)
site_leave_local:
	movl	$1, SLOT_FREE(%r11)
	jmp	site_call
site_leave_done:
	movl	$1, SLOT_FREE(%r11)
	mov	%rcx, %r11
	jmp	site_called
site_end:
	.org	site_code + SITE_CODE_SIZE
gate_end:
