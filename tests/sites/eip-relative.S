/* SPDX-License-Identifier: MIT */
/* refused: addresses of 32 bits beside the own one */
	.text
	.fill	64, 1, 0x90
	mov	0x1000(%eip), %eax
site:	syscall
	lea	0x1000(%eip), %rdi
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
