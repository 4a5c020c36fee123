/* SPDX-License-Identifier: MIT */
/* refused: retry loops lead into what precedes the syscall and behind it */
	.text
	.fill	64, 1, 0x90
	call	*%rbx
	mov	%esi, %edi
1:	xor	%eax, %eax
site:	syscall
2:	test	%eax, %eax
	mov	%r12d, %eax
	jg	1b
	jl	2b
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
