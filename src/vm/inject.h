/* SPDX-License-Identifier: MIT */
/*
 * inject.h - system calls made by a VMM on our behalf
 *
 * Theory of operation. One thread of the VMM is stopped (ptrace) and makes the
 * calls by the code that makes them everywhere (process/remote.h), at a
 * `syscall; ret` that is in its memory anyway. We may be killed at any point,
 * and then the kernel lets the thread go on as it is. So before anything else
 * is changed, the way back is laid out on its stack: the `ret` leads to its C
 * library's rt_sigreturn(2), which finds a signal frame with all that the
 * thread had, and the thread goes on where it was. It is one PTRACE_SETREGS
 * that takes it from the one to the other. Before that frame are others, for
 * calls that undo what is not to outlive us (inject_undo()): each frame leads
 * to a call, and its `ret` to the next frame. Whoever is alive at the end gives
 * the registers back himself, and none of them is ever used.
 *
 * What a call that was interrupted returns is as after a signal: it is made
 * again, or, where only we could make it go on (poll(2) with a timeout), is
 * EINTR, but by inject_end() it goes on.
 *
 * Where the VMM has seccomp filters, they are asked beforehand (process/seccomp.h)
 * whether they allow every call that there may be, the ones of the frames
 * included: inject_fd(), mmap(2) of shared memory without PROT_EXEC, mremap(2),
 * munmap(2), close(2), rt_sigreturn(2), and the number -1, which is none. Others
 * are not to be made.
 *
 * Source of the frame's layout: arch/x86/kernel/signal_64.c and
 * arch/x86/include/uapi/asm/sigcontext.h.
 */
#ifndef VM_INJECT_H
#define VM_INJECT_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "process/remote.h"
#include "vm/vm.h"

#define INJECT_ROOM	256	/* bytes of memory for what calls point to */
#define INJECT_UNDOS	4

/* Where in a process there is code for our calls; all 0: not known. */
struct inject_code {
	pid_t pid;
	uint64_t call, back;
};

struct inject {
	struct remote remote;
	struct user_regs_struct regs;	/* the thread's own */
	uint64_t room;		/* address of INJECT_ROOM bytes there */
	uint64_t undos;		/* address of INJECT_UNDOS frames there */
};

/*
 * inject_begin() - stop the first thread of a process, and lay out its way back
 *
 * 0, and inject_end() has to follow; else -errno, err says in one line why and
 * what to do, and the process is as it was. -EPERM: we may not trace it, or
 * somebody else does. -ENOTSUP: it must not or cannot make calls for us (a
 * seccomp sandbox that forbids one, or that we may not read, a shadow stack, no
 * such code in it). -ESRCH: it has ended.
 *
 * code: what was found the last time, and will be used again.
 */
int inject_begin(struct inject *in, pid_t pid, struct inject_code *code,
		 char err[VM_ERR_MAX]);

/* inject_call() - one call: its value or -errno; -ESRCH: it has ended */
int64_t inject_call(struct inject *in, uint64_t nr, const uint64_t args[6]);

#define INJECT(in, nr, ...) \
	inject_call(in, nr, (const uint64_t[6]){ __VA_ARGS__ })

/* inject_read(), inject_write() - its memory; 0 or -errno */
int inject_read(const struct inject *in, uint64_t at, void *buf, size_t len);
int inject_write(const struct inject *in, uint64_t at, const void *buf,
		 size_t len);

/*
 * inject_undo() - the call that undoes number i, should we end; nr 0: none
 */
void inject_undo(const struct inject *in, int i, uint64_t nr, uint64_t arg0,
		 uint64_t arg1);

/*
 * inject_fd() - a copy of our descriptor there: its number or -errno
 *
 * By a socket pair that the process makes for it: it needs no rights over us.
 * It is closed by inject_close_fd(), or should we end.
 */
int inject_fd(struct inject *in, int fd);
void inject_close_fd(struct inject *in, int there);

/* inject_end() - all as it was, and the thread goes on */
void inject_end(struct inject *in);

#endif
