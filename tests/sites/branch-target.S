/* SPDX-License-Identifier: MIT */
/* refused: a retry loop leads to the syscall and behind it */
	.text
	.fill	64, 1, 0x90
	mov	$0x23, %eax
site:	syscall
1:	test	%eax, %eax
	mov	%r12d, %eax
	jg	site
	jl	1b
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
