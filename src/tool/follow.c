/* SPDX-License-Identifier: MIT */
/*
 * follow.c - a command that is launched to be looked at when it ends
 *
 * Theory of operation. A thread that is traced stops on its way out, its memory
 * still there (PTRACE_EVENT_EXIT), whether it exits or was killed. The memory
 * stays until the last thread has gone, so all of them are traced and counted,
 * and the stop of the last one is the moment.
 *
 * Once the first thread has gone /proc/PID shows nothing. So when all of the
 * process ends it is *held* in its stop until the others have come to theirs.
 * Where it alone ends (pthread_exit(3)) the others may wait for it, so it is
 * not, and another thread stands for the process in the end. An exec by another
 * thread kills it and waits for it, and looks like an end of all: so nothing is
 * held for long.
 *
 * A thread counts from the stop of the one that makes it, before either runs.
 * An exec ends all but one, each by its own exit stop; that one takes the
 * process's id over. What clone(2) makes that is no thread is let go.
 */
#include "tool/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/exec.h"
#include "base/exit.h"
#include "base/fd.h"
#include "process/proc.h"
#include "process/remote.h"

/* How long the first thread is held after the last sign of the others. */
#define HOLD_MS 200

struct followed {
	pid_t pid;
	unsigned int threads;	/* that have not come to their end */
	bool execed;		/* it is the command, not our child any more */
	bool held;		/* the first thread, in its exit stop */
	bool ended;
	int status;		/* as wait(2) has it, when ended */
	follow_fn fn;
	void *ctx;
};

/* Signals that we wait for, and what there was before. */
struct signals {
	sigset_t awaited, old;
	struct sigaction old_child;
};

static void signals_take(struct signals *s)
{
	const struct sigaction plain = { .sa_handler = SIG_DFL };

	sigemptyset(&s->awaited);
	sigaddset(&s->awaited, SIGCHLD);
	sigaddset(&s->awaited, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s->awaited, &s->old);
	/* Who ignores it hears of no child. */
	sigaction(SIGCHLD, &plain, &s->old_child);
}

static void signals_give_back(const struct signals *s)
{
	sigaction(SIGCHLD, &s->old_child, NULL);
	sigprocmask(SIG_SETMASK, &s->old, NULL);
}

static bool is_thread_of(pid_t tid, pid_t pid)
{
	struct proc_status status;

	return proc_status_read(tid, &status) == 0 && status.tgid == pid;
}

static void resume(pid_t tid, int sig)
{
	/* ESRCH: it was killed meanwhile, and its end will be reported. */
	(void)ptrace(PTRACE_CONT, tid, NULL, (void *)(intptr_t)sig);
}

static void release(struct followed *f)
{
	if (f->held)
		resume(f->pid, 0);
	f->held = false;
}

/* Does the thread end by itself, leaving others? */
static bool ends_alone(pid_t tid)
{
	struct user_regs_struct regs;

	return remote_get_regs(tid, &regs) == 0 && regs.orig_rax == SYS_exit;
}

static void thread_ends(struct followed *f, pid_t tid)
{
	f->threads--;
	if (f->threads && tid == f->pid && !ends_alone(tid)) {
		f->held = true;
		return;
	}
	if (!f->threads && f->execed)
		f->fn(f->ctx, f->pid, f->held ? f->pid : tid, FOLLOW_ENDING);
	if (!f->threads)
		release(f);
	resume(tid, 0);
}

static void event(struct followed *f, pid_t tid, int which)
{
	unsigned long msg = 0;

	switch (which) {
	case PTRACE_EVENT_CLONE:
		ptrace(PTRACE_GETEVENTMSG, tid, NULL, &msg);
		f->threads += is_thread_of((pid_t)msg, f->pid);
		break;
	case PTRACE_EVENT_EXEC:
		f->execed = true;
		f->threads = 1;
		break;
	case PTRACE_EVENT_EXIT:
		thread_ends(f, tid);
		return;
	}
	resume(tid, 0);
}

/* The whole process stops, or a thread has just been born, or goes on. */
static void event_stop(const struct followed *f, pid_t tid, int sig)
{
	if (sig != SIGTRAP)
		(void)ptrace(PTRACE_LISTEN, tid, NULL, NULL);
	else if (!is_thread_of(tid, f->pid))
		(void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
	else
		resume(tid, 0);
}

static void seen(struct followed *f, pid_t tid, int status)
{
	const int which = status >> 16;

	if (!WIFSTOPPED(status)) {
		f->ended |= tid == f->pid;
		if (tid == f->pid)
			f->status = status;
	} else if (which == PTRACE_EVENT_STOP) {
		event_stop(f, tid, WSTOPSIG(status));
	} else if (which) {
		event(f, tid, which);
	} else {
		resume(tid, WSTOPSIG(status));
	}
}

static void look_around(struct followed *f)
{
	int status;
	pid_t tid;

	while (!f->ended &&
	       (tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
		seen(f, tid, status);
}

static int follow_to_end(struct followed *f, const struct signals *s)
{
	const struct timespec hold = { .tv_nsec = HOLD_MS * 1000000L };

	while (!f->ended) {
		int sig = sigtimedwait(&s->awaited, NULL,
				       f->held ? &hold : NULL);

		if (sig < 0 && errno == EAGAIN)
			release(f);
		look_around(f);
		if (sig == SIGUSR1 && f->execed && !f->ended)
			f->fn(f->ctx, f->pid, f->pid, FOLLOW_ASKED);
	}
	return WIFEXITED(f->status) ? WEXITSTATUS(f->status) :
				      128 + WTERMSIG(f->status);
}

static _Noreturn void be_command(char **argv, const struct signals *s, int go)
{
	char byte;

	if (read(go, &byte, 1) != 1)
		_exit(EXIT_OWN_FAILURE);
	signals_give_back(s);
	exec_command(argv);
}

static int seize(pid_t pid)
{
	const unsigned long options = PTRACE_O_TRACECLONE |
				      PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT;

	return ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0 ? -errno :
								      0;
}

static int launch(char **argv, const struct signals *s, struct followed *f,
		  const char **what)
{
	int ends[2], err;

	*what = "starting the command";
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	f->pid = fork();
	if (f->pid == 0) {
		close(ends[1]);
		be_command(argv, s, ends[0]);
	}
	err = f->pid < 0 ? -errno : 0;
	if (!err) {
		*what = "tracing the command: ptrace is refused here; see"
			" sysctl kernel.yama.ptrace_scope, a container's"
			" seccomp profile, or another tracer";
		err = seize(f->pid);
	}
	if (!err && write(ends[1], "", 1) != 1)
		err = -errno;
	close(ends[0]);
	/* A child that is not told to go ends. */
	close(ends[1]);
	return err;
}

int follow(char **argv, follow_fn fn, void *ctx, const char **what)
{
	struct followed f = { .threads = 1, .fn = fn, .ctx = ctx };
	struct signals s;
	int err;

	signals_take(&s);
	err = launch(argv, &s, &f, what);
	if (err)
		return err;
	/* From the terminal they are the command's, whose end is to be seen. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	return follow_to_end(&f, &s);
}
