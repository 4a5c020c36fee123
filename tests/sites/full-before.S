/* SPDX-License-Identifier: MIT */
/* five bytes before are better than three and the syscall */
	.text
	.fill	64, 1, 0x90
	mov	%rsi, %rdi
	mov	%edx, %esi
	mov	%r11d, %eax
site:	syscall
	cmp	$-4096, %rax
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
