/* SPDX-License-Identifier: MIT */
/* refused: both neighbours name their own address */
	.text
	.fill	64, 1, 0x90
	mov	0x1000(%rip), %eax
site:	syscall
	mov	%eax, 0x1000(%rip)
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
