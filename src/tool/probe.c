/* SPDX-License-Identifier: MIT */
/*
 * probe.c - trying one thing out, so that nothing comes of it
 *
 * Theory of operation. What is tried may hang, and may be answered by a signal
 * (a seccomp filter that kills, a limit), so each probe has a process. That
 * leads a process group, which is killed when the probe has returned or its
 * time is up; and every process of it is killed when its parent ends. What is
 * found is in memory that is shared, so that it is there whoever finds it, and
 * however far the probe gets.
 */
#include "tool/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define PAUSE_NS	(200 * 1000)

/* --- for probes ----------------------------------------------------------- */

/* Names are what somebody chose: nothing of theirs drives a terminal. */
static void make_plain(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

void finding_say(struct finding *f, enum verdict verdict, const char *fmt, ...)
{
	va_list ap;

	f->verdict = verdict;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	make_plain(f->text);
}

void finding_remedy(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->remedy, sizeof(f->remedy), fmt, ap);
	va_end(ap);
	make_plain(f->remedy);
}

static const char *usual_remedy(int err)
{
	switch (err) {
	case ENOSYS:
	case EINVAL:
	case EOPNOTSUPP:
		return "a kernel of Linux 5.14 or later";
	case EAGAIN:
		return "ulimit -u unlimited";
	case EMFILE:
		return "ulimit -n 4096";
	case ENOMEM:
		return "ulimit -v unlimited, or end what uses the memory";
	}
	return "allow it in the security profile (AppArmor, SELinux, container)"
	       " of this process: see dmesg";
}

bool finding_refused(struct finding *f, const char *what, int err)
{
	finding_remedy(f, "%s", usual_remedy(err));
	finding_say(f, FAIL, "%s: %s", what, strerror(err));
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER)
		return false;
	finding_say(f, FAIL, "%s: %s, where this process is in a seccomp"
		    " filter", what, strerror(err));
	finding_remedy(f, "start the container with `--security-opt"
		       " seccomp=unconfined`, or the unit without"
		       " SystemCallFilter=");
	return true;
}

void finding_killed(struct finding *f, int sig)
{
	finding_refused(f, "the kernel killed what tried it", EPERM);
	if (sig == SIGSYS)
		return;
	finding_say(f, FAIL, "what tried it was killed by signal %d", sig);
	finding_remedy(f, "darkshadow doctor, again; dmesg may tell why");
}

pid_t probe_child(void)
{
	const pid_t parent = getpid();
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	return 0;
}

pid_t probe_idler(void)
{
	pid_t pid = probe_child();

	if (pid != 0)
		return pid;
	for (;;)
		pause();
}

int probe_wait(pid_t pid)
{
	int status;

	for (;;) {
		if (waitpid(pid, &status, __WALL) < 0) {
			if (errno != EINTR)
				return -1;
		} else if (!WIFSTOPPED(status)) {
			return status;
		} else {
			/* PTRACE_O_TRACEEXIT: even one that is killed. */
			ptrace(PTRACE_CONT, pid, NULL, NULL);
		}
	}
}

void probe_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	probe_wait(pid);
}

long probe_sysctl(const char *name)
{
	char path[128], *text cleanup_free = NULL;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	for (char *c = path; *c; c++)
		if (*c == '.')
			*c = '/';
	if (fd_read_all(path, 256, &text) < 0)
		return -1;
	return strtol(text, NULL, 10);
}

const char *probe_as_root(void)
{
	return geteuid() == 0 ? "" : " (as root)";
}

uint64_t probe_caps(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return 0;
	return data[0].effective | (uint64_t)data[1].effective << 32;
}

/* --- for who runs them ---------------------------------------------------- */

static _Noreturn void be_probe(probe_fn *fn, struct finding *f)
{
	static const struct rlimit none = { 0, 0 };
	int null;

	setpgid(0, 0);
	setrlimit(RLIMIT_CORE, &none);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3 && null >= 0; fd++)
		dup2(null, fd);
	fn(f);
	_exit(0);
}

/* false: it has not ended in time. */
static bool ends(pid_t pid, unsigned int limit_ms, siginfo_t *how)
{
	const uint64_t until = now_ms() + limit_ms;

	for (;;) {
		how->si_pid = 0;
		if (waitid(P_PID, (id_t)pid, how, WEXITED | WNOHANG | WNOWAIT))
			return true;
		if (how->si_pid)
			return true;
		if (now_ms() >= until)
			return false;
		clock_sleep(CLOCK_MONOTONIC, PAUSE_NS);
	}
}

/* The number is the child's, and that of its group, until it is waited for. */
static void run_child(pid_t pid, unsigned int limit_ms, struct finding *f)
{
	siginfo_t how = { .si_code = CLD_EXITED };
	const bool ended = ends(pid, limit_ms, &how);

	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (!ended)
		finding_say(f, WARN, "not known: no answer within %u ms",
			    limit_ms);
	else if (how.si_code != CLD_EXITED)
		finding_killed(f, how.si_status);
	if (!ended)
		finding_remedy(f, "darkshadow doctor, again, when the machine"
			       " has less to do");
}

void probe_run(probe_fn *fn, unsigned int limit_ms, struct finding *out)
{
	struct finding *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	*out = (struct finding){ .verdict = FAIL };
	if (f == MAP_FAILED) {
		finding_refused(out, "no memory to share with a child", errno);
		return;
	}
	finding_say(f, FAIL, "nothing was found out");
	pid = probe_child();
	if (pid == 0)
		be_probe(fn, f);
	if (pid > 0)
		run_child(pid, limit_ms, f);
	else
		finding_refused(f, "no process can be started", errno);
	*out = *f;
	munmap(f, sizeof(*f));
}
