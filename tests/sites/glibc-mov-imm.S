/* SPDX-License-Identifier: MIT */
/* glibc: most sites, here getppid() and its like */
	.text
	.fill	64, 1, 0x90
	endbr64
	mov	$0x6e, %eax
site:	syscall
	cmp	$-4095, %rax
	jae	1f
	ret
1:	mov	0x1000(%rip), %rcx
	neg	%eax
	mov	%eax, %fs:(%rcx)
	or	$-1, %rax
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
