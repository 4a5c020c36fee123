/* SPDX-License-Identifier: MIT */
/*
 * sandbox.h - what confines a shadow, by the host kernel (DESIGN 9)
 *
 * Order in the child that becomes the first shadow of a policy:
 * clone(sandbox_clone_flags()) -> sandbox_enter() -> exec of the capsule
 * (which the daemon holds at the exec stop) -> filter sandbox_filter_shadow()
 * on it -> every executor thread adds sandbox_filter_executor().
 */
#ifndef HOST_SANDBOX_H
#define HOST_SANDBOX_H

#include <linux/filter.h>
#include <stddef.h>

#include "wire/rules.h"

#define SANDBOX_ERR_MAX 512

/*
 * sandbox_clone_flags() - CLONE_NEW* flags for the policy
 *
 * Root (CAP_SYS_ADMIN) needs no user namespace; anybody else gets one. With
 * "all" the shadow has exactly its user's authority and names: no namespace.
 * Without "net" the network namespace is empty.
 */
unsigned long sandbox_clone_flags(const struct rules *policy);

/*
 * sandbox_enter() - confine the calling process, once, before it execs
 *
 * uid and gid are the user's outside. Writes the id maps where there is a
 * user namespace, builds a root of its own that holds only the policy's paths
 * and device nodes under their guest names (bind mounts; nosuid, nodev
 * except for dev: rules; ro as said), drops every capability (with "all" as
 * root the file capabilities stay: chown, dac_override, dac_read_search,
 * fowner, fsetid, mknod, linux_immutable, lease, setfcap), no_new_privs,
 * rlimits (no core; NOFILE as high as allowed), Landlock where the kernel
 * has it. Working directory "/".
 *
 * Returns 0 or -errno; err then says what was being done and the remedy.
 */
int sandbox_enter(const struct rules *policy, unsigned uid, unsigned gid,
		  char err[SANDBOX_ERR_MAX]);

/*
 * The two filters, as programs for seccomp(2). *out is the caller's to free.
 * 0 or -errno.
 *
 * The shadow's: what leader, mapper and executors need together; default
 * EPERM; MAGIC_STOP is SECCOMP_RET_TRACE, MAGIC_NOTIFY is
 * SECCOMP_RET_USER_NOTIF (capsule/abi.h). mmap and mprotect without
 * PROT_EXEC only (a moved capsule is moved by mremap).
 *
 * The executor's, on top of it: default EPERM; every call that the table of
 * calls marks CALL_FORWARD, CALL_NET ones only where policy has "net",
 * CALL_EVENTFD ones only where it has "eventfd", plus what the executor itself
 * does (futex, fcntl, dup3, close, exit, MAGIC_STOP). ioctl requests: without
 * dev: rules or "all" only those of regular files and directories, anything
 * else ENOTTY. fcntl F_SETOWN, F_SETOWN_EX, F_SETSIG, F_NOTIFY and F_SETLEASE
 * EPERM unless "all". socket families: AF_INET, AF_INET6 with "net"; else
 * EPERM. No SO_ZEROCOPY.
 */
int sandbox_filter_shadow(const struct rules *policy, struct sock_fprog *out);
int sandbox_filter_executor(const struct rules *policy,
			    struct sock_fprog *out);

#endif
