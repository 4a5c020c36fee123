/* SPDX-License-Identifier: MIT */
/* processes.c - probes: tracing, filters, and what goes between processes */
#include "tool/probes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bpf.h"
#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "process/maps.h"
#include "process/proc.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif

#define YAMA		"kernel.yama.ptrace_scope"
#define DENY_PTRACE	"/sys/fs/selinux/booleans/deny_ptrace"
#define SPARE_FDS	64	/* beside those of a shadow that are taken */

/* Those of `run` and `host` together. */
#define OPTIONS		(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | \
			 PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | \
			 PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | \
			 PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXIT)

/* --- tracing -------------------------------------------------------------- */

void probe_proc(struct finding *f)
{
	struct maps maps;
	int err = maps_read(getpid(), &maps);

	if (err) {
		finding_say(f, FAIL, "/proc is not there: %s", strerror(-err));
		finding_remedy(f, "mount -t proc proc /proc%s",
			       probe_as_root());
		return;
	}
	maps_fini(&maps);
	finding_say(f, PASS, "/proc is mounted");
}

static bool selinux_denies(void)
{
	char *text cleanup_free = NULL;

	return fd_read_all(DENY_PTRACE, 16, &text) > 0 && *text == '1';
}

/* Who may trace whom is decided in four places. */
static void explain_ptrace(struct finding *f, pid_t pid, int err)
{
	struct proc_status st = { .tracer = 0 };
	const long scope = probe_sysctl(YAMA);

	if (proc_status_read(pid, &st) == 0 && st.tracer) {
		finding_say(f, FAIL, "process %d traces our children already",
			    st.tracer);
		finding_remedy(f, "start darkshadow without strace, gdb or"
			       " another tracer around it");
	} else if (scope == 2) {
		finding_say(f, FAIL, "refused: " YAMA " is 2");
		finding_remedy(f, "sysctl -w " YAMA "=1%s", probe_as_root());
	} else if (scope == 3) {
		finding_say(f, FAIL, "refused: " YAMA " is 3, until the next"
			    " boot");
		finding_remedy(f, "set " YAMA "=1 where /etc/sysctl.d has 3,"
			       " and reboot");
	} else if (selinux_denies()) {
		finding_say(f, FAIL, "refused: SELinux's deny_ptrace is on");
		finding_remedy(f, "setsebool deny_ptrace off%s",
			       probe_as_root());
	} else if (!finding_refused(f, "refused", err)) {
		finding_remedy(f, "allow ptrace in the security profile of"
			       " this process: see dmesg and journalctl -k");
	}
}

static int inspect(pid_t pid)
{
	struct user_regs_struct regs;
	uint64_t mask;
	int status;

	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 ||
	    waitpid(pid, &status, __WALL) != pid ||
	    ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0 ||
	    ptrace(PTRACE_SETREGS, pid, NULL, &regs) < 0 ||
	    ptrace(PTRACE_GETSIGMASK, pid, (void *)sizeof(mask), &mask) < 0)
		return -errno;
	return 0;
}

void probe_ptrace(struct finding *f)
{
	pid_t pid = probe_idler();
	int err = pid < 0 ? -errno : 0;

	if (!err && ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS) < 0) {
		explain_ptrace(f, pid, errno);
	} else {
		err = err ? err : inspect(pid);
		if (err)
			finding_refused(f, "a child that is traced cannot be"
					" looked into", -err);
		else
			finding_say(f, PASS, "children can be traced");
	}
	if (pid > 0)
		probe_kill(pid);
}

void probe_syscall_info(struct finding *f)
{
	struct { uint8_t op; uint8_t rest[87]; } info;
	pid_t pid = probe_idler();
	int status;

	if (pid < 0) {
		finding_refused(f, "fork", errno);
		return;
	}
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS) < 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 ||
	    waitpid(pid, &status, __WALL) != pid) {
		finding_say(f, SKIP, "cannot be tried without ptrace");
	} else if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info),
			  &info) > 0) {
		finding_say(f, PASS, "of a traced child its call is known");
	} else {
		finding_say(f, FAIL, "of a traced child its call is not known"
			    " (as in User-Mode Linux)");
		finding_remedy(f, "a kernel of Linux 5.14 or later, not"
			       " User-Mode Linux");
	}
	probe_kill(pid);
}

void probe_process_vm(struct finding *f)
{
	uint64_t mine = 1, theirs = 0;
	struct iovec here = { &mine, sizeof(mine) };
	struct iovec there = { &theirs, sizeof(theirs) };
	pid_t pid = probe_idler();

	if (pid > 0 &&
	    process_vm_writev(pid, &here, 1, &there, 1, 0) == sizeof(mine) &&
	    process_vm_readv(pid, &here, 1, &there, 1, 0) == sizeof(mine))
		finding_say(f, PASS, "memory of children can be read and"
			    " written");
	else
		explain_ptrace(f, pid, errno);
	if (pid > 0)
		probe_kill(pid);
}

/* --- filters -------------------------------------------------------------- */

/* One call has an action of its own. The descriptor, or 0; or -errno. */
static int install(uint32_t nr, uint32_t action, unsigned int flags)
{
	struct bpf_prog p = { .n = 0 };
	struct sock_fprog prog;
	long rc;

	bpf_load(&p, offsetof(struct seccomp_data, nr));
	bpf_if(&p, BPF_JEQ, nr, action);
	bpf_return(&p, SECCOMP_RET_ALLOW);
	prog = (struct sock_fprog){ .len = (unsigned short)p.n, .filter = p.v };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	return rc < 0 ? -errno : (int)rc;
}

static void explain_filter(struct finding *f, int err)
{
	if (!finding_refused(f, "a seccomp filter cannot be installed", err))
		finding_remedy(f, "a kernel with CONFIG_SECCOMP_FILTER, 5.14 or"
			       " later");
}

/* A call that the filter has traced ends up here as a stop. */
static int await_seccomp(pid_t pid)
{
	int status;

	for (;;) {
		if (waitpid(pid, &status, __WALL) < 0)
			return -errno;
		if (WIFEXITED(status))
			return -WEXITSTATUS(status);
		if (WIFSIGNALED(status))
			return -ECHILD;
		if (status >> 16 == PTRACE_EVENT_SECCOMP)
			return 0;
		if (ptrace(PTRACE_CONT, pid, NULL, NULL) < 0)
			return -errno;
	}
}

static _Noreturn void be_filtered(int go)
{
	char c;
	int err = read(go, &c, 1) == 1 ? 0 : -EPIPE;

	if (!err)
		err = install(SYS_getppid, SECCOMP_RET_TRACE, 0);
	if (!err)
		syscall(SYS_getppid);
	/* It went on, and was not to. */
	_exit(err ? -err : ENOSYS);
}

void probe_seccomp(struct finding *f)
{
	int go[2], err = 0;
	pid_t pid;

	if (pipe2(go, O_CLOEXEC) < 0) {
		finding_refused(f, "pipe2", errno);
		return;
	}
	pid = probe_child();
	if (pid == 0)
		be_filtered(go[0]);
	if (pid < 0) {
		finding_refused(f, "fork", errno);
	} else if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS) < 0) {
		finding_say(f, SKIP, "cannot be tried without ptrace");
	} else {
		err = write(go[1], "", 1) == 1 ? await_seccomp(pid) : -errno;
		if (err)
			explain_filter(f, -err);
		else
			finding_say(f, PASS, "calls can be made to stop for"
				    " the tracer");
	}
	if (pid > 0)
		probe_kill(pid);
}

/* --- descriptors of others ------------------------------------------------ */

void probe_pidfd(struct finding *f)
{
	pid_t pid = probe_idler();
	int fd cleanup_fd = pid < 0 ? -errno : proc_copy_fd(pid, 0);

	if (fd >= 0)
		finding_say(f, PASS, "descriptors of children can be copied"
			    " (pidfd_getfd)");
	else if (fd == -EPERM)
		explain_ptrace(f, pid, -fd);
	else
		finding_refused(f, "pidfd_getfd", -fd);
	if (pid > 0)
		probe_kill(pid);
}

static _Noreturn void be_listened_to(int tell)
{
	int fd = install(SYS_getppid, SECCOMP_RET_USER_NOTIF,
			 SECCOMP_FILTER_FLAG_NEW_LISTENER);

	if (write(tell, &fd, sizeof(fd)) != sizeof(fd))
		_exit(1);
	for (;;)
		pause();
}

void probe_notify(struct finding *f)
{
	int tell[2], fd = -EPIPE, copy cleanup_fd = -1;
	pid_t pid;

	if (pipe2(tell, O_CLOEXEC) < 0) {
		finding_refused(f, "pipe2", errno);
		return;
	}
	pid = probe_child();
	if (pid == 0)
		be_listened_to(tell[1]);
	close(tell[1]);
	if (pid < 0 || read(tell[0], &fd, sizeof(fd)) != sizeof(fd))
		fd = -EPIPE;
	copy = fd < 0 ? fd : proc_copy_fd(pid, fd);
	if (fd == -EBUSY) {
		finding_say(f, FAIL, "another filter around this process has a"
			    " listener, and there can be one only");
		finding_remedy(f, "start darkshadow outside of the container"
			       " or sandbox that supervises calls");
	} else if (fd < 0) {
		explain_filter(f, -fd);
	} else if (copy < 0) {
		finding_say(f, SKIP, "cannot be tried without pidfd_getfd");
	} else {
		finding_say(f, PASS, "a filter can have a listener");
	}
	if (pid > 0)
		probe_kill(pid);
}

/* From one end to the other: 1, or -errno. */
static ssize_t hand_over(const int pair[2], int fd)
{
	int got[FD_PASS_MAX];
	char buf[8];
	size_t n = 0;
	ssize_t rc = fd_send(pair[0], "x", 1, &fd, 1);

	if (rc > 0)
		rc = fd_recv(pair[1], buf, sizeof(buf), got, &n, MSG_DONTWAIT);
	return rc > 0 && n != 1 ? -EIO : rc;
}

void probe_sockets(struct finding *f)
{
	int pair[2];
	ssize_t rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		rc = -errno;
	else
		rc = hand_over(pair, pair[0]);
	if (rc > 0)
		finding_say(f, PASS, "a socket takes descriptors along");
	else
		finding_refused(f, "descriptors cannot be sent through a"
				" socket", (int)-rc);
}

/* --- descriptors of our own ----------------------------------------------- */

/* Of a shadow the numbers below SHADOW_FD_BASE are taken. */
void probe_descriptors(struct finding *f)
{
	struct rlimit lim;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0) {
		finding_refused(f, "getrlimit", errno);
		return;
	}
	lim.rlim_cur = lim.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &lim);
	fd = fcntl(0, F_DUPFD_CLOEXEC, SHADOW_FD_BASE + SPARE_FDS);
	if (fd >= 0 && lim.rlim_max > SHADOW_FD_ROOM) {
		finding_say(f, PASS, "a process may have %llu descriptors",
			    (unsigned long long)lim.rlim_max);
		return;
	}
	finding_say(f, fd < 0 ? FAIL : WARN, "a process may have %llu"
		    " descriptors only (ulimit -Hn), of which a shadow needs"
		    " %d", (unsigned long long)lim.rlim_max, SHADOW_FD_BASE);
	finding_remedy(f, "prlimit --pid $$ --nofile=4096:4096%s",
		       probe_as_root());
}

void probe_close_range(struct finding *f)
{
	if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_UNSHARE) == 0)
		finding_say(f, PASS, "a thread can have descriptors of its"
			    " own (close_range)");
	else
		finding_refused(f, "close_range", errno);
}

/* --- what is no child ----------------------------------------------------- */

/* A VMM is not a descendant of the daemon; here it is a sibling. */
void probe_window(struct finding *f)
{
	pid_t other = probe_idler(), tracer = -1;
	int status = -1;

	if (other > 0)
		tracer = probe_child();
	if (tracer == 0)
		_exit(ptrace(PTRACE_SEIZE, other, NULL, NULL) < 0 ? errno : 0);
	if (tracer > 0)
		status = probe_wait(tracer);
	if (status == 0) {
		finding_say(f, PASS, "a VMM of the same user can be traced");
	} else {
		finding_refused(f, "ptrace", EPERM);
		if (probe_sysctl(YAMA) > 0)
			finding_remedy(f, "run `darkshadow host` as root, or"
				       " sysctl -w " YAMA "=0%s",
				       probe_as_root());
		finding_say(f, WARN, "a VMM cannot be traced (%s): programs in"
			    " VMs cannot mmap devices of the host",
			    probe_sysctl(YAMA) > 0 ? YAMA " is not 0" :
			    "ptrace is refused");
	}
	if (other > 0)
		probe_kill(other);
}
