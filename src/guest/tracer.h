/* SPDX-License-Identifier: MIT */
/*
 * tracer.h - what `run` knows about its targets, and what handlers do to them
 *
 * Theory of operation. One thread traces every thread of every target. A call
 * that takes part in forwarding stops its thread (SECCOMP_RET_TRACE); the
 * tracer looks at number and arguments and does one of four things:
 *
 *	task_allow()	the kernel carries it out as it stands (not after a
 *			task_native(), which has left the stop)
 *	task_return()	it is not carried out; the thread gets this value
 *	task_native()	another call is made in the thread, from the gate; the
 *			handler gets its result and goes on
 *	task_forward()	the shadow carries it out; the thread waits in the
 *			gate, where signals find it as they would in the kernel
 *
 * Every handler ends in exactly one task_allow(), task_return() or
 * task_forward(). Nothing here waits for a call that may block: only the
 * thread itself does.
 *
 * A signal that has a handler and finds its thread in the gate is put back
 * with all signals blocked, and the shadow's call is cancelled; the gate then
 * stops, the result (or the kernel's own ERESTART code) goes into the
 * program's registers, the mask is given back and the kernel delivers the
 * signal by its own rules. A call is never lost and never run twice.
 */
#ifndef GUEST_TRACER_H
#define GUEST_TRACER_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/idmap.h"
#include "capsule/abi.h"
#include "guest/client.h"
#include "guest/mm.h"
#include "guest/pins.h"
#include "guest/sites.h"
#include "guest/stub.h"
#include "guest/watch.h"
#include "process/remote.h"
#include "wire/rules.h"

struct tracer;
struct task;
struct source;

/* A descriptor that stands for the host's (a placeholder in the target). */
struct hostfd {
	char *path;		/* owned guest name; NULL: not a host fd */
	int flags;		/* O_ flags it was opened with; HOSTFD_TWIN */
	bool tree;		/* whatever is below it is the host's */
	struct f_owner_ex owner;	/* who is signalled; pid 0: nobody */
	int sig;		/* by F_SETSIG; 0: SIGIO */
};

/*
 * An epoll descriptor that waits for descriptors of both sides: instead of a
 * placeholder the target has one of its own, with its own descriptors in it.
 * No O_ flag.
 */
#define HOSTFD_TWIN	(1 << 30)

/* What CLONE_FILES shares. */
struct files {
	unsigned int refs;
	struct hostfd *v;
	size_t n;		/* entries in v */
	size_t nhost;		/* of them in use */
	struct stub_ctl *ctl;	/* borrowed: of the memory they belong to */
	const struct tracer *tr;	/* borrowed */
};

/* What CLONE_FS shares. */
struct fs {
	unsigned int refs;
	bool host;		/* the working directory is the host's */
	char *cwd;		/* owned; a local one is NULL when not known */
	mode_t umask;
};

struct proc {
	pid_t pid;
	unsigned int ntasks;
	unsigned int nalive;	/* of them, not on their way out */
	struct mm *mm;
	struct files *files;
	struct fs *fs;
	uint32_t shadow;	/* 0: none was needed yet */
	pid_t shadow_pid;	/* as shadows see it (F_GETLK) */
	uint64_t fsize;		/* RLIMIT_FSIZE, soft */
	bool undumpable;	/* as it believes (PR_SET_DUMPABLE) */
	bool outside;		/* it has yet to enter the working directory */
	bool shadow_gone;	/* it died: forwarded calls are EIO */
	bool filtered;		/* has a seccomp filter of its own */
	struct slot *lanes[LANES];	/* borrowed: mm_lane() */
	int nlanes;		/* the first of them ... */
	int nserved, nmanned;	/* ... are to have, and have, executors */
	uint32_t held[LANES];	/* requests that are counted in pinner.held,
				 * and one; 0: none */
	unsigned int loans;	/* requests of ours that went by lanes */
	int lane_wishes;	/* calls that would have liked one */
	bool crowd;		/* its threads are off the cores ... */
	cpu_set_t lane_cpus;	/* ... that the executors of its lanes have */
	bool idle_crowd;	/* the last one was none, as far as was seen */
	uint32_t lane_calls;	/* by lanes, ... */
	double looked;		/* ... until then: seconds, monotonic */
	struct {		/* by lane: a request without an answer */
		uint32_t seq;
		double since;	/* seconds, monotonic */
	} waits[LANES];
	struct mm_view view;	/* attached while there is a shadow */
};

/* The request that a thread in the gate waits for the answer to. */
struct pending {
	struct slot *slot;	/* borrowed: the thread's own, or a lane */
	int index;
	uint32_t seq;
};

/* Goes on with a call when the shadow has answered. */
typedef void (*then_fn)(struct tracer *tr, struct task *t, int64_t result);

struct task {
	pid_t tid;
	struct proc *proc;
	struct remote remote;
	struct user_regs_struct regs;	/* the program's, at its call */
	uint64_t nr;
	uint64_t args[6];

	int slot_index;		/* -1: none yet */
	struct slot *slot;	/* our mapping of it, owned */
	uint32_t seq;
	bool executor;		/* its shadow has a thread for it */
	unsigned int loans;	/* requests that went by a lane instead */

	bool in_gate;		/* waits for the shadow, namely for ... */
	struct pending pending;	/* ... this */
	bool beside;		/* so does its call of forward_beside() */
	bool cancelled;		/* and was told to hurry */
	bool holds;		/* counted in pinner.held */
	bool in_exec;		/* do_exec() in execcalls.c */
	bool in_native;		/* task_native_later() */
	uint64_t cloning;	/* which of all clones it is in; 0: none */
	enum still still;	/* but for MOVING counted in stub_ctl.still */
	bool later;		/* call_later() */
	bool exiting;
	bool moves;		/* counted in moving */
	bool held;		/* by tracer_stop_others() ... */
	bool stopping;		/* ... which has asked it to stop */
	struct {		/* the call that was left to the stub last */
		uint64_t nr, args[6];
		unsigned int times;
	} left;
	unsigned int tries;	/* to find a lane, in a row */
	bool placed;		/* kept on the tracer's core, or else ... */
	bool aside;		/* ... off the cores of the lanes' executors, */
	cpu_set_t cpus;		/* its own set being this */
	double last_stop;	/* seconds, monotonic */
	unsigned int quick;	/* stops in quick succession */
	unsigned int stops;	/* since the last tick */
	struct copy *copy;	/* owned: copycalls.c */
	struct wait *wait;	/* owned: pollcalls.c */
	then_fn then;		/* NULL: the result is the program's */
	double started;		/* seconds, monotonic */
	struct {		/* of the handler that set then */
		int fd;
		int flags;
		uint64_t a, b;
		char *path;	/* owned */
	} u;
};

struct stats {
	uint64_t forwarded, local, native;
	double forwarded_time;
	uint64_t map_requests, extents, bytes_mapped;
	uint64_t processes, threads, shadows, executors, cancelled;
	uint64_t sites[SITE_VERDICTS], idioms[SITE_IDIOMS];
	uint64_t verified, stale;	/* pages (--verify) */
	uint64_t evicted;	/* regions that were over the budget */
	uint64_t passed;	/* sites, counted in each process, */
	uint64_t patches;	/* ... that have been patched */
	uint64_t fast;		/* calls that the stub forwarded */
	uint64_t adopted;	/* of them, ended by the tracer */
};

/*
 * Descriptors that every target has and must not see (launch.c): numbers in a
 * row, from tracer.hidden on.
 */
enum hidden_fd {
	HIDDEN_ARENA,		/* gate and slots, and loopback's guest RAM */
	HIDDEN_SOCK,		/* receives descriptors from the tracer */
	HIDDEN_PLACEHOLDER,	/* O_PATH; placeholders are its copies */
	HIDDEN_RING,		/* what memory is pinned with (pins.h) */
	HIDDEN_FDS = HIDDEN_RING + PIN_RINGS,
};

/* Bytes that are copied at once: no more than the caches hold, in pages that are
 * there from the second time on. */
#define PASSING		(128 << 10)

/* What waitpid(2) said of a thread. */
struct stop {
	pid_t tid;
	int status;
	bool later;		/* others come first: call_later() */
};

struct tracer {
	struct client client;
	struct memory memory;
	char *passing;		/* owned: PASSING bytes of it that are copied */
	const struct source *source;	/* of the targets' memory */
	struct rules rules;
	bool all;		/* rules has "all" */
	int hidden;		/* the first hidden descriptor's number */
	int sock;		/* our end of HIDDEN_SOCK */
	int sock_there;		/* the target's: what it has not received */
	struct idmap tasks;	/* by tid */
	struct idmap early;	/* by tid: who stopped before we knew them */
	uint64_t clones;	/* calls that have begun */
	struct stub_rules stub_rules;
	struct sites *site_decoder;
	struct sniffer *sniffer;	/* borrowed, or NULL */
	struct idmap sites;	/* in files, that were looked at */
	uint32_t next_shadow;
	pid_t main_pid;
	int main_status;	/* wait status of the command */
	bool main_ended;
	bool main_stopped;	/* by a job control signal */
	bool patching;
	uint32_t generation;	/* of what stubs know of names */
	unsigned int moving;	/* threads in a call that may change them */
	uint32_t spin;		/* looks at an answer before one sleeps */
	int ncpus;		/* that we may use */
	struct stop *stops;	/* owned: reported, and yet to be handled */
	size_t nstops, stops_cap;
	bool turn;		/* of those that were put off */
	pid_t forking;		/* whose stop is first of them, with the others
				 * of its process held until it is handled */
	bool told_dead;		/* "the daemon is gone" has been said */
	bool owners;		/* some descriptor has had one (owner.c) */
	char *fuse[FUSE_MOUNTS_MAX];	/* owned names of mounts (fusecalls.c) */
	size_t nfuse;
	struct watch *watch;	/* owned, or NULL: nobody needed it yet */
	bool told_foreign;	/* "32-bit" has been said */
	char *told_mapping;	/* owned: why one was refused; or NULL */
	FILE *trace;		/* --trace, or NULL */
	unsigned int hurry;	/* ticks that come sooner than the next will */
	unsigned int nplaced;	/* tasks kept on our core */
	unsigned int ncrowds;	/* processes that are a crowd */
	int cpu;		/* our core, and ... */
	cpu_set_t cpus;		/* ... our own set, while there are some of either;
				 * and what of it all crowds' executors have: */
	cpu_set_t lane_cpus;
	bool want_stats;
	struct stats stats;
	uint64_t eager;		/* in a VM: bytes of a mapping that are made
				 * present at once, and not when needed */
	uint64_t huge;		/* in a VM: bytes that are made present at once
				 * from which on huge pages are asked for; or 0 */
	uint64_t max_regions;	/* in a VM: of one shadow; then cold ones go */
	bool verify;		/* in a VM: frames are compared at each call */
	bool no_pins;		/* in a VM: to see that verify sees something */
};

static inline bool tracer_in_vm(const struct tracer *tr)
{
	return tr->memory.pinner != NULL;
}

/* --- tracer.c ------------------------------------------------------------ */

/* tracer_run() - until no target is left; 0 or -errno */
int tracer_run(struct tracer *tr);

/* tracer_adopt() - the first target, stopped and seized; 0 or -errno */
int tracer_adopt(struct tracer *tr, pid_t pid, struct mm *mm);

/*
 * tracer_stop_others() - no other thread of the address space runs
 *
 * 0; -EAGAIN: one could not be stopped in a moment. tracer_resume_others() in
 * either case.
 */
int tracer_stop_others(struct tracer *tr, const struct task *t);
void tracer_resume_others(struct tracer *tr, const struct task *t);

void task_allow(struct tracer *tr, struct task *t);
/*
 * task_allow_fork() - as task_allow(), for a call that makes a process
 *
 * What the child gets is its parent's of one moment: no other thread runs, with
 * its parent's memory or descriptors, from before the kernel copies what it copies
 * until we have copied the rest.
 */
void task_allow_fork(struct tracer *tr, struct task *t);
/* task_set_path() - t->u.path becomes a copy of path, or NULL */
void task_set_path(struct task *t, const char *path);
void task_return(struct tracer *tr, struct task *t, int64_t value);
/* call_later() - the stop at a call, with which nothing has been done, is to be
 * handled again when others have got on */
void call_later(struct tracer *tr, struct task *t);
/* task_again() - the call comes again, from an address with its number in rax */
void task_again(struct task *t, uint64_t at);
int64_t task_native(struct tracer *tr, struct task *t, uint64_t nr,
		    uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		    uint64_t a4, uint64_t a5);

/* task_native_same() - the very call that the thread stopped at */
int64_t task_native_same(struct tracer *tr, struct task *t);

/*
 * task_native_later() - as task_native(), for a call that may block
 *
 * Ends the handler; then goes on with the result, which is -ERESTARTSYS where
 * a signal came first.
 */
void task_native_later(struct tracer *tr, struct task *t, uint64_t nr,
		       const uint64_t args[6], then_fn then);

/*
 * task_batch() - several calls in the thread, up to the first error
 *
 * 0, or the errno of the call that failed; *last, if not NULL, gets the
 * result of the last one made. The table goes through the task's slot.
 */
int task_batch(struct task *t, const struct batch_call *calls, size_t n,
	       int64_t *last);

/* Target memory: bytes, short where it is unmapped, or -EFAULT. */
ssize_t task_read(struct task *t, uint64_t addr, void *buf, size_t len);
ssize_t task_write(struct task *t, uint64_t addr, const void *buf,
		   size_t len);

/* task_slot() - give the task its slot; 0, -EAGAIN (too many) or -ENOMEM */
int task_slot(struct task *t);
uint64_t task_slot_gva(const struct task *t);
uint64_t task_scratch(const struct task *t);	/* GVA of its scratch */

/* task_wait_regs() - registers that wait in the gate for what is pending */
void task_wait_regs(const struct task *t, struct user_regs_struct *regs);

double now_seconds(void);

/* One of the kernel's ERESTART codes: the call was cut short without effect. */
static inline bool is_restart_code(int64_t value)
{
	return value == -ERESTARTSYS || value == -ERESTARTNOINTR ||
	       value == -ERESTARTNOHAND || value == -ERESTART_RESTARTBLOCK;
}

/* --- forward.c ----------------------------------------------------------- */

/* What a shadow is about to be asked for. */
struct forward_call {
	uint64_t nr;
	const uint64_t *args;
};

/*
 * task_forward() - let the shadow carry out a call
 *
 * op: SLOT_* (capsule/abi.h). then: goes on with the result, or NULL where
 * the result is all the program wants. Ends the handler; failing, the program
 * gets EIO.
 */
void task_forward(struct tracer *tr, struct task *t, uint32_t op, uint64_t nr,
		  const uint64_t args[6], int newfd, then_fn then);

/*
 * forward_beside() - the shadow begins with a call, and the handler goes on
 *
 * For a call that waits on the host while one of the thread's own,
 * task_native_later(), waits here; which is cut short when the host has
 * answered, as by a signal that has no handler. 0 or -errno.
 *
 * forward_beside_end() takes the answer, to an end that is asked for if it has
 * not come, and goes on with it. Ends the handler.
 */
int forward_beside(struct tracer *tr, struct task *t, uint64_t nr,
		   const uint64_t args[6]);
void forward_beside_end(struct tracer *tr, struct task *t, then_fn then);
/* forward_unwatch() - nobody is to hear of the answer: the thread ends */
void forward_unwatch(struct tracer *tr, struct task *t);

/* Is there a request of the thread's that has yet to be settled? */
static inline bool forward_waits(const struct task *t)
{
	return t->in_gate || t->beside;
}

/*
 * shadow_sync() - a call by the shadow that cannot block, awaited here
 *
 * The kernel's result, or -EIO.
 */
int64_t shadow_sync(struct tracer *tr, struct task *t, uint32_t op,
		    uint64_t nr, const uint64_t args[6], int newfd);

/*
 * shadow_open() - a descriptor of the shadow's alone, until it is closed; or
 * -errno
 *
 * For what a path leads to on the host: path as the shadow is to see it.
 */
int shadow_open(struct tracer *tr, struct task *t, int dirfd, const char *path,
		int flags);
void shadow_close_made(struct tracer *tr, struct task *t, int there);

/* shadow_ready() - shadow, lanes and map are up to date; 0 or -errno */
int shadow_ready(struct tracer *tr, struct task *t);
/* shadow_ready_for() - and the memory that the call points to is present */
int shadow_ready_for(struct tracer *tr, struct task *t,
		     const struct forward_call *call);

void forward_answered(struct tracer *tr, struct task *t); /* at MAGIC_STOP */
void forward_cancel(struct tracer *tr, struct task *t);
/* forward_trace() - the line of --trace, if there is one; began: seconds,
 * monotonic */
void forward_trace(struct tracer *tr, struct task *t, int64_t result,
		   double began);
/*
 * forward_hold() - what calls under way use of a range is to stay pinned
 *
 * Of calls that the stub has forwarded only those that are under way by now:
 * when the shadow has the range no more, there are no others.
 */
void forward_hold(struct tracer *tr, const struct mm *mm, struct range at);
/* forward_uses() - may a call under way, or that the stub is just forwarding,
 * use the range? As far as their arguments say */
bool forward_uses(const struct tracer *tr, const struct mm *mm,
		  struct range at);
/* call_uses() - the same of one call's arguments */
bool call_uses(uint64_t nr, const uint64_t args[6], struct range at);
/* forward_unhold() - its call is over, or itself; shadow_release() finds out */
void forward_unhold(struct tracer *tr, struct task *t);
/* slot_abandon() - nobody will answer the request: EIO */
void slot_abandon(struct slot *s, uint32_t seq);

/* fork, exec, end of a process as the shadows see it */
int shadow_fork(struct tracer *tr, struct proc *parent, struct proc *child,
		unsigned long clone_flags);
void shadow_exec(struct tracer *tr, struct task *t);
void shadow_drop(struct tracer *tr, struct proc *p);
/* shadow_begin_drop() - the same, without waiting for it (client_dropped()) */
void shadow_begin_drop(struct tracer *tr, struct proc *p);
/* shadow_tell_fsize() - RLIMIT_FSIZE has changed */
void shadow_tell_fsize(struct tracer *tr, struct proc *p);
/* shadow_close_fd() - a host descriptor that is closed without being asked */
void shadow_close_fd(struct tracer *tr, struct proc *p, int fd);
/* executor_new() - the process's shadow looks at a slot; 0 or -errno */
int executor_new(struct tracer *tr, struct proc *p, int index, uint32_t seq);
void executor_drop(struct tracer *tr, struct task *t);
/* executor_ring() - it is to look at its slot */
void executor_ring(struct tracer *tr, const struct proc *p, struct slot *slot,
		   int index);
/* shadow_tell_all() - all shadows of an address space hear of its changes */
void shadow_tell_all(struct tracer *tr, struct mm *mm);
/* shadow_release() - let go of what no shadow maps any more, now and then */
void shadow_release(struct tracer *tr);

/* --- calls.c: what to do with a call ---------------------------------------*/

void call_handle(struct tracer *tr, struct task *t);
/* call_general() - by the table alone, whoever would handle it otherwise */
void call_general(struct tracer *tr, struct task *t);

/*
 * forward_newfd() - forward a call that returns one new descriptor
 *
 * The target gets the lowest number that is free from `lowest` on; path and
 * flags are remembered with it.
 */
void forward_newfd(struct tracer *tr, struct task *t, uint64_t nr,
		   const uint64_t args[6], bool cloexec, int lowest,
		   const char *path, int flags);

/* --- memory.c: what the source of memory does (source.h) ------------------- */

void memcall_handle(struct tracer *tr, struct task *t);
/* mem_slots() - offsets for a new address space's slots; 0 or -errno */
int mem_slots(struct tracer *tr, struct mm *mm);
/* mem_setup() - after exec: gate, slots, and memory that can be shadowed */
int mem_setup(struct tracer *tr, struct task *t);
/* mem_map_private() - as mmap(NULL, len, RW, PRIVATE|ANON) in the target */
int64_t mem_map_private(struct tracer *tr, struct task *t, uint64_t len);
void mem_unmap_private(struct tracer *tr, struct task *t, uint64_t at,
		       uint64_t len);
/* mem_fork() - what is the child's own, before it runs */
int mem_fork(struct tracer *tr, struct task *parent, struct task *child);

/* --- execcalls.c, fdcalls.c, copycalls.c, pollcalls.c ----------------------- */

typedef void (*call_fn)(struct tracer *tr, struct task *t);

void call_exec(struct tracer *tr, struct task *t);
void exec_failed(struct tracer *tr, struct task *t);	/* at the exit stop */
void exec_name(struct tracer *tr, struct task *t);	/* after mem_setup() */

/* What the answers to calls that open and close lead to. */
void call_opened(struct tracer *tr, struct task *t, int64_t result);
void call_closed(struct tracer *tr, struct task *t, int64_t result);
/*
 * adopt_descriptors() - a call has made descriptors on the host's side: the
 * target gets placeholders of the same numbers
 *
 * What the call's result becomes by that.
 */
int64_t adopt_descriptors(struct tracer *tr, struct task *t, int64_t result);

void call_dup(struct tracer *tr, struct task *t);
void call_dup2(struct tracer *tr, struct task *t);
void call_fcntl(struct tracer *tr, struct task *t);
void call_close(struct tracer *tr, struct task *t);
void call_close_range(struct tracer *tr, struct task *t);
void call_chdir(struct tracer *tr, struct task *t);
void call_getcwd(struct tracer *tr, struct task *t);
void call_umask(struct tracer *tr, struct task *t);
void call_rlimit(struct tracer *tr, struct task *t);
void call_copy(struct tracer *tr, struct task *t);
void call_getdents(struct tracer *tr, struct task *t);

void call_inotify_add(struct tracer *tr, struct task *t);
void call_epoll_ctl(struct tracer *tr, struct task *t);
void call_epoll_wait(struct tracer *tr, struct task *t);
void call_poll(struct tracer *tr, struct task *t);
void wait_free(struct wait *w);

/* tracer_hurry() - there is something new that may have to be placed at once */
void tracer_hurry(struct tracer *tr);

/* --- placement.c ----------------------------------------------------------*/

void placement_stop(struct tracer *tr, struct task *t);	/* at every stop */
void placement_tick(struct tracer *tr);
void placement_look(struct tracer *tr);	/* at lanes' executors; in a hurry */
void placement_begin(struct tracer *tr, struct task *t); /* a new program */
void placement_release(struct tracer *tr, struct task *t);
void placement_end(struct tracer *tr, struct task *t);
void placement_inherit(struct tracer *tr, const struct task *from,
		       struct task *to);
void placement_new_executor(struct tracer *tr, struct task *t);
void placement_new_lane(struct tracer *tr, struct task *t, int lane);
/* placement_end_crowd() - the process ends, or its lanes are no more */
void placement_end_crowd(struct tracer *tr, struct proc *p);
void call_affinity(struct tracer *tr, struct task *t);

/* --- fusecalls.c ----------------------------------------------------------*/

void call_mount(struct tracer *tr, struct task *t);
void call_umount(struct tracer *tr, struct task *t);
/* fuse_has() - is the name in a file system that a target serves? */
bool fuse_has(const struct tracer *tr, const char *abs);
bool fuse_file(const struct tracer *tr, const struct task *t, int fd);
void fuse_fini(struct tracer *tr);

/* --- owner.c --------------------------------------------------------------*/

/* owner_fcntl() - what fcntl(2) by F_SETOWN and its like returns */
int64_t owner_fcntl(struct tracer *tr, struct task *t, struct hostfd *h);
/* owner_signal() - the host has a signal for the owner of a descriptor */
void owner_signal(struct tracer *tr, const struct proc *p,
		  const struct msg_signal *m);
/* owner_delivered() - in the stop of a signal: its code, if it is one of ours */
void owner_delivered(const struct task *t);

/* --- files.c --------------------------------------------------------------*/

struct files *files_new(const struct tracer *tr);
struct files *files_copy(const struct files *from);
void files_unref(struct files *files);
const struct hostfd *files_get(const struct files *files, int fd);
/* path is copied; 0 or -ENOMEM */
int files_set(struct files *files, int fd, const char *path, int flags);
/* files_free_made() - what SLOT_NEWFD says for SLOT_MAKES */
uint32_t files_free_made(const struct files *files, unsigned int nthreads);
void files_clear(struct files *files, int fd);
struct hostfd *files_at(struct files *files, int fd);	/* to be changed */

struct fs *fs_new(void);
struct fs *fs_copy(const struct fs *from);
void fs_unref(struct fs *fs);

static inline bool is_host_fd(const struct task *t, int fd)
{
	return files_get(t->proc->files, fd) != NULL;
}

/* May an ioctl make descriptors? */
static inline bool tracer_has_devices(const struct tracer *tr)
{
	return tr->all || rules_has(&tr->rules, RULE_DEV);
}

/* The number by which every target has it. */
static inline uint64_t hidden_fd(const struct tracer *tr, enum hidden_fd which)
{
	return (uint64_t)(tr->hidden + (int)which);
}

static inline bool is_hidden_fd(const struct tracer *tr, int fd)
{
	return fd >= tr->hidden && fd < tr->hidden + HIDDEN_FDS;
}

/*
 * fd_fetch() - our own copy of a descriptor of a target (a local one) or of
 * its shadow (a host one): a descriptor of ours, or -errno
 */
int fd_fetch(struct tracer *tr, struct task *t, int fd);
/*
 * fd_fetch_host() - the same by its number in a shadow that is ready
 *
 * In a VM a copy of a regular file, -ENODEV for all else.
 */
int fd_fetch_host(struct tracer *tr, struct task *t, int fd);

/* fd_is_open() - as the target's kernel has it, placeholders included */
bool fd_is_open(const struct task *t, int fd);

/* fd_install() - put a descriptor of ours into the target: its number there */
int fd_install(struct tracer *tr, struct task *t, int fd);

#endif
