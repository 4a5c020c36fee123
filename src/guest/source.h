/* SPDX-License-Identifier: MIT */
/*
 * source.h - where the memory of targets is (DESIGN 4)
 *
 * Two sources feed one map stream. The *arena* (memcalls.c) is guest RAM of
 * loopback: private memory is moved into it, and regions are known because
 * every call that changes them is carried out here. The *page table*
 * (vmcalls.c) is what there is in a VM: memory stays where it is, is pinned,
 * and regions are the frames that were found. Both keep struct mm's regions
 * true; what a shadow has not heard of them is told by the same code.
 */
#ifndef GUEST_SOURCE_H
#define GUEST_SOURCE_H

#include "guest/tracer.h"

struct map_line;

struct source {
	/* Calls that change the address space. Arguments have been checked as
	 * far as memory.c can. These end the handler. */
	void (*mmap)(struct tracer *tr, struct task *t);
	void (*madvise)(struct tracer *tr, struct task *t);
	/* The rest: AIO rings and what one source alone cares about. */
	void (*other)(struct tracer *tr, struct task *t);
	/* And these return what the call does. */
	int64_t (*mprotect)(struct tracer *tr, struct task *t,
			    struct range at);
	int64_t (*brk)(struct tracer *tr, struct task *t);
	int64_t (*mremap)(struct tracer *tr, struct task *t, struct range old,
			  uint64_t new_len);
	int64_t (*shmat)(struct tracer *tr, struct task *t);
	int64_t (*shmdt)(struct tracer *tr, struct task *t);
	/* Nothing is mapped there any more; 0 or -errno. */
	int (*unmapped)(struct tracer *tr, struct task *t, struct range at);
	/* Code was written to from outside. */
	void (*text_changed)(struct mm *mm, struct range at);
	/* After exec, gate and slots being there; 0 or -errno. */
	int (*setup)(struct tracer *tr, struct task *t);
	/* Before a child with memory of its own runs; 0 or -errno. */
	int (*fork)(struct tracer *tr, struct task *parent,
		    struct task *child);
	/* Private, writable memory in the target: GVA or -errno. */
	int64_t (*map_private)(struct tracer *tr, struct task *t,
			       uint64_t len);
	/*
	 * Regions are to be true now, and the memory that a call needs (its
	 * pointers as far as the table of calls knows them) to be present.
	 * call NULL: only the task's slot. 0 or -errno.
	 */
	int (*settle)(struct tracer *tr, struct task *t,
		      const struct forward_call *call);
	/* The call has been answered: what the host wrote has to be kept. */
	void (*answered)(struct tracer *tr, struct task *t,
			 const struct forward_call *call);
};

extern const struct source arena_source, pagemap_source;

/*
 * mem_told() - the shadow has heard of all: what the call points to is what the
 * stub may count on from now on
 */
void mem_told(struct task *t, const struct forward_call *call);

/* mem_is_ours() - does the range touch gate or slots? */
bool mem_is_ours(const struct memory *m, uint64_t start, uint64_t end);

/* mem_range() - whole pages of a range argument; false: it wraps, or is empty */
bool mem_range(uint64_t addr, uint64_t len, struct range *out);

/*
 * mem_range_arg() - the range that the first two arguments of a call are
 *
 * false: the handler has ended. The kernel says what is wrong with the range,
 * or it is ours, and the call returns refusal.
 */
bool mem_range_arg(struct tracer *tr, struct task *t, int refusal,
		   struct range *out);

/* mem_map_refusal() - what mmap at a range returns at once, or 0 */
int mem_map_refusal(const struct tracer *tr, const struct task *t,
		    struct range at);

/*
 * mem_open_line() - a file that is mapped, deleted and unnamed ones, too
 *
 * By way of proc_pid_map_files(5), which needs CAP_CHECKPOINT_RESTORE or
 * CAP_SYS_ADMIN. For writing where the mapping is. A descriptor or -errno.
 */
int mem_open_line(const struct task *t, const struct map_line *line);

/*
 * vm_still_mapped() - has a target a part of the window mapped that no region
 * is known of any more?
 *
 * It is killed then, for it has been at work behind our back, and the part is
 * not to be another device's.
 */
bool vm_still_mapped(struct tracer *tr, const struct mapfile *file);

/* mem_errno() - is what a call returned an error, and which? 0: none */
static inline int mem_errno(int64_t result)
{
	return result < 0 && result > -4096 ? (int)result : 0;
}

/*
 * mem_fork_slots() - what gives a child that was just born slots of its own
 *
 * Before it, the calls are made in the child, which still has its parent's
 * slots. 0 or -errno.
 */
int mem_fork_slots(struct tracer *tr, struct task *parent, struct task *child,
		   const struct batch_call *calls, size_t n);

#endif
