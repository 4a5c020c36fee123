/* SPDX-License-Identifier: MIT */
/* filter.c - the seccomp filter of targets */
#include "guest/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capsule/abi.h"
#include "wire/calls.h"

#define X32_BIT		0x40000000u
#define INSNS_MAX	1024

struct program {
	struct sock_filter v[INSNS_MAX];
	unsigned short n;
};

static void put(struct program *p, struct sock_filter insn)
{
	if (p->n < INSNS_MAX)
		p->v[p->n++] = insn;
}

#define STMT(code, k)		((struct sock_filter)BPF_STMT(code, k))
#define JUMP(code, k, jt, jf)	((struct sock_filter)BPF_JUMP(code, k, jt, jf))
#define LOAD(field) \
	STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what)		STMT(BPF_RET | BPF_K, what)

static int is_traced(unsigned int nr)
{
	const struct call *c = calls_get(nr);

	return !c || c->flags & CALL_TRACED;
}

/*
 * One test for every run of numbers of one kind, from low to high: the first
 * whose end lies above the number decides. Calls of no interest return here;
 * the others go on to the test of the instruction pointer, which follows
 * directly behind its own run, so no jump is longer than a few steps.
 */
static void put_runs(struct program *p)
{
	unsigned int from = 0;

	while (from < CALL_NR_MAX) {
		int traced = is_traced(from);
		unsigned int end = from;

		while (end < CALL_NR_MAX && is_traced(end) == traced)
			end++;
		if (traced) {
			put(p, JUMP(BPF_JMP | BPF_JGE | BPF_K, end, 7, 0));
			put(p, LOAD(instruction_pointer));
			put(p, STMT(BPF_ALU | BPF_AND | BPF_K,
				    (uint32_t)~(GATE_SIZE - 1)));
			put(p, JUMP(BPF_JMP | BPF_JEQ | BPF_K,
				    (uint32_t)GATE_BASE, 0, 2));
			put(p, STMT(BPF_LD | BPF_W | BPF_ABS,
				    offsetof(struct seccomp_data,
					     instruction_pointer) + 4));
			put(p, JUMP(BPF_JMP | BPF_JEQ | BPF_K,
				    (uint32_t)(GATE_BASE >> 32), 1, 0));
			put(p, RETURN(SECCOMP_RET_TRACE));
			put(p, RETURN(SECCOMP_RET_ALLOW));
		} else {
			put(p, JUMP(BPF_JMP | BPF_JGE | BPF_K, end, 1, 0));
			put(p, RETURN(SECCOMP_RET_ALLOW));
		}
		from = end;
	}
}

int filter_install(void)
{
	struct program p = { .n = 0 };
	struct sock_fprog prog;

	put(&p, LOAD(arch));
	put(&p, JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	put(&p, RETURN(SECCOMP_RET_TRACE | 1));
	put(&p, LOAD(nr));
	put_runs(&p);
	/* x32 calls have a bit far above every number of ours. */
	put(&p, JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x80000000u, 2, 0));
	put(&p, JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
	put(&p, RETURN(SECCOMP_RET_TRACE | 1));
	put(&p, RETURN(SECCOMP_RET_TRACE));
	if (p.n >= INSNS_MAX)
		return -E2BIG;
	prog = (struct sock_fprog){ .len = p.n, .filter = p.v };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0)
		return 0;
	if (errno != EACCES)
		return -errno;
	/* Not privileged: only a process that can gain nothing by exec may. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return -errno;
	return 0;
}
