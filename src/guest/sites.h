/* SPDX-License-Identifier: MIT */
/*
 * sites.h - what surrounds a system call instruction (only user of capstone)
 *
 * A site is a place in a target's code whose `syscall` instruction was seen
 * to enter the kernel. Its neighbours decide whether it could be given the
 * five bytes of a jump (DESIGN 10, "Sites").
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
	SITE_BRANCH_TARGET,	/* a jump leads into the window */
	SITE_RIP_RELATIVE,	/* a neighbour names its own address */
	SITE_BRANCH,		/* a neighbour is a branch, call or return */
	SITE_UNDECODED,		/* capstone does not know a neighbour */
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

struct site {
	enum site_verdict verdict;
	enum site_idiom idiom;
	/* Bytes that a jump would replace, relative to the `syscall`. */
	int window_start;	/* <= 0 */
	int window_end;		/* >= 2 */
};

struct sites;			/* a decoder: owns a capstone handle */

int sites_new(struct sites **out);	/* 0 or -ENOMEM, -ENOSYS */
void sites_free(struct sites *sites);

/*
 * sites_check() - judge the site at code[off] whose address is addr + off
 *
 * code holds the bytes around the site as far as they are readable: 64 or
 * more before and after where the mapping has them. Only decodes forward; the
 * instructions before the site are those on which every start of decoding
 * that leads to the site agrees (DESIGN 10: gVisor was bitten by the tail of
 * a longer mov). Doubt means not patchable.
 */
void sites_check(struct sites *sites, const uint8_t *code, size_t len,
		 size_t off, uint64_t addr, struct site *out);

const char *sites_verdict_name(enum site_verdict verdict);
const char *sites_idiom_name(enum site_idiom idiom);

#endif
