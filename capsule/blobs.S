/* SPDX-License-Identifier: MIT */
/* blobs.S - gate and capsule, embedded in the one binary */
	.section .note.GNU-stack, "", @progbits
	.section .rodata
	.globl	blob_gate, blob_gate_size, blob_capsule, blob_capsule_size
	.balign	16
blob_gate:
	.incbin	"gate.bin"
1:	.balign	16
blob_capsule:
	.incbin	"capsule.elf"
2:	.balign	8
blob_gate_size:
	.quad	1b - blob_gate
blob_capsule_size:
	.quad	2b - blob_capsule
