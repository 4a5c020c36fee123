/* SPDX-License-Identifier: MIT */
/*
 * calls.c - what to do with a call: the general case, and who has the others
 *
 * The table of calls (wire/calls.h) says which arguments are descriptors and
 * paths. If none of them leads to the host the target's kernel has the call;
 * if all of them do, the shadow has it; a call that has both is EXDEV.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "guest/filter.h"
#include "guest/path.h"
#include "guest/sniff.h"
#include "guest/tracer.h"
#include "wire/calls.h"

/* --- the general case ---------------------------------------------------- */

struct verdict {
	int nhost, nlocal;	/* arguments of either kind */
	bool unknown;		/* to the stub: that a name is the host's */
	int error;		/* -errno to return instead */
	bool rewrite[6];	/* argument i becomes ... */
	size_t text[6];		/* ... this part of the scratch */
	size_t used;		/* bytes of scratch */
	int own_fd;		/* a path named this host descriptor, or -1 */
	char abs[PATH_MAX];	/* of the last path */
};

/* Does a flag among the arguments turn the letter's meaning round? */
static bool follows(const struct task *t, const struct call *c, bool letter)
{
	for (int i = 0; c->args[i]; i++) {
		uint64_t v = t->args[i];

		switch (c->args[i]) {
		case 't':
			if (v & AT_SYMLINK_NOFOLLOW)
				return false;
			if (v & AT_SYMLINK_FOLLOW)
				return true;
			break;
		case 'o':
			if (v & O_NOFOLLOW || (v & (O_CREAT | O_EXCL)) ==
			    (O_CREAT | O_EXCL))
				return false;
			break;
		}
	}
	return letter;
}

static int put_text(struct task *t, struct verdict *v, int i,
		    const char *text)
{
	size_t len = strlen(text) + 1;
	int err = task_slot(t);

	if (err)
		return err;
	if (v->used + len > SLOT_SCRATCH_SIZE)
		return -ENAMETOOLONG;
	memcpy((char *)t->slot + SLOT_SCRATCH + v->used, text, len);
	v->rewrite[i] = true;
	v->text[i] = v->used;
	v->used += len;
	return 0;
}

static bool removes(uint64_t nr)
{
	return nr == SYS_unlink || nr == SYS_unlinkat || nr == SYS_rmdir ||
	       nr == SYS_rename || nr == SYS_renameat || nr == SYS_renameat2;
}

static void judge_path(struct tracer *tr, struct task *t,
		       const struct call *c, int i, struct verdict *v)
{
	const bool at = i > 0 && c->args[i - 1] == 'd';
	int dirfd = at ? (int)t->args[i - 1] : AT_FDCWD;
	const bool follow = follows(t, c, c->args[i] == 'p');
	char text[PATH_MAX];
	struct place place;
	int err;

	/* EFAULT, but mount(2) and acct(2) take it for none at all. */
	if (!t->args[i] && !at)
		return;
	if (!t->args[i] && dirfd != AT_FDCWD) {
		/* utimensat(2), statx(2): NULL means the descriptor. */
		if (is_host_fd(t, dirfd))
			v->nhost++;
		else
			v->nlocal++;
		return;
	}
	err = path_read(t, t->args[i], text);
	if (!err)
		err = path_resolve(tr, t, dirfd, text, follow, &place);
	if (err) {
		v->error = err;
		return;
	}
	v->unknown |= !stub_learn(tr, t, dirfd, t->args[i], text);
	switch (place.kind) {
	case PLACE_LOCAL:
		v->nlocal++;
		break;
	case PLACE_HOST:
		v->nhost++;
		strcpy(v->abs, place.abs);
		break;
	case PLACE_FD_ITSELF:
		v->nhost++;
		break;
	case PLACE_OWN_FD:
		v->nhost++;
		v->own_fd = place.fd;
		if (!follow && removes(t->nr)) {
			v->error = -EPERM;	/* as procfs says */
			return;
		}
		/* Its name, for calls that have no form for a descriptor. */
		v->error = put_text(t, v, i, files_get(t->proc->files,
							   place.fd)->path);
		return;
	}
	if (place.rewritten)
		v->error = put_text(t, v, i, place.text);
}

static struct verdict judge(struct tracer *tr, struct task *t,
			    const struct call *c)
{
	struct verdict v = { .own_fd = -1 };

	for (int i = 0; c->args[i] && !v.error; i++) {
		int fd = (int)t->args[i];

		switch (c->args[i]) {
		case 'f':
			if (is_hidden_fd(tr, fd))
				v.error = -EBADF;
			else if (is_host_fd(t, fd))
				v.nhost++;
			else
				v.nlocal++;
			break;
		case 'd':
			if (is_hidden_fd(tr, fd))
				v.error = -EBADF;
			break;
		case 'p':
		case 'P':
			judge_path(tr, t, c, i, &v);
			break;
		}
	}
	return v;
}

static void apply_rewrites(struct task *t, const struct verdict *v,
			   uint64_t args[6])
{
	memcpy(args, t->args, sizeof(t->args));
	for (int i = 0; i < 6; i++)
		if (v->rewrite[i])
			args[i] = task_scratch(t) + v->text[i];
}

/* A call that creates a descriptor has been answered: u.fd awaits it. */
void call_opened(struct tracer *tr, struct task *t, int64_t result)
{
	int fd = t->u.fd;

	if (result >= 0 && files_set(t->proc->files, fd,
				     t->u.path ? t->u.path : "",
				     t->u.flags) < 0) {
		shadow_close_fd(tr, t->proc, fd);
		result = -ENOMEM;
	}
	if (result < 0)
		task_native(tr, t, SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
	task_return(tr, t, result);
}

/* The number is the target's kernel's choice: the lowest that is free. */
static int64_t placeholder_new(struct tracer *tr, struct task *t, uint64_t of,
			       int lowest, bool cloexec)
{
	return task_native(tr, t, SYS_fcntl, of,
			   cloexec ? F_DUPFD_CLOEXEC : F_DUPFD,
			   (uint64_t)lowest, 0, 0, 0);
}

/* The O_ flags of a call that opens; of others that make a descriptor: 0. */
static int open_flags(struct task *t, const struct call *c)
{
	struct open_how { uint64_t flags; } how = { 0 };

	if (t->nr == SYS_creat)
		return O_WRONLY | O_CREAT | O_TRUNC;
	if (t->nr == SYS_openat2)
		return task_read(t, t->args[2], &how, sizeof(how)) ==
		       sizeof(how) ? (int)how.flags : 0;
	for (int i = 0; c->args[i]; i++)
		if (c->args[i] == 'o')
			return (int)t->args[i];
	return 0;
}

static bool wants_cloexec(struct task *t, const struct call *c)
{
	switch (t->nr) {
	case SYS_socket:
		return t->args[1] & O_CLOEXEC;
	case SYS_accept4:
		return t->args[3] & O_CLOEXEC;
	case SYS_inotify_init1:
		return t->args[0] & O_CLOEXEC;
	case SYS_fanotify_init:
		return t->args[0] & 1;		/* FAN_CLOEXEC */
	}
	return open_flags(t, c) & O_CLOEXEC;
}

void forward_newfd(struct tracer *tr, struct task *t, uint64_t nr,
		   const uint64_t args[6], bool cloexec, int lowest,
		   const char *path, int flags)
{
	/* A copy of a twin is a twin. */
	int64_t fd = placeholder_new(tr, t, flags & HOSTFD_TWIN ? args[0] :
				     hidden_fd(tr, HIDDEN_PLACEHOLDER),
				     lowest, cloexec);

	if (fd < 0) {
		task_return(tr, t, fd);
		return;
	}
	t->u.fd = (int)fd;
	t->u.flags = flags;
	task_set_path(t, path);
	task_forward(tr, t, SLOT_OPEN, nr, args, (int)fd, call_opened);
}

/*
 * A path that names a host descriptor of the process itself (/dev/stdin):
 * false if the call has no form that takes a descriptor.
 */
static bool call_own_fd(struct tracer *tr, struct task *t, int fd)
{
	const struct hostfd *h = files_get(t->proc->files, fd);
	uint64_t args[6] = { (uint64_t)fd };

	switch (t->nr) {
	case SYS_open:
	case SYS_openat:
	case SYS_creat:
		/* Not a fresh open file, as the kernel would give: the shadow
		 * has no /proc to reopen it by. */
		forward_newfd(tr, t, SYS_dup, args,
			      t->nr == SYS_open ? t->args[1] & O_CLOEXEC :
			      t->nr == SYS_openat && t->args[2] & O_CLOEXEC, 0,
			      h->path, h->flags);
		return true;
	case SYS_stat:
		args[1] = t->args[1];
		task_forward(tr, t, SLOT_CALL, SYS_fstat, args, -1, NULL);
		return true;
	case SYS_newfstatat:
		if (t->args[3] & AT_SYMLINK_NOFOLLOW)
			break;
		args[1] = t->args[2];
		task_forward(tr, t, SLOT_CALL, SYS_fstat, args, -1, NULL);
		return true;
	case SYS_readlink:
	case SYS_readlinkat: {
		int i = t->nr == SYS_readlink ? 1 : 2;
		size_t len = strlen(h->path);

		if ((int)t->args[i + 1] <= 0)
			break;
		len = min_u64(len, t->args[i + 1]);
		task_return(tr, t, task_write(t, t->args[i], h->path, len) < 0 ?
			    -EFAULT : (int64_t)len);
		return true;
	}
	}
	return false;
}

void call_general(struct tracer *tr, struct task *t)
{
	const struct call *c = calls_get(t->nr);
	struct verdict v = judge(tr, t, c);
	uint64_t args[6];
	bool rewritten = v.used > 0;

	if (v.error) {
		task_return(tr, t, v.error);
		return;
	}
	if (v.own_fd >= 0 && call_own_fd(tr, t, v.own_fd))
		return;
	if (v.nhost && !(c->flags & CALL_FORWARD)) {
		log_debug("process %d: %s on a host descriptor or path is not"
			  " forwarded", t->tid, c->name);
		task_return(tr, t, -EPERM);
		return;
	}
	if (v.nhost && v.nlocal) {
		task_return(tr, t, -EXDEV);
		return;
	}
	apply_rewrites(t, &v, args);
	if (!v.nhost) {
		if (!rewritten)
			task_allow(tr, t);
		else
			task_return(tr, t, task_native(tr, t, t->nr, args[0],
				    args[1], args[2], args[3], args[4],
				    args[5]));
		return;
	}
	if (!rewritten && !v.unknown && stub_leave_to(tr, t))
		return;
	if (c->flags & CALL_NEWFD)
		forward_newfd(tr, t, t->nr, args, wants_cloexec(t, c), 0,
			      v.abs, open_flags(t, c));
	else
		task_forward(tr, t, SLOT_CALL, t->nr, args, -1, NULL);
}

/* --- calls with a handler of their own ------------------------------------ */

/* A child that asks not to be traced would run past the gate. */
static void let_trace(struct task *t, uint64_t flags)
{
	struct user_regs_struct regs = t->regs;

	if (t->nr == SYS_clone3) {
		task_write(t, t->args[0], &flags, sizeof(flags));
		return;
	}
	regs.rdi = flags;
	remote_set_regs(t->tid, &regs);
}

static void call_clone(struct tracer *tr, struct task *t)
{
	uint64_t flags = 0;

	t->cloning = ++tr->clones;
	t->u.a = 0;
	if (t->nr == SYS_fork || t->nr == SYS_vfork) {
		task_allow_fork(tr, t);
		return;
	}
	if (t->nr == SYS_clone) {
		flags = t->args[0];
	} else if (task_read(t, t->args[0], &flags, sizeof(flags)) !=
		   sizeof(flags)) {
		task_allow(tr, t);
		return;
	}
	if (t->nr == SYS_clone3)
		stub_learn_readable(t, t->args[0]);
	if (!(flags & CLONE_VM) && flags & CLONE_CHILD_SETTID) {
		uint64_t at = t->args[3];
		uint32_t old;

		if ((t->nr == SYS_clone ||
		     task_read(t, t->args[0] + 16, &at, 8) == 8) &&
		    task_read(t, at, &old, sizeof(old)) == sizeof(old)) {
			t->u.a = at;
			t->u.b = old;
		}
	}
	if (flags & CLONE_UNTRACED)
		let_trace(t, flags & ~(uint64_t)CLONE_UNTRACED);
	/* A thread has all that its parent has. */
	if (flags & CLONE_THREAD)
		stub_move(t);
	if (flags & CLONE_VM && flags & CLONE_FILES)
		task_allow(tr, t);
	else
		task_allow_fork(tr, t);
}

/* What would take the tracer's place, or its filter's, is refused. */
static void call_prctl(struct tracer *tr, struct task *t)
{
	struct proc *p = t->proc;

	switch ((int)t->args[0]) {
	case PR_SET_SECCOMP:
		call_seccomp(tr, t);
		return;
	case PR_SET_DUMPABLE:
		/* It would shut us out, too, unless we are privileged. */
		if (geteuid() == 0 || t->args[1] > 1)
			break;
		p->undumpable = t->args[1] == 0;
		task_return(tr, t, 0);
		return;
	case PR_GET_DUMPABLE:
		if (!p->undumpable)
			break;
		task_return(tr, t, 0);
		return;
	case PR_SET_MM:
	case PR_SET_SYSCALL_USER_DISPATCH:
		task_return(tr, t, -EPERM);
		return;
	}
	task_allow(tr, t);
}

static void call_refuse(struct tracer *tr, struct task *t)
{
	task_return(tr, t, -ENOSYS);
}

static void call_socket(struct tracer *tr, struct task *t)
{
	int family = (int)t->args[0];

	if (rules_has(&tr->rules, RULE_NET) &&
	    (family == AF_INET || family == AF_INET6))
		forward_newfd(tr, t, t->nr, t->args, t->args[1] & O_CLOEXEC, 0,
			      "socket:", 0);
	else
		task_allow(tr, t);
}

static void call_eventfd(struct tracer *tr, struct task *t)
{
	bool cloexec = t->nr == SYS_eventfd2 && t->args[1] & EFD_CLOEXEC;

	if (rules_has(&tr->rules, RULE_EVENTFD))
		forward_newfd(tr, t, t->nr, t->args, cloexec, 0,
			      "anon_inode:[eventfd]", 0);
	else
		task_allow(tr, t);
}

/* An ioctl is the descriptor's, but close-on-exec is the placeholder's. */
static void call_ioctl(struct tracer *tr, struct task *t)
{
	const uint32_t cmd = (uint32_t)t->args[1];

	if (is_host_fd(t, (int)t->args[0]) &&
	    (cmd == FIOCLEX || cmd == FIONCLEX)) {
		task_return(tr, t, task_native(tr, t, SYS_fcntl, t->args[0],
			    F_SETFD, cmd == FIOCLEX ? FD_CLOEXEC : 0, 0, 0,
			    0));
		return;
	}
	call_general(tr, t);
}

static call_fn special(uint64_t nr)
{
	static const call_fn table[CALL_NR_MAX] = {
		[SYS_execve] = call_exec, [SYS_execveat] = call_exec,
		[SYS_dup] = call_dup, [SYS_dup2] = call_dup2,
		[SYS_dup3] = call_dup2, [SYS_fcntl] = call_fcntl,
		[SYS_close] = call_close,
		[SYS_close_range] = call_close_range,
		[SYS_chdir] = call_chdir, [SYS_fchdir] = call_chdir,
		[SYS_setrlimit] = call_rlimit, [SYS_prlimit64] = call_rlimit,
		[SYS_getcwd] = call_getcwd, [SYS_umask] = call_umask,
		[SYS_inotify_add_watch] = call_inotify_add,
		[SYS_epoll_ctl] = call_epoll_ctl,
		[SYS_getdents] = call_getdents,
		[SYS_getdents64] = call_getdents,
		[SYS_poll] = call_poll, [SYS_ppoll] = call_poll,
		[SYS_select] = call_poll, [SYS_pselect6] = call_poll,
		[SYS_sendfile] = call_copy, [SYS_splice] = call_copy,
		[SYS_tee] = call_copy, [SYS_copy_file_range] = call_copy,
		[SYS_clone] = call_clone, [SYS_clone3] = call_clone,
		[SYS_fork] = call_clone, [SYS_vfork] = call_clone,
		[SYS_prctl] = call_prctl, [SYS_seccomp] = call_seccomp,
		[SYS_epoll_wait] = call_epoll_wait,
		[SYS_epoll_pwait] = call_epoll_wait,
		[SYS_epoll_pwait2] = call_epoll_wait,
		[SYS_socket] = call_socket,
		[SYS_mount] = call_mount, [SYS_umount2] = call_umount,
		[SYS_eventfd] = call_eventfd, [SYS_eventfd2] = call_eventfd,
		[SYS_ioctl] = call_ioctl,
		[SYS_sched_getaffinity] = call_affinity,
		[SYS_sched_setaffinity] = call_affinity,
		[SYS_io_uring_setup] = call_refuse,
		[SYS_io_uring_enter] = call_refuse,
		[SYS_io_uring_register] = call_refuse,
	};

	return nr < CALL_NR_MAX ? table[nr] : NULL;
}

static void refuse_foreign(struct tracer *tr, struct task *t)
{
	if (!tr->told_foreign)
		log_warn("process %d makes 32-bit or x32 system calls, which"
			 " are not handled: they fail with ENOSYS", t->tid);
	tr->told_foreign = true;
	task_return(tr, t, -ENOSYS);
}

static void handle(struct tracer *tr, struct task *t)
{
	unsigned long foreign = 0;
	const struct call *c;
	call_fn handler;

	ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &foreign);
	t->args[0] = t->regs.rdi;
	t->args[1] = t->regs.rsi;
	t->args[2] = t->regs.rdx;
	t->args[3] = t->regs.r10;
	t->args[4] = t->regs.r8;
	t->args[5] = t->regs.r9;
	/* The program was at its call when it stopped: that is what it gets
	 * back, with rax as the result. */
	if (foreign == 1) {
		refuse_foreign(tr, t);
		return;
	}
	if (patch_site(tr, t))
		return;
	c = calls_get(t->nr);
	if (!c) {
		task_return(tr, t, -ENOSYS);
		return;
	}
	if (!(c->flags & CALL_TRACED)) {
		/* A filter of the program's asks for a tracer, which to its
		 * knowledge there is not. */
		task_return(tr, t, -ENOSYS);
		return;
	}
	if (tr->sniffer)
		sniff_call(tr->sniffer, tr, t, c);
	if (stub_seek_lane(tr, t))
		return;
	if (c->flags & CALL_NAMES && !t->moves) {
		t->moves = true;
		tr->moving++;
		stub_forget_names(tr);
	}
	if (stub_leave_fd(tr, t))
		return;
	handler = special(t->nr);
	if (handler)
		handler(tr, t);
	else if (c->flags & CALL_MEMORY)
		memcall_handle(tr, t);
	else
		call_general(tr, t);
}

/* The stub's changes come before it, or after it. What a child gets of its parent's
 * memory is all known. */
static bool is_about_memory(uint64_t nr)
{
	const struct call *c = calls_get(nr);

	return (c && c->flags & CALL_MEMORY) || special(nr) == call_clone;
}

void call_handle(struct tracer *tr, struct task *t)
{
	t->later = false;
	/* Of the register the kernel looks at 32 bits. */
	t->nr = (uint32_t)t->regs.orig_rax;
	if (stub_settle(t, is_about_memory(t->nr)))
		handle(tr, t);
	else
		call_later(tr, t);
	/* In a clone until the child is there. */
	if (!t->later && !t->cloning)
		stub_move(t);
}
