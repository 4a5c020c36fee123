/* SPDX-License-Identifier: MIT */
/*
 * qemu.h - QEMU's processes, their RAM file and their memory layout
 *
 * Theory of operation. Two ways lead to the layout.
 *
 * By QMP: `info mtree -f` prints the address space "memory" as it is now, and
 * `gpa2hva` says where QEMU itself has each range of RAM. What is mapped there
 * (/proc/PID/maps) is the file and the offset in it: nothing is inferred from
 * names. RAM is what belongs to the same region as address 0 and the same
 * file. ROM, device memory (also that of ivshmem, which is a shared file too)
 * and memory that was plugged in later are left out.
 *
 * By command line, where there is no monitor or it does not answer: from the
 * machine type, of which those that are known are few. The split at 4 GiB is
 * hw/i386/pc_piix.c's, pc_q35.c's and microvm.c's, and a test compares it with
 * the first way. Whatever could move it (max-ram-below-4g, -readconfig, RAM so
 * large that AMD's hole at 1 TiB counts) is a refusal.
 *
 * On both ways 640K to 1M is left out. It is a hole, ROM or RAM as the
 * firmware has it at the moment, and no kernel has a process's memory there.
 */
#ifndef VM_QEMU_H
#define VM_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/proc.h"
#include "vm/ram.h"
#include "vm/vm.h"

/* qemu_is() - is this process QEMU's system emulator? */
bool qemu_is(pid_t pid, const struct proc_args *args);

/* qemu_see() - name, machine and memory, as the command line has them */
void qemu_see(const struct proc_args *args, struct vm_seen *seen);

/*
 * qemu_open() - vm->ram, ->qmp, ->layout and ->note of the process vm->seen.pid
 *
 * path: its QMP socket, when it was named by that: then there is no other way
 * for the layout, unless it must not be asked (vm/plug.h). NULL: what is found
 * on the command line. Errors: vm_open().
 */
int qemu_open(struct vm *vm, const struct proc_args *args, const char *path,
	      char err[VM_ERR_MAX]);

/*
 * qemu_qmp_path() - the path of a QMP socket of the process, to be freed
 *
 * NULL: there is none on a Unix socket, or we may not know.
 */
char *qemu_qmp_path(pid_t pid, const struct proc_args *args);

/* ---- for tests ---- */

struct qemu_flat {
	uint64_t gpa;
	uint64_t len;
	char name[VM_NAME_MAX];	/* of its memory region */
};

/*
 * qemu_flat_parse() - the RAM in what `info mtree -f` printed
 *
 * Only what is RAM and writable now. 0, and *v is to be freed; -EPROTO: the
 * text has no address space "memory". A line that is not understood is left
 * out: what we do not know of is not mapped.
 */
int qemu_flat_parse(const char *text, struct qemu_flat **v, size_t *n);

/*
 * qemu_option() - the value of a key in an option's argument
 *
 * "a,b=c,d=e,,f" (",," is a comma) or JSON. implied: the key of a first word
 * without "=", or NULL. false: not there, or longer than size - 1.
 */
bool qemu_option(const char *opts, const char *implied, const char *key,
		 char *buf, size_t size);

/*
 * qemu_layout() - the ranges of a machine type with size bytes of RAM
 *
 * off: of RAM in the file. -ENOTSUP: not a type that is known.
 */
int qemu_layout(struct ram *ram, const char *machine, uint64_t size,
		uint64_t off);

#endif
