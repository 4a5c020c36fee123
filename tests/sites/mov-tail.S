/* SPDX-License-Identifier: MIT */
/* the bytes of a longer mov end like mov $imm, %eax */
	.text
	.fill	64, 1, 0x90
	mov	%rdi, %rax
	mov	$0x27, %r8d
site:	syscall
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
