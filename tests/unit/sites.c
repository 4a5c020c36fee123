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

#include <capstone/capstone.h>

#include "base/fd.h"
#include "base/num.h"
#include "guest/sites.h"
#include "tap.h"

#define FILE_MAX	(256UL << 20)
#define FUZZ_ROUNDS	200000
#define FUZZ_LEN	192
#define CENSUS_AROUND	4096	/* bytes shown on either side of a site */
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
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 2 },
	{ "mov $imm, %rax before is moved",
	  CODE("\x48\xc7\xc0\x0f\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -7, 2 },
	{ "movabs $imm, %rax before is moved",
	  CODE("\x48\xb8\x27\0\0\0\0\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -10, 2 },
	{ "xor %eax, %eax takes its predecessor along",
	  CODE("\x89\xdf\x31\xc0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_XOR, -4, 2 },
	{ "xor %ecx, %eax does not set a number",
	  CODE("\x89\xdf\x31\xc8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -4, 2 },
	{ "mov %r11d, %eax of a cancellation point",
	  CODE("\x44\x89\xd8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -3, 2 },
	{ "mov %rdi, %rax of musl",
	  CODE("\x48\x89\xf8"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_REG, -3, 2 },
	{ "Go's raw system call has its number in rax already",
	  CODE("\x48\x89\xce\x48\x89\xdf"),
	  CODE("\x48\x3d\x01\xf0\xff\xff\x76\x17"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -3, 2 },
	{ "the tail of mov $imm, %r8d is not mov $imm, %eax",
	  CODE("\x41\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -6, 2 },
	{ "the tail of movabs $imm, %rbx is not mov $imm, %eax",
	  CODE("\x48\xbb\0\0\0\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_OTHER, -10, 2 },
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
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 2 },
	{ "a branch to the syscall leaves what is after",
	  CODE("\xb8\x27\0\0\0"), CODE("\x48\x3d\0\xf0\xff\xff\x74\xf6"),
	  SITE_PATCHABLE_AFTER, SITE_IDIOM_MOV_IMM, 0, 8 },
	{ "a branch back to the end of the window does no harm",
	  CODE("\xb8\x27\0\0\0"), CODE("\x90\xeb\xfd"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 2 },
	{ "the address behind a syscall in rcx does no harm before it",
	  CODE("\x48\x8d\x0d\x07\0\0\0\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 2 },

	{ "refused: a branch to the syscall and nothing to move after",
	  CODE("\xb8\x27\0\0\0"), CODE("\x74\xfc\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_IMM, 0, 2 },
	{ "refused: loop to the syscall, endbr64 after",
	  CODE("\xb8\x27\0\0\0"), CODE("\xf3\x0f\x1e\xfa\xe2\xf8"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_IMM, 0, 2 },
	{ "refused: endbr64 before and after",
	  CODE("\xf3\x0f\x1e\xfa"), CODE("\xf3\x0f\x1e\xfa"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: the address of the syscall is taken, ret after",
	  CODE("\x48\x8d\x0d\x05\0\0\0\xb8\x27\0\0\0"), CODE("\xc3"),
	  SITE_BRANCH_TARGET, SITE_IDIOM_MOV_IMM, 0, 2 },
	{ "refused: rip-relative before, ret after",
	  CODE("\x8b\x05\0\x01\0\0"), CODE("\xc3"),
	  SITE_RIP_RELATIVE, SITE_IDIOM_OTHER, 0, 2 },
	{ "refused: rip-relative lea before and after",
	  CODE("\x48\x8d\x3d\0\x01\0\0"), CODE("\x48\x8d\x3d\0\x01\0\0"),
	  SITE_RIP_RELATIVE, SITE_IDIOM_OTHER, 0, 2 },
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
	ok(is_site(&site, SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 2),
	   "a syscall where the code ends is judged by what precedes");

	/* Targets and addresses wrap; the arithmetic must not mind. */
	sites_check(sites, code, PAD + 7, PAD + 5, UINT64_MAX - PAD - 6,
		    &site);
	ok(is_site(&site, SITE_PATCHABLE_BEFORE, SITE_IDIOM_MOV_IMM, -5, 2),
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
	int32_t rel = 100 - (900 + 5);

	memset(code, 0x90, sizeof(code));
	memcpy(code + 95, "\xb8\x27\0\0\0\x0f\x05\xc3", 8);
	memcpy(code + 500, "\x0f\x01\xee", 3);
	code[900] = 0xe9;
	memcpy(code + 901, &rel, sizeof(rel));
	sites_check(sites, code, sizeof(code), 100, BASE, &site);
	ok(is_site(&site, SITE_BRANCH_TARGET, SITE_IDIOM_MOV_IMM, 0, 2),
	   "a far branch to the syscall is seen beyond what is undecoded");
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

/* Does decoding from the window's start meet the site and the window's end? */
static bool is_window(csh handle, const uint8_t *code, size_t len, size_t off,
		      const struct site *site)
{
	size_t start = off + (size_t)site->window_start;
	size_t end = off + (size_t)site->window_end;
	const uint8_t *p;
	size_t pos;
	uint64_t addr;
	bool met = false;
	cs_insn *insn;

	if (start > off || end > len || end - start < 5)
		return false;
	p = code + start;
	pos = len - start;
	addr = BASE + start;
	insn = cs_malloc(handle);
	while (addr < BASE + end) {
		met |= addr == BASE + off;
		if (!cs_disasm_iter(handle, &p, &pos, &addr, insn))
			break;
	}
	cs_free(insn, 1);
	return met && addr == BASE + end;
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
		return is_window(handle, code, len, off, &site);
	default:
		return site.verdict < SITE_VERDICTS &&
		       site.window_start == 0 && site.window_end == 2;
	}
}

static void test_fuzz(struct sites *sites)
{
	uint8_t *buf = guarded(FUZZ_LEN);
	uint64_t state = 0x9e3779b97f4a7c15ULL;
	int round = 0;
	csh handle;

	if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) == CS_ERR_OK) {
		while (round < FUZZ_ROUNDS &&
		       fuzz_round(sites, handle, buf, &state))
			round++;
		cs_close(&handle);
	}
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
};

static void count_site(struct sites *sites, const uint8_t *text, size_t len,
		       size_t off, uint64_t addr, struct census *census)
{
	size_t first = off - min_u64(off, CENSUS_AROUND);
	size_t last = min_u64(off + CENSUS_AROUND, len);
	struct site site;

	sites_check(sites, text + first, last - first, off - first,
		    addr + first, &site);
	census->verdicts[site.verdict]++;
	census->idioms[site.idiom]++;
	census->nsites++;
	if (site.verdict <= SITE_PATCHABLE_AFTER)
		census->npatchable++;
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
	cs_insn *insn;
	csh handle;

	if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK)
		return;
	insn = cs_malloc(handle);
	while (left) {
		if (!cs_disasm_iter(handle, &p, &left, &at, insn)) {
			p++;
			left--;
			at++;
		} else if (insn->id == X86_INS_SYSCALL && insn->size == 2) {
			count_site(sites, text, len, insn->address - addr,
				   addr, census);
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
	for (int i = 0; i < SITE_VERDICTS; i++)
		printf("#   %-16s %zu\n", sites_verdict_name(i),
		       census->verdicts[i]);
	for (int i = 0; i < SITE_IDIOMS; i++)
		printf("#   %-16s %zu\n", sites_idiom_name(i),
		       census->idioms[i]);
}

static int find_libc(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	if (!strstr(info->dlpi_name, "/libc.so.6"))
		return 0;
	*(char **)arg = strdup(info->dlpi_name);
	return 1;
}

static void test_libc(struct sites *sites)
{
	char *path cleanup_free = NULL;
	struct census census = { 0 };
	int err;

	dl_iterate_phdr(find_libc, &path);
	if (!path) {
		ok(true, "the sites of libc # SKIP not linked with libc.so.6");
		return;
	}
	err = take_census(sites, path, &census);
	print_census(path, &census);
	ok(!err && census.nsites && census.npatchable * 100 >=
				    census.nsites * 95,
	   "at least 95 in 100 sites of libc are patchable");
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
	test_names();
	test_fuzz(sites);
	test_libc(sites);
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
