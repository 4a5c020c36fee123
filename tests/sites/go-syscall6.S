/* SPDX-License-Identifier: MIT */
/* Go: Syscall6 of internal/runtime/syscall, its number in rax */
	.text
	.fill	64, 1, 0x90
	mov	%rsi, %r10
	mov	%rdi, %rdx
	mov	%rcx, %rsi
	mov	%rbx, %rdi
site:	syscall
	cmp	$-4095, %rax
	jbe	1f
	neg	%rax
	mov	%rax, %rcx
	mov	$-1, %rax
	mov	$0, %rbx
	ret
1:	mov	%rdx, %rbx
	mov	$0, %rcx
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
