/* SPDX-License-Identifier: MIT */
/*
 * backing.h - the file behind a VM's RAM
 *
 * The file usually has no name any more, so it is opened through the VMM's
 * own descriptor. Opening it anew, instead of taking a copy of the descriptor,
 * gives our own access mode and needs no right to trace the VMM.
 */
#ifndef VM_BACKING_H
#define VM_BACKING_H

#include <stdint.h>
#include <sys/types.h>

#include "process/maps.h"
#include "vm/vm.h"

/*
 * backing_open() - open for reading and writing what is mapped at line
 *
 * line is one of pid's maps. 0, and *fd, the caller's, is a regular file that
 * can be mapped page by page, of *size bytes. Else -errno, and err says why
 * and what to do: -ENOTSUP: the mapping is private, or of huge pages; -EACCES:
 * we may not; -ESRCH: the file was not found in the process.
 */
int backing_open(pid_t pid, const struct map_line *line, int *fd,
		 uint64_t *size, char err[VM_ERR_MAX]);

/* backing_denied() - the sentence for an -EACCES or -EPERM about process pid;
 * what: "its descriptors". Returns rc. */
int backing_denied(pid_t pid, const char *what, int rc, char err[VM_ERR_MAX]);

#endif
