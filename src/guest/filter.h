/* SPDX-License-Identifier: MIT */
/* filter.h - the seccomp filter of targets */
#ifndef GUEST_FILTER_H
#define GUEST_FILTER_H

#include <stdint.h>

/*
 * filter_install() - on the calling thread, inherited by all that it becomes
 *
 * By number first, so that the kernel can cache "allow" for the calls of no
 * interest; calls that the table marks CALL_TRACED are allowed from gate, stub
 * and sites' code, and traced from everywhere else; numbers that the table does not know
 * are traced. SECCOMP_RET_DATA is 1 for another architecture's call (32-bit,
 * x32). gate: GVA of the gate. 0 or -errno; sets no_new_privs where the caller
 * is not privileged.
 */
int filter_install(uint64_t gate);

/*
 * call_seccomp() - a target installs a filter of its own
 *
 * It gets a preamble that allows what the gate calls; a call of the program's
 * own passes its filter, and ours, before the gate comes into it: from now on
 * the stub decides nothing. Strict mode
 * is refused (EINVAL): it has no room for that.
 */
struct tracer;
struct task;
void call_seccomp(struct tracer *tr, struct task *t);

#endif
