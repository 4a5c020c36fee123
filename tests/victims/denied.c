/* SPDX-License-Identifier: MIT */
/*
 * denied.c - a command with a seccomp filter around it, as containers have
 *
 * `denied WHAT... -- COMMAND [ARG]...`: WHAT is the name of a call below, which
 * then gives EPERM; of a user namespace, "userns"; or "kill" before a name.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEN(a)	(sizeof(a) / sizeof(*(a)))

static const struct {
	const char *name;
	unsigned int nr;
} calls[] = {
	{ "ptrace", SYS_ptrace },
	{ "seccomp", SYS_seccomp },
	{ "io_uring", SYS_io_uring_setup },
	{ "pidfd", SYS_pidfd_getfd },
	{ "process_vm", SYS_process_vm_readv },
	{ "memfd", SYS_memfd_create },
	{ "mounts", SYS_open_tree },
	{ "madvise", SYS_madvise },
	{ "close_range", SYS_close_range },
	{ "socketpair", SYS_socketpair },
	{ "landlock", SYS_landlock_create_ruleset },
	{ "fork", SYS_clone },
};

static void install(struct sock_filter *v, size_t n)
{
	const struct sock_fprog prog = { .len = (unsigned short)n,
					 .filter = v };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0) {
		perror("denied: seccomp");
		exit(125);
	}
}

static void deny_call(const char *name, unsigned int action)
{
	for (size_t i = 0; i < LEN(calls); i++) {
		struct sock_filter v[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
				 offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].nr, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, action),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};

		if (strcmp(calls[i].name, name) == 0) {
			install(v, LEN(v));
			return;
		}
	}
	fprintf(stderr, "denied: %s: no such call here\n", name);
	exit(125);
}

static void deny_userns(unsigned int action)
{
	struct sock_filter v[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	install(v, LEN(v));
}

int main(int argc, char **argv)
{
	unsigned int action = SECCOMP_RET_ERRNO | 1;	/* EPERM */
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "kill") == 0)
			action = SECCOMP_RET_KILL_PROCESS;
		else if (strcmp(argv[i], "userns") == 0)
			deny_userns(action);
		else
			deny_call(argv[i], action);
	}
	if (i + 1 >= argc) {
		fprintf(stderr, "usage: denied WHAT... -- COMMAND\n");
		return 125;
	}
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 127;
}
