/* SPDX-License-Identifier: MIT */
/*
 * sites.c - what surrounds a system call instruction (only user of capstone)
 *
 * Theory of operation. A `syscall` has two bytes, a jump has five. The
 * missing ones come from instructions directly before or directly after,
 * which whoever patches carries out elsewhere. Best are five or more bytes
 * before: the `syscall` then stays what it is, for a branch to it, for a
 * thread that is blocked in it and for a call that the kernel restarts. Else
 * its own two bytes are taken, too, with what is before or after.
 *
 * That is right only if
 *
 *  - we know where those instructions begin. After the site this is plain.
 *    Before it x86 gives no answer: the bytes of `mov $1, %eax` are also the
 *    tail of `mov $1, %r8d`. So bytes are never matched backwards. Every
 *    start in a stretch well before the site is decoded forward. x86 code
 *    synchronises within a few instructions, whatever the start; what every
 *    start that arrives at the site agrees on is taken as true, and nothing
 *    is if too few arrive.
 *  - they mean the same elsewhere. What does not:
 *     - branches, calls, returns and traps;
 *     - endbr64, which is where indirect branches land;
 *     - what counts from its own address. An operand that is 32 bits away
 *       from rip can be written anew, if we are sure where the 32 bits are;
 *       with an address size prefix (eip) it cannot;
 *     - what notes its own address: x87 instructions, for fnstenv and for
 *       handlers of SIGFPE.
 *  - nothing enters the window but at its first byte. All the code given is
 *    searched for direct branches into it, and for rip-relative operands,
 *    too: an address that is taken may be jumped to, compared with a signal's
 *    rip or read as data. A displacement shows in four bytes (or one) that
 *    say how far the window is. Only where they do the code around them is
 *    decoded, in the same manner: from every byte that may begin an
 *    instruction, so that what is really executed is among it.
 *
 * The bytes are the target's and may be anything. What cannot be seen here is
 * for whoever patches to guard against (DESIGN 10):
 *
 *  - entries that no displacement shows: jump tables, computed gotos, landing
 *    pads of exceptions, branches from farther away. Where an old instruction
 *    begins inside the jump, its byte there had better trap.
 *  - rip itself. Signals, faults of moved loads and stores, ptrace and
 *    profilers find the copy's address, and a signal's frame, setcontext()
 *    or a single step may lead back to either. Unwinders know nothing of the
 *    copy. `rep` instructions are interrupted in the middle and go on there.
 *  - ranges of addresses that have a meaning: a moved store could be the end
 *    of an rseq section, which ends for the kernel with the old address, and
 *    musl's cancellation compares rip with two labels around its site.
 *  - those who read or write the code: checksums, a JIT that patches the
 *    number in a mov, a debugger's breakpoints and uprobes that come later.
 *
 * Nothing else of the machine tells a copy from its original: flags, stack,
 * red zone and registers are as the program has them, as long as the jumps
 * are the only thing added, and rcx and r11 are after the system call what
 * they would have been.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <capstone/capstone.h>

#include "base/num.h"
#include "guest/sites.h"

#define SYSCALL_LEN	2
#define JUMP_LEN	5	/* jmp rel32 */
#define INSN_MAX	15

/*
 * Decoding starts at each of the bytes from BACK_MAX to BACK_MIN before the
 * site, more than an instruction can have: one of them begins one. BACK_MIN
 * leaves a wrong start room to fall into step; STARTS_MIN is how many must
 * reach the site before their agreement means something. More starts take
 * longer (to decode is most of what a site takes) and find no more sites in
 * Debian's libc, ld.so and busybox.
 */
#define BACK_MAX	47
#define BACK_MIN	32
#define STARTS_MIN	8
#define UNSEEN		0xff

/*
 * What holds a displacement is looked for from SWEEP_BACK before it. Of as
 * many starts as an instruction can have bytes one is a true boundary; the
 * others have the rest to fall into step.
 */
#define SWEEP_BACK	48
#define SWEEPS		INSN_MAX

/* A displacement of 32 bits, and the most bytes of immediate behind it. */
#define DISP_LEN	4
#define IMM_MAX		4

_Static_assert(JUMP_LEN <= SITE_INSNS_MAX, "even a window of nops fits");
_Static_assert(JUMP_LEN - 1 + INSN_MAX + SYSCALL_LEN <= INT8_MAX,
	       "site_insn's off has room");

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
	/* Bit i: an instruction begins i bytes before the site ... */
	uint64_t any;		/* ... says some start, */
	uint64_t all;		/* ... say all starts. */
	size_t starts;		/* how many of them arrived at the site, */
	size_t missed;		/* how many went past it */
};

_Static_assert(BACK_MAX < 64, "masks have 64 bits");
_Static_assert(BACK_MAX - BACK_MIN + 1 >= INSN_MAX, "a start is a true one");

/* [start, end), relative to the site */
struct window {
	int start, end;
};

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

static bool in_group(const cs_insn *insn, uint8_t group)
{
	for (size_t i = 0; i < insn->detail->groups_count; i++) {
		if (insn->detail->groups[i] == group)
			return true;
	}
	return false;
}

/*
 * A near branch with an operand size prefix has two bytes of displacement for
 * AMD and four for Intel.
 */
static bool is_rel16(const cs_insn *insn)
{
	return insn->detail->x86.encoding.imm_size == 2 &&
	       in_group(insn, CS_GRP_BRANCH_RELATIVE) &&
	       insn->id != X86_INS_XBEGIN;
}

/* The instruction at code[pos], until the next decode; NULL if unknown. */
static const cs_insn *decode(const struct view *v, size_t pos)
{
	const uint8_t *code = v->code + pos;
	uint64_t addr = v->addr + pos;
	cs_insn *insn = v->sites->insn;
	size_t left;

	if (pos >= v->len)
		return NULL;
	left = v->len - pos;
	if (!cs_disasm_iter(v->sites->handle, &code, &left, &addr, insn))
		return NULL;
	return is_rel16(insn) ? NULL : insn;
}

/* Does it go anywhere but to the next instruction, for sure or perhaps? */
static bool is_branch(const cs_insn *insn)
{
	static const uint8_t groups[] = {
		CS_GRP_JUMP, CS_GRP_CALL, CS_GRP_RET, CS_GRP_INT, CS_GRP_IRET,
		CS_GRP_BRANCH_RELATIVE, CS_GRP_PRIVILEGE,
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
	case X86_INS_ENCLU:
	case X86_INS_GETSEC:
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

/* Is this the ModRM byte of an operand that is 32 bits away from rip? */
static bool is_rip_modrm(uint8_t modrm)
{
	return (modrm & 0xc7) == 0x05;
}

/* Capstone does not list the operands of all instructions. */
static bool names_rip(const cs_insn *insn)
{
	const cs_x86 *x86 = &insn->detail->x86;

	for (size_t i = 0; i < x86->op_count; i++) {
		if (is_rip_relative(&x86->operands[i]))
			return true;
	}
	return x86->encoding.modrm_offset && is_rip_modrm(x86->modrm);
}

/*
 * Where the displacement of an operand relative to rip is in insn, or 0 if
 * there is any doubt. Capstone says where, but its disp_size is that of an
 * immediate (2 behind an operand size prefix): what surrounds the bytes and
 * what they say has to prove that they are all of it.
 */
static uint8_t find_disp(const cs_insn *insn)
{
	const cs_x86 *x86 = &insn->detail->x86;
	size_t off = x86->encoding.disp_offset;
	int32_t disp;

	if (!off || off + DISP_LEN > insn->size ||
	    insn->size - off - DISP_LEN > IMM_MAX)
		return 0;
	if (x86->addr_size != 8 || x86->encoding.modrm_offset + 1U != off ||
	    !is_rip_modrm(insn->bytes[off - 1]))
		return 0;
	memcpy(&disp, insn->bytes + off, sizeof(disp));
	return x86->disp == disp ? (uint8_t)off : 0;
}

static bool is_endbr(const cs_insn *insn)
{
	return insn->id == X86_INS_ENDBR64 || insn->id == X86_INS_ENDBR32;
}

/*
 * Note how the instruction at the site + off is moved. Returns a verdict that
 * refuses it, or SITE_VERDICTS.
 */
static enum site_verdict take_insn(const struct view *v, int off,
				   struct site_insn *out)
{
	const cs_insn *insn = decode(v, v->off + (size_t)off);
	uint8_t disp = 0;

	if (!insn)
		return SITE_UNDECODED;
	if (is_branch(insn))
		return SITE_BRANCH;
	if (is_endbr(insn))
		return SITE_BRANCH_TARGET;
	if (in_group(insn, X86_GRP_FPU))
		return SITE_RIP_RELATIVE;
	if (names_rip(insn)) {
		disp = find_disp(insn);
		if (!disp)
			return SITE_RIP_RELATIVE;
	}
	*out = (struct site_insn){
		.off = (int8_t)off, .len = (uint8_t)insn->size, .disp = disp,
	};
	return SITE_VERDICTS;
}

/* What is_inside() asks, in one comparison; see may_aim(). */
static bool is_between(int64_t at, int start, int end)
{
	return (uint64_t)(at - start) - 1 < (uint64_t)(end - start) - 1;
}

/* Is it the inside that is meant, not the first byte? */
static bool is_inside(const struct window *w, int64_t at)
{
	return is_between(at, w->start, w->end);
}

static bool aims_inside(const struct view *v, const cs_insn *insn,
			const struct window *w)
{
	const cs_x86 *x86 = &insn->detail->x86;
	uint64_t site = v->addr + v->off;
	bool branch = is_branch(insn);

	for (size_t i = 0; i < x86->op_count; i++) {
		const cs_x86_op *op = &x86->operands[i];

		if (branch && op->type == X86_OP_IMM &&
		    is_inside(w, (int64_t)((uint64_t)op->imm - site)))
			return true;
	}
	return names_rip(insn) &&
	       is_inside(w, (int64_t)(insn->address + insn->size +
				      (uint64_t)x86->disp - site));
}

/* Does a branch's displacement of one byte follow an opcode like this? */
static bool precedes_short(uint8_t last)
{
	return (last & 0xf0) == 0x70 ||		/* jcc */
	       (last & 0xfc) == 0xe0 ||		/* loop, jrcxz */
	       last == 0xeb;			/* jmp */
}

/* Does a displacement of four bytes follow something that ends like this? */
static bool precedes_long(uint8_t before, uint8_t last)
{
	return is_rip_modrm(last) ||
	       last == 0xe8 || last == 0xe9 ||	/* call, jmp */
	       (before == 0x0f && (last & 0xf0) == 0x80); /* jcc */
}

/*
 * May code[pos] be the first byte of a displacement that leads inside? All
 * direct branches and rip-relative operands have one, and what precedes it
 * ends in one of a few ways. This is asked of each byte; what is asked first
 * is hardly ever true, which is what the processor will guess.
 */
static bool may_aim(const struct view *v, size_t pos, const struct window *w)
{
	const uint8_t *p = v->code + pos;
	uint8_t last = p[-1], before = pos > 1 ? p[-2] : 0;
	int64_t at = (int64_t)pos - (int64_t)v->off;
	int32_t rel;

	if (is_inside(w, at + 1 + (int8_t)p[0]) && precedes_short(last))
		return true;
	/* xbegin: so rare that two bytes or four, they may say anything. */
	if (last == 0xf8 && before == 0xc7)
		return true;
	if (v->len - pos < DISP_LEN)
		return false;
	memcpy(&rel, p, sizeof(rel));
	return is_between(at + DISP_LEN + rel, w->start - IMM_MAX, w->end) &&
	       precedes_long(before, last);
}

/*
 * From code[at] on: does an instruction that has code[pos] in it aim inside?
 * Ends where another sweep was.
 */
static bool sweep(const struct view *v, size_t at, size_t pos,
		  const struct window *w, bool seen[SWEEP_BACK + 1])
{
	while (at <= pos) {
		bool *been = &seen[pos - at];
		const cs_insn *insn;

		if (*been)
			return false;
		*been = true;
		insn = decode(v, at);
		if (insn && at + insn->size > pos && aims_inside(v, insn, w))
			return true;
		/* What capstone does not know is crossed byte by byte. */
		at += insn ? insn->size : 1;
	}
	return false;
}

static bool does_aim(const struct view *v, size_t pos, const struct window *w)
{
	size_t first = pos - min_u64(pos, SWEEP_BACK);
	bool seen[SWEEP_BACK + 1] = { false };

	for (size_t at = first; at < first + SWEEPS && at <= pos; at++) {
		if (sweep(v, at, pos, w, seen))
			return true;
	}
	/* The one boundary that is certain. */
	return v->off >= first && sweep(v, v->off, pos, w, seen);
}

/* Does anything in all the code lead to the inside of the window? */
static bool is_entered(const struct view *v, const struct window *w)
{
	for (size_t pos = 1; pos < v->len; pos++) {
		if (may_aim(v, pos, w) && does_aim(v, pos, w))
			return true;
	}
	return false;
}

/* The length of the instruction at code[pos], 0 if unknown to capstone. */
static uint8_t length_at(const struct view *v, size_t pos, uint8_t *known)
{
	const cs_insn *insn;

	if (*known == UNSEEN) {
		insn = decode(v, pos);
		*known = insn ? (uint8_t)insn->size : 0;
	}
	return *known;
}

/* Do all starts that reach the site agree on the instructions before it? */
static void find_boundaries(struct view *v)
{
	size_t first = v->off - min_u64(v->off, BACK_MAX);
	uint8_t known[BACK_MAX];

	memset(known, UNSEEN, sizeof(known));
	v->all = ~0ULL;
	for (size_t start = first; start + BACK_MIN <= v->off; start++) {
		uint64_t mask = 0;
		size_t pos = start;

		while (pos < v->off) {
			uint8_t len = length_at(v, pos, &known[pos - first]);

			if (!len)
				break;
			mask |= 1ULL << (v->off - pos);
			pos += len;
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

/*
 * Can `want` bytes or more before the site be moved, together with the bytes
 * from the site up to end?
 */
static enum site_verdict judge_before(const struct view *v, size_t want,
				      int end, struct site *out)
{
	struct site_insn insns[SITE_INSNS_MAX];
	struct window w = { .end = end };
	size_t n = 0, back = 0;

	while (back < want) {
		size_t len = length_before(v, back);
		enum site_verdict refusal;

		if (!len)
			return SITE_UNDECODED;
		back += len;
		refusal = take_insn(v, -(int)back, &insns[n++]);
		if (refusal != SITE_VERDICTS)
			return refusal;
	}
	w.start = -(int)back;
	if (is_entered(v, &w))
		return SITE_BRANCH_TARGET;

	out->window_start = w.start;
	out->window_end = w.end;
	while (n)
		out->insns[out->ninsns++] = insns[--n];
	return SITE_PATCHABLE_BEFORE;
}

static enum site_verdict judge_after(const struct view *v, struct site *out)
{
	struct window w = { .end = SYSCALL_LEN };
	struct site_insn insns[SITE_INSNS_MAX];
	size_t n = 0;

	if (is_prefixed(v))
		return SITE_UNDECODED;

	while (w.end < JUMP_LEN) {
		enum site_verdict refusal = take_insn(v, w.end, &insns[n]);

		if (refusal != SITE_VERDICTS)
			return refusal;
		w.end += insns[n++].len;
	}
	if (is_entered(v, &w))
		return SITE_BRANCH_TARGET;

	out->window_end = w.end;
	out->ninsns = (uint8_t)n;
	memcpy(out->insns, insns, n * sizeof(*insns));
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
	out->idiom = find_idiom(&v);
	out->verdict = judge_before(&v, JUMP_LEN, 0, out);
	if (out->verdict != SITE_PATCHABLE_BEFORE)
		out->verdict = judge_before(&v, JUMP_LEN - SYSCALL_LEN,
					    SYSCALL_LEN, out);
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
