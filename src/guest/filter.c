/* SPDX-License-Identifier: MIT */
/* filter.c - the seccomp filter of targets */
#include "guest/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bpf.h"
#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "guest/tracer.h"
#include "wire/calls.h"

#define X32_BIT		0x40000000u
#define ARCH_SHSTK_ENABLE_ 0x5001	/* asm/prctl.h, since Linux 6.6 */
#define LOAD_IP		offsetof(struct seccomp_data, instruction_pointer)

/* What becomes of a call, by its number. */
enum leaf {
	LEAF_ALLOW,		/* it is of no interest */
	LEAF_TRACED,		/* ... but to us, wherever it is not our own */
	LEAF_ARCH,		/* by its argument */
	LEAF_UNKNOWN,
};

/* A call from [at, at + size) ends here, with ALLOW; size: a power of two. */
static void put_origin(struct bpf_prog *p, uint64_t at, uint32_t size)
{
	bpf_load(p, LOAD_IP);
	bpf_put(p, BPF_ALU | BPF_AND | BPF_K, ~(size - 1), 0, 0);
	bpf_put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)at, 0, 3);
	bpf_load(p, LOAD_IP + 4);
	bpf_if(p, BPF_JEQ, (uint32_t)(at >> 32), SECCOMP_RET_ALLOW);
}

static void put_program(struct bpf_prog *p, uint64_t gate)
{
	uint8_t leaf[CALL_NR_MAX];

	for (uint32_t nr = 0; nr < CALL_NR_MAX; nr++)
		leaf[nr] = call_is_traced(nr) ? LEAF_TRACED : LEAF_ALLOW;
	leaf[SYS_arch_prctl] = LEAF_ARCH;
	bpf_load(p, offsetof(struct seccomp_data, arch));
	bpf_put(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	bpf_return(p, SECCOMP_RET_TRACE | 1);
	bpf_load(p, offsetof(struct seccomp_data, nr));
	bpf_switch(p, leaf, CALL_NR_MAX, LEAF_UNKNOWN);
	bpf_leaf(p, LEAF_ALLOW);
	bpf_return(p, SECCOMP_RET_ALLOW);
	bpf_leaf(p, LEAF_TRACED);
	put_origin(p, gate, TEXT_SIZE);
	bpf_return(p, SECCOMP_RET_TRACE);
	/*
	 * Shadow stacks stay off, wherever it comes from (as a call that the
	 * table does not trace it is told ENOSYS): a call that a signal ends in
	 * the stub would leave one that does not fit.
	 */
	bpf_leaf(p, LEAF_ARCH);
	bpf_load(p, offsetof(struct seccomp_data, args));
	bpf_if(p, BPF_JEQ, ARCH_SHSTK_ENABLE_, SECCOMP_RET_TRACE);
	bpf_return(p, SECCOMP_RET_ALLOW);
	/* x32 calls have a bit far above every number of ours. */
	bpf_leaf(p, LEAF_UNKNOWN);
	bpf_if(p, BPF_JGE, 0x80000000u, SECCOMP_RET_TRACE);
	bpf_if(p, BPF_JGE, X32_BIT, SECCOMP_RET_TRACE | 1);
	bpf_return(p, SECCOMP_RET_TRACE);
}

int filter_install(uint64_t gate)
{
	struct bpf_prog p = { .n = 0 };
	struct sock_fprog prog;

	put_program(&p, gate);
	if (p.n > BPF_INSNS_MAX)
		return -E2BIG;
	prog = (struct sock_fprog){ .len = (unsigned short)p.n, .filter = p.v };
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

/* --- a target's own filter -------------------------------------------------- */

#define PREAMBLE 7

static void put_preamble(struct bpf_prog *p, uint64_t gate)
{
	put_origin(p, gate, GATE_SIZE);
	bpf_put(p, BPF_LD | BPF_IMM, 0, 0, 0);	/* as a program finds it */
}

/* The program's filter behind the preamble, to be freed; NULL: unreadable. */
static struct sock_filter *with_preamble(struct task *t,
					 const struct sock_fprog *prog)
{
	const size_t size = prog->len * sizeof(struct sock_filter);
	struct sock_filter *v = malloc(PREAMBLE * sizeof(*v) + size);
	struct bpf_prog pre = { .n = 0 };

	if (!v)
		return NULL;
	put_preamble(&pre, t->proc->mm->memory->base);
	memcpy(v, pre.v, PREAMBLE * sizeof(*v));
	if (task_read(t, (uint64_t)prog->filter, v + PREAMBLE, size) !=
	    (ssize_t)size) {
		free(v);
		return NULL;
	}
	return v;
}

void call_seccomp(struct tracer *tr, struct task *t)
{
	const bool by_prctl = t->nr == SYS_prctl;
	const uint64_t mode = by_prctl ? t->args[1] - 1 : t->args[0];
	const uint64_t at = t->args[2];
	struct sock_filter *v cleanup_free = NULL;
	struct sock_fprog prog;
	uint64_t room_len;
	int64_t room, r;

	if (mode == SECCOMP_SET_MODE_STRICT) {
		task_return(tr, t, -EINVAL);
		return;
	}
	if (mode != SECCOMP_SET_MODE_FILTER ||
	    task_read(t, at, &prog, sizeof(prog)) != sizeof(prog) ||
	    prog.len == 0 || prog.len + PREAMBLE > BPF_MAXINSNS) {
		task_allow(tr, t);
		return;
	}
	v = with_preamble(t, &prog);
	if (!v) {
		task_return(tr, t, -EFAULT);
		return;
	}
	prog.len += PREAMBLE;
	room_len = page_up(sizeof(prog) + prog.len * sizeof(*v));
	room = mem_map_private(tr, t, room_len);
	if (room < 0 && room > -4096) {
		task_return(tr, t, room);
		return;
	}
	prog.filter = (struct sock_filter *)((uint64_t)room + sizeof(prog));
	task_write(t, (uint64_t)room, &prog, sizeof(prog));
	task_write(t, (uint64_t)room + sizeof(prog), v,
		   prog.len * sizeof(*v));
	r = task_native(tr, t, t->nr, t->args[0], t->args[1], (uint64_t)room,
			t->args[3], t->args[4], 0);
	mem_unmap_private(tr, t, (uint64_t)room, room_len);
	if (r >= 0) {
		t->proc->filtered = true;
		stub_attach(tr, t->proc);
	}
	task_return(tr, t, r);
}
