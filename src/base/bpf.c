/* SPDX-License-Identifier: MIT */
/* bpf.c - classic BPF programs that decide by a number */
#include "base/bpf.h"

#include "base/num.h"

/* A jump to a leaf whose code is yet to come; no distance is as long. */
#define UNSET		0xffff0000u

/* So many leaves take no more instructions than a condition can jump over. */
#define NEAR_LEAVES	127

void bpf_put(struct bpf_prog *p, uint16_t code, uint32_t k, uint8_t jt,
	     uint8_t jf)
{
	if (p->n < ARRAY_SIZE(p->v))
		p->v[p->n] = (struct sock_filter){ code, jt, jf, k };
	p->n++;
}

void bpf_load(struct bpf_prog *p, size_t offset)
{
	bpf_put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

void bpf_return(struct bpf_prog *p, uint32_t action)
{
	bpf_put(p, BPF_RET | BPF_K, action, 0, 0);
}

void bpf_if(struct bpf_prog *p, uint16_t cmp, uint32_t k, uint32_t action)
{
	bpf_put(p, (uint16_t)(BPF_JMP | cmp | BPF_K), k, 0, 1);
	bpf_return(p, action);
}

/* Numbers from `from` on, up to where the next run begins. */
struct run {
	uint32_t from;
	uint8_t leaf;
};

static void put_runs(struct bpf_prog *p, const struct run *v, size_t n)
{
	const size_t half = n / 2;
	const size_t at = p->n;

	if (n == 1) {
		bpf_put(p, BPF_JMP | BPF_JA, UNSET | v->leaf, 0, 0);
		return;
	}
	bpf_put(p, BPF_JMP | BPF_JGE | BPF_K, v[half].from, 0,
		half > NEAR_LEAVES);
	if (half > NEAR_LEAVES)
		bpf_put(p, BPF_JMP | BPF_JA, 0, 0, 0);
	put_runs(p, v, half);
	if (p->n > ARRAY_SIZE(p->v))
		return;
	if (half > NEAR_LEAVES)
		p->v[at + 1].k = (uint32_t)(p->n - at - 2);
	else
		p->v[at].jt = (uint8_t)(p->n - at - 1);
	put_runs(p, v + half, n - half);
}

void bpf_switch(struct bpf_prog *p, const uint8_t *leaf, uint32_t n,
		uint8_t above)
{
	struct run runs[BPF_INSNS_MAX] = { { 0, n ? leaf[0] : above } };
	size_t nruns = 1;

	for (uint32_t i = 1; i <= n; i++) {
		const uint8_t its = i < n ? leaf[i] : above;

		if (runs[nruns - 1].leaf == its)
			continue;
		if (nruns == ARRAY_SIZE(runs)) {
			p->n = ARRAY_SIZE(p->v) + 1;	/* does not fit */
			return;
		}
		runs[nruns++] = (struct run){ i, its };
	}
	put_runs(p, runs, nruns);
}

void bpf_leaf(struct bpf_prog *p, uint8_t leaf)
{
	for (size_t i = 0; i < p->n && i < ARRAY_SIZE(p->v); i++)
		if (p->v[i].code == (BPF_JMP | BPF_JA) &&
		    p->v[i].k == (UNSET | leaf))
			p->v[i].k = (uint32_t)(p->n - i - 1);
}
