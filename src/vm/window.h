/* SPDX-License-Identifier: MIT */
/*
 * window.h - memory of devices, in the memory of a VM (DESIGN 11)
 *
 * Theory of operation. There are two ways: a part of the memory that guest and
 * host share is overlaid in the VMM (overlay.c), or QEMU is told to plug in a
 * PCI device that has it (plug.c). Either way the guest has it at a place in the
 * memory of a PCI device, which targets map.
 *
 * What is there stands in a table that all processes of a daemon share, from
 * before to after it is so. Who ends takes his own away; what a session leaves
 * that was killed, the daemon takes away; what a daemon leaves, the next one
 * finds (windows_recover()).
 *
 * What the guest touches and the device does not have is a signal that ends the
 * VMM. So every page of the device's is looked at before, and what can be had in
 * part is refused, as is a file, which may be cut by whoever has it. What a
 * device takes away later (a disk that shrinks) cannot be helped: the manual
 * says so. A part that the device does not let us write is mapped such that
 * nobody in the guest can write it either who has not the whole of the PCI
 * device there (guest/vmcalls.c).
 */
#ifndef VM_WINDOW_H
#define VM_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vm/vm.h"

struct windows;
struct window_ops;

extern const struct window_ops window_overlay, window_plug;

/* The memory that is shared, which plugging does without. */
struct window_place {
	int fd;			/* borrowed; -1: none */
	uint64_t start, end;	/* bytes in it that are the window */
};

struct window_map {
	int fd;			/* of the device, borrowed */
	uint64_t off, len;	/* bytes, whole pages */
	uint32_t id;		/* the session's own name for it */
};

/* Where the guest finds it. */
struct window_at {
	bool plugged;		/* in a PCI device of its own */
	uint16_t device;	/* whose address is: bus, slot, function */
	uint64_t at;		/* bytes in that, or in the shared memory */
	bool written;		/* it may be */
};

/* windows_new() - an empty table, for this process and its children */
int windows_new(const struct window_ops *ops, struct windows **out);
void windows_free(struct windows *w);	/* takes nothing away */

/*
 * window_open() - put a device's memory into the VM
 *
 * 0; -errno as mmap(2) of the device gives it, or, with a line in err for
 * whoever runs the daemon: -ENOMEM: there is no room for it; -ENODEV: this VM
 * has none, what fd is has no memory of a device, or the VMM cannot be made to
 * have it; -ENXIO: the device has less memory than that.
 */
int window_open(struct windows *w, const struct vm *vm,
		const struct window_place *place, const struct window_map *map,
		struct window_at *out, char err[VM_ERR_MAX]);

/* window_close() - take away what this process has by that id */
void window_close(struct windows *w, const struct vm *vm,
		  const struct window_place *place, uint32_t id);

/* windows_has() - has a process of ours anything there? w NULL: no */
bool windows_has(const struct windows *w, pid_t owner);

/* windows_end() - take away all that it has; vm NULL: it has gone with the VM */
void windows_end(struct windows *w, const struct vm *vm,
		 const struct window_place *place, pid_t owner);

/* windows_stray() - may there be something that nobody of ours has? */
bool windows_stray(struct windows *w, const struct vm *vm,
		   const struct window_place *place);

/* windows_recover() - it is taken away */
void windows_recover(struct windows *w, const struct vm *vm,
		     const struct window_place *place);

#endif
