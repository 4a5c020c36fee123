/* SPDX-License-Identifier: MIT */
/*
 * watch.c - answers of the host's that nobody waits for in the gate
 *
 * waitpid(2), in which the tracer spends its life, knows of no futex. So a
 * thread of its own waits for the words (futex_waitv(2)) and, when one has
 * changed, queues a signal to the tracer with the tracee's id. The signal's
 * handler interrupts the tracee: that is one system call, it is allowed
 * wherever the signal comes, and the stop that follows is what waitpid(2)
 * waits for. So nothing is lost between a look and the sleep after it.
 *
 * A tracee may be interrupted that waits no more. That is a stop like those of
 * tracer_stop_others(), and it goes on.
 */
#include "guest/watch.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/num.h"
#include "capsule/abi.h"

struct watched {
	uint32_t *word;		/* borrowed */
	uint32_t seq;
	pid_t tid;
	bool told;
};

struct watch {
	pthread_t thread, tracer;
	pthread_mutex_t lock;
	uint32_t changes;	/* of what follows; a futex */
	struct watched *v;	/* owned */
	size_t n, cap;
	bool by_futex;
	bool end;
};

/* What it sleeps on: its own word of changes, and the answers'. */
struct sleep {
	struct futex_waitv v[FUTEX_WAITV_MAX];
	uint32_t n;
	bool all;		/* nothing is left out */
	uint64_t pause_ns;	/* where something is */
};

static void on_answer(int sig, siginfo_t *info, void *context)
{
	const int saved = errno;

	(void)sig;
	(void)context;
	if (info->si_code == SI_QUEUE && info->si_pid == getpid())
		ptrace(PTRACE_INTERRUPT, (pid_t)info->si_value.sival_int, NULL,
		       NULL);
	errno = saved;
}

/* --- the thread that watches ----------------------------------------------- */

static void sleep_add(struct sleep *s, const uint32_t *word, uint32_t seen)
{
	if (s->n == FUTEX_WAITV_MAX) {
		s->all = false;
		return;
	}
	s->v[s->n++] = (struct futex_waitv){
		.val = seen, .uaddr = (uintptr_t)word, .flags = FUTEX_32,
	};
}

/* A word that is not answered yet is slept on; who answers wakes who says so. */
static void look(struct watch *w, struct watched *a, struct sleep *s)
{
	const union sigval tid = { .sival_int = a->tid };
	uint32_t seen = w->by_futex ?
			__atomic_fetch_or(a->word, 1, __ATOMIC_SEQ_CST) | 1 :
			__atomic_load_n(a->word, __ATOMIC_ACQUIRE);

	if (a->told)
		return;
	if ((seen & ~1u) != a->seq) {
		sleep_add(s, a->word, seen);
		return;
	}
	a->told = pthread_sigqueue(w->tracer, SIGRTMIN, tid) == 0;
	if (!a->told)		/* EAGAIN: too many are queued */
		s->all = false;
}

static bool look_at_all(struct watch *w, struct sleep *s)
{
	bool end;

	pthread_mutex_lock(&w->lock);
	s->n = 0;
	s->all = w->by_futex;
	sleep_add(s, &w->changes, w->changes);
	for (size_t i = 0; i < w->n; i++)
		look(w, &w->v[i], s);
	if (w->n == 0)
		s->all = true;
	end = w->end;
	pthread_mutex_unlock(&w->lock);
	return !end;
}

/* Until there are other answers to wait for; or for a while, a longer one each
 * time. */
static void sleep_alone(const struct watch *w, struct sleep *s)
{
	const struct timespec pause = { .tv_nsec = (long)s->pause_ns };
	const bool for_ever = s->all && s->n == 1;

	if (syscall(SYS_futex, &w->changes, FUTEX_WAIT, (uint32_t)s->v[0].val,
		    for_ever ? NULL : &pause, NULL, 0) == 0 || errno == EAGAIN)
		s->pause_ns = SLOT_PAUSE_MIN_NS;
	else
		s->pause_ns = min_u64(s->pause_ns + s->pause_ns / 8,
				      SLOT_PAUSE_MAX_NS);
}

/* EAGAIN: one has changed. ENOSYS, before Linux 5.16, is for the caller. */
static bool sleep_on_all(const struct sleep *s)
{
	return s->all && s->n > 1 &&
	       (syscall(SYS_futex_waitv, s->v, s->n, 0, NULL,
			CLOCK_MONOTONIC) >= 0 ||
		errno == EAGAIN || errno == EINTR);
}

static void *watch_all(void *arg)
{
	struct watch *w = arg;
	struct sleep s = { .pause_ns = SLOT_PAUSE_MIN_NS };

	while (look_at_all(w, &s))
		if (!sleep_on_all(&s))
			sleep_alone(w, &s);
	return NULL;
}

/* --- for the tracer ----------------------------------------------------------- */

static void changed(struct watch *w)
{
	w->changes++;
	pthread_mutex_unlock(&w->lock);
	syscall(SYS_futex, &w->changes, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* All signals are the tracer's. */
static int start(struct watch *w)
{
	const struct sigaction sa = { .sa_sigaction = on_answer,
				      .sa_flags = SA_SIGINFO | SA_RESTART };
	sigset_t all, was;
	int err;

	if (sigaction(SIGRTMIN, &sa, NULL) < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	err = pthread_create(&w->thread, NULL, watch_all, w);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return -err;
}

int watch_new(bool by_futex, struct watch **out)
{
	struct watch *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->by_futex = by_futex;
	w->tracer = pthread_self();
	pthread_mutex_init(&w->lock, NULL);
	err = start(w);
	if (err)
		free(w);
	else
		*out = w;
	return err;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->end = true;
	changed(w);
	pthread_join(w->thread, NULL);
	free(w->v);
	free(w);
}

static int grow(struct watch *w)
{
	struct watched *v = array_room(w->v, &w->cap, w->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	w->v = v;
	return 0;
}

int watch_add(struct watch *w, uint32_t *word, uint32_t seq, pid_t tid)
{
	int err;

	pthread_mutex_lock(&w->lock);
	err = grow(w);
	if (err) {
		pthread_mutex_unlock(&w->lock);
		return err;
	}
	w->v[w->n++] = (struct watched){ word, seq, tid, false };
	changed(w);
	return 0;
}

void watch_remove(struct watch *w, pid_t tid)
{
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].tid == tid) {
			w->v[i] = w->v[--w->n];
			break;
		}
	pthread_mutex_unlock(&w->lock);
}
