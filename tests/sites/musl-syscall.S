/* SPDX-License-Identifier: MIT */
/* musl: __syscall_cp_asm, with labels that the handler compares */
	.text
	.fill	64, 1, 0x90
	mov	(%rdi), %eax
	test	%eax, %eax
	jne	1f
	mov	%rdi, %r11
	mov	%rsi, %rax
	mov	%rdx, %rdi
	mov	%rcx, %rsi
	mov	%r8, %rdx
	mov	%r9, %r10
	mov	8(%rsp), %r8
	mov	16(%rsp), %r9
	mov	%r11, 8(%rsp)
site:	syscall
	ret
1:	jmp	1b
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
