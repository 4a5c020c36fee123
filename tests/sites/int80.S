/* SPDX-License-Identifier: MIT */
/* refused: the 32-bit entry */
	.text
	.fill	64, 1, 0x90
	mov	$0x14, %eax
site:	int	$0x80
	cmp	$-4095, %eax
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
