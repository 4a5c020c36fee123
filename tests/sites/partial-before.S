/* SPDX-License-Identifier: MIT */
/* three bytes and the syscall where a branch precedes them */
	.text
	.fill	64, 1, 0x90
	test	%eax, %eax
	jne	1f
	mov	%r11d, %eax
site:	syscall
	cmp	$-4096, %rax
1:	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
