/* SPDX-License-Identifier: MIT */
/* tracer.c - the trace loop: stops, births, ends, signals */
#include "guest/tracer.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "process/proc.h"
#include "wire/calls.h"

/*
 * How often the loop looks up from waitpid(2), which knows nothing of the
 * control stream: a dead daemon is noticed this late by targets that wait.
 */
#define TICK_MS 50
#define HURRY_MS 5
#define HURRY_TICKS 20

double now_seconds(void)
{
	return (double)now_ns() / 1e9;
}

/* --- target memory ------------------------------------------------------- */

ssize_t task_read(struct task *t, uint64_t addr, void *buf, size_t len)
{
	struct iovec here = { buf, len };
	struct iovec there = { (void *)(uintptr_t)addr, len };
	size_t first = PAGE_BYTES - addr % PAGE_BYTES;
	ssize_t n;

	n = process_vm_readv(t->tid, &here, 1, &there, 1, 0);
	if (n < 0 && first < len) {
		/* An iovec is all or nothing up to its first bad page. */
		here.iov_len = there.iov_len = first;
		n = process_vm_readv(t->tid, &here, 1, &there, 1, 0);
	}
	return n < 0 ? -EFAULT : n;
}

ssize_t task_write(struct task *t, uint64_t addr, const void *buf, size_t len)
{
	struct iovec here = { (void *)(uintptr_t)buf, len };
	struct iovec there = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_writev(t->tid, &here, 1, &there, 1, 0);

	return n < 0 ? -EFAULT : n;
}

/* --- slots --------------------------------------------------------------- */

static uint64_t gate_gva(const struct task *t)
{
	return t->proc->mm->memory->base;
}

uint64_t task_slot_gva(const struct task *t)
{
	return memory_slot(t->proc->mm->memory, t->slot_index);
}

uint64_t task_scratch(const struct task *t)
{
	return task_slot_gva(t) + SLOT_SCRATCH;
}

void task_wait_regs(const struct task *t, struct user_regs_struct *regs)
{
	regs->rip = gate_gva(t) + gate_header().wait;
	regs->r12 = memory_slot(t->proc->mm->memory, t->pending.index);
	regs->orig_rax = ~0ULL;
}

int task_slot(struct task *t)
{
	struct mm *mm = t->proc->mm;
	void *p;
	int i;

	if (t->slot)
		return 0;
	for (i = 0; i < SLOT_MAX; i++)
		if (!(mm->slots_used[i / 64] & (1ULL << (i % 64))))
			break;
	if (i == SLOT_MAX)
		return -EAGAIN;
	p = mm_map_slots(mm, i, 1);
	if (!p)
		return -errno;
	mm->slots_used[i / 64] |= 1ULL << (i % 64);
	t->slot_index = i;
	t->slot = p;
	t->seq = (t->slot->req_seq & ~1u) + 2;
	t->slot->req_seq = t->slot->resp_seq = t->seq;
	return 0;
}

/* What a task has in its address space, which it leaves; or it ends. */
static void leave_memory(struct tracer *tr, struct task *t)
{
	int i = t->slot_index;

	forward_unwatch(tr, t);
	stub_move(t);
	if (!t->slot)
		return;
	t->proc->mm->slots_used[i / 64] &= ~(1ULL << (i % 64));
	munmap(t->slot, SLOT_STRIDE);
	t->slot = NULL;
	t->slot_index = -1;
}

/* --- what handlers do ---------------------------------------------------- */

static void resume(struct task *t, unsigned long sig)
{
	/* What is not ours any more is not ours to let go, either. */
	if (t->remote.fate)
		return;
	/* ESRCH: it was killed meanwhile, and its end is on its way to us. */
	ptrace(PTRACE_CONT, t->tid, NULL, sig);
}

void task_set_path(struct task *t, const char *path)
{
	free(t->u.path);
	t->u.path = path ? strdup(path) : NULL;
}

void task_again(struct task *t, uint64_t at)
{
	struct user_regs_struct regs = t->regs;

	regs.rip = at;
	regs.rax = t->nr;
	regs.orig_rax = ~0ULL;
	remote_set_regs(t->tid, &regs);
	remote_end(&t->remote);
	resume(t, 0);
}

void task_allow(struct tracer *tr, struct task *t)
{
	tr->stats.local++;
	remote_end(&t->remote);
	resume(t, 0);
}

/*
 * The shadow's call was interrupted without effect. The target's own kernel
 * decides what becomes of it (SA_RESTART, no handler after all): give it the
 * state that it has itself when it interrupts a call. It decides on its way
 * through signal delivery, which the interrupt makes sure of even where
 * another thread has taken the signal meanwhile.
 */
static void return_restart(struct task *t, int64_t value)
{
	struct user_regs_struct regs = t->regs;

	/* Out of the seccomp stop first: there, orig_rax would be run. */
	regs.orig_rax = ~0ULL;
	if (remote_set_regs(t->tid, &regs) < 0 || remote_leave(&t->remote) < 0)
		return;
	/* Its own restart block is not about this call. */
	if (value == -ERESTART_RESTARTBLOCK)
		value = -ERESTARTNOHAND;
	regs.rax = (uint64_t)value;
	regs.orig_rax = t->nr;
	remote_set_regs(t->tid, &regs);
	remote_end(&t->remote);
	ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);
	resume(t, 0);
}

void task_return(struct tracer *tr, struct task *t, int64_t value)
{
	struct user_regs_struct regs = t->regs;

	(void)tr;
	t->in_gate = t->in_native = false;
	t->cancelled = false;
	t->then = NULL;
	task_set_path(t, NULL);
	if (t->remote.fate)
		return;
	if (is_restart_code(value)) {
		return_restart(t, value);
		return;
	}
	regs.rax = (uint64_t)value;
	regs.orig_rax = ~0ULL;
	remote_set_regs(t->tid, &regs);
	remote_end(&t->remote);
	resume(t, 0);
}

int64_t task_native(struct tracer *tr, struct task *t, uint64_t nr,
		    uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		    uint64_t a4, uint64_t a5)
{
	struct user_regs_struct regs = t->regs;
	int err;

	tr->stats.native++;
	regs.rip = gate_gva(t) + gate_header().one;
	remote_set_call(&regs, nr, (uint64_t[6]){ a0, a1, a2, a3, a4, a5 });
	err = remote_run(&t->remote, &regs);
	return err ? err : (int64_t)regs.r14;
}

int64_t task_native_same(struct tracer *tr, struct task *t)
{
	return task_native(tr, t, t->nr, t->args[0], t->args[1], t->args[2],
			   t->args[3], t->args[4], t->args[5]);
}

void task_native_later(struct tracer *tr, struct task *t, uint64_t nr,
		       const uint64_t args[6], then_fn then)
{
	struct user_regs_struct regs = t->regs;

	tr->stats.native++;
	if (t->remote.fate)
		return;
	/* A signal that waits is to interrupt it, not to wait for it. */
	if (t->remote.masked) {
		then(tr, t, -ERESTARTSYS);
		return;
	}
	regs.rip = gate_gva(t) + gate_header().one;
	regs.orig_rax = ~0ULL;
	remote_set_call(&regs, nr, args);
	t->in_native = true;
	t->then = then;
	remote_set_regs(t->tid, &regs);
	resume(t, 0);
}

int task_batch(struct task *t, const struct batch_call *calls, size_t n,
	       int64_t *last)
{
	struct user_regs_struct regs = t->regs;
	int err = task_slot(t);

	if (err)
		return err;
	while (n > 0) {
		size_t part = n < SLOT_BATCH_MAX ? n : SLOT_BATCH_MAX;

		memcpy((char *)t->slot + SLOT_SCRATCH, calls,
		       part * sizeof(*calls));
		regs.rip = gate_gva(t) + gate_header().batch;
		regs.r12 = task_scratch(t);
		regs.r13 = part;
		err = remote_run(&t->remote, &regs);
		if (err)
			return err;
		if (last)
			*last = (int64_t)regs.r14;
		if (regs.r13)
			return (int)(int64_t)regs.r14;
		calls += part;
		n -= part;
	}
	return 0;
}

/* --- calls that a stop cuts short ------------------------------------------- */

static bool is_caught(pid_t tid, int sig)
{
	struct proc_status status;

	return proc_status_read(tid, &status) == 0 &&
	       proc_has_signal(status.caught, sig);
}

static bool is_ignored(pid_t tid, int sig)
{
	struct proc_status status;

	if (proc_status_read(tid, &status) < 0 ||
	    proc_has_signal(status.caught, sig))
		return false;
	return proc_has_signal(status.ignored, sig) || sig == SIGCHLD ||
	       sig == SIGURG || sig == SIGWINCH;
}

enum waits { WAITS_NOT, WAITS_A_WHILE, WAITS_FOR_EVER };

/* Calls that any stop ends with EINTR (signal(7)), be there a handler or not. */
static enum waits how_it_waits(const struct user_regs_struct *r)
{
	bool limit = false;

	switch (r->orig_rax) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		limit = (int)r->r10 != -1;
		break;
	case SYS_epoll_pwait2:
	case SYS_semtimedop:
		limit = r->r10;
		break;
	case SYS_rt_sigtimedwait:
		limit = r->rdx;
		break;
	case SYS_io_getevents:
		limit = r->r8;
		break;
	case SYS_semop:
		break;
	default:
		return WAITS_NOT;
	}
	return limit ? WAITS_A_WHILE : WAITS_FOR_EVER;
}

/*
 * A signal that is ignored wakes nobody, but where somebody traces it is queued
 * all the same; and there are stops of our own (sig is 0). A call that does not
 * go on by itself after that has come to its end, and is made again: one that
 * waits for a while after a stop of ours alone, as it begins anew.
 *
 * If a signal that has a handler comes before it is, it ends it after all.
 */
static void wait_again(struct task *t, int sig)
{
	struct user_regs_struct regs;
	enum waits waits;

	if (remote_get_regs(t->tid, &regs) < 0)
		return;
	waits = how_it_waits(&regs);
	if (waits == WAITS_NOT)
		return;
	if ((int64_t)regs.rax == -EINTR &&
	    (!sig || (waits == WAITS_FOR_EVER && is_ignored(t->tid, sig)))) {
		regs.rax = regs.orig_rax;
		regs.rip -= 2;
	} else if (regs.rax == regs.orig_rax && sig && is_caught(t->tid, sig)) {
		regs.rax = (uint64_t)-EINTR;
		regs.rip += 2;
	} else {
		return;
	}
	remote_set_regs(t->tid, &regs);
}

/* A call that the gate makes for us, unless it is done, is not made again. */
static void interrupt_native(struct task *t)
{
	const uint64_t insn = gate_gva(t) + gate_header().one;
	struct user_regs_struct regs;

	if (remote_get_regs(t->tid, &regs) < 0)
		return;
	if (regs.rip == insn || (regs.rip == insn + 2 &&
				 is_restart_code((int64_t)regs.rax))) {
		regs.rip = insn + 2;
		regs.rax = (uint64_t)-ERESTARTSYS;
		regs.orig_rax = ~0ULL;
		remote_set_regs(t->tid, &regs);
	}
}

/*
 * It has stopped because we have asked for it, or somewhere on its way there.
 * An answer that it waits for beside its call ends that; a trap that was to tell
 * us may have been lost to another (ptrace_stop() in kernel/signal.c).
 */
static void interrupted(struct task *t)
{
	if (!t->in_native)
		wait_again(t, 0);
	else if (t->beside && slot_answered(t->pending.slot, t->pending.seq))
		interrupt_native(t);
}

/* --- other threads ------------------------------------------------------- */

#define STOP_PAUSE_NS	1000000	/* from look to look, if no stop is reported */
#define LATER_NS	20000	/* for others to get on */
#define STOP_SECONDS	0.02	/* that one may sleep where no signal is seen */
#define STOP_SECONDS_MAX 10	/* that one may wait for a core to stop on */

/* keep_stop() finds room. */
static int reserve_stop(struct tracer *tr)
{
	struct stop *v = array_room(tr->stops, &tr->stops_cap, tr->nstops + 1,
				    sizeof(*v));

	if (!v)
		return -ENOMEM;
	tr->stops = v;
	return 0;
}

/* It is stopped, but for something that has yet to be handled: behind as many
 * others. */
static void keep_stop(struct tracer *tr, size_t at, pid_t tid, int status)
{
	memmove(tr->stops + at + 1, tr->stops + at,
		(tr->nstops++ - at) * sizeof(*tr->stops));
	tr->stops[at] = (struct stop){ tid, status, false };
}

static pid_t take_stop(struct tracer *tr, size_t at, int *status)
{
	const struct stop stop = tr->stops[at];

	memmove(tr->stops + at, tr->stops + at + 1,
		(--tr->nstops - at) * sizeof(*tr->stops));
	*status = stop.status;
	return stop.tid;
}

/* It is past whatever was kept of it. */
static void drop_stop(struct tracer *tr, pid_t tid)
{
	int status;

	for (size_t i = 0; i < tr->nstops;)
		if (tr->stops[i].tid == tid)
			take_stop(tr, i, &status);
		else
			i++;
}

void call_later(struct tracer *tr, struct task *t)
{
	t->later = true;
	if (reserve_stop(tr) < 0) {
		task_again(t, t->regs.rip - 2);
		return;
	}
	keep_stop(tr, tr->nstops, t->tid, PTRACE_EVENT_SECCOMP << 16 |
		  SIGTRAP << 8 | 0x7f);
	tr->stops[tr->nstops - 1].later = true;
}

static bool is_kept(const struct tracer *tr, pid_t tid)
{
	for (size_t i = 0; i < tr->nstops; i++)
		if (tr->stops[i].tid == tid)
			return true;
	return false;
}

/* It will stop when it gets a core, or has just done so. */
static bool is_stopping(pid_t tid)
{
	struct proc_status status;

	return proc_status_read(tid, &status) == 0 && status.state &&
	       strchr("RtT", status.state);
}

static bool ask_to_stop(struct tracer *tr, struct task *t)
{
	return !is_kept(tr, t->tid) && !t->remote.fate && !t->exiting &&
	       ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL) == 0;
}

/* true: it has stopped, or is no more; otherwise later. */
static bool has_stopped(struct tracer *tr, struct task *t)
{
	pid_t tid;
	int status;

	if (reserve_stop(tr) < 0)
		return false;
	tid = waitpid(t->tid, &status, __WALL | WNOHANG);
	if (tid == 0)
		return false;
	if (tid < 0)
		return true;
	t->held = WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP &&
		  WSTOPSIG(status) == SIGTRAP;
	if (t->held)
		interrupted(t);
	else
		keep_stop(tr, tr->nstops, tid, status);
	return true;
}

/* One that sleeps where no signal reaches it is not waited for. */
static bool may_stop_yet(const struct task *t, double waited)
{
	return waited < STOP_SECONDS ||
	       (waited < STOP_SECONDS_MAX && is_stopping(t->tid));
}

/* Those that have been asked: how many have yet to stop; *lost: some will not. */
static size_t take_stops(struct tracer *tr, double waited, bool *lost)
{
	size_t pos = 0, left = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (!t->stopping)
			continue;
		t->stopping = !has_stopped(tr, t);
		if (t->stopping && !may_stop_yet(t, waited)) {
			t->stopping = false;
			*lost = true;
		}
		left += t->stopping;
	}
	return left;
}

/* With SIGCHLD blocked: a stop that comes between two looks is not missed. */
static bool await_stops(struct tracer *tr)
{
	const struct timespec pause = { .tv_nsec = STOP_PAUSE_NS };
	const double since = now_seconds();
	sigset_t child, was;
	bool lost = false;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &was);
	while (take_stops(tr, now_seconds() - since, &lost))
		(void)sigtimedwait(&child, NULL, &pause);
	sigprocmask(SIG_SETMASK, &was, NULL);
	return !lost;
}

static bool is_alone(const struct task *t)
{
	return t->proc->ntasks == 1 && t->proc->mm->refs == 1 &&
	       t->proc->files->refs == 1;
}

int tracer_stop_others(struct tracer *tr, const struct task *t)
{
	size_t pos = 0;
	struct task *o;

	if (is_alone(t))
		return 0;
	while ((o = idmap_next(&tr->tasks, &pos)))
		o->stopping = o != t && (o->proc->mm == t->proc->mm ||
					 o->proc->files == t->proc->files) &&
			      ask_to_stop(tr, o);
	return await_stops(tr) ? 0 : -EAGAIN;
}

static void resume_held(struct tracer *tr)
{
	size_t pos = 0;
	struct task *o;

	while ((o = idmap_next(&tr->tasks, &pos))) {
		if (!o->held)
			continue;
		o->held = false;
		resume(o, 0);
	}
}

void tracer_resume_others(struct tracer *tr, const struct task *t)
{
	if (!is_alone(t))
		resume_held(tr);
}

/*
 * The next stop of the thread is that of its child's birth, or its call has
 * failed, or was interrupted: it is handled before anything else is.
 */
void task_allow_fork(struct tracer *tr, struct task *t)
{
	int status;

	if (is_alone(t)) {
		task_allow(tr, t);
		return;
	}
	/* Of those that cannot be stopped in a moment none gets anywhere. */
	(void)tracer_stop_others(tr, t);
	tr->stats.local++;
	remote_end(&t->remote);
	if (reserve_stop(tr) < 0) {
		kill(t->proc->pid, SIGKILL);
	} else if (!t->remote.fate &&
		   ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL) == 0 &&
		   remote_wait(t->tid, &status) == 0) {
		keep_stop(tr, 0, t->tid, status);
		tr->forking = t->tid;
		return;
	}
	resume_held(tr);
}

/* --- births and ends ----------------------------------------------------- */

static struct task *task_new(struct tracer *tr, pid_t tid, struct proc *proc)
{
	struct task *t = calloc(1, sizeof(*t));

	if (!t || idmap_put(&tr->tasks, (uint32_t)tid, t) < 0) {
		free(t);
		return NULL;
	}
	t->tid = tid;
	t->slot_index = -1;
	t->proc = proc;
	t->remote.tid = tid;
	proc->ntasks++;
	proc->nalive++;
	tr->stats.threads++;
	stub_set_makes(tr, proc);
	return t;
}

static void task_free(struct task *t)
{
	free(t->u.path);
	free(t->copy);
	wait_free(t->wait);
	free(t);
}

static uint64_t rlimit_fsize(pid_t pid)
{
	struct rlimit lim = { .rlim_cur = RLIM_INFINITY };

	prlimit(pid, RLIMIT_FSIZE, NULL, &lim);
	return lim.rlim_cur;
}

int tracer_adopt(struct tracer *tr, pid_t pid, struct mm *mm)
{
	struct proc *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->pid = pid;
	p->mm = mm;
	p->fsize = rlimit_fsize(pid);
	p->files = files_new(tr);
	p->fs = fs_new();
	tr->main_pid = pid;
	tr->stats.processes++;
	if (!p->files || !p->fs || !task_new(tr, pid, p))
		return -ENOMEM;
	return 0;
}

static void proc_end(struct tracer *tr, struct proc *p)
{
	struct mm *mm = p->mm->refs > 1 ? p->mm : NULL;
	struct files *files = p->files->refs > 1 ? p->files : NULL;

	stub_leave_memory(p);
	shadow_drop(tr, p);
	stub_drop_lanes(tr, p);
	mm_unref(p->mm);
	files_unref(p->files);
	fs_unref(p->fs);
	free(p);
	if (mm || files)
		stub_detached(tr, mm, files);
}

/*
 * A thread is on its way out, and nobody has been told. What its process
 * holds on the host is let go before its parent can know that it is gone, as
 * the kernel does with what it holds itself (locks, pipes). Where that is nothing
 * both sides are at it at once, until we take the end from the kernel (next_stop()).
 */
static void note_exit(struct tracer *tr, struct task *t)
{
	if (t->exiting)
		return;
	t->exiting = true;
	if (--t->proc->nalive > 0)
		return;
	shadow_begin_drop(tr, t->proc);
	if (t->proc->files->nhost)
		(void)client_dropped(&tr->client);
}

static void task_end(struct tracer *tr, struct task *t, int status);

/*
 * A leader's end is the last that a process reports. A thread of which nothing
 * was heard has taken the leader's id, by exec, and was killed before it could
 * say so.
 */
static void end_others(struct tracer *tr, const struct task *leader,
		       int status)
{
	while (leader->proc->ntasks > 1) {
		struct task *t;
		size_t pos = 0;

		while ((t = idmap_next(&tr->tasks, &pos)))
			if (t != leader && t->proc == leader->proc)
				break;
		if (!t)
			return;
		task_end(tr, t, status);
	}
}

/* A call that may change what names lead to is over. */
static void names_moved(struct tracer *tr, struct task *t)
{
	if (!t->moves)
		return;
	t->moves = false;
	tr->moving--;
	stub_forget_names(tr);
}

static void task_end(struct tracer *tr, struct task *t, int status)
{
	struct proc *p = t->proc;

	names_moved(tr, t);
	if (t->tid == p->pid)
		end_others(tr, t, status);
	drop_stop(tr, t->tid);
	idmap_take(&tr->tasks, (uint32_t)t->tid);
	placement_end(tr, t);
	note_exit(tr, t);
	if (t->tid == tr->main_pid) {
		tr->main_ended = true;
		tr->main_status = status;
	}
	if (p->ntasks > 1)
		executor_drop(tr, t);
	forward_unhold(tr, t);
	leave_memory(tr, t);
	task_free(t);
	if (--p->ntasks == 0)
		proc_end(tr, p);
}

/* The flags of the clone that a thread is in, however it was asked for. */
static unsigned long clone_flags(struct task *t, int event)
{
	struct user_regs_struct regs;
	uint64_t flags = 0;

	if (remote_get_regs(t->tid, &regs) < 0)
		return 0;
	switch ((uint32_t)regs.orig_rax) {
	case SYS_clone:
		return regs.rdi;
	case SYS_clone3:
		task_read(t, regs.rdi, &flags, sizeof(flags));
		return flags;
	}
	return event == PTRACE_EVENT_VFORK ? CLONE_VM | CLONE_VFORK : 0;
}

static struct proc *proc_fork(struct tracer *tr, struct proc *from, pid_t pid,
			      unsigned long flags)
{
	struct proc *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->pid = pid;
	p->fsize = from->fsize;
	p->filtered = from->filtered;
	p->mm = from->mm;
	if (flags & CLONE_VM)
		p->mm->refs++;
	else if (mm_new(&tr->memory, &p->mm) < 0)
		p->mm = NULL;
	p->files = from->files;
	if (flags & CLONE_FILES)
		p->files->refs++;
	else
		p->files = files_copy(from->files);
	p->fs = from->fs;
	if (flags & CLONE_FS)
		p->fs->refs++;
	else
		p->fs = fs_copy(from->fs);
	if (!p->mm || !p->files || !p->fs) {
		mm_unref(p->mm);
		files_unref(p->files);
		fs_unref(p->fs);
		free(p);
		return NULL;
	}
	tr->stats.processes++;
	return p;
}

/*
 * The kernel has stored the child's id (CLONE_CHILD_SETTID) where the child
 * will look for it, when that was still the parent's memory, too.
 */
static void restore_ctid(struct task *t)
{
	uint32_t old = (uint32_t)t->u.b;

	if (t->u.a)
		task_write(t, t->u.a, &old, sizeof(old));
	t->u.a = 0;
}

static void settle_fate(struct tracer *tr, struct task *t);

/* --- children that stop before their parents have told of them -------------- */

struct early {
	pid_t tid;
	uint64_t clones;	/* that had begun by then */
};

static void free_early(struct tracer *tr, pid_t tid)
{
	free(idmap_take(&tr->early, (uint32_t)tid));
}

/*
 * One that is killed before its parent has told is not to be waited for: it
 * reports nothing but that, and its end.
 */
static void stopped_early(struct tracer *tr, pid_t tid, int status)
{
	struct early *e;

	if (!WIFSTOPPED(status) || status >> 16 == PTRACE_EVENT_EXIT) {
		free_early(tr, tid);
		if (WIFSTOPPED(status))
			ptrace(PTRACE_CONT, tid, NULL, NULL);
		return;
	}
	if (idmap_get(&tr->early, (uint32_t)tid))
		return;
	e = calloc(1, sizeof(*e));
	if (!e || idmap_put(&tr->early, (uint32_t)tid, e) < 0) {
		free(e);
		kill(tid, SIGKILL);
		return;
	}
	e->tid = tid;
	e->clones = tr->clones;
}

/* Is anybody in a clone that may have been the child's? */
static bool may_be_told(const struct tracer *tr, const struct early *e)
{
	size_t pos = 0;
	const struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos)))
		if (t->cloning && t->cloning <= e->clones)
			return true;
	return false;
}

/*
 * A parent that is killed in its fork(2) tells of no child. Then it has not
 * forked: the child ends, too, before its first instruction. A thread ends
 * with its process.
 */
static void look_after_early(struct tracer *tr)
{
	const struct early *e;
	size_t pos = 0;

	while ((e = idmap_next(&tr->early, &pos))) {
		struct proc_status status;

		if (!may_be_told(tr, e) &&
		    proc_status_read(e->tid, &status) == 0 &&
		    status.tgid == e->tid)
			kill(e->tid, SIGKILL);
	}
}

/* --- clone ------------------------------------------------------------------ */

/*
 * A thread has cloned and is stopped at that; the child is stopped or will be
 * in a moment. Neither runs before the child has all that is its own.
 */
static void task_cloned(struct tracer *tr, struct task *t, int event)
{
	unsigned long msg = 0, flags;
	struct task *child = NULL;
	struct proc *p = t->proc;
	int status, err = 0;
	bool seen;
	pid_t tid;

	if (ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &msg) < 0)
		return;		/* killed: its end is what comes next */
	tid = (pid_t)msg;
	seen = idmap_get(&tr->early, (uint32_t)tid);
	free_early(tr, tid);
	/* It may have come and gone. */
	if (!seen && (remote_wait(tid, &status) < 0 || !WIFSTOPPED(status))) {
		restore_ctid(t);
		stub_move(t);
		resume(t, 0);
		return;
	}
	flags = clone_flags(t, event);
	if (!(flags & CLONE_THREAD))
		p = proc_fork(tr, p, tid, flags);
	if (p)
		child = task_new(tr, tid, p);
	if (flags & CLONE_FS)
		stub_set_cwd(tr, t->proc);
	if (child) {
		placement_inherit(tr, t, child);
		stub_spare_lanes(tr, p);
	}
	if (child && remote_get_regs(tid, &child->regs) < 0) {
		/* It was killed at birth; the loop hears of it. */
	} else if (child && p != t->proc) {
		if (!(flags & CLONE_VM))
			err = mem_fork(tr, t, child);
		restore_ctid(t);
		/* A descriptor table of two needs two shadows that share
		 * theirs, from the start. */
		if (!err && flags & CLONE_FILES)
			(void)shadow_ready(tr, t);
		if (!err)
			stub_attach(tr, p);
		if (!err)
			err = shadow_fork(tr, t->proc, p, flags);
	}
	if (!child)
		err = -ENOMEM;
	if (err && err != -ESRCH)
		log_err("process %d could not be followed into its child: %s",
			t->tid, strerror(-err));
	if (err)
		kill(tid, SIGKILL);
	if (child)
		task_return(tr, child, 0);
	else
		ptrace(PTRACE_CONT, tid, NULL, NULL);
	stub_move(t);
	resume(t, 0);
	if (child)
		settle_fate(tr, child);
}

/*
 * exec: the other threads are gone, and the one that is left has the id of
 * the leader. It stands before the first instruction of the new program.
 *
 * -ESRCH: it has been killed, or is not known and will be. Then all is left as
 * it was: the end of the leader is what comes next, and with it that of the
 * process (end_others()).
 */
static int task_execed(struct tracer *tr, pid_t tid, struct task **out)
{
	struct task *t, *old;
	unsigned long former = 0;
	struct mm *mm, *former_mm;
	const struct files *former_files;
	size_t pos = 0;

	if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &former) < 0)
		return -ESRCH;
	t = idmap_get(&tr->tasks, (uint32_t)former);
	if (!t)
		return -ESRCH;
	old = (pid_t)former == tid ? NULL : idmap_get(&tr->tasks,
						      (uint32_t)tid);
	if (old) {
		names_moved(tr, old);
		leave_memory(tr, old);
		old->proc->ntasks--;
		if (!old->exiting)
			old->proc->nalive--;
		placement_end(tr, old);
		drop_stop(tr, tid);
		idmap_take(&tr->tasks, (uint32_t)tid);
		forward_unhold(tr, old);
		task_free(old);
	}
	if (t->tid != tid) {
		drop_stop(tr, t->tid);
		idmap_take(&tr->tasks, (uint32_t)t->tid);
		t->tid = t->remote.tid = tid;
		if (idmap_put(&tr->tasks, (uint32_t)tid, t) < 0)
			return -ENOMEM;
	}
	if (mm_new(&tr->memory, &mm) < 0)
		return -ENOMEM;
	/* The ends of the other threads may yet be on their way to us. */
	while ((old = idmap_next(&tr->tasks, &pos))) {
		if (old->proc != t->proc)
			continue;
		/* Of the old address space, which a vfork's parent lives on in. */
		leave_memory(tr, old);
		old->executor = old->in_gate = false;
		old->loans = 0;
	}
	t->in_gate = t->in_exec = t->in_native = false;
	t->then = NULL;
	t->remote.masked = false;
	stub_drop_lanes(tr, t->proc);
	stub_leave_memory(t->proc);
	former_files = t->proc->files->refs > 1 ? t->proc->files : NULL;
	shadow_exec(tr, t);
	former_mm = t->proc->mm->refs > 1 ? t->proc->mm : NULL;
	mm_unref(t->proc->mm);
	t->proc->mm = mm;
	if (former_mm || former_files)
		stub_detached(tr, former_mm, former_files);
	/* A shadow that stays hears of all that comes to be mapped. */
	if (t->proc->shadow)
		mm_view_attach(mm, &t->proc->view);
	*out = t;
	return 0;
}

static void handle_exec(struct tracer *tr, pid_t tid)
{
	struct task *t = NULL;
	int err = task_execed(tr, tid, &t);

	if (!err)
		err = remote_get_regs(tid, &t->regs);
	if (!err)
		err = mem_setup(tr, t);
	if (!err)
		stub_attach(tr, t->proc);
	/* Nothing of the program runs without the host side it is to have. */
	if (!err)
		err = client_started(&tr->client);
	if (err && err != -ESRCH && !tr->client.refused)
		log_err("process %d could not be prepared after exec: %s",
			tid, strerror(-err));
	if (err)
		kill(tid, SIGKILL);
	if (!t) {
		ptrace(PTRACE_CONT, tid, NULL, NULL);
		return;
	}
	if (!err)
		exec_name(tr, t);
	placement_begin(tr, t);
	/* What exec leaves there; the kernel has not come to it yet. */
	task_return(tr, t, 0);
	settle_fate(tr, t);
}

/* What a handler found out about its thread, as if it were reported now. */
static void settle_fate(struct tracer *tr, struct task *t)
{
	const enum remote_fate fate = t->remote.fate;

	t->remote.fate = REMOTE_ALIVE;
	switch (fate) {
	case REMOTE_ALIVE:
		break;
	case REMOTE_ENDED:
		task_end(tr, t, t->remote.status);
		break;
	case REMOTE_EXITING:
		note_exit(tr, t);
		resume(t, 0);
		break;
	case REMOTE_GOING:
		note_exit(tr, t);
		break;
	case REMOTE_REPLACED:
		handle_exec(tr, t->tid);
		break;
	}
}

/* --- signals ------------------------------------------------------------- */

/* Does the process have a handler for the signal? */
/*
 * Does it wait in the gate, for what we have published for it? The gate may
 * have let it go by itself, and it may be back for a request of the stub's.
 */
static bool still_waits(const struct task *t,
			const struct user_regs_struct *regs)
{
	const struct gate_header h = gate_header();
	const uint64_t at = regs->rip - gate_gva(t);
	const struct slot *lane = stub_lane(t->proc, regs->r12, NULL);

	if (!t->in_gate || at < h.wait || at >= h.one)
		return false;
	if (!lane)
		lane = stub_lane(t->proc, regs->r11, NULL);
	return !lane || lane == t->pending.slot;
}

/* Where an instruction of the program's was, inside a jump of ours. */
static bool is_in_jump(struct task *t)
{
	struct user_regs_struct regs;
	uint64_t to;

	if (!t->proc->mm->patches.n || remote_get_regs(t->tid, &regs) < 0)
		return false;
	to = patch_forward(t->proc->mm, regs.rip);
	if (!to)
		return false;
	regs.rip = to;
	return remote_set_regs(t->tid, &regs) == 0;
}

/*
 * The program is to see a signal that it has a handler for where it knows itself
 * to be. false: nothing of ours is there to be seen, or no handler that sees it.
 * Whether there is one is asked once: another thread may change it.
 */
static bool show_program(struct tracer *tr, struct task *t, int sig)
{
	struct user_regs_struct regs;

	if (remote_get_regs(t->tid, &regs) < 0)
		return false;
	t->in_gate = still_waits(t, &regs);
	if ((!t->in_gate && !stub_inside(t, regs.rip)) ||
	    !is_caught(t->tid, sig))
		return false;
	if (!t->in_gate && !stub_adopt(tr, t))
		stub_leave(t);
	return true;
}

static void handle_signal(struct tracer *tr, struct task *t, int sig)
{
	if (tr->owners)
		owner_delivered(t);
	if (((sig == SIGILL || sig == SIGSEGV) && is_in_jump(t)) ||
	    ((sig == SIGSEGV || sig == SIGBUS) && stub_fault(t))) {
		resume(t, 0);
		return;
	}
	if (t->in_native) {
		/* One that has a handler is put back. */
		if (is_caught(t->tid, sig) && remote_hold(&t->remote) == 0)
			interrupt_native(t);
		interrupted(t);
		resume(t, (unsigned long)sig);
		return;
	}
	wait_again(t, sig);
	if (!show_program(tr, t, sig) || !t->in_gate) {
		resume(t, (unsigned long)sig);
		return;
	}
	if (remote_hold(&t->remote) == 0) {
		struct user_regs_struct regs;

		t->pending.slot->post = 1;
		/* It may be past the look at post: back to the start. */
		if (remote_get_regs(t->tid, &regs) == 0) {
			task_wait_regs(t, &regs);
			remote_set_regs(t->tid, &regs);
		}
		forward_cancel(tr, t);
	}
	/* It is blocked now, so the kernel queues it again. */
	resume(t, (unsigned long)sig);
}

static volatile sig_atomic_t asked_signal, asked_stop, ticked;

/*
 * The terminal stopped our process group: whoever started us (a shell) waits
 * for us to stop, and will continue the group. Only when the command has
 * stopped, or it could not; and not for a stop that was the command's alone,
 * which nobody would end for us.
 */
static void stop_with_command(struct tracer *tr)
{
	if (!asked_stop || !tr->main_stopped)
		return;
	asked_stop = 0;
	tr->main_stopped = false;
	kill(getpid(), SIGSTOP);
}

/* A stop of the whole process by a job control signal, or its end. */
static void handle_group_stop(struct tracer *tr, struct task *t, int sig)
{
	if (sig == SIGTRAP) {	/* an interrupt of ours, or SIGCONT came */
		if (t->tid == tr->main_pid)
			tr->main_stopped = false;
		interrupted(t);
		resume(t, 0);
		return;
	}
	ptrace(PTRACE_LISTEN, t->tid, NULL, NULL);
	if (t->tid == tr->main_pid) {
		tr->main_stopped = true;
		stop_with_command(tr);
	}
}

/* --- the loop ------------------------------------------------------------ */

static void handle_seccomp(struct tracer *tr, struct task *t)
{
	struct user_regs_struct regs;
	bool in_gate;

	if (remote_get_regs(t->tid, &regs) < 0)
		return;
	in_gate = regs.rip - gate_gva(t) < TEXT_SIZE;
	if (in_gate)
		stub_move(t);
	if (regs.rip - gate_gva(t) - GATE_SIZE < SITES_SIZE &&
	    !call_is_traced((uint32_t)regs.orig_rax)) {
		/* A filter of the program's asks for a tracer. */
		t->regs = regs;
		task_return(tr, t, -ENOSYS);
		return;
	}
	if (in_gate && regs.orig_rax != MAGIC_STOP) {
		/* User-Mode Linux tells filters of some other address
		 * (KSTK_EIP() in arch/um), and so cannot except the gate. */
		resume(t, 0);
		return;
	}
	if (in_gate && !t->in_native &&
	    (stub_completed(t) || stub_rings(tr, t))) {
		resume(t, 0);
		return;
	}
	if (in_gate && (still_waits(t, &regs) ||
			(!t->in_native && stub_adopt(tr, t)))) {
		forward_answered(tr, t);
		return;
	}
	if (in_gate && t->in_native) {
		then_fn then = t->then;

		t->in_native = false;
		t->then = NULL;
		then(tr, t, (int64_t)regs.r14);
		return;
	}
	placement_stop(tr, t);
	/* A call of the program's own: these are its registers. */
	t->in_gate = false;
	t->regs = regs;
	call_handle(tr, t);
}

static bool is_birth(int event)
{
	return event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
	       event == PTRACE_EVENT_CLONE;
}

static void handle_stop(struct tracer *tr, pid_t tid, int status)
{
	struct task *t = idmap_get(&tr->tasks, (uint32_t)tid);
	int event = status >> 16;

	if (t)
		stub_write_down(tr, t);
	if (event == PTRACE_EVENT_EXEC) {
		handle_exec(tr, tid);
		return;
	}
	if (!t) {
		stopped_early(tr, tid, status);
		return;
	}
	/* One that the stub has made (STUB_CLONE): nothing has been noted. */
	if (is_birth(event) && !t->cloning)
		t->u.a = 0;
	t->cloning = 0;
	names_moved(tr, t);
	/* It may come for what it was to make again. */
	if (!is_birth(event) && event != PTRACE_EVENT_SECCOMP)
		stub_move(t);
	if (!WIFSTOPPED(status)) {
		task_end(tr, t, status);
		return;
	}
	switch (event) {
	case PTRACE_EVENT_SECCOMP:
		handle_seccomp(tr, t);
		break;
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE:
		task_cloned(tr, t, event);
		break;
	case PTRACE_EVENT_EXIT:
		note_exit(tr, t);
		resume(t, 0);
		break;
	case PTRACE_EVENT_STOP:
		handle_group_stop(tr, t, WSTOPSIG(status));
		break;
	case 0:
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			handle_signal(tr, t, WSTOPSIG(status));
		else if (t->in_exec)
			exec_failed(tr, t);
		else
			resume(t, 0);
		break;
	default:
		resume(t, 0);
	}
	settle_fate(tr, t);
}

static struct proc *find_shadow(struct tracer *tr, uint32_t id)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos)))
		if (t->proc->shadow == id)
			return t->proc;
	return NULL;
}

/*
 * Threads that wait for a shadow that is no more get EIO: the answer is
 * written for the dead executor, and the gate finds it. Not once only: a thread
 * may have been in the stub, about to ask.
 */
static void answer_orphans(struct tracer *tr)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (!tr->client.dead && !t->proc->shadow_gone)
			continue;
		stub_abandon(t->proc);
		if (forward_waits(t) && !slot_answered(t->pending.slot,
						       t->pending.seq))
			slot_abandon(t->pending.slot, t->pending.seq);
	}
}

static bool has_window(const struct mm *mm)
{
	for (size_t i = 0; i < mm->n; i++)
		if (mm->v[i].kind == REGION_FILE && mm->v[i].file->len)
			return true;
	return false;
}

/*
 * What they have mapped of the window is no device's any more, and soon perhaps
 * another's.
 */
static void end_window_users(struct tracer *tr)
{
	bool any = false;
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (!has_window(t->proc->mm))
			continue;
		if (!any)
			log_err("what has mapped memory of devices, which have"
				" gone with the host side, is killed");
		any = true;
		kill(t->proc->pid, SIGKILL);
	}
}

static void look_after_daemon(struct tracer *tr)
{
	struct msg_signal signal;

	client_poll(&tr->client);
	while (client_next_signal(&tr->client, &signal)) {
		const struct proc *p = find_shadow(tr, signal.shadow);

		if (p)
			owner_signal(tr, p, &signal);
	}
	while (tr->client.ngone) {
		struct proc *p =
			find_shadow(tr, tr->client.gone[--tr->client.ngone]);

		if (!p)
			continue;
		log_err("the shadow of process %d died on the host: its"
			" forwarded calls fail with EIO from now on", p->pid);
		p->shadow_gone = true;
	}
	if (tr->client.dead && !tr->told_dead && !tr->client.refused)
		log_err("the host side (darkshadow host) is gone: forwarded"
			" calls fail with EIO from now on");
	if (tr->client.dead && !tr->told_dead)
		end_window_users(tr);
	tr->told_dead = tr->client.dead;
	answer_orphans(tr);
}

static void on_signal(int sig)
{
	if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
		asked_stop = 1;
	else if (sig == SIGALRM)
		ticked = 1;
	else
		asked_signal = sig;
}

static void set_tick(int ms)
{
	const struct timeval every = { .tv_usec = ms * 1000 };

	setitimer(ITIMER_REAL, &(struct itimerval){ every, every }, NULL);
}

void tracer_hurry(struct tracer *tr)
{
	if (!tr->hurry)
		set_tick(HURRY_MS);
	tr->hurry = HURRY_TICKS;
}

/*
 * Terminal signals reach the command by themselves: it is in our process
 * group. What is sent to us alone is meant for it.
 */
static void catch_signals(void)
{
	static const int noted[] = { SIGTERM, SIGHUP, SIGUSR1, SIGUSR2,
				     SIGTSTP, SIGTTIN, SIGTTOU };
	static const int ignored[] = { SIGINT, SIGQUIT, SIGPIPE };
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGALRM, &sa, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(noted); i++)
		sigaction(noted[i], &sa, NULL);
	sa.sa_handler = SIG_IGN;
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		sigaction(ignored[i], &sa, NULL);
	set_tick(TICK_MS);
}

/* What is due now and then. */
static void tick(struct tracer *tr)
{
	placement_look(tr);
	if (tr->hurry && --tr->hurry == 0)
		set_tick(TICK_MS);
	if (tr->hurry % (TICK_MS / HURRY_MS))
		return;
	placement_tick(tr);
	stub_forget_names(tr);
	transport_beat(&tr->client.t);
	shadow_release(tr);
	look_after_early(tr);
	/* Also when stops leave it no time to be idle. */
	look_after_daemon(tr);
}

static void handle(struct tracer *tr, pid_t tid, int status)
{
	const bool forks = tid == tr->forking;	/* task_allow_fork() */

	if (forks)
		tr->forking = 0;
	handle_stop(tr, tid, status);
	if (forks)
		resume_held(tr);
}

/*
 * What was put off waits for others, which may have stopped, too: each time one of
 * those comes first.
 */
static pid_t next_stop(struct tracer *tr, int *status)
{
	const struct timespec pause = { .tv_nsec = LATER_NS };
	size_t i = 0;
	pid_t tid;

	(void)client_dropped(&tr->client);
	while (i < tr->nstops && tr->stops[i].later)
		i++;
	if (i < tr->nstops)
		return take_stop(tr, i, status);
	if (tr->nstops == 0)
		return waitpid(-1, status, __WALL);
	tr->turn = !tr->turn;
	if (tr->turn) {
		tid = waitpid(-1, status, __WALL | WNOHANG);
		if (tid > 0)
			return tid;
		nanosleep(&pause, NULL);
	}
	return take_stop(tr, 0, status);
}

int tracer_run(struct tracer *tr)
{
	struct early *early;
	size_t pos = 0;

	catch_signals();
	while (tr->tasks.n > 0) {
		int status;
		pid_t tid = next_stop(tr, &status);
		int err = tid < 0 ? errno : 0;

		if (ticked) {
			ticked = 0;
			tick(tr);
		}
		if (tid > 0) {
			handle(tr, tid, status);
			continue;
		}
		if (err == ECHILD)
			break;
		if (err != EINTR)
			return -err;
		if (asked_signal) {
			if (!tr->main_ended)
				kill(tr->main_pid, asked_signal);
			asked_signal = 0;
		}
		stop_with_command(tr);
		look_after_daemon(tr);
	}
	look_after_daemon(tr);
	while ((early = idmap_next(&tr->early, &pos)))
		free(early);
	return 0;
}
