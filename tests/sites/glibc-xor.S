/* SPDX-License-Identifier: MIT */
/* glibc: read() has number 0 */
	.text
	.fill	64, 1, 0x90
	endbr64
	mov	%rsi, %r12
	xor	%eax, %eax
site:	syscall
	cmp	$-4096, %rax
	ja	1f
	ret
1:	neg	%eax
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
