/* SPDX-License-Identifier: MIT */
/*
 * shadow.h - shadows: building, feeding and ending them
 *
 * Theory of operation. A *nursery* is the sandbox of one session: its first
 * process is exec'd from the capsule inside it and never serves a target.
 * Every shadow is a fork of that process or, where descriptors are inherited,
 * of another shadow, so descriptors, namespaces, working directory and umask
 * follow as fork(2) has them follow.
 *
 * A shadow's threads: the leader (stopped, except while it forks or clones for
 * us), the mapper (stopped, except while it changes the address space; its own
 * descriptor table, in which alone the RAM descriptor is) and the executors, one
 * of which may be parked: stopped until a thread of the target's wants it. So may
 * a whole shadow, the *spare*: nobody's yet, and without memory. The daemon is
 * the tracer of them all; they die with it (PTRACE_O_EXITKILL).
 *
 * What must never happen: the RAM descriptor in the table that executors use;
 * an executor running before its own filter is on; a writable mapping that is
 * not guest memory; an extent outside guest RAM.
 */
#ifndef HOST_SHADOW_H
#define HOST_SHADOW_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/idmap.h"
#include "host/sandbox.h"
#include "vm/ram.h"
#include "wire/msg.h"

#define EXECUTORS_MAX	16384	/* of one session: no host runs out of tids */

struct executor {
	struct executor *next;
	struct shadow *shadow;	/* borrowed */
	pid_t tid;
	uint32_t thread;
	uint32_t *slot;		/* in a VM: owned mapping of its first page */
	bool cancel;		/* request cancel_seq is to be cut short ... */
	bool chasing;		/* ... once the call has been entered */
	bool ending;		/* interrupted to exit */
	bool closer;		/* shadow_close_aside() */
	uint32_t cancel_seq;
};

#define EXECUTOR_PARKED	UINT32_MAX	/* as its thread: it is nobody's, and stopped */

struct shadow {
	struct nursery *nursery;	/* borrowed */
	uint32_t id;
	pid_t leader;
	pid_t inner_pid;	/* in the namespace of the shadows */
	pid_t mapper;
	int pidfd;		/* owned, of the leader */
	int ctl_fd;		/* owned: memfd behind the capsule's ctl page */
	uint8_t *ctl;		/* the daemon's writable view of it */
	uint64_t base;		/* where the capsule is now */
	struct executor *executors;
	uint8_t *files;		/* bitmap: file ids the mapper holds */
	size_t nfiles;		/* bits in it */
	int cpu;		/* where leader and mapper may run, -1: anywhere */
};

/* A descriptor of a shadow's has something to say (fcntl(2), F_SETOWN). */
struct async {
	uint32_t shadow;
	uint32_t fd;		/* UINT32_MAX: not known */
	int64_t band;
};

#define ASYNC_MAX 64

struct nursery {
	struct shadow first;
	int listener;		/* owned: seccomp notifications */
	const struct ram *ram;	/* borrowed */
	uint32_t spin;		/* looks before an executor sleeps */
	cpu_set_t cpus;		/* where the daemon may be */
	struct sock_fprog executor_filter;	/* owned */
	struct idmap executors;	/* by tid, of all shadows; at most
				 * EXECUTORS_MAX */
	struct idmap shadows;	/* by leader's tid */
	struct shadow *spare;	/* of them: nobody's yet (nursery_stock()), or
				 * NULL */
	int *files;		/* owned descriptors by file id, -1: none */
	size_t nfiles;
	unsigned int refusals;	/* of ioctl requests, by policy */
	struct async asyncs[ASYNC_MAX];	/* yet to be told */
	size_t nasyncs;
};

/*
 * nursery_new() - 0 or -errno, and err says what was wanted and the remedy
 *
 * ram is borrowed until nursery_free().
 */
int nursery_new(const struct rules *policy, const struct ram *ram,
		struct nursery **out, char err[SANDBOX_ERR_MAX]);
void nursery_free(struct nursery *n);	/* its shadows end with it */

/*
 * nursery_kill() - all of its shadows are to end; nothing but nursery_await()
 * and nursery_free() may follow
 */
void nursery_kill(struct nursery *n);

/*
 * nursery_kill_holders() - kill shadows that have a device open
 *
 * name: theirs for it, as /proc/PID/fd has it. May be called by the handler
 * of a signal while this process waits for one of their threads.
 */
void nursery_kill_holders(struct nursery *n, const char *name);

/*
 * nursery_await() - until they have, their memory included
 *
 * For limit_ms, in whole seconds, or so. false: some have not; one that hangs
 * in the kernel (a dead file server) does not before that lets it go. Takes
 * the ends of all children of this process.
 */
bool nursery_await(struct nursery *n, unsigned int limit_ms);

/* A file that EXTENT_FILE may name; takes fd over. 0, -EINVAL, -ENOMEM. */
int nursery_file(struct nursery *n, uint32_t id, int fd);
void nursery_file_drop(struct nursery *n, uint32_t id);
int nursery_file_fd(const struct nursery *n, uint32_t id);	/* or -1 */

/*
 * nursery_stock() - make ahead what the next shadow without a parent is going to be
 *
 * With an executor, which is parked until a thread wants it.
 */
void nursery_stock(struct nursery *n);

/*
 * shadow_new() - parent NULL: from the nursery's first process
 *
 * clone_flags: CLONE_FILES and CLONE_FS are shared with the parent where set,
 * other bits are -EINVAL.
 */
int shadow_new(struct nursery *n, struct shadow *parent, uint32_t id,
	       uint32_t umask, uint32_t clone_flags, struct shadow **out);
/* shadow_reset() - no guest memory, no executors any more (exec) */
int shadow_reset(struct shadow *s);
/*
 * shadow_free() - kills it
 *
 * 0: it has ended; -EINPROGRESS: it hangs in the kernel, and may touch guest
 * memory when that lets it go.
 */
int shadow_free(struct shadow *s);

/*
 * shadow_thread_new() - an executor for a thread of the target
 *
 * slot: GVA. slot_gpa: where that is in a VM, or 0. seq: the last request that
 * is not for it. 0 or -errno (-EEXIST, -EAGAIN: too many).
 */
int shadow_thread_new(struct shadow *s, uint32_t thread, uint64_t slot,
		      uint64_t slot_gpa, uint32_t seq);
void shadow_thread_end(struct shadow *s, uint32_t thread);
/* shadow_ring() - wake a thread's executor: its slot has a request (in a VM) */
void shadow_ring(struct shadow *s, uint32_t thread);
/* shadow_cancel() - interrupt request seq of a thread, if it still runs */
void shadow_cancel(struct shadow *s, uint32_t thread, uint32_t seq);

/*
 * shadow_asleep() - does the thread's executor sleep in this system call, or has
 * it yet to be woken for it?
 *
 * 0; -EBUSY: it runs, or is in another one; -ESRCH: there is none.
 */
int shadow_asleep(struct shadow *s, uint32_t thread, uint32_t nr);

/*
 * shadow_place() - keep a thread's executor on core cpu - 1, or off it; 0: on any
 *
 * A wish, which may fail: nothing depends on it.
 */
void shadow_place(struct shadow *s, uint32_t thread, uint32_t cpu, bool avoid);

/*
 * shadow_map() - apply extents in order
 *
 * -EINVAL: an extent is not page-aligned, wraps, is outside the address space
 * or outside guest RAM; nothing after it was applied. -ENOMEM: too many
 * mappings (vm.max_map_count). A file that cannot be mapped as asked leaves
 * a hole: the target's calls get EFAULT there.
 */
int shadow_map(struct shadow *s, const struct extent *v, size_t n);

/* shadow_limit() - largest file it may write (RLIMIT_FSIZE); 0 or -errno */
int shadow_limit(struct shadow *s, uint64_t bytes);

/* shadow_close() - a filler takes the descriptor's place; 0 or -errno */
int shadow_close(struct shadow *s, uint32_t fd);

/*
 * shadow_close_aside() - the same, by a thread of its own that is not waited for
 *
 * For a descriptor whose file system may need us to close it.
 */
int shadow_close_aside(struct shadow *s, uint32_t fd);

/* shadow_getfd() - a copy of the shadow's descriptor, or -errno */
int shadow_getfd(struct shadow *s, int fd);

/*
 * shadow_own() - be signalled of what becomes of a descriptor, or not any more
 *
 * It is the daemon that makes the shadow the owner, so that nobody else can be
 * signalled; what comes is in nursery.asyncs. 0 or -errno.
 */
int shadow_own(struct shadow *s, int fd, bool on);

/*
 * nursery_stopped() - a thread of ours changed state, as waitpid(2) said
 *
 * Returns the shadow that died of itself, to be told to its target and freed,
 * or NULL.
 */
struct shadow *nursery_stopped(struct nursery *n, pid_t tid, int status);

/* nursery_dead() - the nursery's first process has ended: nothing works now */
bool nursery_dead(const struct nursery *n);

#endif
