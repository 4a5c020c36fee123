/* SPDX-License-Identifier: MIT */
/* refused: a call before, a return after */
	.text
	.fill	64, 1, 0x90
	call	*%rax
site:	syscall
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
