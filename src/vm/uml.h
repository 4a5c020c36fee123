/* SPDX-License-Identifier: MIT */
/*
 * uml.h - User-Mode Linux: its kernel process and its RAM
 *
 * Theory of operation. User-Mode Linux is a kernel that is a program. What
 * tells it from others is how it has its RAM: a file without a name, mapped
 * shared such that address and offset differ by where the image of the
 * program begins (arch/um/kernel/physmem.c: uml_physmem). Memory of its
 * processes is mapped from the same file elsewhere, in processes of theirs,
 * which have the same command line, and so do helper threads: the kernel's
 * process is the one whose parent has another.
 *
 * A physical address is an offset in that file. What lies below the first
 * offset that is mapped is the place of the image itself: the kernel keeps
 * nothing of its processes there, so it is no RAM to us.
 */
#ifndef VM_UML_H
#define VM_UML_H

#include <stdbool.h>
#include <sys/types.h>

#include "process/proc.h"
#include "vm/vm.h"

/* uml_see() - is this the kernel's process? Then name and memory are set. */
bool uml_see(pid_t pid, const struct proc_args *args, struct vm_seen *seen);

/* uml_open() - vm->ram and ->layout of vm->seen.pid. Errors: vm_open(). */
int uml_open(struct vm *vm, char err[VM_ERR_MAX]);

/* uml_renew() - see vm_renew() */
int uml_renew(struct vm *vm, char err[VM_ERR_MAX]);

#endif
