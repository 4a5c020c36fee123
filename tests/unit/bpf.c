/* SPDX-License-Identifier: MIT */
/* bpf: numbers find their leaves; programs are run as the kernel runs them */
#include "base/bpf.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
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

static uint32_t says(const struct sock_fprog *prog, uint32_t nr)
{
	return verdict(prog, &(struct seccomp_data){ .nr = (int)nr });
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
		if (says(&prog, i) != leaf[i] + 1u)
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(above); i++)
		if (says(&prog, above[i]) != ABOVE + 1u)
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

/* --- reading -------------------------------------------------------------- */

#define LD(k)		BPF_STMT(BPF_LD | BPF_IMM, k)
#define LDX(k)		BPF_STMT(BPF_LDX | BPF_IMM, k)
#define WORD(n)		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4 * (n))
#define ALU(op, k)	BPF_STMT(BPF_ALU | (op) | BPF_K, k)
#define ALUX(op)	BPF_STMT(BPF_ALU | (op) | BPF_X, 0)
#define RET(k)		BPF_STMT(BPF_RET | BPF_K, k)
#define RETA		BPF_STMT(BPF_RET | BPF_A, 0)
#define IF(op, k)	BPF_JUMP(BPF_JMP | (op) | BPF_K, k, 0, 1), RET(1), RET(0)
#define IFX(op)		BPF_JUMP(BPF_JMP | (op) | BPF_X, 0, 0, 1), RET(1), RET(0)
#define INSNS		8

/* Every word of the data is 0x10000 and its number. */
static int run(const struct sock_filter *v, size_t n, uint16_t unknown,
	       uint32_t *out)
{
	struct bpf_data d = { .unknown = unknown };

	for (uint32_t i = 0; i < BPF_WORDS; i++)
		d.w[i] = 0x10000 + i;
	return bpf_run(v, n, &d, out);
}

/* Programs end with what is not zero; RET(0) is that, too. */
static size_t length(const struct sock_filter v[INSNS])
{
	size_t n = INSNS;

	while (n && !v[n - 1].code)
		n--;
	return n;
}

static void test_instructions(void)
{
	static const struct {
		const char *what;
		struct sock_filter v[INSNS];
		uint32_t want;
	} cases[] = {
		{ "ret #k", { RET(7) }, 7 },
		{ "ret a; a is 0 at first", { RETA }, 0 },
		{ "ld #k", { LD(0x80000001), RETA }, 0x80000001 },
		{ "ldx #k, txa", { LDX(5), BPF_STMT(BPF_MISC | BPF_TXA, 0),
				   RETA }, 5 },
		{ "tax", { LD(5), BPF_STMT(BPF_MISC | BPF_TAX, 0), LD(2),
			   ALUX(BPF_MUL), RETA }, 10 },
		{ "ld [k]", { WORD(1), RETA }, 0x10001 },
		{ "ld [k], the last", { WORD(15), RETA }, 0x1000f },
		{ "ld len", { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), RETA },
		  64 },
		{ "ldx len", { BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0),
			       BPF_STMT(BPF_MISC | BPF_TXA, 0), RETA }, 64 },
		{ "st, ld M[]", { LD(9), BPF_STMT(BPF_ST, 15), LD(0),
				  BPF_STMT(BPF_LD | BPF_MEM, 15), RETA }, 9 },
		{ "stx, ldx M[]", { LDX(9), BPF_STMT(BPF_STX, 0), LDX(1),
				    BPF_STMT(BPF_LDX | BPF_MEM, 0),
				    BPF_STMT(BPF_MISC | BPF_TXA, 0), RETA },
		  9 },
		{ "add #k, wrapping", { LD(0xffffffff), ALU(BPF_ADD, 3),
					RETA }, 2 },
		{ "add x", { LD(4), LDX(3), ALUX(BPF_ADD), RETA }, 7 },
		{ "sub #k, wrapping", { LD(1), ALU(BPF_SUB, 2), RETA },
		  0xffffffff },
		{ "sub x", { LD(4), LDX(3), ALUX(BPF_SUB), RETA }, 1 },
		{ "mul #k", { LD(0x10001), ALU(BPF_MUL, 0x10001), RETA },
		  0x20001 },
		{ "mul x", { LD(4), LDX(3), ALUX(BPF_MUL), RETA }, 12 },
		{ "div #k, unsigned", { LD(0xffffffff), ALU(BPF_DIV, 2), RETA },
		  0x7fffffff },
		{ "div x", { LD(7), LDX(2), ALUX(BPF_DIV), RETA }, 3 },
		{ "div x, by 0: the end, with 0",
		  { LD(7), LDX(0), ALUX(BPF_DIV), RET(1) }, 0 },
		{ "and #k", { LD(0xff), ALU(BPF_AND, 0xf0f), RETA }, 0xf },
		{ "and x", { LD(6), LDX(3), ALUX(BPF_AND), RETA }, 2 },
		{ "or #k", { LD(0xf0), ALU(BPF_OR, 0xf), RETA }, 0xff },
		{ "or x", { LD(4), LDX(3), ALUX(BPF_OR), RETA }, 7 },
		{ "xor #k", { LD(6), ALU(BPF_XOR, 3), RETA }, 5 },
		{ "xor x", { LD(6), LDX(3), ALUX(BPF_XOR), RETA }, 5 },
		{ "lsh #k", { LD(3), ALU(BPF_LSH, 31), RETA }, 0x80000000 },
		{ "lsh x", { LD(3), LDX(4), ALUX(BPF_LSH), RETA }, 48 },
		{ "rsh #k, unsigned", { LD(0x80000000), ALU(BPF_RSH, 31),
					RETA }, 1 },
		{ "rsh x", { LD(48), LDX(4), ALUX(BPF_RSH), RETA }, 3 },
		{ "neg", { LD(1), BPF_STMT(BPF_ALU | BPF_NEG, 0), RETA },
		  0xffffffff },
		{ "ja", { BPF_STMT(BPF_JMP | BPF_JA, 1), RET(1), RET(2) }, 2 },
		{ "jeq #k, yes", { LD(3), IF(BPF_JEQ, 3) }, 1 },
		{ "jeq #k, no", { LD(3), IF(BPF_JEQ, 4) }, 0 },
		{ "jeq x", { LD(3), LDX(3), IFX(BPF_JEQ) }, 1 },
		{ "jgt #k, unsigned", { LD(0x80000000), IF(BPF_JGT, 1) }, 1 },
		{ "jgt #k, of what is equal", { LD(1), IF(BPF_JGT, 1) }, 0 },
		{ "jgt x", { LD(4), LDX(3), IFX(BPF_JGT) }, 1 },
		{ "jge #k, of what is equal", { LD(1), IF(BPF_JGE, 1) }, 1 },
		{ "jge #k, no", { LD(1), IF(BPF_JGE, 2) }, 0 },
		{ "jge x", { LD(2), LDX(3), IFX(BPF_JGE) }, 0 },
		{ "jset #k, yes", { LD(6), IF(BPF_JSET, 3) }, 1 },
		{ "jset #k, no", { LD(6), IF(BPF_JSET, 9) }, 0 },
		{ "jset x", { LD(6), LDX(2), IFX(BPF_JSET) }, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t got = 0xdead;
		const int rc = run(cases[i].v, length(cases[i].v), 0, &got);

		if (!okf(rc == 0 && got == cases[i].want, "run: %s",
			 cases[i].what))
			printf("# %d, %#x\n", rc, got);
	}
}

static void test_refused(void)
{
	static const struct {
		const char *what;
		struct sock_filter v[INSNS];
	} cases[] = {
		{ "nothing at all", { { 0 } } },
		{ "no end", { LD(1) } },
		{ "a jump beyond the end",
		  { BPF_STMT(BPF_JMP | BPF_JA, 1), RET(1) } },
		{ "a jump as far as can be",
		  { BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), RET(1) } },
		{ "a condition that leads beyond the end",
		  { BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 255, 0), RET(1) } },
		{ "data beyond the end", { WORD(16), RETA } },
		{ "data between two words",
		  { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RETA } },
		{ "data of half a word",
		  { BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RETA } },
		{ "data by x", { BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0),
				 RETA } },
		{ "memory beyond the end, read",
		  { BPF_STMT(BPF_LD | BPF_MEM, 16), RETA } },
		{ "memory beyond the end, written",
		  { BPF_STMT(BPF_ST, 16), RETA } },
		{ "memory that has not been written",
		  { BPF_STMT(BPF_LDX | BPF_MEM, 3), RETA } },
		{ "a division by the constant 0", { ALU(BPF_DIV, 0), RETA } },
		{ "a shift by 32", { ALU(BPF_LSH, 32), RETA } },
		{ "a shift to the right by 32", { ALU(BPF_RSH, 32), RETA } },
		{ "mod, which seccomp has not", { ALU(BPF_MOD, 3), RETA } },
		{ "a length of headers", { BPF_STMT(BPF_LDX | BPF_B | BPF_MSH,
						    0), RETA } },
		{ "a number of no instruction", { { 0xffff, 0, 0, 0 },
						  RET(1) } },
		{ "a jump of no kind", { { BPF_JMP | 0x50, 0, 0, 0 },
					 RET(1) } },
		{ "ret x", { { BPF_RET | BPF_X, 0, 0, 0 } } },
	};
	static struct sock_filter longer[BPF_MAXINSNS + 1];
	uint32_t got;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		okf(run(cases[i].v, length(cases[i].v), 0, &got) == -EINVAL,
		    "refused: %s", cases[i].what);
	longer[0] = (struct sock_filter)RET(1);
	ok(run(longer, BPF_MAXINSNS + 1, 0, &got) == -EINVAL,
	   "refused: one that is too long");
}

static void test_unknown(void)
{
	const struct sock_filter by_one[] = {
		WORD(1), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x10001, 0, 2),
		WORD(2), RETA, RET(5),
	};
	const struct sock_filter forgets[] = {
		WORD(2), BPF_STMT(BPF_ST, 0), LD(4), RETA,
	};
	const struct sock_filter keeps[] = {
		WORD(2), BPF_STMT(BPF_ST, 0), LD(4), BPF_STMT(BPF_MISC |
		BPF_TAX, 0), BPF_STMT(BPF_LD | BPF_MEM, 0), ALUX(BPF_ADD),
		RETA,
	};
	const struct sock_filter divides[] = {
		WORD(2), BPF_STMT(BPF_MISC | BPF_TAX, 0), LD(4),
		ALUX(BPF_DIV), RET(3),
	};
	uint32_t got;

	ok(run(by_one, ARRAY_SIZE(by_one), 1 << 3, &got) == 0 &&
	   got == 0x10002, "what is not known and not asked for is no matter");
	ok(run(by_one, ARRAY_SIZE(by_one), 1 << 1, &got) == -ENODATA,
	   "a decision by what is not known is none");
	ok(run(by_one, ARRAY_SIZE(by_one), 1 << 2, &got) == -ENODATA,
	   "nor is an answer that consists of it");
	ok(run(forgets, ARRAY_SIZE(forgets), 1 << 2, &got) == 0 && got == 4,
	   "it may be kept, and not used");
	ok(run(keeps, ARRAY_SIZE(keeps), 1 << 2, &got) == -ENODATA,
	   "and is as little known in memory, and in a sum");
	ok(run(divides, ARRAY_SIZE(divides), 1 << 2, &got) == -ENODATA,
	   "and by what is not known, nothing is divided");
}

/* --- the kernel as the judge ---------------------------------------------- */

#define ASKED		500	/* no call of any kernel */
#define RANDOM		12
#define PROGRAMS	300

/* What is random computes by the words of the first two arguments. */
static struct sock_filter random_insn(void)
{
	static const uint16_t alu[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV,
					BPF_AND, BPF_OR, BPF_XOR, BPF_LSH,
					BPF_RSH };
	static const uint16_t cmp[] = { BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET };
	const uint32_t k = (uint32_t)rand() >> rand() % 31;
	const uint16_t src = rand() % 2 ? BPF_X : BPF_K;
	const uint16_t op = alu[(size_t)rand() % ARRAY_SIZE(alu)];

	switch (rand() % 8) {
	case 0: return (struct sock_filter)WORD(4 + k % 4);
	case 1: return (struct sock_filter)LDX(k);
	case 2: return (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0);
	case 3: return (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TXA, 0);
	case 4: return (struct sock_filter)BPF_STMT(BPF_ALU | BPF_NEG, 0);
	case 5: return (struct sock_filter)BPF_JUMP(
			BPF_JMP | cmp[k % ARRAY_SIZE(cmp)] | src, k,
			(uint8_t)(k & 1), (uint8_t)(k >> 1 & 1));
	}
	return (struct sock_filter)BPF_STMT(BPF_ALU | op | src, 1 + k % 31);
}

/* Of that one call, the answer is an error number; any other is let pass. */
static size_t random_program(struct sock_filter *v)
{
	const struct sock_filter head[] = {
		WORD(0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ASKED, 1, 0),
		RET(SECCOMP_RET_ALLOW),
	};
	const struct sock_filter tail[] = {
		ALU(BPF_AND, 0x7ff), ALU(BPF_ADD, 1),
		ALU(BPF_OR, SECCOMP_RET_ERRNO), RETA,
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(head); i++)
		v[n++] = head[i];
	for (size_t i = 0; i < RANDOM; i++)
		v[n++] = random_insn();
	/* Where the last one jumps over one. */
	v[n++] = (struct sock_filter)ALU(BPF_ADD, 0);
	for (size_t i = 0; i < ARRAY_SIZE(tail); i++)
		v[n++] = tail[i];
	return n;
}

#define DIVIDED_BY_0	0xff	/* in an exit status: killed */

/* Eight bits of what the kernel's answer is, from a child under the filter. */
static int kernel_says(const struct sock_fprog *prog, uint64_t a, uint64_t b)
{
	const pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prog) < 0)
			_exit(0);
		syscall(ASKED, a, b);
		_exit(1 + errno % 0x7d);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? DIVIDED_BY_0 : WEXITSTATUS(status);
}

static int we_say(const struct sock_fprog *prog, uint64_t a, uint64_t b)
{
	const struct seccomp_data call = { .nr = ASKED, .args = { a, b } };
	const uint32_t action = verdict(prog, &call);

	return action == 0 ? DIVIDED_BY_0 :
	       1 + (int)(action & SECCOMP_RET_DATA) % 0x7d;
}

static void test_kernel(void)
{
	struct sock_filter v[RANDOM + 16];
	struct sock_fprog prog = { .filter = v };
	bool same = true;

	for (int i = 0; i < PROGRAMS && same; i++) {
		const uint64_t a = (uint64_t)rand() << (rand() % 33);
		const uint64_t b = (uint64_t)rand() << (rand() % 33);

		prog.len = (unsigned short)random_program(v);
		same = kernel_says(&prog, a, b) == we_say(&prog, a, b);
		for (size_t j = 0; j < prog.len && !same; j++)
			printf("# %#x %u %u %#x\n", v[j].code, v[j].jt,
			       v[j].jf, v[j].k);
		if (!same)
			printf("# kernel %d, we %d\n",
			       kernel_says(&prog, a, b), we_say(&prog, a, b));
	}
	ok(same, "the kernel says the same of programs at random");
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
	test_instructions();
	test_refused();
	test_unknown();
	test_kernel();
	return tap_end();
}
