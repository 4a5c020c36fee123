/* SPDX-License-Identifier: MIT */
/* an operand beside rip is rewritten */
	.text
	.fill	64, 1, 0x90
	mov	0x1000(%rip), %eax
site:	syscall
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
