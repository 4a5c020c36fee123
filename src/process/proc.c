/* SPDX-License-Identifier: MIT */
/* proc.c - what /proc says of other processes */
#include "process/proc.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define ARGS_MAX	(4 << 20)	/* twice what the kernel takes */
#define STATUS_MAX	(64 << 10)

int proc_args_read(pid_t pid, struct proc_args *out)
{
	char path[64];
	ssize_t len;
	size_t n = 0;

	*out = (struct proc_args){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	len = fd_read_all(path, ARGS_MAX, &out->text);
	if (len < 0)
		return (int)len;
	for (ssize_t i = 0; i < len; i++)
		n += out->text[i] == '\0';
	/* A process may write over its own: the last end may be missing. */
	out->v = calloc(n + 2, sizeof(*out->v));
	if (!out->v) {
		proc_args_fini(out);
		return -ENOMEM;
	}
	for (ssize_t at = 0; at < len;) {
		out->v[out->n++] = out->text + at;
		at += (ssize_t)strlen(out->text + at) + 1;
	}
	return 0;
}

void proc_args_fini(struct proc_args *args)
{
	free(args->v);
	free(args->text);
	*args = (struct proc_args){ 0 };
}

static int status_number(const char *text, const char *key, int field)
{
	const char *at = strstr(text, key);
	int v[2] = { 0 };

	if (!at || sscanf(at + strlen(key), "%d %d", &v[0], &v[1]) <= field)
		return -1;
	return v[field];
}

static uint64_t status_signals(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 16) : 0;
}

static bool status_word(const char *text, const char *line, const char *word)
{
	const char *at = strstr(text, line);

	return at && memmem(at, 1 + strcspn(at + 1, "\n"), word, strlen(word));
}

int proc_status_read(pid_t pid, struct proc_status *out)
{
	char path[64], *text cleanup_free = NULL;
	const char *state;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	len = fd_read_all(path, STATUS_MAX, &text);
	if (len < 0)
		return (int)len;
	/* The first line is a name, in which line ends are escaped. */
	state = strstr(text, "\nState:\t");
	*out = (struct proc_status){
		.tgid = status_number(text, "\nTgid:", 0),
		.ppid = status_number(text, "\nPPid:", 0),
		.tracer = status_number(text, "\nTracerPid:", 0),
		.uid = (uid_t)status_number(text, "\nUid:", 1),
		.gid = (gid_t)status_number(text, "\nGid:", 1),
		.state = state ? state[8] : '\0',
		/* The thread's own, and those of its process. */
		.pending = status_signals(text, "\nSigPnd:") |
			   status_signals(text, "\nShdPnd:"),
		.ignored = status_signals(text, "\nSigIgn:"),
		.caught = status_signals(text, "\nSigCgt:"),
		.seccomp = status_number(text, "\nSeccomp:", 0),
		.shadow_stack = status_word(text, "\nx86_Thread_features:",
					    "shstk"),
	};
	return out->ppid < 0 || out->tracer < 0 ? -EPROTO : 0;
}

#define KERNEL_THREAD	0x200000	/* the kernel's PF_KTHREAD */

int proc_stat_read(pid_t pid, struct proc_stat *out)
{
	char path[64], *text cleanup_free = NULL, *name, *end;
	unsigned int flags;
	ssize_t len;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	len = fd_read_all(path, STATUS_MAX, &text);
	if (len < 0)
		return (int)len;
	/* The name is in brackets, and may have some itself. */
	name = strchr(text, '(');
	end = strrchr(text, ')');
	if (!name || !end || end - ++name >= PROC_COMM_MAX ||
	    sscanf(end + 1, " %*c %d %*d %*d %*d %*d %u", &ppid, &flags) != 2)
		return -EPROTO;
	*out = (struct proc_stat){
		.ppid = ppid,
		.kernel = flags & KERNEL_THREAD,
	};
	memcpy(out->comm, name, (size_t)(end - name));
	return 0;
}

ssize_t proc_link(pid_t pid, const char *what, char buf[PATH_MAX])
{
	char path[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	len = readlink(path, buf, PATH_MAX - 1);
	if (len < 0)
		return -errno;
	buf[len] = '\0';
	return len;
}

/* The names of a directory that are numbers. */
static int each_number(const char *path, int (*fn)(int n, void *arg),
		       void *arg)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	int rc = 0;

	if (!dir)
		return -errno;
	while (!rc && (e = readdir(dir))) {
		char *end;
		long n = strtol(e->d_name, &end, 10);

		if (end != e->d_name && *end == '\0' && n >= 0 &&
		    n <= INT_MAX)
			rc = fn((int)n, arg);
	}
	closedir(dir);
	return rc;
}

int proc_each(int (*fn)(pid_t pid, void *arg), void *arg)
{
	return each_number("/proc", fn, arg);
}

struct each_fd {
	int (*fn)(pid_t pid, int fd, void *arg);
	void *arg;
	pid_t pid;
};

static int call_fd(int fd, void *arg)
{
	const struct each_fd *each = arg;

	return each->fn(each->pid, fd, each->arg);
}

int proc_each_fd(pid_t pid, int (*fn)(pid_t pid, int fd, void *arg), void *arg)
{
	struct each_fd each = { .fn = fn, .arg = arg, .pid = pid };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	return each_number(path, call_fd, &each);
}

int proc_copy_fd(pid_t pid, int fd)
{
	int pidfd cleanup_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int copy;

	if (pidfd < 0)
		return -errno;
	copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	return copy < 0 ? -errno : copy;
}
