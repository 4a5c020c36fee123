/* SPDX-License-Identifier: MIT */
/* refused: rdpkru, which capstone 4.0.2 does not know */
	.text
	.fill	64, 1, 0x90
	rdpkru
site:	syscall
	rdpkru
	ret
	.fill	64, 1, 0x90

	.section .note.GNU-stack, "", @progbits
