/* SPDX-License-Identifier: MIT */
/* pointers.h - the memory that a call points to */
#ifndef GUEST_POINTERS_H
#define GUEST_POINTERS_H

#include <stdbool.h>

struct task;
struct range;
struct forward_call;

/* Whole pages that a call points to. written: by the kernel, perhaps. */
typedef void (*pointer_fn)(void *ctx, struct range at, bool written);

struct visit {
	pointer_fn fn;
	void *ctx;
};

/*
 * visit_pointers() - as far as the table of calls says, and what is known of
 * structures that point further (CALL_NESTED, iovec)
 *
 * Sizes are the program's, and cut to what a call can move; addresses may be
 * of anything.
 */
void visit_pointers(const struct visit *v, struct task *t,
		    const struct forward_call *call);

#endif
