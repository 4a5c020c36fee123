/* SPDX-License-Identifier: MIT */
/* bpf.c - classic BPF programs: written, and read */
#include "base/bpf.h"

#include <errno.h>
#include <stdbool.h>

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

/* --- reading -------------------------------------------------------------- */

/* A word, as far as it is known. */
struct word {
	uint32_t v;
	bool unknown;
};

struct machine {
	struct word a, x, m[BPF_MEMWORDS];
	uint32_t stored;	/* bit n: m[n] has been written */
	size_t pc;		/* of the next instruction */
	const struct bpf_data *data;
};

/* What a step of a program comes to beside -errno. */
#define GO_ON	0
#define ENDED	1

static struct word known(uint32_t v)
{
	return (struct word){ .v = v };
}

static int load_data(struct machine *m, uint32_t at)
{
	const uint32_t i = at / sizeof(uint32_t);

	if (at % sizeof(uint32_t) || i >= BPF_WORDS)
		return -EINVAL;
	m->a = (struct word){ m->data->w[i], m->data->unknown >> i & 1 };
	return GO_ON;
}

static int load_memory(const struct machine *m, uint32_t i, struct word *out)
{
	if (i >= BPF_MEMWORDS || !(m->stored >> i & 1))
		return -EINVAL;
	*out = m->m[i];
	return GO_ON;
}

static int store_memory(struct machine *m, uint32_t i, struct word w)
{
	if (i >= BPF_MEMWORDS)
		return -EINVAL;
	m->m[i] = w;
	m->stored |= 1u << i;
	return GO_ON;
}

/* A constant has to be one that the kernel lets pass. */
static int compute(struct machine *m, const struct sock_filter *f,
		   uint32_t *action)
{
	const bool by_x = BPF_SRC(f->code) == BPF_X;
	const struct word b = by_x ? m->x : known(f->k);
	uint32_t *a = &m->a.v;

	m->a.unknown |= b.unknown;
	switch (BPF_OP(f->code)) {
	case BPF_ADD: *a += b.v; return GO_ON;
	case BPF_SUB: *a -= b.v; return GO_ON;
	case BPF_MUL: *a *= b.v; return GO_ON;
	case BPF_AND: *a &= b.v; return GO_ON;
	case BPF_OR: *a |= b.v; return GO_ON;
	case BPF_XOR: *a ^= b.v; return GO_ON;
	case BPF_LSH:
	case BPF_RSH:
		if (!by_x && b.v >= 32)
			return -EINVAL;
		*a = BPF_OP(f->code) == BPF_LSH ? *a << (b.v & 31) :
						  *a >> (b.v & 31);
		return GO_ON;
	case BPF_DIV:
		if (b.unknown)
			return -ENODATA;
		if (!by_x && !b.v)
			return -EINVAL;
		/* A program that divides by 0 returns 0. */
		*action = 0;
		*a = b.v ? *a / b.v : 0;
		return b.v ? GO_ON : ENDED;
	}
	return -EINVAL;
}

static int jump(struct machine *m, const struct sock_filter *f)
{
	const struct word b = BPF_SRC(f->code) == BPF_X ? m->x : known(f->k);
	const uint32_t a = m->a.v;
	bool yes;

	switch (BPF_OP(f->code)) {
	case BPF_JEQ: yes = a == b.v; break;
	case BPF_JGT: yes = a > b.v; break;
	case BPF_JGE: yes = a >= b.v; break;
	case BPF_JSET: yes = a & b.v; break;
	default: return -EINVAL;
	}
	if (m->a.unknown || b.unknown)
		return -ENODATA;
	m->pc += yes ? f->jt : f->jf;
	return GO_ON;
}

static int step(struct machine *m, const struct sock_filter *f,
		uint32_t *action)
{
	switch (f->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return load_data(m, f->k);
	case BPF_LD | BPF_MEM:
		return load_memory(m, f->k, &m->a);
	case BPF_LDX | BPF_MEM:
		return load_memory(m, f->k, &m->x);
	case BPF_LD | BPF_W | BPF_LEN:
		m->a = known(sizeof(m->data->w));
		return GO_ON;
	case BPF_LDX | BPF_W | BPF_LEN:
		m->x = known(sizeof(m->data->w));
		return GO_ON;
	case BPF_LD | BPF_IMM:
		m->a = known(f->k);
		return GO_ON;
	case BPF_LDX | BPF_IMM:
		m->x = known(f->k);
		return GO_ON;
	case BPF_ST:
		return store_memory(m, f->k, m->a);
	case BPF_STX:
		return store_memory(m, f->k, m->x);
	case BPF_MISC | BPF_TAX:
		m->x = m->a;
		return GO_ON;
	case BPF_MISC | BPF_TXA:
		m->a = m->x;
		return GO_ON;
	case BPF_ALU | BPF_NEG:
		m->a.v = -m->a.v;
		return GO_ON;
	case BPF_JMP | BPF_JA:
		m->pc += f->k;
		return GO_ON;
	case BPF_RET | BPF_K:
		*action = f->k;
		return ENDED;
	case BPF_RET | BPF_A:
		*action = m->a.v;
		return m->a.unknown ? -ENODATA : ENDED;
	}
	if (f->code > UINT8_MAX)
		return -EINVAL;
	if (BPF_CLASS(f->code) == BPF_ALU)
		return compute(m, f, action);
	return BPF_CLASS(f->code) == BPF_JMP ? jump(m, f) : -EINVAL;
}

/* Every jump leads on, so no instruction is carried out twice. */
int bpf_run(const struct sock_filter *v, size_t n, const struct bpf_data *data,
	    uint32_t *action)
{
	struct machine m = { .data = data };
	int rc = GO_ON;

	if (n > BPF_MAXINSNS)
		return -EINVAL;
	while (!rc && m.pc < n) {
		const struct sock_filter *f = &v[m.pc++];

		rc = step(&m, f, action);
	}
	return rc == ENDED ? 0 : rc ? rc : -EINVAL;
}
