/* SPDX-License-Identifier: MIT */
/* refused: instructions that note where they are */
	.text
	.fill	64, 1, 0x90
	fld1
site:	syscall
	fldl	0x8(%rsp)
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
