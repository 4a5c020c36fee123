/* SPDX-License-Identifier: MIT */
/*
 * calls.h - the one table of system calls (x86-64)
 *
 * One line a call says what matters about it to every part of darkshadow: the
 * seccomp filter of targets traces what takes part in forwarding, the tracer
 * finds descriptors and paths among the arguments, the executor's filter
 * allows what may be forwarded, --trace prints the arguments.
 *
 * The letters of .args, one an argument:
 *
 *	f	a file descriptor
 *	d	a directory descriptor; the p or P after it is relative to it
 *	p	path, a final symbolic link is followed
 *	P	path, a final symbolic link is not followed
 *	T	text in memory that is not a path of this process (link target,
 *		attribute name)
 *	b	buffer the kernel fills	B	buffer the kernel reads
 *	V	iovec array		n	size in bytes
 *	o	O_ flags		m	mode, octal
 *	t	AT_ flags		w	whence of lseek
 *	F	fcntl command		c	ioctl request
 *	a	access(2) mode		k	flock operation
 *	i	signed int		u	unsigned		l	signed long
 *	x	hexadecimal		*	pointer
 *	r	PROT_ bits		M	MAP_ flags
 */
#ifndef WIRE_CALLS_H
#define WIRE_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum call_flags {
	/* Takes part in forwarding: traced in targets. */
	CALL_TRACED	= 1 << 0,
	/* May be executed by a shadow on behalf of its target. */
	CALL_FORWARD	= 1 << 1,
	/* Returns one new descriptor and nothing else: POSIX's lowest number. */
	CALL_NEWFD	= 1 << 2,
	/* Changes the address space: the map stream must learn of it. */
	CALL_MEMORY	= 1 << 3,
	/* Handled by code of its own in the tracer (exec, dup, chdir ...). */
	CALL_SPECIAL	= 1 << 4,
	/* A socket call: forwarded where policy has "net". */
	CALL_NET	= 1 << 5,
	/* Special only where the first argument is the host's descriptor. */
	CALL_OWN_FD	= 1 << 6,
	/* May change where names lead, by a symbolic link or a mount. */
	CALL_NAMES	= 1 << 7,
	/* What it points to points further, or is longer than others'. */
	CALL_NESTED	= 1 << 8,
	/* Makes an eventfd: forwarded where policy has "eventfd". */
	CALL_EVENTFD	= 1 << 9,
};

struct call {
	const char *name;	/* NULL: no such call */
	const char *args;	/* letters as above; "" without arguments */
	uint32_t flags;
};

/* One more than the highest number that the table knows. */
#define CALL_NR_MAX 512

/* calls_get() - the line for a number, or NULL where there is none */
const struct call *calls_get(uint64_t nr);

/* call_is_traced() - does it stop who makes it? What is not known, does. */
static inline bool call_is_traced(uint64_t nr)
{
	const struct call *c = calls_get(nr);

	return !c || c->flags & CALL_TRACED;
}

/* calls_find() - the number of a call by name, or -ENOENT */
int calls_find(const char *name);

#endif
