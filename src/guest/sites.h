/* SPDX-License-Identifier: MIT */
/*
 * sites.h - what surrounds a system call instruction (only user of capstone)
 *
 * A site is a place in a target's code whose `syscall` instruction was seen
 * to enter the kernel. Its neighbours decide whether it could be given the
 * five bytes of a jump, and which of them would be carried out elsewhere
 * (DESIGN 10, "Sites").
 */
#ifndef GUEST_SITES_H
#define GUEST_SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum site_verdict {
	SITE_PATCHABLE_BEFORE,	/* instructions before it can be moved */
	SITE_PATCHABLE_AFTER,	/* instructions after it can be moved */
	SITE_NOT_SYSCALL,	/* not 0f 05: int 0x80, sysenter, vsyscall */
	SITE_BRANCH_TARGET,	/* a jump leads into the window, or may */
	SITE_RIP_RELATIVE,	/* a neighbour names or notes its address */
	SITE_BRANCH,		/* a neighbour branches, returns or traps */
	SITE_UNDECODED,		/* a neighbour is unknown, or in doubt */
	SITE_VERDICTS
};

/* Which way the number got into eax, seen directly before the site. */
enum site_idiom {
	SITE_IDIOM_MOV_IMM,	/* mov $imm, %eax */
	SITE_IDIOM_XOR,		/* xor %eax, %eax (read) */
	SITE_IDIOM_MOV_REG,	/* mov %reg, %eax/%rax: syscall(2), cancellation */
	SITE_IDIOM_OTHER,
	SITE_IDIOMS
};

#define SITE_INSNS_MAX	8

/* An instruction that would be carried out elsewhere. */
struct site_insn {
	int8_t off;		/* relative to the `syscall` */
	uint8_t len;
	/*
	 * Where in the instruction the 32 bits are that say how far behind its
	 * end an operand lies; 0: it has none. A copy that is d bytes further
	 * up needs d subtracted from them, and must not be made if that does
	 * not fit.
	 */
	uint8_t disp;
};

struct site {
	enum site_verdict verdict;
	enum site_idiom idiom;
	/*
	 * The bytes that are overwritten or carried out elsewhere, relative to
	 * the `syscall`. A jump goes to window_start, always. There are three
	 * shapes, best first:
	 *
	 *  [-n, 0)  before, n >= 5: the `syscall` itself stays what it is, for
	 *           whoever branches to it or is restarted at it
	 *  [-n, 2)  before, n = 3 or 4
	 *  [0, n)   after, n >= 5
	 *
	 * A verdict that refuses leaves [0, 2) and no instructions.
	 */
	int window_start;	/* <= 0 */
	int window_end;		/* >= 0 */
	/* All in the window but the `syscall`, in the order of addresses. */
	uint8_t ninsns;
	struct site_insn insns[SITE_INSNS_MAX];
};

struct sites;			/* a decoder: owns a capstone handle */

int sites_new(struct sites **out);	/* 0 or -ENOMEM, -ENOSYS */
void sites_free(struct sites *sites);

/*
 * sites_check() - judge the site at code[off] whose address is addr + off
 *
 * code holds the bytes around the site as far as they are readable: 64 or
 * more before and after where the mapping has them. Only branches in there are
 * seen: whoever patches shows some thousands (a function and more), which costs
 * some 3 us a thousand. Only decodes forward; the instructions before the site
 * are those on which every start of decoding that leads to the site agrees
 * (DESIGN 10: gVisor was bitten by the tail of a longer mov). Doubt means not
 * patchable.
 */
void sites_check(struct sites *sites, const uint8_t *code, size_t len,
		 size_t off, uint64_t addr, struct site *out);

const char *sites_verdict_name(enum site_verdict verdict);
const char *sites_idiom_name(enum site_idiom idiom);

#endif
