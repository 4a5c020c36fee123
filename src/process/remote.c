/* SPDX-License-Identifier: MIT */
/* remote.c - system calls made by another thread on our behalf (ptrace) */
#include "process/remote.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capsule/abi.h"
#include "process/proc.h"

/* The code segment of 64-bit programs: in others registers are laid out
 * differently. */
#define USER_CS 0x33

static long pt(unsigned int req, pid_t tid, void *addr, void *data)
{
	return ptrace((enum __ptrace_request)req, tid, addr, data);
}

int remote_get_regs(pid_t tid, struct user_regs_struct *regs)
{
	return pt(PTRACE_GETREGS, tid, NULL, regs) < 0 ? -errno : 0;
}

int remote_set_regs(pid_t tid, const struct user_regs_struct *regs)
{
	void *data = (void *)(uintptr_t)regs;
	/* All but the bases and selectors of segments, which are the last. */
	struct iovec some = {
		data, offsetof(struct user_regs_struct, fs_base)
	};

	if (pt(PTRACE_SETREGS, tid, NULL, data) == 0)
		return 0;
	/*
	 * A program may load selectors (1 and 2 are null, too) and bases (any
	 * number is one, by wrgsbase) that the kernel does not take from us.
	 * They are in place, as nobody changes them.
	 */
	if (errno != EIO || regs->cs != USER_CS)
		return -errno;
	return pt(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &some) < 0 ?
	       -errno : 0;
}

void remote_set_call(struct user_regs_struct *regs, uint64_t nr,
		     const uint64_t args[6])
{
	regs->rax = nr;
	regs->rdi = args[0];
	regs->rsi = args[1];
	regs->rdx = args[2];
	regs->r10 = args[3];
	regs->r8 = args[4];
	regs->r9 = args[5];
}

bool remote_gone(pid_t tid)
{
	struct proc_status status;

	return proc_status_read(tid, &status) < 0 || status.state == 'Z' ||
	       status.state == 'X' || proc_has_signal(status.pending, SIGKILL);
}

/*
 * A SIGKILL takes a thread out of any stop, and resuming it then may let it
 * end without a word: a group leader is not reported before the last of its
 * threads, and the first process of a namespace (pid_namespaces(7)) not before
 * all others in it, which may be waiting for us. The callers' tick (SIGALRM)
 * makes us look.
 */
int remote_wait(pid_t tid, int *status)
{
	while (waitpid(tid, status, __WALL) < 0) {
		if (errno != EINTR)
			return -errno;
		if (remote_gone(tid))
			return -ESRCH;
	}
	return 0;
}

int remote_hold(struct remote *r)
{
	uint64_t all = ~0ULL;

	if (r->fate)
		return -ESRCH;
	if (r->masked)
		return 0;
	if (pt(PTRACE_GETSIGMASK, r->tid, (void *)sizeof(r->mask),
	       &r->mask) < 0 ||
	    pt(PTRACE_SETSIGMASK, r->tid, (void *)sizeof(all), &all) < 0)
		return -errno;
	r->masked = true;
	return 0;
}

void remote_end(struct remote *r)
{
	if (r->fate)
		return;
	if (r->masked)
		pt(PTRACE_SETSIGMASK, r->tid, (void *)sizeof(r->mask),
		   &r->mask);
	r->masked = false;
	if (r->stopped)
		syscall(SYS_tkill, r->tid, SIGSTOP);
	r->stopped = false;
}

static int lost(struct remote *r, enum remote_fate fate)
{
	r->fate = fate;
	return -ESRCH;
}

enum seen { SEEN_SYSCALL, SEEN_SECCOMP, SEEN_EVENT, SEEN_SIGNAL };

/*
 * next_stop() - resume and wait; ends and group stops are dealt with here
 *
 * A signal that is not the thread's own fault is blocked and passed on: the
 * kernel then queues it again (ptrace_signal() in kernel/signal.c), with its
 * siginfo. SIGSTOP cannot be blocked: it is sent again at the end.
 */
static int next_stop(struct remote *r, unsigned int how, enum seen *seen)
{
	void *sig = NULL;

	for (;;) {
		int event;

		if (pt(how, r->tid, NULL, sig) < 0) {
			/* Killed while it was stopped, it is on its way. */
			return errno == ESRCH ? lost(r, REMOTE_GOING) : -errno;
		}
		if (remote_wait(r->tid, &r->status) < 0)
			return lost(r, REMOTE_GOING);
		if (!WIFSTOPPED(r->status))
			return lost(r, REMOTE_ENDED);
		sig = NULL;
		event = r->status >> 16;
		if (WSTOPSIG(r->status) == (SIGTRAP | 0x80)) {
			*seen = SEEN_SYSCALL;
			return 0;
		}
		if (event == PTRACE_EVENT_SECCOMP) {
			*seen = SEEN_SECCOMP;
			return 0;
		}
		if (event == PTRACE_EVENT_STOP) {
			/* The whole process stops, or SIGCONT has come. */
			r->stopped = WSTOPSIG(r->status) != SIGTRAP;
			continue;
		}
		if (event == PTRACE_EVENT_EXIT)
			return lost(r, REMOTE_EXITING);
		/* None of ours executes a program: the leader has gone
		 * without a word, and its id to the thread that did. */
		if (event == PTRACE_EVENT_EXEC)
			return lost(r, REMOTE_REPLACED);
		if (event) {
			unsigned long child = 0;

			pt(PTRACE_GETEVENTMSG, r->tid, NULL, &child);
			r->child = (pid_t)child;
			*seen = SEEN_EVENT;
			return 0;
		}
		switch (WSTOPSIG(r->status)) {
		case SIGSEGV:
		case SIGBUS:
		case SIGILL:
		case SIGTRAP:
			*seen = SEEN_SIGNAL;
			return 0;
		case SIGSTOP:
			r->stopped = true;
			break;
		case SIGCONT:
			r->stopped = false;	/* it takes that back */
			/* fallthrough */
		default:
			remote_hold(r);
			sig = (void *)(uintptr_t)WSTOPSIG(r->status);
		}
	}
}

int remote_call(struct remote *r, uint64_t nr, const uint64_t args[6],
		int64_t *result)
{
	struct user_regs_struct regs, want = { 0 };
	bool entered = false;
	enum seen seen = SEEN_SIGNAL;
	int err;

	if (r->fate)
		return -ESRCH;
	err = remote_get_regs(r->tid, &want);
	if (err)
		return err;
	want.rip = r->insn;
	want.orig_rax = ~0ULL;
	remote_set_call(&want, nr, args);
	err = remote_set_regs(r->tid, &want);
	if (err)
		return err;
	for (;;) {
		err = next_stop(r, PTRACE_SYSCALL, &seen);
		if (err)
			return err;
		if (seen == SEEN_SIGNAL)
			return -EFAULT;
		if (seen != SEEN_SYSCALL)
			continue;
		err = remote_get_regs(r->tid, &regs);
		if (err)
			return err;
		if (entered)
			break;
		entered = regs.orig_rax == nr;
		/* Else the end of the call it was in when we began: it kept
		 * the number that it was given above. */
		if (!entered)
			err = remote_set_regs(r->tid, &want);
		if (err)
			return err;
	}
	*result = (int64_t)regs.rax;
	return 0;
}

int remote_run(struct remote *r, struct user_regs_struct *regs)
{
	enum seen seen = SEEN_SIGNAL;
	int err;

	if (r->fate)
		return -ESRCH;
	regs->orig_rax = ~0ULL;
	err = remote_set_regs(r->tid, regs);
	while (!err) {
		err = next_stop(r, PTRACE_CONT, &seen);
		if (err)
			break;
		if (seen == SEEN_SIGNAL)
			return -EFAULT;
		if (seen != SEEN_SECCOMP)
			continue;
		err = remote_get_regs(r->tid, regs);
		if (!err && regs->orig_rax == MAGIC_STOP)
			return 0;
	}
	return err;
}

int remote_leave(struct remote *r)
{
	enum seen seen = SEEN_SIGNAL;
	int err = r->fate ? -ESRCH : 0;

	while (!err && seen != SEEN_SYSCALL)
		err = next_stop(r, PTRACE_SYSCALL, &seen);
	return err;
}
