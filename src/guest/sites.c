/* SPDX-License-Identifier: MIT */
/*
 * sites.c - what surrounds a system call instruction (only user of capstone)
 *
 * Theory of operation. A `syscall` has two bytes, a jump has five. The
 * missing three come from instructions directly before or directly after,
 * which whoever patches carries out elsewhere. That is right only if
 *
 *  - we know where those instructions begin. After the site this is plain.
 *    Before it x86 gives no answer: the bytes of `mov $1, %eax` are also the
 *    tail of `mov $1, %r8d`. So bytes are never matched backwards. Every
 *    start in a stretch well before the site is decoded forward. x86 code
 *    synchronises within a few instructions, whatever the start; what every
 *    start that arrives at the site agrees on is taken as true, and nothing
 *    is if too few arrive.
 *  - they mean the same elsewhere: no branch or trap, nothing that names its
 *    own address, and no endbr64, which is where indirect branches land.
 *  - nothing enters the window but at its first byte. All the code given is
 *    swept for direct branches into it, and for rip-relative operands too:
 *    an address that is taken may be jumped to, compared with a signal's rip
 *    or read as data.
 *
 * The bytes are the target's and may be anything. What cannot be seen here,
 * a jump table say, is for the patcher to guard against (DESIGN 10).
 */
#include <errno.h>
#include <stdlib.h>

#include <capstone/capstone.h>

#include "base/num.h"
#include "guest/sites.h"

#define SYSCALL_LEN	2
#define JUMP_LEN	5	/* jmp rel32 */
#define INSN_MAX	15

/*
 * Decoding starts at each of the bytes from BACK_MAX to BACK_MIN before the
 * site. BACK_MIN leaves a wrong start room to fall into step; STARTS_MIN is
 * how many must reach the site before their agreement means something.
 */
#define BACK_MAX	64
#define BACK_MIN	32
#define STARTS_MIN	8

/* Sweeps begin here or there because code[0] may be mid-instruction. */
#define SWEEPS		INSN_MAX
#define SEEN_MAX	512

/* A window never reaches further from the site than this, either way. */
#define REACH		32
_Static_assert(JUMP_LEN - 1 + INSN_MAX < REACH, "windows fit the target mask");

/* Where the kernel maps its (emulated) vsyscall page, always. */
#define VSYSCALL_START	0xffffffffff600000ULL

struct sites {
	csh handle;
	cs_insn *insn;		/* owned; what was decoded last */
};

/* The code around one site, and what has been found out about it. */
struct view {
	struct sites *sites;	/* borrowed */
	const uint8_t *code;	/* borrowed */
	size_t len;
	size_t off;
	uint64_t addr;		/* of code[0] */
	/* Bit i: something aims at code[off - REACH + i]. */
	uint64_t targets;
	/* Bit i: an instruction begins i bytes before the site ... */
	uint64_t any;		/* ... says some start, */
	uint64_t all;		/* ... say all starts. */
	size_t starts;		/* how many of them arrived at the site, */
	size_t missed;		/* how many went past it */
};

_Static_assert(BACK_MAX <= 64 && 2 * REACH <= 64, "masks have 64 bits");

int sites_new(struct sites **out)
{
	struct sites *sites = calloc(1, sizeof(*sites));
	cs_err err;

	if (!sites)
		return -ENOMEM;

	err = cs_open(CS_ARCH_X86, CS_MODE_64, &sites->handle);
	if (err != CS_ERR_OK) {
		free(sites);
		return err == CS_ERR_MEM ? -ENOMEM : -ENOSYS;
	}
	if (cs_option(sites->handle, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK) {
		sites_free(sites);
		return -ENOSYS;	/* a diet build of capstone */
	}
	sites->insn = cs_malloc(sites->handle);
	if (!sites->insn) {
		sites_free(sites);
		return -ENOMEM;
	}
	*out = sites;
	return 0;
}

void sites_free(struct sites *sites)
{
	if (!sites)
		return;
	if (sites->insn)
		cs_free(sites->insn, 1);
	cs_close(&sites->handle);
	free(sites);
}

/* The instruction at code[pos], until the next decode; NULL if unknown. */
static const cs_insn *decode(const struct view *v, size_t pos)
{
	const uint8_t *code = v->code + pos;
	uint64_t addr = v->addr + pos;
	size_t left;

	if (pos >= v->len)
		return NULL;
	left = v->len - pos;
	if (!cs_disasm_iter(v->sites->handle, &code, &left, &addr,
			    v->sites->insn))
		return NULL;
	return v->sites->insn;
}

static bool in_group(const cs_insn *insn, uint8_t group)
{
	for (size_t i = 0; i < insn->detail->groups_count; i++) {
		if (insn->detail->groups[i] == group)
			return true;
	}
	return false;
}

/* Does it go anywhere but to the next instruction, for sure or perhaps? */
static bool is_branch(const cs_insn *insn)
{
	static const uint8_t groups[] = {
		CS_GRP_JUMP, CS_GRP_CALL, CS_GRP_RET, CS_GRP_INT, CS_GRP_IRET,
		CS_GRP_BRANCH_RELATIVE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (in_group(insn, groups[i]))
			return true;
	}

	/* Capstone's groups are incomplete; these are what they miss. */
	switch (insn->id) {
	case X86_INS_LOOP:
	case X86_INS_LOOPE:
	case X86_INS_LOOPNE:
	case X86_INS_JCXZ:
	case X86_INS_JECXZ:
	case X86_INS_JRCXZ:
	case X86_INS_XBEGIN:
	case X86_INS_XABORT:
	case X86_INS_SYSCALL:
	case X86_INS_SYSENTER:
	case X86_INS_SYSRET:
	case X86_INS_SYSEXIT:
	case X86_INS_RETF:
	case X86_INS_RETFQ:
	case X86_INS_INT1:
	case X86_INS_INT3:
	case X86_INS_HLT:
	case X86_INS_UD0:
	case X86_INS_UD2:
	case X86_INS_UD2B:
		return true;
	default:
		return false;
	}
}

static bool is_rip_relative(const cs_x86_op *op)
{
	return op->type == X86_OP_MEM &&
	       (op->mem.base == X86_REG_RIP || op->mem.base == X86_REG_EIP);
}

static bool names_rip(const cs_insn *insn)
{
	const cs_x86 *x86 = &insn->detail->x86;

	for (size_t i = 0; i < x86->op_count; i++) {
		if (is_rip_relative(&x86->operands[i]))
			return true;
	}
	return false;
}

static bool is_endbr(const cs_insn *insn)
{
	return insn->id == X86_INS_ENDBR64 || insn->id == X86_INS_ENDBR32;
}

/* A verdict that refuses to move insn, or SITE_VERDICTS if it may move. */
static enum site_verdict refuse_move(const cs_insn *insn)
{
	if (!insn)
		return SITE_UNDECODED;
	if (is_branch(insn))
		return SITE_BRANCH;
	if (names_rip(insn))
		return SITE_RIP_RELATIVE;
	if (is_endbr(insn))
		return SITE_BRANCH_TARGET;
	return SITE_VERDICTS;
}

static void add_target(struct view *v, uint64_t target)
{
	uint64_t bit = target - (v->addr + v->off - REACH);

	if (bit < 2 * REACH)
		v->targets |= 1ULL << bit;
}

static void add_targets(struct view *v, const cs_insn *insn)
{
	const cs_x86 *x86 = &insn->detail->x86;
	bool branch = is_branch(insn);

	for (size_t i = 0; i < x86->op_count; i++) {
		const cs_x86_op *op = &x86->operands[i];

		if (branch && op->type == X86_OP_IMM)
			add_target(v, (uint64_t)op->imm);
		else if (is_rip_relative(op))
			add_target(v, insn->address + insn->size +
				      (uint64_t)op->mem.disp);
	}
}

/* Note what is aimed at, from code[pos] on, until a sweep was here before. */
static void sweep(struct view *v, size_t pos, bool seen[SEEN_MAX])
{
	while (pos < v->len) {
		const cs_insn *insn;

		if (pos < SEEN_MAX) {
			if (seen[pos])
				return;
			seen[pos] = true;
		}

		/* What capstone does not know is crossed byte by byte. */
		insn = decode(v, pos);
		if (insn)
			add_targets(v, insn);
		pos += insn ? insn->size : 1;
	}
}

static void find_targets(struct view *v)
{
	bool seen[SEEN_MAX] = { false };

	for (size_t pos = 0; pos < SWEEPS; pos++)
		sweep(v, pos, seen);
	/* The one boundary that is certain. */
	sweep(v, v->off, seen);
}

/* Do all starts that reach the site agree on the instructions before it? */
static void find_boundaries(struct view *v)
{
	size_t first = v->off - min_u64(v->off, BACK_MAX);
	uint8_t size[BACK_MAX] = { 0 };		/* 0: unknown to capstone */

	v->all = ~0ULL;
	for (size_t pos = first; pos < v->off; pos++) {
		const cs_insn *insn = decode(v, pos);

		size[pos - first] = insn ? (uint8_t)insn->size : 0;
	}

	for (size_t start = first; start + BACK_MIN <= v->off; start++) {
		uint64_t mask = 0;
		size_t pos = start;

		while (pos < v->off && size[pos - first]) {
			if (v->off - pos < 64)
				mask |= 1ULL << (v->off - pos);
			pos += size[pos - first];
		}
		if (pos != v->off) {
			v->missed += pos > v->off;
			continue;
		}
		v->any |= mask;
		v->all &= mask;
		v->starts++;
	}
}

/*
 * The length of the instruction that ends `back` bytes before the site, or 0
 * if there is doubt.
 */
static size_t length_before(const struct view *v, size_t back)
{
	if (v->starts < STARTS_MIN || v->starts <= v->missed)
		return 0;
	for (size_t i = 1; i <= INSN_MAX && back + i < 64; i++) {
		uint64_t bit = 1ULL << (back + i);

		if (v->any & bit)
			return (v->all & bit) ? i : 0;
	}
	return 0;
}

/* Is anything aimed at the inside of [start, end), relative to the site? */
static bool is_entered(const struct view *v, int start, int end)
{
	for (int i = start + 1; i < end; i++) {
		if (v->targets & (1ULL << (REACH + i)))
			return true;
	}
	return false;
}

/*
 * Could `syscall` here be the rest of a longer instruction? Prefixes before
 * it would be left behind, in front of the jump (and AMD's jump with an
 * operand size prefix goes elsewhere).
 */
static bool is_prefixed(const struct view *v)
{
	if (!v->off || (v->starts >= STARTS_MIN && !v->missed))
		return false;

	switch (v->code[v->off - 1]) {
	case 0x26: case 0x2e: case 0x36: case 0x3e:
	case 0x40 ... 0x4f:
	case 0x64 ... 0x67:
	case 0xf0: case 0xf2: case 0xf3:
		return true;
	default:
		return false;
	}
}

static enum site_verdict judge_before(const struct view *v, struct site *out)
{
	size_t back = 0;

	while (back + SYSCALL_LEN < JUMP_LEN) {
		size_t size = length_before(v, back);
		enum site_verdict refusal;

		if (!size)
			return SITE_UNDECODED;
		back += size;
		refusal = refuse_move(decode(v, v->off - back));
		if (refusal != SITE_VERDICTS)
			return refusal;
	}
	if (is_entered(v, -(int)back, SYSCALL_LEN))
		return SITE_BRANCH_TARGET;
	out->window_start = -(int)back;
	return SITE_PATCHABLE_BEFORE;
}

static enum site_verdict judge_after(const struct view *v, struct site *out)
{
	size_t end = SYSCALL_LEN;

	if (is_prefixed(v))
		return SITE_UNDECODED;

	while (end < JUMP_LEN) {
		const cs_insn *insn = decode(v, v->off + end);
		enum site_verdict refusal = refuse_move(insn);

		if (refusal != SITE_VERDICTS)
			return refusal;
		end += insn->size;
	}
	if (is_entered(v, 0, (int)end))
		return SITE_BRANCH_TARGET;
	out->window_end = (int)end;
	return SITE_PATCHABLE_AFTER;
}

static bool is_rax(const cs_x86_op *op)
{
	return op->type == X86_OP_REG &&
	       (op->reg == X86_REG_EAX || op->reg == X86_REG_RAX);
}

static enum site_idiom find_idiom(const struct view *v)
{
	size_t size = length_before(v, 0);
	const cs_insn *insn = size ? decode(v, v->off - size) : NULL;
	const cs_x86_op *op;

	if (!insn)
		return SITE_IDIOM_OTHER;
	op = insn->detail->x86.operands;
	if (insn->detail->x86.op_count != 2 || !is_rax(&op[0]))
		return SITE_IDIOM_OTHER;

	switch (insn->id) {
	case X86_INS_MOV:
	case X86_INS_MOVABS:
		if (op[1].type == X86_OP_IMM)
			return SITE_IDIOM_MOV_IMM;
		if (op[1].type == X86_OP_REG)
			return SITE_IDIOM_MOV_REG;
		return SITE_IDIOM_OTHER;
	case X86_INS_XOR:
		return is_rax(&op[1]) ? SITE_IDIOM_XOR : SITE_IDIOM_OTHER;
	default:
		return SITE_IDIOM_OTHER;
	}
}

static bool is_syscall(const struct view *v)
{
	if (!range_inside(v->off, SYSCALL_LEN, v->len))
		return false;
	if (page_down(v->addr + v->off) == VSYSCALL_START)
		return false;
	return v->code[v->off] == 0x0f && v->code[v->off + 1] == 0x05;
}

void sites_check(struct sites *sites, const uint8_t *code, size_t len,
		 size_t off, uint64_t addr, struct site *out)
{
	struct view v = {
		.sites = sites, .code = code, .len = len, .off = off,
		.addr = addr,
	};
	enum site_verdict after;

	*out = (struct site){
		.verdict = SITE_NOT_SYSCALL, .idiom = SITE_IDIOM_OTHER,
		.window_end = SYSCALL_LEN,
	};
	if (!is_syscall(&v))
		return;

	find_boundaries(&v);
	find_targets(&v);
	out->idiom = find_idiom(&v);
	out->verdict = judge_before(&v, out);
	if (out->verdict == SITE_PATCHABLE_BEFORE)
		return;

	/* Of two refusals, keep the one that says more. */
	after = judge_after(&v, out);
	if (after == SITE_PATCHABLE_AFTER || out->verdict == SITE_UNDECODED)
		out->verdict = after;
}

const char *sites_verdict_name(enum site_verdict verdict)
{
	static const char *const names[SITE_VERDICTS] = {
		[SITE_PATCHABLE_BEFORE] = "patchable-before",
		[SITE_PATCHABLE_AFTER] = "patchable-after",
		[SITE_NOT_SYSCALL] = "not-syscall",
		[SITE_BRANCH_TARGET] = "branch-target",
		[SITE_RIP_RELATIVE] = "rip-relative",
		[SITE_BRANCH] = "branch",
		[SITE_UNDECODED] = "undecoded",
	};

	return (unsigned int)verdict < SITE_VERDICTS ? names[verdict] : "?";
}

const char *sites_idiom_name(enum site_idiom idiom)
{
	static const char *const names[SITE_IDIOMS] = {
		[SITE_IDIOM_MOV_IMM] = "mov-imm",
		[SITE_IDIOM_XOR] = "xor",
		[SITE_IDIOM_MOV_REG] = "mov-reg",
		[SITE_IDIOM_OTHER] = "other",
	};

	return (unsigned int)idiom < SITE_IDIOMS ? names[idiom] : "?";
}
