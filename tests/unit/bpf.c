/* SPDX-License-Identifier: MIT */
/* bpf: numbers find their leaves */
#include "base/bpf.h"

#include <stdlib.h>

#include "tap.h"
#include "verdict.h"

#define LEAVES	5
#define ABOVE	(LEAVES - 1)

/* Every leaf returns its number and one. */
static void write_program(struct bpf_prog *p, const uint8_t *leaf, uint32_t n)
{
	*p = (struct bpf_prog){ .n = 0 };
	bpf_load(p, 0);
	bpf_switch(p, leaf, n, ABOVE);
	for (uint8_t i = 0; i < LEAVES; i++) {
		bpf_leaf(p, i);
		bpf_return(p, i + 1u);
	}
}

static bool finds(const uint8_t *leaf, uint32_t n)
{
	const uint32_t above[] = { n, n + 1, 2 * n, 0x7fffffff, 0x80000000,
				   0xffffffff };
	struct bpf_prog p;
	struct sock_fprog prog = { .filter = p.v };

	write_program(&p, leaf, n);
	if (p.n > BPF_INSNS_MAX)
		return false;
	prog.len = (unsigned short)p.n;
	for (uint32_t i = 0; i < n; i++)
		if (verdict(&prog, &i) != leaf[i] + 1u)
			return false;
	for (size_t i = 0; i < sizeof(above) / sizeof(*above); i++)
		if (verdict(&prog, &above[i]) != ABOVE + 1u)
			return false;
	return true;
}

/* Runs of one to `longest` numbers. */
static void fill(uint8_t *leaf, uint32_t n, unsigned int longest)
{
	uint32_t i = 0;

	while (i < n) {
		uint32_t len = 1 + (uint32_t)rand() % longest;
		uint8_t its = (uint8_t)(rand() % LEAVES);

		while (len-- && i < n)
			leaf[i++] = its;
	}
}

int main(void)
{
	uint8_t leaf[4096] = { 0 };
	struct bpf_prog p;
	bool all = true;

	srand(1);
	ok(finds(leaf, 1), "one number");
	ok(finds(leaf, 512), "one leaf for all");
	for (int i = 0; i < 200; i++) {
		fill(leaf, 512, 1 + (unsigned int)i % 20);
		all &= finds(leaf, 512);
	}
	ok(all, "many leaves, in runs of any length");
	for (int i = 0; i < 480; i++)
		leaf[i] = (uint8_t)(i % 2);
	ok(finds(leaf, 480), "so many that a condition cannot jump over them");
	for (int i = 0; i < 4096; i++)
		leaf[i] = (uint8_t)(i % 2);
	write_program(&p, leaf, 4096);
	ok(p.n > BPF_INSNS_MAX, "too many are too long, and nothing is written"
				" beyond the end");
	return tap_end();
}
