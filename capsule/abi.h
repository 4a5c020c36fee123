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
 * Either side sleeps, when it has waited for long enough, on the word that the
 * other publishes by, with the word's bit 0 set: whoever publishes exchanges
 * the word, and wakes the other only if it finds the bit.
 *
 * A slot is a thread's, filled by the tracer, or a *lane*: any thread's that
 * takes it, for one call, from the stub (gate.S).
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
#define GATE_BASE	0x4d5000000000		/* gate and stub, in the target */
#define GATE_SIZE	0x10000
#define SITES_SIZE	0x1f0000		/* behind it: patched sites' code */
#define TEXT_SIZE	(GATE_SIZE + SITES_SIZE) /* a power of two */
#define SLOT_BASE	0x4d5000400000		/* slots, in target and shadow */
/* Both are lower in a guest whose processes have 39 bits of address space
 * (User-Mode Linux), at the same distance. */
#define GATE_BASE_39	0x4d50000000
#define SLOT_STRIDE	0x4000			/* one slot and its scratch */
#define SLOT_MAX	16384
#define SLOT_AREA	(SLOT_STRIDE * SLOT_MAX)
#define CTL_SLOTS	4			/* the first: struct stub_ctl */
#define LANE_FIRST	CTL_SLOTS
#define LANES		16
#define SLOT_FIRST	(LANE_FIRST + LANES)	/* of threads */
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

/* Slot fields, in bytes from the start of the slot: the request's line, */
#define SLOT_REQ_SEQ	0	/* u32, even; bit 0: the executor sleeps */
#define SLOT_OP		4	/* u32, enum below */
#define SLOT_NR		8	/* u32, system call number */
#define SLOT_NEWFD	12	/* u32, for all ops but SLOT_CALL */
#define SLOT_ARGS	16	/* u64[6] */
/* the answer's, */
#define SLOT_RESP_SEQ	64	/* u32, even; bit 0: the target sleeps */
#define SLOT_SIGNAL	68	/* u32, signal the kernel sent for this call, */
#define SLOT_FRESH	0x100	/* ... and this, if there are new descriptors */
#define SLOT_RESULT	72	/* s64 */
/* and what is the target's own: */
#define SLOT_POST	128	/* u32, not 0: the gate stops when done */
#define SLOT_FREE	132	/* u32, of a lane: 1: it may be taken; or whose */
#define SLOT_RDI	136	/* u64: the program's registers */
#define SLOT_RSI	144
#define SLOT_RDX	152
#define SLOT_R10	160
#define SLOT_R8		168
#define SLOT_R9		176
#define SLOT_R12	184
#define SLOT_RSP	192
#define SLOT_RIP	200	/* where it goes on */
#define SLOT_FLAGS	208	/* u64: as lahf and seto leave them in ax */
#define SLOT_VALUE	216	/* rax when it goes on */
#define SLOT_SITE	224	/* a lane's: struct site_code; 0: not a lane */
#define SLOT_RFLAGS	232	/* what r11 is when it goes on */
/*
 * How often the gate looks for the answer before it sleeps: that many times,
 * which is adapted, up to the maximum. In a VM neither side can wake the other:
 * the target pauses, for a time that grows by an eighth each time up to a
 * maximum (0: the gate is woken), and stops where the executor sleeps, for the
 * tracer to have it woken.
 */
#define SLOT_SPIN	240	/* u32 */
#define SLOT_SPIN_MAX	244	/* u32 */
#define SLOT_PAUSE	248	/* struct timespec, less than a second */
#define SLOT_PAUSE_NS	256
#define SLOT_CPU	264	/* u32, and one: where the target went to sleep */
#define SLOT_STAGE	268	/* u32, of a lane's: STAGE_ */
#define SLOT_RBX	272	/* of a lane's: for who interrupts the stub */
#define SLOT_RBP	280
#define SLOT_R13	288
#define SLOT_R14	296
#define SLOT_R15	304
#define SLOT_MOVED	316	/* u32, and one: the lane to go on with */
#define SLOT_PAUSE_MIN_NS 50000
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
 * SLOT_MAKES: a call that may make descriptors, whatever it returns. They keep
 *	their numbers, from SHADOW_FD_BASE on, of which the kernel takes the
 *	lowest. NEWFD says which were free: so many (bits 24 to 31) from the
 *	number in bits 0 to 23 on. If one is no more, SLOT_FRESH says so: it may
 *	be a new one, or one that is on its way to another number (SLOT_OPEN).
 *	There are no more of those than other threads, so it is enough to look
 *	at as many as there are threads.
 */
#define SLOT_CALL	0
#define SLOT_OPEN	1
#define SLOT_CLOSE	2
#define SLOT_MAKES	3
#define SLOT_MAKES_COUNT 24	/* shift */
#define SLOT_MAKES_MAX	255

/*
 * Cycles of the time stamp counter: an executor that slept for less looks for
 * its next request for a while; if it had looked for this one in vain, for a
 * quarter of that. Some 0.15 ms: a wake-up across cores may take half of it. By
 * the tracer in a VM it takes more than that: 5 ms.
 */
#define EXECUTOR_SOON	400000
#define EXECUTOR_SOON_VM (32 * EXECUTOR_SOON)

/*
 * The segment whose limit is the number of the processor, and from bit 12 on that
 * of the node: what getcpu(3) of the vdso looks at (GDT_ENTRY_CPUNODE in
 * asm/segment.h).
 */
#define CPUNODE_SEGMENT	0x7b

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

/*
 * What the stub does with a call, by its number (stub_ctl.class). FD: local
 * unless the first argument is a descriptor that stub_ctl.fds has; PATH: by the
 * one path among the arguments. Numbers from CALL_NR_MAX on, descriptors from
 * STUB_FDS on: the tracer's.
 */
#define STUB_LOCAL	0	/* made in place */
#define STUB_FD		1
#define STUB_TRAP	2	/* the tracer's: it stops */
#define STUB_PATH	3
#define STUB_HOST_FD	4	/* FD, but the target's own are the tracer's */
#define STUB_OPEN	5	/* PATH, and it makes a descriptor */
#define STUB_MEMORY	6	/* by struct stub_young */
#define STUB_CLONE	7	/* local, of a thread */
#define STUB_FDS	1024
#define STUB_RANGES	16
#define STUB_STRUCT	256	/* no structure without CALL_NESTED is longer */
#define STUB_DIRS	256
#define STUB_DIR_MAX	116	/* bytes of a directory's name */
#define STUB_NOTES	64
#define STUB_CHANGES	64
#define STUB_YOUNG	64
#define STUB_YOUNG_MAX	(1UL << 30)	/* bytes of one mapping */
#define STUB_YOUNG_SMALL (1UL << 20)
#define STUB_NOTE_MAX	224	/* bytes of a path */
#define STUB_DIR_UNKNOWN 0
#define STUB_DIR_LOCAL	1
#define STUB_DIR_HOST	2
#define STUB_NRS	512	/* CALL_NR_MAX (wire/calls.h) */

/* What stub_decide() says. */
#define DECIDED_TRAP	0
#define DECIDED_LOCAL	1
#define DECIDED_FORWARD	2	/* the request is filled in */
#define DECIDED_DONE	3	/* SLOT_VALUE is the result */
#define DECIDED_WAIT	4	/* for a lane with an executor; in stub.c alone */

/*
 * How far the stub is with a call. A signal is let through before anything has
 * been done that would have to be undone, or else when all is done: until then
 * signals are held, and SLOT_POST says so.
 */
#define STAGE_NONE	0
#define STAGE_BEGUN	1
#define STAGE_DONE	2

/* The code of one patched site, a copy of site_code in gate.S. */
#define SITE_CODE_SIZE	256
#define SITE_CODES	(SITES_SIZE / SITE_CODE_SIZE)

#define STUB_LANE_SIZE	64	/* the code that tries one lane */

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
/*
 * One more is taken above, so that the kernel's table has room for what is to
 * come, in forks too: to let a table grow that threads share, the kernel waits
 * for all processors (expand_fdtable() in fs/file.c), 10 ms and more.
 */
#define SHADOW_FD_ROOM		1023

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
	uint32_t free;
	uint64_t rdi, rsi, rdx, r10, r8, r9, r12, rsp;
	uint64_t rip, flags;
	int64_t value;
	uint64_t site;
	uint64_t rflags;
	uint32_t spin, spin_max;
	int64_t pause_s, pause_ns;
	uint32_t cpu, stage;
	uint64_t rbx, rbp, r13, r14, r15;
	uint32_t note;		/* of a lane's, and one: stub_ctl.notes; 0: none */
	uint32_t moved;
};

_Static_assert(offsetof(struct slot, args) == SLOT_ARGS, "abi");
_Static_assert(offsetof(struct slot, resp_seq) == SLOT_RESP_SEQ, "abi");
_Static_assert(offsetof(struct slot, result) == SLOT_RESULT, "abi");
_Static_assert(offsetof(struct slot, post) == SLOT_POST, "abi");
_Static_assert(offsetof(struct slot, free) == SLOT_FREE, "abi");
_Static_assert(offsetof(struct slot, rdi) == SLOT_RDI, "abi");
_Static_assert(offsetof(struct slot, rsp) == SLOT_RSP, "abi");
_Static_assert(offsetof(struct slot, site) == SLOT_SITE, "abi");
_Static_assert(offsetof(struct slot, spin_max) == SLOT_SPIN_MAX, "abi");
_Static_assert(offsetof(struct slot, pause_s) == SLOT_PAUSE, "abi");
_Static_assert(offsetof(struct slot, pause_ns) == SLOT_PAUSE_NS, "abi");
_Static_assert(offsetof(struct slot, stage) == SLOT_STAGE, "abi");
_Static_assert(offsetof(struct slot, r15) == SLOT_R15, "abi");
_Static_assert(offsetof(struct slot, moved) == SLOT_MOVED, "abi");

/*
 * A lane that a thread has taken when it had one: SLOT_FREE says which, until it has
 * let go of that. Bit 0 is clear.
 */
static inline uint32_t slot_taken_by(uint32_t lane)
{
	return 2 * (lane + 1);
}

/* slot_answered() - has the request that seq published been answered? */
static inline int slot_answered(const struct slot *s, uint32_t seq)
{
	return (__atomic_load_n(&s->resp_seq, __ATOMIC_ACQUIRE) & ~1u) == seq;
}

/*
 * Memory that can be read without a fault: the stub looks nowhere else. Or
 * memory that the shadow has as it is (in a VM: the target's own, pinned). The
 * end is 0 while the start is written.
 */
struct stub_range {
	uint64_t start, end;
};

/*
 * What is known of a directory by the name that a path has for it: that all in
 * it is the target's own, or that all below it is the host's and known by this
 * very name there; the latter is known of the first directory of a path of which
 * it is true. Where a directory has names of both, as the one that a rule's is in,
 * it is known of single names instead, which do not end with a slash. What a
 * symbolic link may change is forgotten when any target makes or moves one, and
 * otherwise within a tick of the tracer's.
 */
struct stub_dir {
	uint32_t seq;		/* odd: being written */
	uint32_t generation;	/* that it is true for */
	uint8_t verdict;	/* STUB_DIR_ */
	uint8_t relative;	/* 1: to the working directory */
	uint16_t len;
	char text[STUB_DIR_MAX];
};

/* The head of what the stub writes down for the tracer, who reads notes at the next
 * stop, and changes when it has to know. */
struct stub_log {
	uint32_t state;		/* LOG_ */
	uint64_t order;		/* of all of it; 1 is the first */
};

#define LOG_FREE	0
#define LOG_TAKEN	1	/* what becomes of it is not known yet */
#define LOG_TRUE	2

/*
 * What the stub has opened and closed. A descriptor's number is taken while it is
 * opened and until it has been closed, so of one number there are never two in the
 * wrong order.
 */
struct stub_note {
	struct stub_log log;
	int32_t fd;		/* opened, or */
	int32_t closed;		/* 1: closed */
	int32_t flags;		/* O_ flags it was opened with */
	int32_t dirfd;		/* that the name is relative to */
	char text[STUB_NOTE_MAX];
};

/*
 * A private, anonymous mapping that the stub has made. The tracer does not know of
 * it yet: it takes what is YOUNG_MAPPED when it has to know. Until then the stub may
 * unmap it again. The offsets in the arena are the mapping's own, and when it is
 * gone the next one's, for no shadow has heard of it: small ones take their room a
 * part at a time, and what they have left there is emptied when all of it has been
 * used.
 *
 * When the tracer has taken it, it is YOUNG_KNOWN: offsets and room are the
 * tracer's, but where it lies and at which offsets the stub may still count on,
 * until a call that the tracer makes may change that. What the stub does to it is
 * a struct stub_change.
 */
struct stub_young {
	uint32_t state;		/* YOUNG_ */
	uint32_t prot;		/* that it was mapped with */
	uint64_t order;		/* in that of struct stub_log: once it was there */
	uint64_t start, len;
	uint64_t off, room;	/* in the arena; room: bytes, or 0: none yet */
	uint64_t at;		/* offset of start; what is before it in the
				 * room was used */
};

#define YOUNG_FREE	0
#define YOUNG_TAKEN	1	/* somebody is about to change it */
#define YOUNG_MAPPED	2
#define YOUNG_KNOWN	3

/*
 * What the stub has done to private memory that the tracer knows of, or will when it
 * takes what is young: noted before it is done, so what another thread maps there
 * afterwards is of a later order.
 */
struct stub_change {
	struct stub_log log;
	int32_t prot;		/* PROT_READ and PROT_WRITE, or -1: unmapped */
	uint64_t start, end;
};

/*
 * Where a name is looked for: a hash (FNV-1a) begins with stub_dir_hash(), takes
 * byte after byte, and is a slot by stub_dir_slot(). relative: 0 or 1
 */
static inline uint32_t stub_dir_hash(uint32_t relative)
{
	return 2166136261u + relative;
}

static inline uint32_t stub_dir_step(uint32_t hash, char c)
{
	return (hash ^ (uint8_t)c) * 16777619u;
}

static inline uint32_t stub_dir_slot(uint32_t hash)
{
	return (hash ^ hash >> 16) % STUB_DIRS;
}

/*
 * What the tracer tells the stub, one an address space. The target can write
 * it, as it can everything of its own: what may be forwarded is not decided
 * here, but by the shadow's filter.
 */
struct stub_ctl {
	uint8_t class[STUB_NRS];	/* STUB_, by call number */
	uint8_t what[STUB_NRS];	/* bit i < 6: argument i points; */
	uint8_t sized[STUB_NRS]; /* bit i: ... so many bytes as the next says */
	uint8_t path[STUB_NRS];	/* where the path is: STUB_PATH_ */
	uint32_t ready;		/* the first lanes have executors: */
	uint32_t nmanned;	/* how many */
	/* The shadow has been told of all that is mapped, but for what is
	 * young; otherwise, and in a VM always, of what is in shadowed. */
	uint32_t told;
	uint32_t generation;	/* of what is known of directories; not 0 */
	uint32_t cwd;		/* STUB_DIR_ */
	uint32_t next_range, next_shadowed;	/* the tracer's */
	int32_t placeholder;	/* HIDDEN_PLACEHOLDER (guest/tracer.h) */
	uint32_t all;		/* names below a host directory may be local */
	uint32_t makes;		/* SLOT_NEWFD of an ioctl; 0: it makes none */
	uint32_t ntrue;		/* notes that are to be written down */
	int32_t arena;		/* HIDDEN_ARENA */
	uint64_t order;		/* of what was noted last */
	uint32_t nyoung;	/* mappings and changes that the tracer does not
				 * know of */
	uint32_t changing;	/* threads that are about to change one, ... */
	uint32_t still;		/* ... which none may begin to do now */
	uint64_t pool, pool_end;	/* offsets in the arena for them */
	int64_t pause_ns;	/* of lanes: SLOT_PAUSE_NS; 0: not in a VM */
	struct stub_young young[STUB_YOUNG];
	struct stub_change changes[STUB_CHANGES];
	uint32_t fds[STUB_FDS / 32];	/* not simply the target's */
	uint32_t hosts[STUB_FDS / 32];	/* the host's */
	uint32_t trees[STUB_FDS / 32];	/* so is all below these directories */
	struct stub_range readable[STUB_RANGES];
	struct stub_range shadowed[STUB_RANGES];
	struct stub_dir dirs[STUB_DIRS];
	struct stub_note notes[STUB_NOTES];
};

#define STUB_MAY_FORWARD 0x80	/* what[]: the shadow may carry it out */
#define STUB_FAR	0x40	/* there is more to it than what[] says */
#define STUB_POINTERS	0x3f
/* path[]: which argument it is, and which has AT_ flags (or 0). */
#define STUB_PATH_INDEX	0x03
#define STUB_PATH_DIRFD	0x04	/* the one before it is a directory's */
#define STUB_PATH_FOLLOW 0x08	/* a final symbolic link is followed */
#define STUB_PATH_FLAGS	4	/* shift */

_Static_assert(sizeof(struct stub_ctl) <= CTL_SLOTS * SLOT_STRIDE, "abi");

/* The code of a patched site begins with what is its own. */
struct site_code {
	uint64_t after;		/* in the trampoline, behind its `syscall` */
	uint64_t trap;		/* in the trampoline: that `syscall` */
	uint64_t rip;		/* behind the program's own `syscall` */
	uint64_t class;		/* stub_ctl.class */
	uint64_t fds;		/* stub_ctl.fds */
	uint64_t stub;		/* gate_header.stub */
};

/* Both blobs begin with the offsets of their entry points. */
struct gate_header {
	uint32_t wait;		/* r12: slot; waits for the reply */
	uint32_t one;		/* one injected call, then MAGIC_STOP */
	uint32_t batch;		/* r12: table, r13: entries; then MAGIC_STOP */
	uint32_t leave;		/* r12: slot; the way back to the program ... */
	uint32_t left;		/* ... up to here; r12 or, then, r11: slot */
	uint32_t finish;	/* r12: lane; stub_finish(), then leave ... */
	uint32_t finished;	/* ... from here on */
	/* The stub: rcx: site_code, flags in r11. */
	uint32_t stub;		/* tries one lane after the other, where ... */
	uint32_t lane_taken;	/* ... it is ours if CF says so, */
	uint32_t lane_r12;	/* ... r12 is it; offsets in a lane's code */
	uint32_t stub_refuse;	/* there is none */
	uint32_t stub_enter;	/* r12: lane */
	uint32_t stub_saved;	/* all of the program is in it */
	uint32_t stub_flags;	/* rflags as well; DF is clear from here */
	uint32_t stub_moved;	/* r12: another lane; rcx: the former, ... */
	uint32_t stub_let_go;	/* ... until here */
	uint32_t stub_commit;	/* looks whether a signal is held ... */
	uint32_t stub_published;	/* ... before it publishes the request */
	uint32_t stub_undone;	/* r12: lane; stub_undo(), then its trap */
	uint32_t stub_done;	/* r12: lane; to the program with a result, ... */
	uint32_t stub_back;	/* ... without it, ... */
	uint32_t stub_trap;	/* ... to its trap, ... */
	uint32_t stub_end;	/* ... up to here */
	/* What sites' code is a copy of, and as offsets in it: */
	uint32_t site_code;
	uint32_t site_entry;	/* as at the program's `syscall` */
	uint32_t site_save_rcx;	/* rax is in rcx ... */
	uint32_t site_saved;	/* ... and back; flags are in r11 */
	uint32_t site_local;	/* for a call made in place */
	uint32_t site_local_rcx;
	uint32_t site_local_flags;
	uint32_t site_call;	/* its `syscall`: all is the program's */
	uint32_t site_called;
	uint32_t site_more;	/* flags are in r11 */
	uint32_t site_refuse;	/* the same for the trap */
	uint32_t site_refuse_rcx;
	uint32_t site_refuse_flags;
	uint32_t site_refused;
	uint32_t site_stub;
	uint32_t site_leave_trap;	/* r11: lane, which it lets go of */
	uint32_t site_leave_local;
	uint32_t site_leave_done;	/* rcx: rflags */
	uint32_t site_end;
	uint32_t size;
};

struct capsule_header {
	uint32_t syscall;	/* any `syscall` instruction */
	uint32_t batch;		/* as in the gate */
	uint32_t executor;	/* r12: slot, r13d: last req_seq seen, rsp:
				 * looks before it sleeps, odd in a VM, rbx: of
				 * them, now */
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
