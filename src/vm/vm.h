/* SPDX-License-Identifier: MIT */
/*
 * vm.h - virtual machines on this host: finding them, and their RAM
 *
 * Theory of operation. A VM is a process, the VMM, that has the guest's RAM
 * mapped from a file. To share it we need that file, and a table of which
 * guest physical addresses are where in it. Both come from the VMM itself:
 * its memory map and descriptors in /proc, its command line, and, with QEMU,
 * its monitor. Nothing is sent to the VMM that changes it, but where devices'
 * memory is to be in it (window.h).
 *
 * What a VMM shows of itself was chosen by whoever started it, never by the
 * guest. So a wrong table can come from a VMM that lies, which could give its
 * own memory away in any case; what must not happen is that we guess: a VMM
 * that does not tell where its RAM is, and is of no kind that was checked
 * against one that does, is refused.
 *
 * The VMM may end at any time and its number be taken by another process, so
 * a pidfd is opened first and asked last.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vm/ram.h"

#define VM_ERR_MAX	1024
#define VM_NAME_MAX	128

enum vm_kind { VM_QEMU, VM_UML };

/* A VMM process as anybody may see it. */
struct vm_seen {
	enum vm_kind kind;
	pid_t pid;
	uid_t uid;
	char name[VM_NAME_MAX];		/* "": it has none */
	char machine[VM_NAME_MAX];	/* QEMU's type; "": not said */
	uint64_t memory;		/* bytes; 0: not known */
};

struct vm {
	struct vm_seen seen;
	int pidfd;		/* owned; readable when the VMM has ended */
	struct ram ram;		/* owned */
	char *qmp;		/* owned: path of a QMP socket; NULL: none */
	const char *layout;	/* who told it: "QMP", "command line", "UML" */
	char note[VM_ERR_MAX];	/* what its user should know, or "" */
};

const char *vm_kind_name(enum vm_kind kind);	/* "qemu", "uml" */

/*
 * vm_list() - the VMMs that run here; *v is the caller's to free
 *
 * 0 or -errno.
 */
int vm_list(struct vm_seen **v, size_t *n);

/*
 * vm_renew() - is the RAM still where it was?
 *
 * User-Mode Linux reboots by executing itself: the process stays, and has
 * another file for its RAM. 0: it is; 1: it was not, and vm has the new one;
 * -errno, and err says what is wrong.
 */
int vm_renew(struct vm *vm, char err[VM_ERR_MAX]);

/*
 * vm_open() - a VM and its RAM
 *
 * spec: NAME (QEMU's -name, UML's umid), uml:NAME, pid:N, or qmp:PATH (a QMP
 * socket of QEMU). 0, and *out is the caller's; or -errno, and err says in one
 * line what is wrong and what to do:
 *
 * -ESRCH: no such VM, or it has ended meanwhile. -ENOTUNIQ: several have that
 * name. -EACCES, -EPERM: it is another user's. -EINVAL: spec is none.
 * -ENOTSUP: its RAM cannot be shared, or its layout is not known.
 */
int vm_open(const char *spec, struct vm **out, char err[VM_ERR_MAX]);
int vm_open_pid(pid_t pid, struct vm **out, char err[VM_ERR_MAX]);
void vm_free(struct vm *vm);

/* vm_ended() - has the VMM ended? */
bool vm_ended(const struct vm *vm);

/*
 * vm_fail() - write the sentence, hand on the -errno; for this room
 *
 * A macro, so that whoever reads the code (the analyzer, too) sees that what
 * is returned is not 0.
 */
#define vm_fail(err, rc, ...) (vm_say(err, __VA_ARGS__), (rc))
void __attribute__((format(printf, 2, 3)))
vm_say(char err[VM_ERR_MAX], const char *fmt, ...);

#endif
