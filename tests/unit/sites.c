/* SPDX-License-Identifier: MIT */
/*
 * sites.c - does guest/sites.c judge system call sites rightly?
 *
 * sites                     run the tests, print TAP
 * sites --judge FILE OFFSET print the judgement of one site in raw code
 * sites --census FILE       print how the sites of an ELF file fare
 */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <capstone/capstone.h>

#include "base/fd.h"
#include "base/num.h"
#include "guest/sites.h"
#include "tap.h"

#define FILE_MAX	(256UL << 20)
#define FUZZ_ROUNDS	200000
#define FUZZ_LEN	192
#define CENSUS_AROUND	4096	/* bytes shown on either side of a site */
#define CENSUS_ROUNDS	5
#define BASE		0x401000ULL

/*
 * A case is PAD nops, before, `syscall`, after, PAD nops; enough of them for
 * the starts of decoding to fall into step.
 */
#define PAD 64

struct site_case {
	const char *what;
	const char *before;
	size_t nbefore;
	const char *after;
	size_t nafter;
	enum site_verdict verdict;
	enum site_idiom idiom;
	int start, end;
};

#define CODE(s) s, sizeof(s) - 1

static const struct site_case cases[] = {
	{ "mov $imm, %eax before is moved",
	  CODE("\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 0 },
	{ "mov $imm, %rax before is moved",
	  CODE("\x48\xc7\xc0\x0f\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -7, 0 },
	{ "movabs $imm, %rax before is moved",
	  CODE("\x48\xb8\x27\0\0\0\0\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -10, 0 },
	{ "xor %eax, %eax takes its predecessor along",
	  CODE("\x89\xdf\x31\xc0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_XOR, -5, 0 },
	{ "xor %ecx, %eax does not set a number",
	  CODE("\x89\xdf\x31\xc8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -5, 0 },
	{ "mov %r11d, %eax of a cancellation point",
	  CODE("\x44\x89\xd8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -5, 0 },
	{ "mov %rdi, %rax of musl",
	  CODE("\x48\x89\xf8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -5, 0 },
	{ "Go's raw system call has its number in rax already",
	  CODE("\x48\x89\xce\x48\x89\xdf"),
	  CODE("\x48\x3d\x01\xf0\xff\xff\x76\x17"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -6, 0 },
	{ "the tail of mov $imm, %r8d is not mov $imm, %eax",
	  CODE("\x41\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -6, 0 },
	{ "the tail of movabs $imm, %rbx is not mov $imm, %eax",
	  CODE("\x48\xbb\0\0\0\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -10, 0 },
	{ "a comparison after is moved where a call stands before",
	  CODE("\xff\xd0"), CODE("\x48\x3d\0\xf0\xff\xff\xc3"),
	  SITE_PATCHABLE_AFTER, SITE_IDIOM_OTHER, 0, 8 },
	{ "two instructions after are moved where one is too short",
	  CODE("\xff\xd0"), CODE("\x5b\x89\xc3\xc3"),
	  SITE_PATCHABLE_AFTER, SITE_IDIOM_OTHER, 0, 5 },
	{ "endbr64 before is not moved, what is after is",
	  CODE("\xf3\x0f\x1e\xfa"), CODE("\x48\x3d\0\xf0\xff\xff\xc3"),
	  SITE_PATCHABLE_AFTER, SITE_IDIOM_OTHER, 0, 8 },
	{ "a branch to the first byte of the window does no harm",
	  CODE("\xb8\x27\0\0\0"), CODE("\xeb\xf7"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 0 },
	{ "a branch to the syscall does no harm where it is left as it is",
	  CODE("\xb8\x27\0\0\0"), CODE("\x74\xfc\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 0 },
	{ "the address of such a syscall may be taken",
	  CODE("\x48\x8d\x0d\x05\0\0\0\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 0 },
	{ "a branch to a syscall that would be replaced leaves what is after",
	  CODE("\xff\xd0\x89\xdf\x31\xc0"),
	  CODE("\x48\x3d\0\xf0\xff\xff\x74\xf6"),
	  SITE_PATCHABLE_AFTER, SITE_IDIOM_XOR, 0, 8 },
	{ "four bytes before and the syscall where a call precedes them",
	  CODE("\xff\xd0\x89\xdf\x31\xc0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_XOR, -4, 2 },
	{ "three bytes before and the syscall where endbr64 precedes them",
	  CODE("\xf3\x0f\x1e\xfa\x44\x89\xd8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -3, 2 },
	{ "three bytes before where a branch enters the five",
	  CODE("\x89\xdf\x44\x89\xd8"), CODE("\x74\xf9\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -3, 2 },
	{ "no more is moved than five bytes take",
	  CODE("\x89\xdf\x90\x31\xc0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_XOR, -5, 0 },
	{ "a branch back to the end of the window does no harm",
	  CODE("\xff\xd0\x44\x89\xd8"), CODE("\x90\xeb\xfd"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -3, 2 },
	{ "rip-relative before is moved",
	  CODE("\x8b\x05\0\x01\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -6, 0 },
	{ "rip-relative after is moved",
	  CODE("\xff\xd0"), CODE("\x48\x8d\x3d\0\x01\0\0\xc3"),
	  SITE_PATCHABLE_AFTER, SITE_IDIOM_OTHER, 0, 9 },

	{ "refused: a branch into the five bytes and nothing to move after",
	  CODE("\x89\xdf\x90\x31\xc0"), CODE("\x74\xfa\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_XOR, 0, 2 },
	{ "refused: loop to a syscall with a call before, endbr64 after",
	  CODE("\xff\xd0\x44\x89\xd8"), CODE("\xf3\x0f\x1e\xfa\xe2\xf8"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_REG, 0, 2 },
	{ "refused: xbegin with 16 bits, to a syscall with a call before",
	  CODE("\xff\xd0\x44\x89\xd8"), CODE("\x66\xc7\xf8\xf9\xff\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_REG, 0, 2 },
	{ "refused: jmp with an operand size prefix, as Intel reads it",
	  CODE("\xff\xd0\x44\x89\xd8"),
	  CODE("\xc3\x66\xe9\xf7\xff\xff\xff"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_REG, 0, 2 },
	{ "refused: endbr64 before and after",
	  CODE("\xf3\x0f\x1e\xfa"), CODE("\xf3\x0f\x1e\xfa"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: a branch after a syscall in the middle of a movabs",
	  CODE("\x48\xb8"), CODE("\x89\xc3\x90\xeb\xfd\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: the address of a syscall to be replaced is taken",
	  CODE("\x48\x8d\x0d\x05\0\0\0\xff\xd0\x44\x89\xd8"),
	  CODE("\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_REG, 0, 2 },
	{ "refused: the address of the middle is taken with a number behind",
	  CODE("\xc7\x05\x03\0\0\0\x01\0\0\0\x89\xdf\x90\x31\xc0"),
	  CODE("\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_XOR, 0, 2 },
	{ "refused: eip-relative before, ret after",
	  CODE("\x67\x8b\x05\0\x01\0\0"), CODE("\xc3"),
	  SITE_RIP_RELATIVE, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: eip-relative lea before and after",
	  CODE("\x67\x8d\x3d\0\x01\0\0"), CODE("\x67\x8d\x3d\0\x01\0\0"),
	  SITE_RIP_RELATIVE, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: x87 instructions, which note where they are",
	  CODE("\xd9\xe8"), CODE("\xdd\x05\0\x01\0\0"),
	  SITE_RIP_RELATIVE, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: a write to fs before, vmmcall after",
	  CODE("\x8e\xe0"), CODE("\x0f\x01\xd9"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: enclu before and after",
	  CODE("\x0f\x01\xd7"), CODE("\x0f\x01\xd7"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: call before, ret after",
	  CODE("\xff\xd0"), CODE("\xc3"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: loop before, jrcxz after",
	  CODE("\xe2\x70"), CODE("\xe3\x70"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: breakpoints before and after",
	  CODE("\xcc"), CODE("\xcc"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: other system calls before and after",
	  CODE("\x0f\x05"), CODE("\x0f\x05"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: hlt and ud2",
	  CODE("\xf4"), CODE("\x0f\x0b"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: xbegin before, xabort after",
	  CODE("\xc7\xf8\x40\0\0\0"), CODE("\xc6\xf8\0"),
	  SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: rdpkru before and after",
	  CODE("\x0f\x01\xee"), CODE("\x0f\x01\xee"),
	  SITE_UNDECODED, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: a REX prefix that belongs to the syscall",
	  CODE("\xb8\x27\0\0\0\x48"), CODE("\x48\x3d\0\xf0\xff\xff"),
	  SITE_UNDECODED, SITE_IDIOM_OTHER, 0, 2 },
};

static bool is_site(const struct site *site, enum site_verdict verdict,
		    enum site_idiom idiom, int start, int end)
{
	if (site->verdict == verdict && site->idiom == idiom &&
	    site->window_start == start && site->window_end == end)
		return true;
	printf("# got %s %s %d %d\n", sites_verdict_name(site->verdict),
	       sites_idiom_name(site->idiom), site->window_start,
	       site->window_end);
	return false;
}

static void test_case(struct sites *sites, const struct site_case *c)
{
	uint8_t code[2 * PAD + 32];
	size_t off = PAD + c->nbefore;
	struct site site;

	memset(code, 0x90, sizeof(code));
	memcpy(code + PAD, c->before, c->nbefore);
	memcpy(code + off, "\x0f\x05", 2);
	memcpy(code + off + 2, c->after, c->nafter);
	sites_check(sites, code, sizeof(code), off, BASE, &site);
	ok(is_site(&site, c->verdict, c->idiom, c->start, c->end), c->what);
}

/* Memory whose last byte is followed by a page that cannot be read. */
static uint8_t *guarded(size_t len)
{
	uint8_t *map = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || mprotect(map + PAGE_BYTES, PAGE_BYTES,
					  PROT_NONE)) {
		perror("mmap");
		exit(1);
	}
	return map + PAGE_BYTES - len;
}

static void release(uint8_t *mem, size_t len)
{
	munmap(mem + len - PAGE_BYTES, 2 * PAGE_BYTES);
}

static bool judges(struct sites *sites, const char *bytes, size_t len,
		   size_t off, uint64_t addr, enum site_verdict verdict)
{
	uint8_t *code = guarded(len);
	struct site site;
	bool good;

	if (len)
		memcpy(code, bytes, len);
	sites_check(sites, code, len, off, addr, &site);
	good = site.verdict == verdict;
	if (!good)
		printf("# got %s\n", sites_verdict_name(site.verdict));
	release(code, len);
	return good;
}

static void test_entries(struct sites *sites)
{
	ok(judges(sites, CODE("\xcd\x80\x89\xc3\x89\xc3"), 0, BASE,
		  SITE_NOT_SYSCALL), "int $0x80 is not a syscall");
	ok(judges(sites, CODE("\x0f\x34\x89\xc3\x89\xc3"), 0, BASE,
		  SITE_NOT_SYSCALL), "sysenter is not a syscall");
	ok(judges(sites, CODE("\x0f\x05\x89\xc3\x89\xc3"), 0,
		  0xffffffffff600000ULL, SITE_NOT_SYSCALL),
	   "the vsyscall page holds no site");
}

static void test_edges(struct sites *sites)
{
	ok(judges(sites, CODE("\x0f\x05"), 0, BASE, SITE_UNDECODED),
	   "a syscall with nothing around it is refused");
	ok(judges(sites, CODE("\x0f\x05\x48\x89\xc3"), 0, BASE,
		  SITE_PATCHABLE_AFTER),
	   "a syscall where the code starts is judged by what follows");
	ok(judges(sites, CODE("\x0f\x05\x48\x89"), 0, BASE, SITE_UNDECODED),
	   "an instruction cut off by the end of the code is not moved");
	ok(judges(sites, CODE("\xb8\x27\0\0\0\x0f\x05\xc3"), 5, BASE,
		  SITE_BRANCH),
	   "five bytes before the site prove no instruction boundary");
	ok(judges(sites, CODE("\x66\x0f\x05\x48\x89\xc3"), 1, BASE,
		  SITE_UNDECODED),
	   "a prefix where the code starts is not left behind");
	ok(judges(sites, CODE("\x0f"), 0, BASE, SITE_NOT_SYSCALL),
	   "half a syscall is none");
	ok(judges(sites, CODE(""), 0, BASE, SITE_NOT_SYSCALL),
	   "no code holds no site");
	ok(judges(sites, CODE("\x0f\x05"), 2, BASE, SITE_NOT_SYSCALL) &&
	   judges(sites, CODE("\x0f\x05"), SIZE_MAX, BASE, SITE_NOT_SYSCALL),
	   "an offset outside the code holds no site");
}

/* The last site of a mapping: everything before it, nothing after. */
static void test_end(struct sites *sites)
{
	uint8_t *code = guarded(PAD + 7);
	struct site site;

	memset(code, 0x90, PAD);
	memcpy(code + PAD, "\xb8\x27\0\0\0\x0f\x05", 7);
	sites_check(sites, code, PAD + 7, PAD + 5, BASE, &site);
	ok(is_site(&site, SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 0),
	   "a syscall where the code ends is judged by what precedes");

	/* Targets and addresses wrap; the arithmetic must not mind. */
	sites_check(sites, code, PAD + 7, PAD + 5, UINT64_MAX - PAD - 6,
		    &site);
	ok(is_site(&site, SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 0),
	   "a syscall in the last two bytes of all addresses is judged");
	release(code, PAD + 7);
}

/*
 * Every byte of this begins a five-byte cmp or add with %eax, so that there
 * are five streams of instructions which never fall into step. With tail
 * bytes of nop behind it they do, and all meet the site.
 */
static bool refuses_streams(struct sites *sites, size_t tail)
{
	static const uint8_t unit[] = { 0x3d, 0x05, 0x05, 0x3d, 0x05 };
	uint8_t code[PAD + 3];
	struct site site;

	for (size_t i = 0; i < PAD; i++)
		code[i] = i < PAD - tail ? unit[i % sizeof(unit)] : 0x90;
	memcpy(code + PAD, "\x0f\x05\xc3", 3);
	sites_check(sites, code, sizeof(code), PAD, BASE, &site);
	return is_site(&site, SITE_BRANCH, SITE_IDIOM_OTHER, 0, 2);
}

static void test_disagreement(struct sites *sites)
{
	ok(refuses_streams(sites, 0),
	   "nothing before is moved where most decodings miss the site");
	ok(refuses_streams(sites, 4),
	   "nothing before is moved where decodings disagree");
}

/* A far branch into the window is found beyond bytes capstone rejects. */
static void test_far_branch(struct sites *sites)
{
	uint8_t code[1024];
	struct site site;
	int32_t rel = 98 - (900 + 5);

	memset(code, 0x90, sizeof(code));
	memcpy(code + 95, "\x89\xdf\x90\x31\xc0\x0f\x05\xc3", 8);
	memcpy(code + 890, "\x0f\x01\xee", 3);
	code[900] = 0xe9;
	memcpy(code + 901, &rel, sizeof(rel));
	sites_check(sites, code, sizeof(code), 100, BASE, &site);
	ok(is_site(&site, SITE_BRANCH_TARGET, SITE_IDIOM_XOR, 0, 2),
	   "a far branch into the window is seen beyond what is undecoded");

	/* The same bytes as the number in a movabs. */
	memcpy(code + 898, "\x48\xb8\x90", 3);
	memcpy(code + 905, "\0\0\0", 3);
	sites_check(sites, code, sizeof(code), 100, BASE, &site);
	ok(is_site(&site, SITE_PATCHABLE_BEFORE, SITE_IDIOM_XOR, -5, 0),
	   "a number that looks like such a branch is none");
}

/* A decoder that knows nothing of what sites.c thinks of its findings. */
static csh detailed(void)
{
	csh handle;

	if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK ||
	    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK) {
		fprintf(stderr, "capstone does not start\n");
		exit(1);
	}
	return handle;
}

static cs_insn *decoded(csh handle, const uint8_t *code, size_t len,
			uint64_t addr)
{
	cs_insn *insn = cs_malloc(handle);

	if (cs_disasm_iter(handle, &code, &len, &addr, insn))
		return insn;
	cs_free(insn, 1);
	return NULL;
}

static bool same_operand(const cs_insn *a, const cs_insn *b, size_t i,
			 bool *rip)
{
	const cs_x86_op *x = &a->detail->x86.operands[i];
	const cs_x86_op *y = &b->detail->x86.operands[i];

	if (x->type != y->type || x->size != y->size)
		return false;
	if (x->type == X86_OP_IMM)
		return x->imm == y->imm;
	if (x->type == X86_OP_REG)
		return x->reg == y->reg;
	if (x->mem.base != y->mem.base || x->mem.index != y->mem.index ||
	    x->mem.segment != y->mem.segment || x->mem.scale != y->mem.scale)
		return false;
	if (x->mem.base != X86_REG_RIP)
		return x->mem.disp == y->mem.disp &&
		       x->mem.base != X86_REG_EIP;
	*rip = true;
	return a->address + a->size + (uint64_t)x->mem.disp ==
	       b->address + b->size + (uint64_t)y->mem.disp;
}

static bool same_insn(const cs_insn *a, const cs_insn *b,
		      const struct site_insn *move)
{
	bool rip = false;

	if (a->size != move->len || b->size != move->len || a->id != b->id ||
	    a->detail->x86.op_count != b->detail->x86.op_count)
		return false;
	for (size_t i = 0; i < a->detail->x86.op_count; i++) {
		if (!same_operand(a, b, i, &rip))
			return false;
	}
	return rip == (move->disp != 0);
}

/* Does insn, once moved up as its site says, do what it does at addr? */
static bool means_the_same(csh handle, const uint8_t *insn, uint64_t addr,
			   const struct site_insn *move, int32_t up)
{
	cs_insn *a, *b;
	uint8_t copy[15];
	int32_t disp;
	bool good;

	if (!move->len || move->len > sizeof(copy) ||
	    (move->disp && move->disp + sizeof(disp) > move->len))
		return false;
	memcpy(copy, insn, move->len);
	if (move->disp) {
		memcpy(&disp, copy + move->disp, sizeof(disp));
		if (__builtin_sub_overflow(disp, up, &disp))
			return true;	/* not to be moved as far as that */
		memcpy(copy + move->disp, &disp, sizeof(disp));
	}
	a = decoded(handle, insn, move->len, addr);
	b = decoded(handle, copy, move->len, addr + (uint64_t)(int64_t)up);
	good = a && b && same_insn(a, b, move);
	if (!good && a)
		printf("# %s %s: disp %u\n", a->mnemonic, a->op_str,
		       move->disp);
	if (a)
		cs_free(a, 1);
	if (b)
		cs_free(b, 1);
	return good;
}

/*
 * Are the instructions of a patchable site all of its window, in order, and
 * do they bear to be moved?
 */
static bool is_movable(csh handle, const uint8_t *code, size_t len, size_t off,
		       uint64_t addr, const struct site *site)
{
	int at = site->window_start;

	if (at > 0 || (size_t)-at > off || site->window_end < 0 ||
	    (size_t)site->window_end > len - off ||
	    site->window_end - at < 5 || site->ninsns > SITE_INSNS_MAX)
		return false;
	for (size_t i = 0; i < site->ninsns; i++) {
		const struct site_insn *move = &site->insns[i];
		size_t pos = off + (size_t)(int64_t)move->off;

		at += at ? 0 : site->window_end > 0 ? 2 : 0;
		if (move->off != at ||
		    !means_the_same(handle, code + pos, addr + pos, move,
				    0x12345678) ||
		    !means_the_same(handle, code + pos, addr + pos, move,
				    -0x7654321))
			return false;
		at += move->len;
	}
	at += at ? 0 : site->window_end;
	return at == site->window_end;
}

/*
 * What an opcode may stand behind; all values of ModRM's middle are tried, or
 * two of them, since the rest make no difference but to registers.
 */
static const struct {
	const char *bytes;
	size_t len;
	uint8_t step;
} heads[] = {
	{ CODE(""), 1 }, { CODE("\x66"), 1 }, { CODE("\x48"), 1 },
	{ CODE("\x67"), 7 }, { CODE("\xf2"), 7 }, { CODE("\xf3"), 7 },
	{ CODE("\x66\x4c"), 7 }, { CODE("\xf0"), 7 }, { CODE("\x64"), 7 },
	{ CODE("\x0f"), 1 }, { CODE("\x66\x0f"), 1 }, { CODE("\x48\x0f"), 1 },
	{ CODE("\x67\x0f"), 7 }, { CODE("\xf2\x0f"), 7 },
	{ CODE("\xf3\x0f"), 7 }, { CODE("\xf3\x48\x0f"), 7 },
	{ CODE("\x0f\x38"), 7 }, { CODE("\x66\x0f\x38"), 7 },
	{ CODE("\xf2\x0f\x38"), 7 },
	{ CODE("\x0f\x3a"), 7 }, { CODE("\x66\x0f\x3a"), 7 },
	{ CODE("\xc5\xf8"), 7 }, { CODE("\xc5\xf9"), 7 },
	{ CODE("\xc5\xfe"), 7 }, { CODE("\xc5\xff"), 7 },
	{ CODE("\xc4\xe2\x79"), 7 }, { CODE("\xc4\xe2\xfd"), 7 },
	{ CODE("\xc4\xe2\x78"), 7 }, { CODE("\xc4\xe3\x79"), 7 },
	{ CODE("\xc4\xe3\xfd"), 7 }, { CODE("\x67\xc4\xe2\x79"), 7 },
	{ CODE("\x62\xf1\x7c\x48"), 7 }, { CODE("\x62\xf1\xfd\x48"), 7 },
	{ CODE("\x62\xf2\x7d\x48"), 7 }, { CODE("\x62\xf3\x7d\x48"), 7 },
	{ CODE("\x8f\xe8\x78"), 7 }, { CODE("\x8f\xe9\x78"), 7 },
	{ CODE("\x8f\xea\x78"), 7 },
};

struct opcodes {
	size_t ntried;
	size_t nrewritten;
	size_t nrefused;	/* for what they count from */
	size_t nwrong;
};

/* One instruction with an operand beside rip, directly before a site. */
static void try_opcode(struct sites *sites, csh handle, const uint8_t *bytes,
		       size_t len, struct opcodes *o)
{
	cs_insn *insn = decoded(handle, bytes, len, BASE + PAD);
	size_t off = PAD + (insn ? insn->size : 0);
	uint8_t code[2 * PAD];
	struct site site;

	if (!insn)
		return;
	cs_free(insn, 1);
	memset(code, 0x90, sizeof(code));
	memcpy(code + PAD, bytes, off - PAD);
	memcpy(code + off, "\x0f\x05\xc3", 3);
	sites_check(sites, code, sizeof(code), off, BASE, &site);
	o->ntried++;
	o->nrefused += site.verdict == SITE_RIP_RELATIVE;
	if (site.verdict > SITE_PATCHABLE_AFTER)
		return;
	o->nwrong += !is_movable(handle, code, sizeof(code), off, BASE, &site);
	for (size_t i = 0; i < site.ninsns; i++)
		o->nrewritten += site.insns[i].disp != 0;
}

static void test_opcodes(struct sites *sites)
{
	static const char tail[] = "\x00\x01\x00\x00\x11\x11\x11\x11";
	csh handle = detailed();
	struct opcodes o = { 0 };
	uint8_t bytes[15];

	for (size_t i = 0; i < ARRAY_SIZE(heads) * 256; i++) {
		size_t len = heads[i / 256].len;

		memcpy(bytes, heads[i / 256].bytes, len);
		bytes[len] = (uint8_t)i;
		memcpy(bytes + len + 2, tail, 8);
		for (unsigned int reg = 0; reg < 8;
		     reg += heads[i / 256].step) {
			bytes[len + 1] = (uint8_t)(0x05 | reg << 3);
			try_opcode(sites, handle, bytes, len + 10, &o);
		}
	}
	cs_close(&handle);
	printf("# %zu opcodes, %zu rewritten, %zu refused for rip\n",
	       o.ntried, o.nrewritten, o.nrefused);
	ok(o.nrewritten > 1000 && !o.nwrong,
	   "operands beside rip stay the same in a move, whatever the opcode");
}

/* code is shown among nops; its syscall is code[off]. */
static bool has_moves(struct sites *sites, const char *code, size_t len,
		      size_t off, const struct site_insn *moves, size_t n)
{
	uint8_t bytes[3 * PAD];
	struct site site;

	memset(bytes, 0x90, sizeof(bytes));
	memcpy(bytes + PAD, code, len);
	sites_check(sites, bytes, sizeof(bytes), PAD + off, BASE, &site);
	return site.ninsns == n &&
	       !memcmp(site.insns, moves, n * sizeof(*moves));
}

static void test_moves(struct sites *sites)
{
	static const struct site_insn two[] = { { -6, 4, 0 }, { -2, 2, 0 } };
	static const struct site_insn number[] = { { -10, 10, 2 } };
	static const struct site_insn after[] = { { 2, 2, 0 }, { 4, 9, 3 } };

	/* movzwl (%rsp), %edi; xor %eax, %eax */
	ok(has_moves(sites, CODE("\x0f\xb7\x3c\x24\x31\xc0\x0f\x05\xc3"), 6,
		     two, 2), "what is moved is listed in order");
	/* movl $5, 0x100(%rip) */
	ok(has_moves(sites, CODE("\xc7\x05\0\x01\0\0\x05\0\0\0"
				 "\x0f\x05\xc3"), 10, number, 1),
	   "a displacement is found before a number");
	/* call; syscall; mov %eax, %ebx; movw $5, 0x100(%rip) */
	ok(has_moves(sites, CODE("\xff\xd0\x0f\x05\x89\xc3"
				 "\x66\xc7\x05\0\x01\0\0\x05\0\xc3"), 2,
		     after, 2),
	   "a displacement is found behind a prefix, after");
}

static void test_names(void)
{
	bool good = true;

	for (int i = 0; i < SITE_VERDICTS; i++)
		good &= sites_verdict_name((enum site_verdict)i)[0] != '?';
	for (int i = 0; i < SITE_IDIOMS; i++)
		good &= sites_idiom_name((enum site_idiom)i)[0] != '?';
	good &= !strcmp(sites_verdict_name(SITE_VERDICTS), "?");
	good &= !strcmp(sites_idiom_name((enum site_idiom)-1), "?");
	ok(good, "every verdict and idiom has a name, others have \"?\"");
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Half noise, half bytes that make instructions of interest. */
static void fill_random(uint8_t *code, size_t len, uint64_t *state)
{
	static const uint8_t spice[] = {
		0x0f, 0x05, 0x48, 0xb8, 0x89, 0xc0, 0x31, 0xeb, 0x74, 0xe8,
		0xe9, 0x66, 0xf3, 0x90, 0x00, 0xff, 0xc3, 0x8d, 0xfa, 0x1e,
	};

	for (size_t i = 0; i < len; i++) {
		uint64_t r = next_random(state);

		code[i] = (r & 0x100) ? spice[(r >> 16) % sizeof(spice)] :
					(uint8_t)r;
	}
}

static bool fuzz_round(struct sites *sites, csh handle, uint8_t *buf,
		       uint64_t *state)
{
	size_t len = next_random(state) % (FUZZ_LEN + 1);
	size_t off = next_random(state) % (len + 2);
	uint8_t *code = buf + FUZZ_LEN - len;
	bool plant = next_random(state) % 4;
	struct site site;

	fill_random(code, len, state);
	if (plant && len >= 2) {
		off = off > len - 2 ? len - 2 : off;
		memcpy(code + off, "\x0f\x05", 2);
	}
	sites_check(sites, code, len, off, BASE, &site);

	switch (site.verdict) {
	case SITE_PATCHABLE_BEFORE:
	case SITE_PATCHABLE_AFTER:
		return is_movable(handle, code, len, off, BASE, &site);
	default:
		return site.verdict < SITE_VERDICTS &&
		       site.window_start == 0 && site.window_end == 2 &&
		       !site.ninsns;
	}
}

static void test_fuzz(struct sites *sites)
{
	uint8_t *buf = guarded(FUZZ_LEN);
	uint64_t state = 0x9e3779b97f4a7c15ULL;
	csh handle = detailed();
	int round = 0;

	while (round < FUZZ_ROUNDS && fuzz_round(sites, handle, buf, &state))
		round++;
	cs_close(&handle);
	if (round < FUZZ_ROUNDS)
		printf("# round %d failed\n", round);
	ok(round == FUZZ_ROUNDS,
	   "random bytes are read within bounds and judged soundly");
	release(buf, FUZZ_LEN);
}

struct census {
	size_t verdicts[SITE_VERDICTS];
	size_t idioms[SITE_IDIOMS];
	size_t nsites;
	size_t npatchable;
	size_t npartial;	/* the syscall is replaced, too, */
	size_t nentry;		/* something begins inside the jump, */
	size_t nrewritten;	/* a displacement changes, */
	size_t nwrong;		/* or is_movable() denies it */
	double ns;
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The best of some rounds: what else the machine does is not of interest. */
static void check_timed(struct sites *sites, const uint8_t *code, size_t len,
			size_t off, uint64_t addr, struct site *site,
			double *ns)
{
	double best = 1e18;

	for (int i = 0; i < CENSUS_ROUNDS; i++) {
		double start = now_ns();

		sites_check(sites, code, len, off, addr, site);
		start = now_ns() - start;
		best = start < best ? start : best;
	}
	*ns += best;
}

/* Did an instruction begin at what will be offset 1 to 4 of the jump? */
static bool has_entry(const struct site *site)
{
	bool found = site->window_end > 0 && -site->window_start > 0 &&
		     -site->window_start < 5;

	for (size_t i = 0; i < site->ninsns; i++) {
		int at = site->insns[i].off - site->window_start;

		found |= at > 0 && at < 5;
	}
	return found;
}

static void count_patchable(csh handle, const uint8_t *code, size_t len,
			    size_t off, uint64_t addr,
			    const struct site *site, struct census *census)
{
	census->npatchable++;
	census->npartial += site->window_end > 0;
	census->nentry += has_entry(site);
	census->nwrong += !is_movable(handle, code, len, off, addr, site);
	for (size_t i = 0; i < site->ninsns; i++)
		census->nrewritten += site->insns[i].disp != 0;
}

static void count_site(struct sites *sites, csh handle, const uint8_t *text,
		       size_t len, size_t off, uint64_t addr,
		       struct census *census)
{
	size_t first = off - min_u64(off, CENSUS_AROUND);
	size_t last = min_u64(off + CENSUS_AROUND, len);
	struct site site;

	check_timed(sites, text + first, last - first, off - first,
		    addr + first, &site, &census->ns);
	census->verdicts[site.verdict]++;
	census->idioms[site.idiom]++;
	census->nsites++;
	if (site.verdict <= SITE_PATCHABLE_AFTER)
		count_patchable(handle, text, len, off, addr, &site, census);
	else
		printf("# refused: %s at %#zx\n",
		       sites_verdict_name(site.verdict), (size_t)addr + off);
}

static void sweep_text(struct sites *sites, const uint8_t *text, size_t len,
		       uint64_t addr, struct census *census)
{
	const uint8_t *p = text;
	size_t left = len;
	uint64_t at = addr;
	csh handle = detailed();
	cs_insn *insn = cs_malloc(handle);

	while (left) {
		if (!cs_disasm_iter(handle, &p, &left, &at, insn)) {
			p++;
			left--;
			at++;
		} else if (insn->id == X86_INS_SYSCALL && insn->size == 2) {
			count_site(sites, handle, text, len,
				   insn->address - addr, addr, census);
		}
	}
	cs_free(insn, 1);
	cs_close(&handle);
}

/* Counts every executable section; 0 or -errno. */
static int take_census(struct sites *sites, const char *path,
		       struct census *census)
{
	char *file cleanup_free = NULL;
	ssize_t len = fd_read_all(path, FILE_MAX, &file);
	Elf64_Ehdr ehdr;

	if (len < 0)
		return (int)len;
	if ((size_t)len < sizeof(ehdr))
		return -ENOEXEC;
	memcpy(&ehdr, file, sizeof(ehdr));
	for (size_t i = 0; i < ehdr.e_shnum; i++) {
		uint64_t at = ehdr.e_shoff + i * sizeof(Elf64_Shdr);
		Elf64_Shdr shdr;

		if (!range_inside(at, sizeof(shdr), (uint64_t)len))
			return -ENOEXEC;
		memcpy(&shdr, file + at, sizeof(shdr));
		if (shdr.sh_type != SHT_PROGBITS ||
		    !(shdr.sh_flags & SHF_EXECINSTR))
			continue;
		if (!range_inside(shdr.sh_offset, shdr.sh_size, (uint64_t)len))
			return -ENOEXEC;
		sweep_text(sites, (uint8_t *)file + shdr.sh_offset,
			   shdr.sh_size, shdr.sh_addr, census);
	}
	return 0;
}

static void print_census(const char *path, const struct census *census)
{
	printf("# %s: %zu sites, %zu patchable (%.1f%%)\n", path,
	       census->nsites, census->npatchable,
	       census->nsites ? 100.0 * (double)census->npatchable /
				(double)census->nsites : 0.0);
	printf("#   %.1f us to judge one with %d bytes either side\n",
	       census->nsites ? census->ns / 1e3 / (double)census->nsites : 0.0,
	       CENSUS_AROUND);
	printf("#   %zu replace the syscall, too; in %zu an instruction began"
	       " inside the jump\n", census->npartial, census->nentry);
	printf("#   %zu instructions are rewritten, %zu sites wrongly\n",
	       census->nrewritten, census->nwrong);
	for (int i = 0; i < SITE_VERDICTS; i++)
		printf("#   %-16s %zu\n", sites_verdict_name(i),
		       census->verdicts[i]);
	for (int i = 0; i < SITE_IDIOMS; i++)
		printf("#   %-16s %zu\n", sites_idiom_name(i),
		       census->idioms[i]);
}

struct library {
	const char *name;
	char *path;		/* owned */
};

static int find_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct library *library = arg;

	(void)size;
	if (!strstr(info->dlpi_name, library->name))
		return 0;
	library->path = strdup(info->dlpi_name);
	return 1;
}

/* path is NULL if there is no such file. */
static void test_census(struct sites *sites, const char *name,
			const char *path)
{
	struct census census = { 0 };
	int err = path ? take_census(sites, path, &census) : -ENOENT;

	if (err == -ENOENT) {
		okf(true, "the sites of %s # SKIP it is not there", name);
		return;
	}
	print_census(path, &census);
	okf(!err && census.nsites && !census.nwrong &&
	    census.npatchable * 100 >= census.nsites * 95,
	    "at least 95 in 100 sites of %s are patchable", name);
}

static void test_libraries(struct sites *sites)
{
	struct library libraries[] = {
		{ .name = "/libc.so.6" }, { .name = "/ld-linux" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(libraries); i++) {
		dl_iterate_phdr(find_library, &libraries[i]);
		test_census(sites, libraries[i].name + 1, libraries[i].path);
		free(libraries[i].path);
	}
	test_census(sites, "busybox", "/bin/busybox");
}

static int run_tests(struct sites *sites)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		test_case(sites, &cases[i]);
	test_entries(sites);
	test_edges(sites);
	test_end(sites);
	test_disagreement(sites);
	test_far_branch(sites);
	test_moves(sites);
	test_opcodes(sites);
	test_names();
	test_fuzz(sites);
	test_libraries(sites);
	return tap_end();
}

static int run_judge(struct sites *sites, const char *path, const char *off)
{
	char *code cleanup_free = NULL;
	ssize_t len = fd_read_all(path, FILE_MAX, &code);
	struct site site;

	if (len < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror((int)-len));
		return 1;
	}
	sites_check(sites, (uint8_t *)code, (size_t)len, strtoull(off, NULL, 0),
		    0, &site);
	printf("verdict %s\nidiom %s\nwindow %d %d\n",
	       sites_verdict_name(site.verdict), sites_idiom_name(site.idiom),
	       site.window_start, site.window_end);
	for (size_t i = 0; i < site.ninsns; i++) {
		const struct site_insn *move = &site.insns[i];

		printf("move %d %u", move->off, move->len);
		if (move->disp)
			printf(" disp %u", move->disp);
		printf("\n");
	}
	return 0;
}

static int run_census(struct sites *sites, const char *path)
{
	struct census census = { 0 };
	int err = take_census(sites, path, &census);

	if (err) {
		fprintf(stderr, "%s: %s\n", path, strerror(-err));
		return 1;
	}
	print_census(path, &census);
	return 0;
}

int main(int argc, char **argv)
{
	struct sites *sites = NULL;
	int err = sites_new(&sites);
	int status = 2;

	if (err) {
		fprintf(stderr, "sites_new: %s\n", strerror(-err));
		return 1;
	}
	if (argc == 1)
		status = run_tests(sites);
	else if (argc == 4 && !strcmp(argv[1], "--judge"))
		status = run_judge(sites, argv[2], argv[3]);
	else if (argc == 3 && !strcmp(argv[1], "--census"))
		status = run_census(sites, argv[2]);
	else
		fprintf(stderr, "usage: sites [--judge FILE OFFSET | "
				"--census FILE]\n");
	sites_free(sites);
	return status;
}
