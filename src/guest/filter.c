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

#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "guest/tracer.h"
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

/*
 * One test for every run of numbers of one kind, from low to high: the first
 * whose end lies above the number decides. Calls of no interest return here;
 * the others go on to the test of the instruction pointer, which follows
 * directly behind its own run, so no jump is longer than a few steps.
 */
static void put_runs(struct program *p, uint64_t gate)
{
	unsigned int from = 0;

	while (from < CALL_NR_MAX) {
		const bool traced = call_is_traced(from);
		unsigned int end = from;

		while (end < CALL_NR_MAX && call_is_traced(end) == traced)
			end++;
		if (traced) {
			put(p, JUMP(BPF_JMP | BPF_JGE | BPF_K, end, 7, 0));
			put(p, LOAD(instruction_pointer));
			put(p, STMT(BPF_ALU | BPF_AND | BPF_K,
				    (uint32_t)~(TEXT_SIZE - 1)));
			put(p, JUMP(BPF_JMP | BPF_JEQ | BPF_K,
				    (uint32_t)gate, 0, 2));
			put(p, STMT(BPF_LD | BPF_W | BPF_ABS,
				    offsetof(struct seccomp_data,
					     instruction_pointer) + 4));
			put(p, JUMP(BPF_JMP | BPF_JEQ | BPF_K,
				    (uint32_t)(gate >> 32), 1, 0));
			put(p, RETURN(SECCOMP_RET_TRACE));
			put(p, RETURN(SECCOMP_RET_ALLOW));
		} else {
			put(p, JUMP(BPF_JMP | BPF_JGE | BPF_K, end, 1, 0));
			put(p, RETURN(SECCOMP_RET_ALLOW));
		}
		from = end;
	}
}

int filter_install(uint64_t gate)
{
	struct program p = { .n = 0 };
	struct sock_fprog prog;

	put(&p, LOAD(arch));
	put(&p, JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	put(&p, RETURN(SECCOMP_RET_TRACE | 1));
	put(&p, LOAD(nr));
	put_runs(&p, gate);
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

/* --- a target's own filter -------------------------------------------------- */

#define PREAMBLE 7

static void put_preamble(struct program *p, uint64_t gate)
{
	put(p, LOAD(instruction_pointer));
	put(p, STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)~(GATE_SIZE - 1)));
	put(p, JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)gate, 0, 3));
	put(p, STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, instruction_pointer) + 4));
	put(p, JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(gate >> 32), 0, 1));
	put(p, RETURN(SECCOMP_RET_ALLOW));
	put(p, STMT(BPF_LD | BPF_IMM, 0));	/* as a program finds it */
}

/* The program's filter behind the preamble, to be freed; NULL: unreadable. */
static struct sock_filter *with_preamble(struct task *t,
					 const struct sock_fprog *prog)
{
	const size_t size = prog->len * sizeof(struct sock_filter);
	struct sock_filter *v = malloc(PREAMBLE * sizeof(*v) + size);
	struct program pre = { .n = 0 };

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
