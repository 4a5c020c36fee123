/* SPDX-License-Identifier: MIT */
/* inject.c - system calls made by a VMM on our behalf */
#include "vm/inject.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "process/maps.h"
#include "process/proc.h"
#include "process/seccomp.h"

#define SYSCALL_LEN	2
#define RED_ZONE	128	/* bytes below rsp that are the function's */
#define XSTATE_MAX	16384
#define XSTATE_LEGACY	512
#define XSTATE_HEADER	64
#define XSTATE_ALIGN	64
#define XSTATE_SW	464	/* struct fx_sw_bytes in the legacy part */
#define XSTATE_FIRST	2	/* components below are in the legacy part */
#define SEARCH_MAX	(64ULL << 20)	/* of one mapping */

/* --- code ----------------------------------------------------------------- */

static const uint8_t call_code[] = { 0x0f, 0x05, 0xc3 };  /* syscall; ret */
/* mov $15,%rax; syscall: what sigaction(2) is given as sa_restorer. */
static const uint8_t return_code[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0,
				       0x0f, 0x05 };

static ssize_t read_some(pid_t pid, uint64_t at, void *buf, size_t len)
{
	struct iovec here = { buf, len };
	struct iovec there = { (void *)(uintptr_t)at, len };

	return process_vm_readv(pid, &here, 1, &there, 1, 0);
}

static void find_in(pid_t pid, const struct map_line *line,
		    struct inject_code *code)
{
	const size_t len = line->end - line->start;
	void *buf cleanup_free = len <= SEARCH_MAX ? malloc(len) : NULL;
	const uint8_t *at;
	ssize_t n;

	if (!buf)
		return;
	n = read_some(pid, line->start, buf, len);
	if (n <= 0)
		return;
	at = memmem(buf, (size_t)n, call_code, sizeof(call_code));
	if (at && !code->call)
		code->call = line->start + (uint64_t)(at - (uint8_t *)buf);
	at = memmem(buf, (size_t)n, return_code, sizeof(return_code));
	if (at && !code->back)
		code->back = line->start + (uint64_t)(at - (uint8_t *)buf);
}

static bool has_code(pid_t pid, uint64_t at, const uint8_t *want, size_t len)
{
	uint8_t buf[16];

	return read_some(pid, at, buf, len) == (ssize_t)len &&
	       memcmp(buf, want, len) == 0;
}

/* In libraries first, which are mapped behind the program and are smaller. */
static int find_code(pid_t pid, struct inject_code *code)
{
	struct maps maps;
	int err;

	if (code->pid == pid &&
	    has_code(pid, code->call, call_code, sizeof(call_code)) &&
	    has_code(pid, code->back, return_code, sizeof(return_code)))
		return 0;
	*code = (struct inject_code){ .pid = pid };
	err = maps_read(pid, &maps);
	if (err)
		return err;
	for (size_t i = maps.n; i-- > 0 && !(code->call && code->back);) {
		const struct map_line *line = &maps.v[i];

		if (line->prot & PROT_EXEC && line->prot & PROT_READ &&
		    line->ino && !line->shared)
			find_in(pid, line, code);
	}
	maps_fini(&maps);
	return code->call && code->back ? 0 : -ENOENT;
}

/* --- the way back --------------------------------------------------------- */

/* struct fx_sw_bytes of asm/sigcontext.h, which <signal.h> is at odds with. */
struct sw_bytes {
	uint32_t magic1;
	uint32_t extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size;
	uint32_t padding[7];
};

#define SW_MAGIC1	0x46505853u
#define SW_MAGIC2	0x46505845u

/* struct sigcontext and struct ucontext of the kernel. */
struct frame {
	uint64_t back;		/* where `ret` goes to */
	uint64_t uc_flags;
	uint64_t uc_link;
	uint64_t ss_sp;
	uint64_t ss_flags;	/* an int, and padding */
	uint64_t ss_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
	uint64_t sigmask;
};

#define UC_FP_XSTATE_		1
#define UC_SIGCONTEXT_SS_	2
#define UC_STRICT_RESTORE_SS_	4
#define SS_NONSENSE		0x7777	/* sigaltstack(2): EINVAL, and ignored */

/* What of the thread's state is not as it was at the beginning of time. */
static size_t xstate_used(const uint8_t *x, size_t len)
{
	size_t end = XSTATE_LEGACY + XSTATE_HEADER;
	uint64_t used;

	if (len <= end)
		return 0;
	memcpy(&used, x + XSTATE_LEGACY, sizeof(used));
	for (unsigned int i = XSTATE_FIRST; i < 63; i++) {
		unsigned int a, b, c, d;

		if (!(used >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (b + a > end)
			end = b + a;
	}
	return end <= len ? end : 0;
}

/* As a signal frame has it; its size, 0: nothing but the legacy part */
static size_t finish_xstate(uint8_t *x, size_t len)
{
	const size_t size = xstate_used(x, len);
	const uint32_t magic2 = SW_MAGIC2;
	struct sw_bytes sw = { .magic1 = SW_MAGIC1 };

	memset(x + XSTATE_SW, 0, sizeof(sw));
	if (!size)
		return XSTATE_LEGACY;
	memcpy(&sw.xfeatures, x + XSTATE_LEGACY, sizeof(sw.xfeatures));
	sw.xfeatures |= 3;	/* x87 and SSE are always there */
	sw.xstate_size = (uint32_t)size;
	sw.extended_size = (uint32_t)(size + sizeof(magic2));
	memcpy(x + XSTATE_SW, &sw, sizeof(sw));
	memcpy(x + size, &magic2, sizeof(magic2));
	return size + sizeof(magic2);
}

/* Where it goes on: a call that was interrupted is made again. */
static void restart(struct user_regs_struct *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return;
	switch (-(int64_t)regs->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
		regs->rax = regs->orig_rax;
		regs->rip -= 2;
		break;
	case ERESTART_RESTARTBLOCK:
		regs->rax = (uint64_t)-EINTR;
		break;
	}
}

static struct frame frame_of(struct user_regs_struct r, uint64_t mask,
			     uint64_t back, uint64_t fpstate)
{
	restart(&r);
	return (struct frame){
		.back = back,
		.uc_flags = UC_FP_XSTATE_ | UC_SIGCONTEXT_SS_ |
			    UC_STRICT_RESTORE_SS_,
		.ss_flags = SS_NONSENSE,
		.r8 = r.r8, .r9 = r.r9, .r10 = r.r10, .r11 = r.r11,
		.r12 = r.r12, .r13 = r.r13, .r14 = r.r14, .r15 = r.r15,
		.rdi = r.rdi, .rsi = r.rsi, .rbp = r.rbp, .rbx = r.rbx,
		.rdx = r.rdx, .rax = r.rax, .rcx = r.rcx, .rsp = r.rsp,
		.rip = r.rip, .eflags = r.eflags,
		.cs = (uint16_t)r.cs, .ss = (uint16_t)r.ss,
		.fpstate = fpstate, .sigmask = mask,
	};
}

/* A frame that leads to a call, and from there to the next frame. */
static struct frame undo_frame(const struct inject *in, const struct frame *last,
			       int i)
{
	struct frame f = *last;

	f.rip = in->remote.insn;
	f.rsp = in->undos + (uint64_t)(i + 1) * sizeof(f);
	f.rax = UINT64_MAX;	/* ENOSYS */
	f.fpstate = 0;
	f.uc_flags &= ~(uint64_t)UC_FP_XSTATE_;
	return f;
}

void inject_undo(const struct inject *in, int i, uint64_t nr, uint64_t arg0,
		 uint64_t arg1)
{
	const uint64_t at = in->undos + (uint64_t)i * sizeof(struct frame);
	const uint64_t args[2] = { arg0, arg1 }, rax = nr ? nr : UINT64_MAX;

	_Static_assert(offsetof(struct frame, rsi) ==
		       offsetof(struct frame, rdi) + 8, "args");
	/* Never one's number with another's arguments. */
	(void)inject_write(in, at + offsetof(struct frame, rax),
			   &(uint64_t){ UINT64_MAX }, 8);
	(void)inject_write(in, at + offsetof(struct frame, rdi), args,
			   sizeof(args));
	(void)inject_write(in, at + offsetof(struct frame, rax), &rax, 8);
}

/*
 * From low to high: room, the frames that undo, the one that leads back, and the
 * state of the FPU.
 */
static int lay_out(struct inject *in, const struct inject_code *code)
{
	struct frame frames[INJECT_UNDOS + 1], *last = &frames[INJECT_UNDOS];
	uint8_t x[XSTATE_MAX + 8];
	struct iovec iov = { x, XSTATE_MAX };
	const pid_t tid = in->remote.tid;
	uint64_t mask, at;
	size_t len;
	int err;

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &iov) < 0 ||
	    ptrace((enum __ptrace_request)PTRACE_GETSIGMASK, tid,
		   (void *)sizeof(mask), &mask) < 0)
		return -errno;
	len = finish_xstate(x, iov.iov_len);
	at = (in->regs.rsp - RED_ZONE - len) & ~(uint64_t)(XSTATE_ALIGN - 1);
	*last = frame_of(in->regs, mask, code->back, at);
	in->undos = (at - sizeof(frames)) & ~15ULL;
	for (int i = 0; i < INJECT_UNDOS; i++)
		frames[i] = undo_frame(in, last, i);
	in->room = in->undos - INJECT_ROOM;
	err = inject_write(in, at, x, len);
	return err ? err : inject_write(in, in->undos, frames,
					sizeof(frames));
}

/* --- seccomp -------------------------------------------------------------- */

#define ALL_ARGS	0x3f
#define ARG(n)		(1u << (n))

/*
 * All that is ever called there. A number without an argument that is known is
 * a frame's, too, whose other registers are the thread's own.
 */
static const struct {
	const char *name;
	struct seccomp_call call;
	bool back;		/* at that code, else at the one for calls */
} injected[] = {
	{ "socketpair", { SYS_socketpair, .args = { AF_UNIX, SOCK_SEQPACKET |
			  SOCK_CLOEXEC }, .unknown = ARG(3) }, false },
	{ "recvmsg", { SYS_recvmsg, .args = { 0, 0, MSG_CMSG_CLOEXEC |
		       MSG_DONTWAIT }, .unknown = ARG(0) | ARG(1) }, false },
	{ "mmap", { SYS_mmap, .args = { 0, 0, PROT_READ | PROT_WRITE,
		    MAP_SHARED }, .unknown = ALL_ARGS & ~(ARG(2) | ARG(3)) },
	  false },
	{ "mmap", { SYS_mmap, .args = { 0, 0, PROT_READ, MAP_SHARED },
		    .unknown = ALL_ARGS & ~(ARG(2) | ARG(3)) }, false },
	{ "mmap", { SYS_mmap, .args = { 0, 0, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED },
		    .unknown = ALL_ARGS & ~(ARG(2) | ARG(3)) }, false },
	{ "mremap", { SYS_mremap, .args = { 0, 0, 0, MREMAP_MAYMOVE |
		      MREMAP_FIXED }, .unknown = ALL_ARGS & ~ARG(3) }, false },
	{ "munmap", { SYS_munmap, .unknown = ALL_ARGS }, false },
	{ "close", { SYS_close, .unknown = ALL_ARGS }, false },
	{ "number -1", { -1, .unknown = ALL_ARGS }, false },
	{ "rt_sigreturn", { SYS_rt_sigreturn, .unknown = ALL_ARGS }, true },
};

static int refuse_call(struct inject *in, const char *name,
		       const struct seccomp_call *call, char *err)
{
	char words[SECCOMP_NAME_MAX];

	if (call->undecided)
		return vm_fail(err, -ENOTSUP, "the VMM (process %d) has a"
			       " seccomp sandbox whose answer to %s depends on"
			       " what we cannot know before: start it without"
			       " (QEMU: -sandbox off)", in->remote.tid, name);
	return vm_fail(err, -ENOTSUP, "the VMM (process %d) has a seccomp"
		       " sandbox that forbids %s, which we need: it answers %s;"
		       " start it without (QEMU: -sandbox off)",
		       in->remote.tid, name,
		       seccomp_action(call->action, words));
}

static int refuse_unread(struct inject *in, int rc, char *err)
{
	const bool root = rc == -EACCES;

	return vm_fail(err, -ENOTSUP, "the VMM (process %d) has a seccomp"
		       " sandbox, which may end it for our calls%s: start it"
		       " without (QEMU: -sandbox off)%s", in->remote.tid,
		       root ? "; what it forbids is told to root only" :
			      ", and what it forbids cannot be read",
		       root ? ", or run darkshadow host as root, outside of"
			      " any such sandbox" : "");
}

static int ask_filters(struct inject *in, const struct inject_code *code,
		       char *err)
{
	struct seccomp_call calls[ARRAY_SIZE(injected)];
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(injected); i++) {
		calls[i] = injected[i].call;
		calls[i].at = injected[i].back ?
			      code->back + sizeof(return_code) :
			      code->call + SYSCALL_LEN;
	}
	rc = seccomp_ask(in->remote.tid, calls, ARRAY_SIZE(calls));
	if (rc)
		return refuse_unread(in, rc, err);
	for (size_t i = 0; i < ARRAY_SIZE(injected); i++)
		if (!seccomp_allows(&calls[i]))
			return refuse_call(in, injected[i].name, &calls[i],
					   err);
	return 0;
}

/* --- stopping ------------------------------------------------------------- */

static int detach(struct inject *in, int err)
{
	ptrace(PTRACE_DETACH, in->remote.tid, NULL, NULL);
	return err;
}

/* It is stopped: what it is found to be now holds. */
static int refuse(struct inject *in, const struct inject_code *code, char *err)
{
	struct proc_status st;

	if (proc_status_read(in->remote.tid, &st) < 0)
		return vm_fail(err, -ESRCH, "the VMM (process %d) has ended",
			       in->remote.tid);
	if (st.shadow_stack)
		return vm_fail(err, -ENOTSUP, "the VMM (process %d) has a"
			       " shadow stack: start it without"
			       " (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)",
			       in->remote.tid);
	return st.seccomp ? ask_filters(in, code, err) : 0;
}

/* Signals that it was about to take are taken before. */
static int stop(struct inject *in, char *err)
{
	const pid_t pid = in->remote.tid;
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) < 0)
		return vm_fail(err, -errno, "the VMM (process %d) cannot be"
			       " traced: %s%s", pid, strerror(errno),
			       errno == EPERM ? ": run darkshadow host as its"
			       " user or as root (see kernel.yama.ptrace_scope),"
			       " with no debugger at it" : "");
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	while (remote_wait(pid, &status) == 0 && WIFSTOPPED(status)) {
		if (status >> 16)
			return 0;
		ptrace(PTRACE_CONT, pid, NULL,
		       (void *)(uintptr_t)WSTOPSIG(status));
	}
	return vm_fail(err, -ESRCH, "the VMM (process %d) has ended", pid);
}

int inject_begin(struct inject *in, pid_t pid, struct inject_code *code,
		 char err[VM_ERR_MAX])
{
	struct user_regs_struct regs;
	int rc;

	*in = (struct inject){ .remote = { .tid = pid } };
	if (remote_gone(pid))
		return vm_fail(err, -ESRCH, "the VMM (process %d) has ended",
			       pid);
	if (find_code(pid, code) < 0)
		return vm_fail(err, -ENOTSUP, "the VMM (process %d) has no code"
			       " for our calls: it is not linked with glibc or"
			       " musl, or may not be read", pid);
	rc = stop(in, err);
	if (rc)
		return rc;
	rc = refuse(in, code, err);
	if (rc)
		return detach(in, rc);
	in->remote.insn = code->call;
	rc = remote_get_regs(pid, &in->regs);
	if (!rc)
		rc = lay_out(in, code);
	if (!rc) {
		regs = in->regs;
		/* Let go now, it comes back at once. */
		regs.rip = code->call + SYSCALL_LEN;
		regs.rsp = in->undos;
		regs.orig_rax = ~0ULL;
		rc = remote_set_regs(pid, &regs);
	}
	if (rc) {
		vm_say(err, "the VMM (process %d) cannot be made to call: %s",
		       pid, strerror(-rc));
		detach(in, rc);
	}
	return rc;
}

void inject_end(struct inject *in)
{
	if (in->remote.fate)
		return;
	/* In this order: let go in between, it has its signal mask, too, and takes
	 * the way back. */
	remote_end(&in->remote);
	remote_set_regs(in->remote.tid, &in->regs);
	detach(in, 0);
}

/* --- calls ---------------------------------------------------------------- */

int64_t inject_call(struct inject *in, uint64_t nr, const uint64_t args[6])
{
	int64_t result;
	int err = remote_call(&in->remote, nr, args, &result);

	return err ? err : result;
}

int inject_read(const struct inject *in, uint64_t at, void *buf, size_t len)
{
	ssize_t n = read_some(in->remote.tid, at, buf, len);

	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EFAULT;
}

int inject_write(const struct inject *in, uint64_t at, const void *buf,
		 size_t len)
{
	struct iovec here = { (void *)(uintptr_t)buf, len };
	struct iovec there = { (void *)(uintptr_t)at, len };
	ssize_t n = process_vm_writev(in->remote.tid, &here, 1, &there, 1, 0);

	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EFAULT;
}

/* What arrives at a socket of its: the descriptor's number or -errno. */
static int receive(struct inject *in, int sock)
{
	struct {
		struct msghdr msg;
		struct iovec iov;
		char byte[8];
		union {
			char buf[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} ctl;
	} m = { .msg.msg_iovlen = 1, .iov.iov_len = 1 };
	const uint64_t at = in->room;
	int64_t n;
	int fd, err;

	_Static_assert(sizeof(m) <= INJECT_ROOM, "there is room");
	m.msg.msg_iov = (void *)(at + offsetof(typeof(m), iov));
	m.iov.iov_base = (void *)(at + offsetof(typeof(m), byte));
	m.msg.msg_control = (void *)(at + offsetof(typeof(m), ctl));
	m.msg.msg_controllen = sizeof(m.ctl);
	err = inject_write(in, at, &m, sizeof(m));
	if (err)
		return err;
	n = INJECT(in, SYS_recvmsg, (uint64_t)sock, at, MSG_CMSG_CLOEXEC |
		   MSG_DONTWAIT);
	if (n != 1)
		return n < 0 ? (int)n : -EIO;
	err = inject_read(in, at, &m, sizeof(m));
	if (err)
		return err;
	if (m.msg.msg_controllen < CMSG_LEN(sizeof(int)))
		return -EMFILE;
	memcpy(&fd, CMSG_DATA(&m.ctl.align), sizeof(fd));
	return fd;
}

#define UNDO_FD		0	/* and two for the sockets */

static void close_there(struct inject *in, int undo, int fd)
{
	/* From here on the number may be another's. */
	inject_undo(in, undo, 0, 0, 0);
	INJECT(in, SYS_close, (uint64_t)fd);
}

int inject_fd(struct inject *in, int fd)
{
	int pair[2], ours cleanup_fd = -1, got;
	int64_t r = INJECT(in, SYS_socketpair, AF_UNIX, SOCK_SEQPACKET |
			   SOCK_CLOEXEC, 0, in->room);

	if (r < 0)
		return (int)r;
	got = inject_read(in, in->room, pair, sizeof(pair));
	if (got)
		return got;
	for (int i = 0; i < 2; i++)
		inject_undo(in, UNDO_FD + 1 + i, SYS_close, (uint64_t)pair[i],
			    0);
	ours = proc_copy_fd(in->remote.tid, pair[1]);
	if (ours < 0)
		got = ours;
	else if (fd_send(ours, "", 1, &fd, 1) != 1)
		got = -EIO;
	else
		got = receive(in, pair[0]);
	if (got >= 0)
		inject_undo(in, UNDO_FD, SYS_close, (uint64_t)got, 0);
	for (int i = 0; i < 2; i++)
		close_there(in, UNDO_FD + 1 + i, pair[i]);
	return got;
}

void inject_close_fd(struct inject *in, int there)
{
	close_there(in, UNDO_FD, there);
}
