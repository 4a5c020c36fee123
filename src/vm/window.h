/* SPDX-License-Identifier: MIT */
/*
 * window.h - memory of devices, in the memory of a VM (DESIGN 11)
 *
 * Theory of operation. A guest and its host share the memory of an ivshmem
 * device (wire/channel.h). What is behind the channels in it is the *window*:
 * for each mapping that a target makes of a device's memory, a part of it is
 * *overlaid* in the VMM: mapped from the device instead of the shared file, at
 * the address where the VMM has that part. So the guest's physical address
 * leads to the device's page, for any device that mmap(2) works with, and with
 * KVM and TCG alike. The VMM does that itself, made by us (inject.h).
 *
 * One mremap(2) over what is mapped, and one mmap(2) on the way back: there is
 * never a hole. What has been overlaid stands in a table that all processes of a
 * daemon share, from before to after it is so. Who ends takes his own away; what
 * a session leaves that was killed, the daemon takes away; what a daemon leaves,
 * the next one finds in the VMM's memory map (windows_recover()).
 *
 * What the guest touches and the device does not have is a signal that ends the
 * VMM. So every page of the device's is looked at before, and what can be had in
 * part is refused, as is a file, which may be cut by whoever has it. What a
 * device takes away later (a disk that shrinks) cannot be helped: the manual
 * says so. A part that the device does not let us write is mapped such that
 * nobody in the guest can write it either who has not the whole of the shared
 * memory there (guest/vmcalls.c).
 */
#ifndef VM_WINDOW_H
#define VM_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vm/vm.h"

struct windows;

/* Where it is. */
struct window_place {
	int fd;			/* borrowed: the shared memory; -1: none */
	uint64_t start, end;	/* bytes in it */
};

struct window_map {
	int fd;			/* of the device, borrowed */
	uint64_t off, len;	/* bytes, whole pages */
	uint32_t id;		/* the session's own name for it */
};

/* windows_new() - an empty table, for this process and its children */
int windows_new(struct windows **out);
void windows_free(struct windows *w);	/* takes nothing away */

/*
 * window_open() - overlay a part of the window; *at is where, in bytes
 *
 * *written: it may be written. 0; -errno as mmap(2) of the device gives it, or,
 * with a line in err for whoever runs the daemon: -ENOMEM: the window is too
 * small; -ENODEV: this VM has none, what fd is has no memory of a device, or the
 * VMM cannot be made to map; -ENXIO: the device has less memory than that.
 */
int window_open(struct windows *w, const struct vm *vm,
		const struct window_place *place, const struct window_map *map,
		uint64_t *at, bool *written, char err[VM_ERR_MAX]);

/* window_close() - take away what this process has by that id */
void window_close(struct windows *w, const struct vm *vm,
		  const struct window_place *place, uint32_t id);

/* windows_has() - has a process of ours anything there? w NULL: no */
bool windows_has(const struct windows *w, pid_t owner);

/* windows_end() - take away all that it has; vm NULL: it has gone with the VM */
void windows_end(struct windows *w, const struct vm *vm,
		 const struct window_place *place, pid_t owner);

/* windows_stray() - is something overlaid that nobody of ours has? */
bool windows_stray(struct windows *w, const struct vm *vm,
		   const struct window_place *place);

/* windows_recover() - it is taken away */
void windows_recover(struct windows *w, const struct vm *vm,
		     const struct window_place *place);

#endif
