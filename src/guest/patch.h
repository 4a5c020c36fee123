/* SPDX-License-Identifier: MIT */
/*
 * patch.h - sites that lead to the fast tier (DESIGN 10)
 *
 * A *patch* is a site whose window (guest/sites.h) begins with a jump to its
 * *trampoline*, some bytes within 2 GiB of it:
 *
 *		instructions moved from before the `syscall`
 *		jmp	*site_entry of the site's code (gate.S)
 *	trap:	syscall				traced: the tracer's
 *		mov	$behind the site, %rcx	as the kernel would have it
 *	after:	instructions moved from behind the `syscall`
 *		jmp	end of the window
 *
 * Where inside the jump an instruction of the program's began there is a byte
 * now that traps, for trampolines are put where the displacement has it:
 * whoever gets there, by a branch that was not seen or back from a signal
 * handler, is sent to where that instruction is now (patch_forward()).
 *
 * Only code that is mapped privately from a file and cannot be written is
 * patched, and only while every thread that may run it is stopped, outside of
 * the window. Before it is made writable it is as it was again (patch_undo()).
 */
#ifndef GUEST_PATCH_H
#define GUEST_PATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"
#include "guest/sites.h"
#include "process/maps.h"

struct tracer;
struct task;
struct memory;
struct mm;
struct range;

#define WINDOW_MAX	24
#define TRAMP_UNIT	16	/* bytes: what is taken of a page is some of these */

struct patch {
	uint64_t site;			/* of the `syscall` */
	struct site found;		/* window and instructions */
	uint8_t old[WINDOW_MAX];	/* the window's bytes */
	uint64_t code;			/* GVA of its struct site_code */
	uint64_t tramp;			/* GVA of its trampoline */
	uint8_t moved[SITE_INSNS_MAX];	/* where instructions are in that */
	uint8_t enter, trap, after, back, size;	/* see above; of the jumps */
	bool undone;			/* but somebody may be in it yet */
};

/* One page of trampolines; processes that have forked have it in common. */
struct tramp_page {
	unsigned int refs;		/* address spaces */
	uint64_t gva, off;		/* off: in the arena */
	uint8_t used[PAGE_BYTES / TRAMP_UNIT];
};

/* Gate, stub and sites' code, of one exec: forks have it in common. */
struct text {
	unsigned int refs;		/* address spaces */
	uint64_t off;			/* in the arena */
	uint32_t ncodes;		/* in use */
};

/* What an address space knows of all that. */
struct patches {
	struct text *text;		/* referenced */
	struct patch *v;		/* owned */
	size_t n, cap;
	struct tramp_page **pages;	/* owned, the pages referenced */
	size_t npages;
	struct maps maps;		/* as they were when last read */
	bool maps_stale;
};

/* patches_text() - an arena range with gate and stub in it; 0 or -errno */
int patches_text(struct memory *memory, struct patches *out);
/* patches_fork() - what the child of a fork has; 0 or -ENOMEM */
int patches_fork(const struct patches *from, struct patches *out);
void patches_fini(struct memory *memory, struct patches *patches);

/*
 * patch_site() - make the site that the task has stopped behind a patch
 *
 * That is the second time that it stops there, in this address space.
 * The task's registers, t->regs, may have to go on in the trampoline then. true:
 * the call comes again, from there.
 */
bool patch_site(struct tracer *tr, struct task *t);

/*
 * patch_undo() - the range is about to change: its code is as it was again
 *
 * remains: what is mapped there stays (mprotect); otherwise nothing has to be
 * written, unless another mapping gets the page (mremap).
 */
void patch_undo(struct tracer *tr, struct task *t, struct range at,
		bool remains);

/* patch_owns() - does the range touch a page of trampolines? */
bool patch_owns(const struct mm *mm, struct range at);

/* The patch whose site_code or whose trampoline an address is in, or NULL. */
const struct patch *patch_of_code(const struct mm *mm, uint64_t gva);
const struct patch *patch_of_tramp(const struct mm *mm, uint64_t gva);

/*
 * patch_back() - the program's address for one in the trampoline
 *
 * That of the `syscall` until it has been executed.
 */
uint64_t patch_back(const struct patch *p, uint64_t gva);

/*
 * patch_forward() - where the program goes on that has trapped inside a jump
 *
 * 0: it has not.
 */
uint64_t patch_forward(const struct mm *mm, uint64_t rip);

#endif
