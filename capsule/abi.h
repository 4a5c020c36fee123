/* SPDX-License-Identifier: MIT */
/*
 * abi.h - the contract between tracer, gate, daemon and capsule
 *
 * Theory of operation. A forwarded call lives in a *slot*: memory of the
 * target, mapped at the same address in its shadow. The tracer writes the
 * request and then publishes it by increasing req_seq; the executor thread of
 * the shadow sees req_seq move, carries out the call and publishes the result
 * by making resp_seq equal to req_seq. The target's thread itself waits for
 * that in the gate, so a signal reaches it as it would in the kernel.
 *
 * The guest owns every byte of a slot and may write what it likes there: the
 * executor loads each field once, into a register, and what it may do with
 * them is the business of its seccomp filter alone.
 *
 * Included by assembly as well as C: only #define outside __ASSEMBLER__.
 */
#ifndef DARKSHADOW_ABI_H
#define DARKSHADOW_ABI_H

/*
 * Where things live. The range is unused by Linux's own layouts (PIE programs
 * at 0x55..-0x56.., mmap area and stack below 0x7fff..), by the Go heap
 * (0xc0....) and by the shadow layouts of the address, memory and thread
 * sanitizers (compiler-rt: asan_mapping.h, msan.h, tsan_platform.h).
 */
#define GATE_BASE	0x4d5000000000		/* gate code, in the target */
#define GATE_SIZE	0x1000
#define SLOT_BASE	0x4d5000010000		/* slots, in target and shadow */
/* Both are lower in a guest whose processes have 39 bits of address space
 * (User-Mode Linux), at the same distance. */
#define GATE_BASE_39	0x4d50000000
#define SLOT_STRIDE	0x4000			/* one slot and its scratch */
#define SLOT_MAX	16384
#define SLOT_AREA	(SLOT_STRIDE * SLOT_MAX)
#define CAPSULE_BASE	0x4d6000000000		/* capsule, in the shadow */
#define CAPSULE_TEXT	0x1000			/* its code ... */
#define CAPSULE_CTL	0x4000			/* ... and the daemon's page */
#define CAPSULE_SIZE	(CAPSULE_TEXT + CAPSULE_CTL)

/*
 * A call number that no kernel will give a meaning to soon: it ends a run of
 * injected calls or a gate wait by a seccomp stop (SECCOMP_RET_TRACE).
 */
#define MAGIC_STOP	0xd5d5
/* In a shadow: asks the daemon (SECCOMP_RET_USER_NOTIF) for descriptors. */
#define MAGIC_NOTIFY	0xd5d6

/* Slot fields, in bytes from the start of the slot. */
#define SLOT_REQ_SEQ	0	/* u32, futex word of the executor */
#define SLOT_OP		4	/* u32, enum below */
#define SLOT_NR		8	/* u32, system call number */
#define SLOT_NEWFD	12	/* u32, for SLOT_OPEN and SLOT_CLOSE */
#define SLOT_ARGS	16	/* u64[6] */
#define SLOT_RESP_SEQ	64	/* u32, futex word of the waiting target */
#define SLOT_SIGNAL	68	/* u32, signal the kernel sent for this call */
#define SLOT_RESULT	72	/* s64 */
#define SLOT_POST	128	/* u32, not 0: the gate stops when done */
#define SLOT_REGS	136	/* u64: rdi rsi rdx r10 r12 rcx r11 */
/*
 * In a VM, where the host cannot wake the target: how often the gate looks
 * before it pauses, and the pause, which grows by an eighth each time up to
 * the maximum. 0: the gate is woken.
 */
#define SLOT_SPIN	192	/* u32 */
#define SLOT_PAUSE	200	/* struct timespec, less than a second */
#define SLOT_PAUSE_NS	208
#define SLOT_PAUSE_MAX_NS 8000000
#define SLOT_ASIDE	0x800	/* for what must leave the scratch alone */
#define SLOT_SCRATCH	0x1000	/* two paths, or a table of calls to inject */
#define SLOT_SCRATCH_SIZE (SLOT_STRIDE - SLOT_SCRATCH)

/*
 * What the executor does with a request.
 * SLOT_CALL: the call as it stands.
 * SLOT_OPEN: a call that returns one new descriptor: it is moved to number
 *	NEWFD, which is then the result. Close-on-exec lives in the target's
 *	placeholder alone: a shadow never execs.
 * SLOT_CLOSE: descriptor NEWFD is closed and its number filled again.
 */
#define SLOT_CALL	0
#define SLOT_OPEN	1
#define SLOT_CLOSE	2

/*
 * r15 of an executor is 0, or the signal that the running call caused, set by
 * the daemon while the thread is stopped.
 *
 * What an interrupted call returns inside the kernel (include/linux/errno.h):
 * never seen by programs, but by whoever ptraces them.
 */
#define ERESTARTSYS	512
#define ERESTARTNOINTR	513
#define ERESTARTNOHAND	514
#define ERESTART_RESTARTBLOCK 516

/* Entry size of a table of injected calls: nr and six arguments. */
#define BATCH_ENTRY	56

/*
 * Below SHADOW_FD_BASE every descriptor number of a shadow is taken, by a
 * host descriptor or by a filler, so that whatever creates a descriptor gets
 * a number at or above it (DESIGN 3). SHADOW_FD_FILLER is what fillers are
 * copies of.
 */
#define SHADOW_FD_BASE		512
#define SHADOW_FD_FILLER	511

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

struct slot {
	uint32_t req_seq;
	uint32_t op;
	uint32_t nr;
	uint32_t newfd;
	uint64_t args[6];

	uint32_t resp_seq;
	uint32_t signal;
	int64_t result;
	uint64_t pad[6];

	uint32_t post;
	uint32_t pad2;
	uint64_t rdi, rsi, rdx, r10, r12, rcx, r11;
	uint32_t spin;
	uint32_t pad3;
	int64_t pause_s, pause_ns;
};

_Static_assert(offsetof(struct slot, args) == SLOT_ARGS, "abi");
_Static_assert(offsetof(struct slot, resp_seq) == SLOT_RESP_SEQ, "abi");
_Static_assert(offsetof(struct slot, result) == SLOT_RESULT, "abi");
_Static_assert(offsetof(struct slot, post) == SLOT_POST, "abi");
_Static_assert(offsetof(struct slot, rdi) == SLOT_REGS, "abi");
_Static_assert(offsetof(struct slot, spin) == SLOT_SPIN, "abi");
_Static_assert(offsetof(struct slot, pause_s) == SLOT_PAUSE, "abi");
_Static_assert(offsetof(struct slot, pause_ns) == SLOT_PAUSE_NS, "abi");

/* Both blobs begin with the offsets of their entry points. */
struct gate_header {
	uint32_t wait;		/* r12: slot; waits for the reply */
	uint32_t one;		/* one injected call, then MAGIC_STOP */
	uint32_t batch;		/* r12: table, r13: entries; then MAGIC_STOP */
	uint32_t size;
};

struct capsule_header {
	uint32_t syscall;	/* any `syscall` instruction */
	uint32_t batch;		/* as in the gate */
	uint32_t executor;	/* r12: slot, r13d: last req_seq seen */
	uint32_t taken;		/* r13d has moved: the request is under way */
	uint32_t called;	/* after the `syscall` made for the target */
	uint32_t exit;		/* ends the thread */
	uint32_t size;
};

struct batch_call {
	uint64_t nr;
	uint64_t args[6];
};

_Static_assert(sizeof(struct batch_call) == BATCH_ENTRY, "abi");
#define SLOT_BATCH_MAX	(SLOT_SCRATCH_SIZE / BATCH_ENTRY)
#endif
#endif
