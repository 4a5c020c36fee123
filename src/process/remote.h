/* SPDX-License-Identifier: MIT */
/*
 * remote.h - system calls made by another thread on our behalf (ptrace)
 *
 * One mechanism for target, shadow and VMM. Two forms: remote_call() needs
 * nothing but the address of a `syscall` instruction in the thread's memory
 * and costs three stops; remote_run() uses the stop that gate and capsule end
 * their injected calls with (capsule/abi.h, MAGIC_STOP) and costs one.
 *
 * The thread must be in a ptrace stop, and is in one again afterwards. Its
 * registers are changed: whoever wants them back saves and restores them.
 * A signal that arrives meanwhile is put back on the thread's queue, with the
 * thread's whole mask blocked until remote_end().
 */
#ifndef PROCESS_REMOTE_H
#define PROCESS_REMOTE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/*
 * What has become of the thread under our hands. The main loop of the caller
 * has to know what is still to be reported and what has been consumed.
 */
enum remote_fate {
	REMOTE_ALIVE = 0,
	REMOTE_ENDED,		/* its last wait status is consumed: status */
	REMOTE_EXITING,		/* stands in its exit stop, to be resumed */
	REMOTE_GOING,		/* killed; its end will be reported */
	REMOTE_REPLACED,	/* another thread's exec took its id, and
				 * stands in the stop of that event */
};

struct remote {
	pid_t tid;
	uint64_t insn;		/* address of a `syscall` instruction */
	bool masked;		/* signals are held back, old mask below */
	uint64_t mask;
	bool stopped;		/* a SIGSTOP is to be sent again */
	enum remote_fate fate;	/* anything but alive: it is left alone */
	int status;		/* as waitpid(2) gave it last */
	pid_t child;		/* of the last clone(2) made by remote_call() */
};

/* Registers of a stopped thread: 0, or -ESRCH if it was killed. */
int remote_get_regs(pid_t tid, struct user_regs_struct *regs);
int remote_set_regs(pid_t tid, const struct user_regs_struct *regs);

/* remote_set_call() - number and arguments where `syscall` looks for them */
void remote_set_call(struct user_regs_struct *regs, uint64_t nr,
		     const uint64_t args[6]);

/*
 * remote_wait() - waitpid(2) for one thread, any stop or end
 *
 * 0, or -ESRCH: it has ended and cannot be waited for yet. That is seen only
 * where signals interrupt the wait now and then (the tracer's tick, and the
 * daemon's while it carries out a request).
 */
int remote_wait(pid_t tid, int *status);

/*
 * remote_gone() - has the thread ended, as far as it goes while others of its
 * process have not, or been killed?
 */
bool remote_gone(pid_t tid);

/* remote_hold() - block every signal of a stopped thread until remote_end() */
int remote_hold(struct remote *r);

/*
 * remote_call() - one call; *result is the kernel's value or -errno
 *
 * Returns 0, or -ESRCH when the thread is no longer ours (fate is set).
 */
int remote_call(struct remote *r, uint64_t nr, const uint64_t args[6],
		int64_t *result);

/*
 * remote_run() - let the thread run at the given registers until MAGIC_STOP
 *
 * regs: in, the registers to start with (orig_rax is ours); out, those at the
 * stop. Returns 0, -ESRCH as above, -EFAULT if the thread got elsewhere (a
 * fault: the thread is then in a signal stop).
 */
int remote_run(struct remote *r, struct user_regs_struct *regs);

/*
 * remote_leave() - let the thread go to the end of the call it is in
 *
 * It is then in the call's exit stop. Returns 0 or -ESRCH as above.
 */
int remote_leave(struct remote *r);

/* remote_end() - give the thread its signal mask back */
void remote_end(struct remote *r);

#endif
