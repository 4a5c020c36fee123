/* SPDX-License-Identifier: MIT */
/*
 * seccomp.c - what the filters of another process say of calls
 *
 * Who is asked is a child of ours that has filters and sleeps.
 */
#include "process/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "tap.h"

#define WORD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
				 offsetof(struct seccomp_data, field))
#define IS(k, yes, no)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define SAYS(action)	BPF_STMT(BPF_RET | BPF_K, action)
#define INSNS		8
#define FILTERS		3

/* One call is answered otherwise than all others. */
#define CLOSE(action)	{ WORD(nr), IS(SYS_close, 0, 1), SAYS(action), \
			  SAYS(SECCOMP_RET_ALLOW) }

static size_t length(const struct sock_filter v[INSNS])
{
	size_t n = INSNS;

	while (n && !v[n - 1].code)
		n--;
	return n;
}

/* A child under filters, installed in that order, and stopped; or -1. */
static pid_t start(const struct sock_filter (*v)[INSNS], size_t n)
{
	int ready[2], status;
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		for (size_t i = 0; i < n; i++) {
			struct sock_fprog prog = {
				(unsigned short)length(v[i]),
				(struct sock_filter *)(uintptr_t)v[i],
			};

			if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
				_exit(1);
		}
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) == 1 &&
	    ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0) {
		ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
		waitpid(pid, &status, __WALL);
	}
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

static int ask(const struct sock_filter (*v)[INSNS], size_t n,
	       struct seccomp_call *call)
{
	const pid_t pid = start(v, n);
	const int rc = seccomp_ask(pid, call, 1);

	end(pid);
	return rc;
}

static const struct seccomp_call a_close = {
	.nr = SYS_close, .at = 0x12345678, .unknown = 1,
};

static void test_precedence(void)
{
	static const struct sock_filter filters[][FILTERS][INSNS] = {
		{ CLOSE(SECCOMP_RET_ALLOW), CLOSE(SECCOMP_RET_LOG) },
		{ CLOSE(SECCOMP_RET_TRACE), CLOSE(SECCOMP_RET_LOG) },
		{ CLOSE(SECCOMP_RET_TRACE), CLOSE(SECCOMP_RET_USER_NOTIF) },
		{ CLOSE(SECCOMP_RET_ERRNO | EPERM),
		  CLOSE(SECCOMP_RET_USER_NOTIF) },
		{ CLOSE(SECCOMP_RET_ERRNO | EPERM), CLOSE(SECCOMP_RET_TRAP) },
		{ CLOSE(SECCOMP_RET_KILL_THREAD), CLOSE(SECCOMP_RET_TRAP) },
		{ CLOSE(SECCOMP_RET_KILL_THREAD),
		  CLOSE(SECCOMP_RET_KILL_PROCESS) },
	};
	static const char *const want[] = {
		"LOG", "TRACE", "USER_NOTIF", "ERRNO (EPERM)", "TRAP",
		"KILL_THREAD", "KILL_PROCESS",
	};
	char words[SECCOMP_NAME_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		struct seccomp_call one = a_close, other = a_close;
		struct sock_filter turned[2][INSNS];

		memcpy(turned[0], filters[i][1], sizeof(turned[0]));
		memcpy(turned[1], filters[i][0], sizeof(turned[1]));
		ask(filters[i], 2, &one);
		ask((const struct sock_filter (*)[INSNS])turned, 2, &other);
		okf(!strcmp(seccomp_action(one.action, words), want[i]) &&
		    one.action == other.action &&
		    seccomp_allows(&one) == (i == 0),
		    "%s comes before what is less restrictive, and %s", want[i],
		    i ? "does not let pass" : "lets pass");
	}
}

static void test_calls(void)
{
	static const struct sock_filter no_close[1][INSNS] = {
		CLOSE(SECCOMP_RET_KILL_PROCESS),
	};
	static const struct sock_filter no_code[1][INSNS] = {
		{ WORD(nr), IS(SYS_mmap, 0, 3), WORD(args[2]),
		  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		  SAYS(SECCOMP_RET_ERRNO | EACCES), SAYS(SECCOMP_RET_ALLOW) },
	};
	static const struct sock_filter by_fd[1][INSNS] = {
		{ WORD(nr), IS(SYS_close, 0, 3), WORD(args[0]), IS(7, 0, 1),
		  SAYS(SECCOMP_RET_ERRNO | EBADF), SAYS(SECCOMP_RET_ALLOW) },
	};
	static const struct sock_filter by_place[1][INSNS] = {
		{ WORD(nr), IS(SYS_close, 0, 5),
		  WORD(arch), IS(AUDIT_ARCH_X86_64, 0, 2),
		  WORD(instruction_pointer), IS(0x12345678, 1, 0),
		  SAYS(SECCOMP_RET_KILL_PROCESS), SAYS(SECCOMP_RET_ALLOW) },
	};
	struct seccomp_call call = a_close;

	call.nr = SYS_munmap;
	ok(ask(no_close, 1, &call) == 0 && seccomp_allows(&call),
	   "another call is not the one that is forbidden");
	call.nr = -1;
	ok(ask(no_close, 1, &call) == 0 && seccomp_allows(&call),
	   "nor is none");
	call = (struct seccomp_call){ .nr = SYS_mmap,
				      .args = { 0, 0, PROT_READ },
				      .unknown = 0x3f & ~4 };
	ok(ask(no_code, 1, &call) == 0 && seccomp_allows(&call),
	   "arguments count, those that are known");
	call.args[2] |= PROT_EXEC;
	ok(ask(no_code, 1, &call) == 0 && !seccomp_allows(&call) &&
	   !call.undecided, "and forbid");
	call.unknown = 0x3f;
	ok(ask(no_code, 1, &call) == 0 && !seccomp_allows(&call) &&
	   call.undecided, "where they are not known, there is no answer");
	call = a_close;
	ok(ask(by_fd, 1, &call) == 0 && call.undecided,
	   "nor is there by the number of a descriptor");
	call.nr = SYS_munmap;
	ok(ask(by_fd, 1, &call) == 0 && !call.undecided,
	   "which of another call is not looked at");
	call = a_close;
	ok(ask(by_place, 1, &call) == 0 && seccomp_allows(&call),
	   "architecture and place are those of the call");
	call.at++;
	ok(ask(by_place, 1, &call) == 0 && !seccomp_allows(&call),
	   "and no others");
}

static void test_unreadable(void)
{
	static const struct sock_filter any[1][INSNS] = {
		CLOSE(SECCOMP_RET_ALLOW),
	};
	struct seccomp_call call = a_close;
	pid_t pid;
	int status = 0;

	ok(ask(any, 0, &call) == -ENOTSUP, "without a filter none is read");
	pid = fork();
	if (pid == 0) {
		if (setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		/* What changed its user may not be traced by it. */
		prctl(PR_SET_DUMPABLE, 1);
		_exit(ask(any, 1, &call) == -EACCES ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "to whoever is not root, none is told");
}

int main(void)
{
	if (geteuid() != 0) {
		ok(true, "filters are read # SKIP only root may");
		return tap_end();
	}
	test_precedence();
	test_calls();
	test_unreadable();
	return tap_end();
}
