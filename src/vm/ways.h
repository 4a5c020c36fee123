/* SPDX-License-Identifier: MIT */
/*
 * ways.h - the ways in which a device's memory gets into a VM, for window.c
 *
 * All but the first operation is called with the table's lock held.
 */
#ifndef VM_WAYS_H
#define VM_WAYS_H

#include <pthread.h>

#include "vm/inject.h"
#include "vm/window.h"

#define WINDOWS_MAX	1024

struct window {
	pid_t owner;		/* 0: free */
	uint32_t id;		/* the session's own */
	/* Overlay: bytes in the shared memory; plug: at is its number. */
	uint64_t at, len;
};

struct windows {
	pthread_mutex_t lock;
	const struct window_ops *ops;
	pid_t daemon;
	/* Overlay: behind the last one: a part that was in use is in use again
	 * as late as can be, for a target may have it that does not know yet
	 * that its session is over. Plug: the last number. */
	uint64_t next;
	struct inject_code code;	/* overlay */
	uint64_t nonce;			/* plug: of all its names */
	bool unsure;			/* plug: something may be left there */
	struct window v[WINDOWS_MAX];
};

struct window_ops {
	/* Can it be there at all? out->written is known then. It is called
	 * without the lock; errors: window_open(). */
	int (*check)(const struct vm *vm, const struct window_place *place,
		     const struct window_map *map, struct window_at *out,
		     char *err);
	/* Put it there, and into the table before that. */
	int (*open)(struct windows *w, const struct vm *vm,
		    const struct window_place *place,
		    const struct window_map *map, struct window_at *out,
		    char *err);
	/* Take entries away; what cannot be stays in the table. */
	void (*close)(struct windows *w, const struct vm *vm,
		      const struct window_place *place,
		      struct window *const *v, size_t n);
	/* Is there anything that nobody has? It must not wait for the VM. */
	bool (*stray)(const struct windows *w, const struct vm *vm,
		      const struct window_place *place);
	/* It is taken away. */
	void (*recover)(struct windows *w, const struct vm *vm,
			const struct window_place *place);
};

/* windows_enter() - a new entry of this process; NULL: the table is full */
struct window *windows_enter(struct windows *w, uint32_t id, uint64_t at,
			     uint64_t len);

/*
 * window_probe() - can all of it be mapped, and written?
 *
 * Memory of devices that the kernel has no pages for (VM_PFNMAP) is mapped when
 * it is mapped, or not at all. 0; -ENXIO, with a line in err: not all of it is
 * there; -errno of mmap(2).
 */
int window_probe(int fd, uint64_t off, uint64_t len, bool *written, char *err);

#endif
