/* SPDX-License-Identifier: MIT */
/*
 * follow.c - a command that is launched to be looked at when it ends
 *
 * Theory of operation. A thread that is traced stops on its way out, its memory
 * still there (PTRACE_EVENT_EXIT), whether it exits or was killed. The memory
 * stays until the last thread has gone, so all of them are traced and known, and
 * the stop of the last one is the moment.
 *
 * Who kills a thread that is in that stop ends the stop, which then may never be
 * heard of (ptrace(2), Death under ptrace): a thread ends by itself, and at the
 * same time another ends them all. So one that ends all, or has been killed as
 * all others have, is *held* in its stop until each of them has come to its own or
 * has gone. The first thread of a process becomes a zombie of which nobody hears as
 * long as others are there: one looks.
 *
 * An exec by another thread kills all others, too, but is not doomed itself. It
 * waits for one that wanted to end all at the same time, so nothing is held for
 * long.
 *
 * A thread is known from the stop of the one that makes it, or its own first one.
 * An exec ends all but one; that one takes the process's id over. What clone(2)
 * makes that is no thread is let go.
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

#include "base/clock.h"
#include "base/exec.h"
#include "base/exit.h"
#include "base/fd.h"
#include "base/idmap.h"
#include "process/proc.h"
#include "process/remote.h"

/* How often one looks for what nobody tells while a thread is held, and for how
 * long it is. */
#define LOOK_MS 5
#define HOLD_MS 1000

struct followed {
	pid_t pid;
	struct idmap live;	/* threads that have not come to their end */
	bool execed;		/* it is the command, not our child any more */
	pid_t held;		/* a thread in its exit stop, or 0, and ... */
	uint64_t until_ms;	/* ... for how long */
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

static void *as_value(pid_t tid)
{
	return (void *)(intptr_t)tid;
}

/* Without memory it is not missed, and the end is seen too early. */
static void add_thread(struct followed *f, pid_t tid)
{
	if (!idmap_get(&f->live, (uint32_t)tid) && is_thread_of(tid, f->pid))
		(void)idmap_put(&f->live, (uint32_t)tid, as_value(tid));
}

/* The call by which the thread ends, or in which it was killed. */
static uint64_t last_call(pid_t tid)
{
	struct user_regs_struct regs;

	return remote_get_regs(tid, &regs) == 0 ? regs.orig_rax : ~0ULL;
}

static bool is_dead(const struct proc_status *status)
{
	return status->state == 'Z' || status->state == 'X';
}

static bool is_gone(pid_t tid)
{
	struct proc_status status;

	return proc_status_read(tid, &status) < 0 || is_dead(&status);
}

/* Has it been killed, and does not know yet? Once it does, it will stop. */
static bool is_doomed(pid_t tid)
{
	struct proc_status status;

	return proc_status_read(tid, &status) < 0 || is_dead(&status) ||
	       proc_has_signal(status.pending, SIGKILL);
}

static bool all_doomed(const struct followed *f)
{
	size_t pos = 0;
	void *value;

	while ((value = idmap_next(&f->live, &pos)))
		if (!is_doomed((pid_t)(intptr_t)value))
			return false;
	return true;
}

static void release(struct followed *f)
{
	if (f->held)
		resume(f->held, 0);
	f->held = 0;
}

/* tid is in its exit stop, or 0: nobody has come to one. */
static void show_last(struct followed *f, pid_t tid)
{
	if (f->held)
		tid = f->held;
	if (tid && f->execed)
		f->fn(f->ctx, f->pid, tid, FOLLOW_ENDING);
	release(f);
}

/* It is the last one, but for such as may go without a word. */
static bool is_to_be_held(const struct followed *f, pid_t tid)
{
	const uint64_t call = last_call(tid);

	return f->live.n && !f->held &&
	       (call == SYS_exit_group || (call != SYS_exit && all_doomed(f)));
}

static void thread_ends(struct followed *f, pid_t tid)
{
	(void)idmap_take(&f->live, (uint32_t)tid);
	if (is_to_be_held(f, tid)) {
		f->held = tid;
		f->until_ms = now_ms() + HOLD_MS;
		return;
	}
	if (!f->live.n)
		show_last(f, tid);
	resume(tid, 0);
}

/* A thread has gone: its exit stop may not have been heard of. */
static void thread_gone(struct followed *f, pid_t tid)
{
	if (idmap_take(&f->live, (uint32_t)tid) && !f->live.n)
		show_last(f, 0);
}

static void event(struct followed *f, pid_t tid, int which)
{
	unsigned long msg = 0;

	switch (which) {
	case PTRACE_EVENT_CLONE:
		if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &msg) == 0)
			add_thread(f, (pid_t)msg);
		break;
	case PTRACE_EVENT_EXEC:
		f->execed = true;
		idmap_fini(&f->live);
		add_thread(f, f->pid);
		break;
	case PTRACE_EVENT_EXIT:
		thread_ends(f, tid);
		return;
	}
	resume(tid, 0);
}

/* The whole process stops, or a thread has just been born, or goes on. */
static void event_stop(struct followed *f, pid_t tid, int sig)
{
	add_thread(f, tid);
	if (sig != SIGTRAP)
		(void)ptrace(PTRACE_LISTEN, tid, NULL, NULL);
	else if (!idmap_get(&f->live, (uint32_t)tid))
		(void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
	else
		resume(tid, 0);
}

static void seen(struct followed *f, pid_t tid, int status)
{
	const int which = status >> 16;

	if (!WIFSTOPPED(status)) {
		thread_gone(f, tid);
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
	const struct timespec look = { .tv_nsec = LOOK_MS * NS_PER_MS };

	while (!f->ended) {
		int sig = sigtimedwait(&s->awaited, NULL,
				       f->held ? &look : NULL);

		look_around(f);
		if (f->held && is_gone(f->pid))
			thread_gone(f, f->pid);
		if (f->held && now_ms() > f->until_ms)
			release(f);
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
	struct followed f = { .fn = fn, .ctx = ctx };
	struct signals s;
	int err;

	signals_take(&s);
	err = launch(argv, &s, &f, what);
	if (err)
		return err;
	/* From the terminal they are the command's, whose end is to be seen. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	err = follow_to_end(&f, &s);
	idmap_fini(&f.live);
	return err;
}
