/* SPDX-License-Identifier: MIT */
/* glibc: a cancellation point keeps its number in a register */
	.text
	.fill	64, 1, 0x90
	endbr64
	push	%rbx
	mov	%r8d, %r11d
	xor	%r10d, %r10d
	mov	%r11d, %eax
site:	syscall
	cmp	$-4096, %rax
	ja	1f
	pop	%rbx
	ret
1:	neg	%eax
	pop	%rbx
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
