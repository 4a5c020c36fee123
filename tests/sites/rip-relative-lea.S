/* SPDX-License-Identifier: MIT */
/* an address beside rip is rewritten */
	.text
	.fill	64, 1, 0x90
	lea	0x1000(%rip), %rdi
site:	syscall
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
