/* SPDX-License-Identifier: MIT */
/*
 * stub.h - the fast tier as the tracer sees it
 *
 * What the stub (capsule/gate.S) may decide is in its address space's struct
 * stub_ctl, which only the tracer writes. It decides for a process whose memory
 * and descriptors are its own: while another process has a share in them
 * (vfork, CLONE_FILES) every call of interest is the tracer's again.
 *
 * A *lane* is a slot that any thread of the process may take for one call. The first
 * of them have executors, few, for where few cores are they only take turns; the
 * others serve for what the stub does by itself, and to wait in for one that has.
 * Whoever waits in vain goes to the tracer, who has one more served if the others are
 * stuck, and sends him back otherwise. The tracer, too, takes one for what it forwards
 * itself, where there is one.
 */
#ifndef GUEST_STUB_H
#define GUEST_STUB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/user.h>

#include "capsule/abi.h"

struct tracer;
struct task;
struct proc;
struct mm;
struct files;
struct hostfd;
struct range;
struct region;

/* What struct stub_ctl says of calls, by number, where the stub may decide. */
struct stub_rules {
	uint8_t class[STUB_NRS], what[STUB_NRS], sized[STUB_NRS];
	uint8_t path[STUB_NRS];
};

void stub_rules_init(struct stub_rules *rules);

/* Where things are in gate, stub and sites' code. */
struct gate_header gate_header(void);

/* stub_ctl_new() - map an address space's; all calls are the tracer's. 0 or
 * -errno */
int stub_ctl_new(const struct stub_rules *rules, struct mm *mm);

/* stub_ctl_of() - the process's, if both its memory and its descriptors have
 * it; or NULL */
struct stub_ctl *stub_ctl_of(const struct proc *p);

/* stub_attach() - p has come to have this memory and these descriptors */
void stub_attach(struct tracer *tr, struct proc *p);
/* stub_detached() - one process less has them; either may be NULL */
void stub_detached(struct tracer *tr, const struct mm *mm,
		   const struct files *files);

/* stub_leave_memory() - p is about to lose its memory, and stub_ctl with it */
void stub_leave_memory(struct proc *p);

/* stub_set_fd() - a descriptor has become the host's, or (NULL) is it no more */
void stub_set_fd(struct stub_ctl *ctl, int fd, const struct hostfd *host);

/* stub_set_makes() - there are other threads, or other descriptors that calls
 * have made */
void stub_set_makes(const struct tracer *tr, const struct proc *p);

/* stub_set_cwd() - the working directory, as it is known now */
void stub_set_cwd(const struct tracer *tr, const struct proc *p);

/*
 * stub_learn() - a path that the tracer had to look at: next time the stub is
 * to know what it can about it
 *
 * Does it know now that it is the host's?
 */
bool stub_learn(struct tracer *tr, struct task *t, int dirfd, uint64_t addr,
		const char *text);
/* stub_learn_readable() - the stub may look at what is there */
void stub_learn_readable(const struct task *t, uint64_t addr);
/* stub_forget_names() - what names lead to may have changed */
void stub_forget_names(struct tracer *tr);
/* stub_order() - in the order of what is noted (struct stub_log): now */
static inline uint64_t stub_order(struct stub_ctl *ctl)
{
	return ctl ? __atomic_add_fetch(&ctl->order, 1, __ATOMIC_SEQ_CST) : 0;
}

/* stub_forget_range() - memory that may not be readable any more, nor what
 * shadows were told of */
void stub_forget_range(struct stub_ctl *ctl, uint64_t start, uint64_t end);
/* stub_shadowed() - does the stub know that the shadow has all of the range? */
bool stub_shadowed(const struct stub_ctl *ctl, struct range at);
/* stub_learn_shadowed() - it has; with what is known next to it */
void stub_learn_shadowed(struct stub_ctl *ctl, struct range at);

/* stub_fault() - the stub has looked at what is not there: the call goes to
 * the tracer; false: it was not the stub */
bool stub_fault(struct task *t);

/* stub_set_ready() - the stub may forward, or not (stub_ctl.ready) */
static inline void stub_set_ready(struct stub_ctl *ctl, bool ready)
{
	if (ctl)
		__atomic_store_n(&ctl->ready, ready, __ATOMIC_SEQ_CST);
}

/* stub_set_told() - the shadow knows of all that is mapped (stub_ctl.told) */
static inline void stub_set_told(struct stub_ctl *ctl, bool told)
{
	if (ctl)
		__atomic_store_n(&ctl->told, told, __ATOMIC_SEQ_CST);
}

/*
 * stub_leave_to() - a call that is to be forwarded as it is, at its stop: now that
 * the stub knows all it has to, is it left to that? It comes again then.
 */
bool stub_leave_to(struct tracer *tr, struct task *t);
/* stub_leave_fd() - the same of one that is the host's by its descriptor, if
 * the stub lacked nothing but a shadow that is ready */
bool stub_leave_fd(struct tracer *tr, struct task *t);

/*
 * stub_seek_lane() - the task's call might have been decided by the stub, had
 * there been a free lane
 *
 * Adds one, where that helps. true: the call comes again, to look for one.
 */
bool stub_seek_lane(struct tracer *tr, struct task *t);
/* stub_spare_lanes() - a process that has one has a lane for every thread: for what
 * the stub does by itself, and to wait there for one with an executor */
void stub_spare_lanes(const struct tracer *tr, struct proc *p);
/* stub_first_lane() - a process that forwards, fast, has one */
void stub_first_lane(struct tracer *tr, struct task *t);
/*
 * stub_borrow_lane() - one that is free becomes where the task's next request
 * is pending, or false
 *
 * stub_settled() lets it go.
 */
bool stub_borrow_lane(struct task *t);
/* stub_man_lanes() - every lane has its executor, before the stub forwards; 0 or
 * -errno */
int stub_man_lanes(struct tracer *tr, struct task *t);
/* stub_busy_lanes() - how many executors can be at work at once; 1 or more */
int stub_busy_lanes(const struct tracer *tr);

/* stub_drop_lanes() - the process's shadow, or its memory, is no more */
void stub_drop_lanes(struct tracer *tr, struct proc *p);
/* stub_abandon() - nobody will answer: EIO for whoever waits */
void stub_abandon(struct proc *p);

/* stub_uses() - may a thread use memory in this range by a lane, now or next? */
bool stub_uses(const struct proc *p, struct range at);

/* stub_settled() - what the task waited for by a lane is the tracer's now */
void stub_settled(struct task *t);

/* The process's lane at an address in its slots, and its number; or NULL. */
struct slot *stub_lane(const struct proc *p, uint64_t gva, int *index);

/*
 * stub_adopt() - a thread waits in the gate by a lane: from here on as if the
 * tracer had forwarded the call
 */
bool stub_adopt(struct tracer *tr, struct task *t);

/*
 * stub_rings() - a thread has stopped, with a request published by a lane, for
 * the executor to be woken: it is, and the thread goes on to wait
 */
bool stub_rings(struct tracer *tr, struct task *t);

/* stub_completed() - a thread has stopped with its call done, for a signal was
 * held: it has the program's registers now, and its signal mask */
bool stub_completed(struct task *t);

/* stub_write_down() - what the stub has opened and closed; at every stop */
void stub_write_down(struct tracer *tr, struct task *t);

/*
 * stub_settle() - what the stub has mapped and changed is written down, at a call
 *
 * still: and it maps and changes nothing more until stub_move(), for the call is
 * about memory. false: somebody is at it just now, and has to have done with it
 * first: the call is to come again. Nobody else begins until then.
 */
enum still { MOVING, STOPPING, STILL };
bool stub_settle(struct task *t, bool still);
void stub_move(struct task *t);

/* stub_learn_own() - the stub may change this mapping, which is private and in
 * the arena; while it is still */
void stub_learn_own(struct stub_ctl *ctl, const struct region *r);
/* stub_forget_own() - a call that the tracer makes may change what the stub knows
 * of mappings in the range that it has made; while it is still */
void stub_forget_own(struct stub_ctl *ctl, struct range at);

/* stub_discard_young() - the address space is no more, nor what was mapped */
void stub_discard_young(struct mm *mm);

/*
 * stub_leave() - a signal with a handler finds the thread in the fast tier: the
 * program's registers are given back to it, as it knows them
 *
 * Nothing is done that is not undone: the call is about to be made, or it has
 * been. Where that cannot be at once all signals are held (remote_hold()) until
 * the thread comes to a stop by itself. One that waits in the gate is left there.
 */
void stub_leave(struct task *t);

/* stub_inside() - is that in the gate, the stub, a site's code, a trampoline? */
bool stub_inside(const struct task *t, uint64_t rip);

#endif
