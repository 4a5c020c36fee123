/* SPDX-License-Identifier: MIT */
/* a number stands behind the displacement */
	.text
	.fill	64, 1, 0x90
	call	*%rax
site:	syscall
	cmpw	$0x5, 0x1000(%rip)
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
