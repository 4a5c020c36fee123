/* SPDX-License-Identifier: MIT */
/* so is one with a number behind its displacement */
	.text
	.fill	64, 1, 0x90
	movl	$0x5, 0x1000(%rip)
site:	syscall
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
