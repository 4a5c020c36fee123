/* SPDX-License-Identifier: MIT */
/* glibc: syscall(2) shifts its arguments */
	.text
	.fill	64, 1, 0x90
	endbr64
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	0x8(%rsp), %r9
site:	syscall
	cmp	$-4095, %rax
	jae	1f
	ret
1:	neg	%eax
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
