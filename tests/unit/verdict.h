/* SPDX-License-Identifier: MIT */
/* verdict.h - what a classic BPF program says */
#ifndef UNIT_VERDICT_H
#define UNIT_VERDICT_H

#include <linux/filter.h>
#include <stdint.h>
#include <string.h>

/* verdict() - run the program on a call; the part of cBPF that we use */
static inline uint32_t verdict(const struct sock_fprog *prog,
			const void *data)
{
	uint32_t a = 0;
	size_t pc;

	for (pc = 0; pc < prog->len; pc++) {
		const struct sock_filter *f = &prog->filter[pc];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)data + f->k, sizeof(a));
			break;
		case BPF_JMP | BPF_JA:
			pc += f->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & f->k ? f->jt : f->jf;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			return 0xdead;
		}
	}
	return 0xdead;
}

#endif
