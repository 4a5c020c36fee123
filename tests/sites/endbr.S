/* SPDX-License-Identifier: MIT */
/* refused: only places where indirect branches land */
	.text
	.fill	64, 1, 0x90
	endbr64
site:	syscall
	endbr64
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
