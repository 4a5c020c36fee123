/* SPDX-License-Identifier: MIT */
/* blobs.S - gate and capsule, embedded in the one binary */
	.section .note.GNU-stack, "", @progbits
	.section .rodata
	.globl	blob_gate, blob_gate_end, blob_capsule, blob_capsule_end
	.balign	16
blob_gate:
	.incbin	"gate.bin"
blob_gate_end:
	.balign	16
blob_capsule:
	.incbin	"capsule.elf"
blob_capsule_end:
	.byte	0
