/* SPDX-License-Identifier: MIT */
/*
 * seccomp.h - what the seccomp filters of another process say of calls
 *
 * Theory of operation. A call that a filter forbids may end the process, so it
 * is asked before it is made. The kernel tells a tracer the programs of a
 * thread (PTRACE_SECCOMP_GET_FILTER), and we run them on the call: as the
 * kernel does, all of them, and what is most restrictive counts. What of the
 * call is not known beforehand (an address, a descriptor's number) is left open;
 * where a program decides by that, there is no answer.
 *
 * An answer holds until another filter is installed, which can only be more
 * restrictive.
 */
#ifndef PROCESS_SECCOMP_H
#define PROCESS_SECCOMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SECCOMP_NAME_MAX	32

/* A call of x86-64. */
struct seccomp_call {
	int nr;
	uint64_t at;		/* address behind its `syscall` */
	uint64_t args[6];
	uint8_t unknown;	/* bit n: args[n] is not known */
	/* The answer: */
	uint32_t action;	/* SECCOMP_RET_, with its data */
	bool undecided;		/* it depends on what is not known */
};

/*
 * seccomp_ask() - the answers of a thread that we have stopped (ptrace(2))
 *
 * 0; -EACCES: we may not know: that takes CAP_SYS_ADMIN, and no filter of our
 * own. -ENOTSUP: the kernel does not tell (it was built without
 * CONFIG_CHECKPOINT_RESTORE), the thread is in strict mode, or a filter is no
 * classic BPF. Others as of ptrace(2).
 */
int seccomp_ask(pid_t tid, struct seccomp_call *calls, size_t n);

/* seccomp_allows() - the call is made as if there were no filter */
bool seccomp_allows(const struct seccomp_call *call);

/* seccomp_action() - the action in words: "ERRNO (EPERM)" */
const char *seccomp_action(uint32_t action, char buf[SECCOMP_NAME_MAX]);

#endif
