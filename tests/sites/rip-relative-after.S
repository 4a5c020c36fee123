/* SPDX-License-Identifier: MIT */
/* operands beside rip are rewritten behind the syscall, too */
	.text
	.fill	64, 1, 0x90
	call	*%rax
site:	syscall
	mov	%eax, %ebx
	lea	0x1000(%rip), %rdi
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
