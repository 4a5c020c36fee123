/* SPDX-License-Identifier: MIT */
/* glibc: read() right behind a branch, moved after instead */
	.text
	.fill	64, 1, 0x90
	endbr64
	cmpb	$0, %fs:0x18
	je	1f
	ret
	nop
1:	jne	2f
	xor	%eax, %eax
site:	syscall
	cmp	$-4096, %rax
	ja	2f
	ret
2:	neg	%eax
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
