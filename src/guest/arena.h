/* SPDX-License-Identifier: MIT */
/*
 * arena.h - guest RAM of loopback: a sparse memfd (DESIGN 4)
 *
 * A GPA is an offset in it. Offsets are given out once and never again, so a
 * shadow that has not yet heard of an unmapping cannot write to somebody
 * else's memory; what is given back is a hole in the file. (What no shadow has
 * heard of may be used again: struct stub_young in capsule/abi.h.)
 */
#ifndef GUEST_ARENA_H
#define GUEST_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena {
	int fd;			/* owned */
	uint64_t size;
	uint64_t next;		/* first offset never given out */
};

int arena_init(struct arena *a);	/* 0 or -errno */
void arena_fini(struct arena *a);

/* arena_alloc() - an offset with len bytes behind it, or -ENOMEM */
int arena_alloc(struct arena *a, uint64_t len, uint64_t *off);

/* arena_discard() - the range reads as zeros and takes no memory */
void arena_discard(struct arena *a, uint64_t off, uint64_t len);

/* arena_copy() - what is there from one range to another; 0 or -errno */
int arena_copy(struct arena *a, uint64_t from, uint64_t to, uint64_t len);

#endif
