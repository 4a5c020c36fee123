/* SPDX-License-Identifier: MIT */
/*
 * owner.c - signals of descriptors (fcntl(2): F_SETOWN, F_SETSIG, O_ASYNC)
 *
 * Theory of operation. On the host the owner of a descriptor is the shadow, by
 * a signal that tells the descriptor: the daemon sees to that and hands on what
 * comes. Who gets it in the guest, and by which signal, is known here alone, so
 * nobody is signalled but by the guest's own kernel.
 *
 * A signal that is sent has no code of the kernel's: it is queued with
 * SI_SIGIO, and gets the code that it is to have when it is delivered. Who takes
 * it by sigwaitinfo(2) or signalfd(2) finds SI_SIGIO there, with the right
 * descriptor and events.
 */
#include "guest/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"
#include "wire/calls.h"

#define POLLMSG_	0x400

/* band_table of fs/fcntl.c, from POLL_IN on. */
static const int64_t bands[] = {
	POLLIN | POLLRDNORM,
	POLLOUT | POLLWRNORM | POLLWRBAND,
	POLLIN | POLLRDNORM | POLLMSG_,
	POLLERR,
	POLLPRI | POLLRDBAND,
	POLLHUP | POLLERR,
};

/* Of the target itself: who else might be signalled is not for it to say. */
static bool may_own(struct tracer *tr, const struct task *t,
		    const struct f_owner_ex *o)
{
	const struct task *thread;

	switch (o->type) {
	case F_OWNER_TID:
		thread = idmap_get(&tr->tasks, (uint32_t)o->pid);
		return thread && thread->proc == t->proc;
	case F_OWNER_PID:
		return o->pid == t->proc->pid;
	case F_OWNER_PGRP:
		return o->pid == getpgid(t->proc->pid);
	}
	return false;
}

static int set_owner(struct tracer *tr, struct task *t, struct hostfd *h,
		     struct f_owner_ex o)
{
	struct msg m = { .type = MSG_OWNER };
	int err;

	if (o.pid && !may_own(tr, t, &o))
		return -EPERM;
	err = shadow_ready(tr, t);
	if (err)
		return err;
	m.owner.shadow = t->proc->shadow;
	m.owner.fd = (uint32_t)t->args[0];
	m.owner.on = o.pid != 0;
	err = client_request(&tr->client, &m, -1, NULL);
	if (err)
		return err;
	h->owner = o;
	tr->owners = true;
	return 0;
}

/* F_SETOWN: a group where it is negative. */
static int set_owner_by_number(struct tracer *tr, struct task *t,
			       struct hostfd *h, int pid)
{
	struct f_owner_ex o = { F_OWNER_PID, pid };

	if (pid == INT32_MIN)
		return -EINVAL;
	if (pid < 0)
		o = (struct f_owner_ex){ F_OWNER_PGRP, -pid };
	return set_owner(tr, t, h, o);
}

int64_t owner_fcntl(struct tracer *tr, struct task *t, struct hostfd *h)
{
	const uint64_t arg = t->args[2];
	struct f_owner_ex o;

	switch ((int)t->args[1]) {
	case F_SETOWN:
		return set_owner_by_number(tr, t, h, (int)arg);
	case F_SETOWN_EX:
		if (task_read(t, arg, &o, sizeof(o)) != sizeof(o))
			return -EFAULT;
		if (o.type != F_OWNER_TID && o.type != F_OWNER_PID &&
		    o.type != F_OWNER_PGRP)
			return -EINVAL;
		return set_owner(tr, t, h, o);
	case F_GETOWN:
		return h->owner.type == F_OWNER_PGRP ? -h->owner.pid :
						       h->owner.pid;
	case F_GETOWN_EX:
		return task_write(t, arg, &h->owner, sizeof(h->owner)) ==
		       sizeof(h->owner) ? 0 : -EFAULT;
	case F_SETSIG:
		if (arg > 64)
			return -EINVAL;
		h->sig = (int)arg;
		return 0;
	case F_GETSIG:
		return h->sig;
	}
	return -EINVAL;
}

/* --- what comes ------------------------------------------------------------ */

static void queue(struct tracer *tr, const struct proc *p,
		  const struct hostfd *h, const siginfo_t *si)
{
	size_t pos = 0;
	struct task *t;

	switch (h->owner.type) {
	case F_OWNER_TID:
		syscall(SYS_rt_tgsigqueueinfo, p->pid, h->owner.pid,
			si->si_signo, si);
		break;
	case F_OWNER_PID:
		syscall(SYS_rt_sigqueueinfo, p->pid, si->si_signo, si);
		break;
	case F_OWNER_PGRP:
		while ((t = idmap_next(&tr->tasks, &pos)))
			if (t->tid == t->proc->pid &&
			    getpgid(t->tid) == h->owner.pid)
				syscall(SYS_rt_sigqueueinfo, t->tid,
					si->si_signo, si);
		break;
	}
}

/* Its queue was full on the host: some descriptor has something to say. */
static const struct hostfd *any_owned(const struct files *files)
{
	for (int fd = 0; (size_t)fd < files->n; fd++) {
		const struct hostfd *h = files_get(files, fd);

		if (h && h->owner.pid)
			return h;
	}
	return NULL;
}

void owner_signal(struct tracer *tr, const struct proc *p,
		  const struct msg_signal *m)
{
	const bool known = m->fd <= INT32_MAX;
	const struct hostfd *h = known ? files_get(p->files, (int)m->fd) :
					 any_owned(p->files);
	siginfo_t si;

	if (!h || !h->owner.pid)
		return;		/* it has changed its mind */
	memset(&si, 0, sizeof(si));
	si.si_signo = SIGIO;
	si.si_code = SI_SIGIO;
	if (h->sig && known) {
		si.si_signo = h->sig;
		si.si_band = m->band;
		si.si_fd = (int)m->fd;
	}
	queue(tr, p, h, &si);
}

void owner_delivered(const struct task *t)
{
	siginfo_t si;

	if (ptrace(PTRACE_GETSIGINFO, t->tid, NULL, &si) < 0 ||
	    si.si_code != SI_SIGIO)
		return;
	si.si_code = SI_KERNEL;	/* as without F_SETSIG */
	for (size_t i = 0; i < ARRAY_SIZE(bands); i++)
		if (si.si_band == bands[i])
			si.si_code = POLL_IN + (int)i;
	ptrace(PTRACE_SETSIGINFO, t->tid, NULL, &si);
}
