/* SPDX-License-Identifier: MIT */
/*
 * ram.h - guest RAM: which guest physical addresses lead where in its file
 *
 * A guest names memory by physical address; whoever maps it for a shadow
 * needs an offset in the one file behind it. Everything that is not in the
 * table is a hole, device memory or ROM to us, and stays out of reach.
 */
#ifndef VM_RAM_H
#define VM_RAM_H

#include <stddef.h>
#include <stdint.h>

struct ram_range {
	uint64_t gpa;		/* bytes, all three */
	uint64_t len;
	uint64_t off;		/* in the file */
};

struct ram {
	int fd;			/* owned, or -1: none yet */
	uint64_t file_size;	/* bytes */
	uint64_t page;		/* what can be mapped, and its alignment */
	struct ram_range *v;	/* owned; sorted by gpa, disjoint */
	size_t n;
};

/* ram_init() - no range yet; fd, taken over, is a file of file_size bytes */
void ram_init(struct ram *ram, int fd, uint64_t file_size);
void ram_fini(struct ram *ram);

/*
 * ram_add() - [gpa, gpa + len) is at off in the file
 *
 * -EINVAL: empty, not whole pages, wraps, or beyond the end of the file.
 * -EEXIST: overlaps a range that is known. -ENOMEM.
 */
int ram_add(struct ram *ram, uint64_t gpa, uint64_t len, uint64_t off);

/*
 * ram_find() - the offset in the file of [gpa, gpa + len)
 *
 * The guest chose both numbers. A range that is empty, wraps, leaves RAM, or
 * goes over into RAM that is elsewhere in the file is refused with -EFAULT,
 * never shortened. 0: *off is where all of it begins, in one piece.
 */
int ram_find(const struct ram *ram, uint64_t gpa, uint64_t len,
	     uint64_t *off);

#endif
