/* SPDX-License-Identifier: MIT */
/* refused: the same where the syscall would have to go */
	.text
	.fill	64, 1, 0x90
	call	*%rbx
	mov	%r12d, %eax
site:	syscall
	jmp	site
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
