/* SPDX-License-Identifier: MIT */
/*
 * proc.h - what /proc says of other processes (proc(5))
 *
 * All of it was chosen by whoever runs the process, and may have changed since
 * it was read: hold a pidfd from before the first look.
 */
#ifndef PROCESS_PROC_H
#define PROCESS_PROC_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_args {
	char **v;		/* n strings, then NULL; v[1] is there */
	size_t n;		/* 0: a kernel thread, or a zombie */
	char *text;
};

/* proc_args_read() - the command line; 0 or -errno (-ENOENT: it has gone) */
int proc_args_read(pid_t pid, struct proc_args *out);
void proc_args_fini(struct proc_args *args);

struct proc_status {
	pid_t tgid;		/* of the process, whose thread pid may be */
	pid_t ppid;
	pid_t tracer;		/* 0: nobody */
	uid_t uid;		/* effective */
	gid_t gid;
	char state;		/* R, S, Z ...; 0: not told */
	uint64_t pending;	/* signals, as a set: bit n - 1 is signal n */
	uint64_t ignored;	/* by SIG_IGN, that is */
	uint64_t caught;
	int seccomp;		/* 0: no filter (prctl(2)) */
	bool shadow_stack;
};

/* proc_status_read() - of a process or a thread; 0 or -errno */
int proc_status_read(pid_t pid, struct proc_status *out);

#define PROC_COMM_MAX	64	/* what the kernel takes for threads of its own */

struct proc_stat {
	char comm[PROC_COMM_MAX];	/* any bytes but NUL */
	pid_t ppid;
	bool kernel;		/* a thread of the kernel */
};

/* proc_stat_read() - of a process; 0 or -errno, -ENOENT or -ESRCH: it has gone */
int proc_stat_read(pid_t pid, struct proc_stat *out);

static inline bool proc_has_signal(uint64_t set, int sig)
{
	return set >> (sig - 1) & 1;
}

/*
 * proc_link() - where /proc/PID/WHAT leads ("exe", "fd/3")
 *
 * Returns the length of the text in buf, or -errno: -EACCES where we may not
 * look into the process.
 */
ssize_t proc_link(pid_t pid, const char *what, char buf[PATH_MAX]);

/*
 * proc_each() - call fn for every process, until it returns other than 0
 *
 * Returns that, 0, or -errno. Processes come and go meanwhile.
 */
int proc_each(int (*fn)(pid_t pid, void *arg), void *arg);

/*
 * proc_each_fd() - call fn for every descriptor, until it returns other than 0
 *
 * Returns that, 0, or -errno: -EACCES where we may not look.
 */
int proc_each_fd(pid_t pid, int (*fn)(pid_t pid, int fd, void *arg),
		 void *arg);

/*
 * proc_copy_fd() - our own descriptor of what a process has open: no new open file
 *
 * The caller's to close; or -errno: -EPERM where we may not trace it.
 */
int proc_copy_fd(pid_t pid, int fd);

#endif
