/* SPDX-License-Identifier: MIT */
/*
 * pollcalls.c - waiting for several descriptors at once
 *
 * A set of one side is that side's business. Of a set of both the host is asked
 * what is ready. If nothing is, the shadow waits for the host's part while the
 * thread waits for the local one (forward_beside()); whichever has something
 * ends the other's wait.
 *
 * An epoll or inotify descriptor belongs to the side of what it is first used
 * for: until then nobody can tell a local one from the host's. An epoll that comes
 * to have descriptors of the other side as well is a twin from then on (tracer.h),
 * and is waited for in the same way.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "guest/path.h"
#include "guest/tracer.h"

#define SET_MAX		65536	/* more than RLIMIT_NOFILE gives EINVAL */

/* What select(2) calls readable, writable, exceptional (fs/select.c). */
#define SELECT_IN	(POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT	(POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EX	POLLPRI

struct wait {
	struct pollfd *v;	/* owned: the whole set */
	bool *host;		/* owned: which of it is the host's */
	bool *muted;		/* owned: ready in a way that select ignores */
	size_t n;
	int64_t ready;		/* of one side, while the other is asked; or
				 * -errno */
	double began, until;	/* monotonic seconds; until < 0: for ever */
	uint64_t room, room_len;	/* GVA; room_len: mapped for it */
	uint64_t mask, mask_len;	/* signal mask of ppoll, pselect6 */
	uint64_t left_at;	/* GVA: time that is left goes there */
	bool timeval;		/* in microseconds (select) */
};

void wait_free(struct wait *w)
{
	if (!w)
		return;
	free(w->v);
	free(w->host);
	free(w->muted);
	free(w);
}

/* --- the set, from the program and back ----------------------------------- */

static int read_poll_set(struct task *t, struct wait *w)
{
	w->n = t->args[1];
	if (w->n > SET_MAX)
		return -EINVAL;
	w->v = calloc(w->n + 1, sizeof(*w->v));
	if (!w->v)
		return -ENOMEM;
	if (w->n && task_read(t, t->args[0], w->v, w->n * sizeof(*w->v)) !=
	    (ssize_t)(w->n * sizeof(*w->v)))
		return -EFAULT;
	return 0;
}

static int read_select_set(struct task *t, struct wait *w)
{
	static const short events[] = { POLLIN | POLLRDNORM,
					POLLOUT | POLLWRNORM, POLLPRI };
	const int64_t nfds = (int)t->args[0];
	const size_t bytes = ((size_t)nfds + 63) / 64 * 8;
	uint64_t *bits cleanup_free = NULL;

	if (nfds < 0 || nfds > SET_MAX)
		return -EINVAL;
	bits = calloc(1, bytes + 8);
	w->v = calloc((size_t)nfds + 1, sizeof(*w->v));
	if (!bits || !w->v)
		return -ENOMEM;
	/* By number, as the result will be written. */
	w->n = (size_t)nfds;
	for (int64_t fd = 0; fd < nfds; fd++)
		w->v[fd].fd = -1;
	for (int i = 0; i < 3; i++) {
		if (!t->args[i + 1])
			continue;
		if (task_read(t, t->args[i + 1], bits, bytes) !=
		    (ssize_t)bytes)
			return -EFAULT;
		for (int64_t fd = 0; fd < nfds; fd++) {
			if (!(bits[fd / 64] >> (fd % 64) & 1))
				continue;
			w->v[fd].fd = (int)fd;
			w->v[fd].events |= events[i];
		}
	}
	return 0;
}

static int64_t write_select_set(struct task *t, const struct wait *w)
{
	static const short what[] = { SELECT_IN, SELECT_OUT, SELECT_EX };
	static const short asked[] = { POLLIN, POLLOUT, POLLPRI };
	const size_t bytes = (w->n + 63) / 64 * 8;
	uint64_t *bits cleanup_free = malloc(bytes + 8);
	int64_t total = 0;

	if (!bits)
		return -ENOMEM;
	for (int i = 0; i < 3; i++) {
		if (!t->args[i + 1])
			continue;
		memset(bits, 0, bytes);
		for (size_t fd = 0; fd < w->n; fd++) {
			if (w->v[fd].fd < 0 || !(w->v[fd].events & asked[i]) ||
			    !(w->v[fd].revents & what[i]))
				continue;
			bits[fd / 64] |= 1ULL << (fd % 64);
			total++;
		}
		if (bytes && task_write(t, t->args[i + 1], bits, bytes) < 0)
			return -EFAULT;
	}
	return total;
}

static bool is_select(const struct task *t)
{
	return t->nr == SYS_select || t->nr == SYS_pselect6;
}

static int read_timeout(struct task *t, struct wait *w)
{
	int64_t tv[2];
	uint64_t at, sig[2];

	w->began = now_seconds();
	w->until = -1;
	if (t->nr == SYS_poll) {
		if ((int)t->args[2] >= 0)
			w->until = now_seconds() + (int)t->args[2] / 1e3;
		return 0;
	}
	if (t->nr == SYS_ppoll) {
		w->mask = t->args[3];
		w->mask_len = t->args[4];
	} else if (t->nr == SYS_pselect6 && t->args[5]) {
		if (task_read(t, t->args[5], sig, sizeof(sig)) != sizeof(sig))
			return -EFAULT;
		w->mask = sig[0];
		w->mask_len = sig[1];
	}
	at = t->args[t->nr == SYS_ppoll ? 2 : 4];
	w->timeval = t->nr == SYS_select;
	if (!at)
		return 0;
	if (task_read(t, at, tv, sizeof(tv)) != sizeof(tv))
		return -EFAULT;
	if (tv[0] < 0 || tv[1] < 0 || (!w->timeval && tv[1] > 999999999))
		return -EINVAL;
	w->left_at = at;
	w->until = now_seconds() + (double)tv[0] +
		   (double)tv[1] / (w->timeval ? 1e6 : 1e9);
	return 0;
}

/*
 * A signal came that the wait's own mask lets through and the program's need
 * not. Only the kernel can run a handler under the one and then bring back the
 * other: it makes a ppoll with that mask, which the signal ends at once, and
 * the program has its registers back before the handler begins. Returns false
 * if there was no signal after all.
 */
static bool deliver_masked(struct task *t, const struct wait *w)
{
	const int64_t none[2] = { 0, 0 };
	struct user_regs_struct regs = t->regs;

	memcpy((char *)t->slot + SLOT_SCRATCH, none, sizeof(none));
	remote_set_call(&regs, SYS_ppoll, (uint64_t[6]){ 0, 0, task_scratch(t),
			w->mask, w->mask_len });
	regs.orig_rax = SYS_ppoll;
	remote_end(&t->remote);
	if (remote_set_regs(t->tid, &regs) < 0 ||
	    remote_leave(&t->remote) < 0 ||
	    remote_get_regs(t->tid, &regs) < 0)
		return false;
	return is_restart_code((int64_t)regs.rax) ||
	       (int64_t)regs.rax == -EINTR;
}

/* --- both sides -------------------------------------------------------------- */

static bool is_over(const struct wait *w)
{
	return w->until >= 0 && now_seconds() >= w->until;
}

/* A struct timespec in the target: its address. */
static uint64_t put_time(struct task *t, double seconds, uint64_t at)
{
	int64_t ts[2] = { 0, 0 };

	if (seconds > 0) {
		ts[0] = (int64_t)seconds;
		ts[1] = (int64_t)((seconds - (double)ts[0]) * 1e9);
	}
	task_write(t, at, ts, sizeof(ts));
	return at;
}

/* What is left of the call's time; NULL: it is not limited. */
static uint64_t put_left(struct task *t, const struct wait *w, uint64_t at)
{
	return w->until < 0 ? 0 : put_time(t, w->until - now_seconds(), at);
}

/*
 * Neither side has anything, and what the thread's own call has said is no
 * number of descriptors. It may have been cut short: by a signal, or because the
 * host's had ended.
 */
static int64_t cut_short(struct task *t, const struct wait *w, int64_t result)
{
	if (!is_restart_code(result))
		return result;
	if (w->mask)
		return deliver_masked(t, w) ? -EINTR : 0;
	/* Never made again where a handler has run: signal(7). */
	return t->remote.masked ? -ERESTARTNOHAND : 0;
}

/* What the host's wait has said; if its end was asked for, it has nothing. */
static int64_t host_waited(int64_t result)
{
	return is_restart_code(result) || result == -EINTR ? 0 : result;
}

static void wait_over(struct tracer *tr, struct task *t, int64_t result)
{
	forward_trace(tr, t, result, t->wait->began);
	wait_free(t->wait);
	t->wait = NULL;
	task_return(tr, t, result);
}

static void wait_end(struct tracer *tr, struct task *t, int64_t result)
{
	struct wait *w = t->wait;

	if (result >= 0) {
		if (is_select(t))
			result = write_select_set(t, w);
		else if (w->n && task_write(t, t->args[0], w->v,
					    w->n * sizeof(*w->v)) < 0)
			result = -EFAULT;
	}
	if (w->left_at) {
		double left = w->until - now_seconds();
		int64_t tv[2];

		left = left > 0 ? left : 0;
		tv[0] = (int64_t)left;
		tv[1] = (int64_t)((left - (double)tv[0]) *
				  (w->timeval ? 1e6 : 1e9));
		task_write(t, w->left_at, tv, sizeof(tv));
	}
	if (w->room_len)
		mem_unmap_private(tr, t, w->room, w->room_len);
	wait_over(tr, t, result);
}

/* One side's part of the set at a place in the room; -1 is not looked at. */
static int put_part(struct task *t, const struct wait *w, bool host,
		    uint64_t at)
{
	struct pollfd *part cleanup_free = calloc(w->n, sizeof(*part));

	if (!part)
		return -ENOMEM;
	for (size_t i = 0; i < w->n; i++) {
		part[i] = w->v[i];
		part[i].revents = 0;
		if (w->host[i] != host || w->muted[i])
			part[i].fd = -1;
	}
	return task_write(t, at, part, w->n * sizeof(*part)) < 0 ? -EFAULT : 0;
}

static void get_part(struct task *t, struct wait *w, bool host, uint64_t at)
{
	struct pollfd *part cleanup_free = calloc(w->n, sizeof(*part));

	if (!part || task_read(t, at, part, w->n * sizeof(*part)) < 0)
		return;
	for (size_t i = 0; i < w->n; i++)
		if (w->host[i] == host)
			w->v[i].revents = part[i].revents;
}

/*
 * What of one side's part is ready, as the call counts it, or -EBADF. select
 * sees a hang-up only where it was asked for what a hang-up means to it; such
 * an entry would end every turn at once, so it is left out from now on.
 */
static int64_t count_ready(const struct task *t, struct wait *w, bool host,
			   int64_t polled)
{
	int64_t n = 0;

	if (!is_select(t) || polled <= 0)
		return polled;
	for (size_t i = 0; i < w->n; i++) {
		const struct pollfd *p = &w->v[i];

		if (p->fd < 0 || w->host[i] != host || !p->revents)
			continue;
		if (p->revents & POLLNVAL)
			return -EBADF;
		if ((p->events & POLLIN && p->revents & SELECT_IN) ||
		    (p->events & POLLOUT && p->revents & SELECT_OUT) ||
		    (p->events & POLLPRI && p->revents & SELECT_EX))
			n++;
		else
			w->muted[i] = true;
	}
	return n;
}

/* Where in the room a side's part is. */
static uint64_t part_at(const struct wait *w, bool host)
{
	return w->room + 16 + (host ? w->n * sizeof(*w->v) : 0);
}

/* What one side's poll has found, if it found something. */
static int64_t take_part(struct task *t, struct wait *w, bool host,
			 int64_t polled)
{
	if (polled <= 0)
		return polled;
	get_part(t, w, host, part_at(w, host));
	return count_ready(t, w, host, polled);
}

static void poll_both(struct tracer *tr, struct task *t);

/* The local part has been polled, and now the host's, or its wait is over. */
static void both_polled(struct tracer *tr, struct task *t, int64_t host)
{
	struct wait *w = t->wait;

	host = take_part(t, w, true, host_waited(host));
	if (host < 0)
		w->ready = host;
	else if (host > 0)
		w->ready = host + (w->ready > 0 ? w->ready : 0);
	else
		w->ready = cut_short(t, w, w->ready);
	if (w->ready || is_over(w))
		wait_end(tr, t, w->ready);
	else
		poll_both(tr, t);
}

static void local_waited(struct tracer *tr, struct task *t, int64_t result)
{
	struct wait *w = t->wait;

	w->ready = take_part(t, w, false, result);
	forward_beside_end(tr, t, both_polled);
}

/* Something of the host's is ready, or there is no time to wait. */
static void local_polled(struct tracer *tr, struct task *t, int64_t result)
{
	struct wait *w = t->wait;
	const int64_t host = w->ready;

	result = take_part(t, w, false, result);
	wait_end(tr, t, result > 0 ? host + result : host ? host :
			cut_short(t, w, result));
}

static void host_polled(struct tracer *tr, struct task *t, int64_t result)
{
	struct wait *w = t->wait;
	const uint64_t wait[6] = { part_at(w, true), w->n, (uint64_t)-1 };
	uint64_t local[6] = { part_at(w, false), w->n, w->room, w->mask,
			      w->mask_len };
	int err;

	result = take_part(t, w, true, result);
	if (result < 0) {
		wait_end(tr, t, is_restart_code(result) ? -ERESTARTNOHAND :
							  result);
		return;
	}
	w->ready = result;
	if (result > 0 || is_over(w)) {
		put_time(t, 0, w->room);
		task_native_later(tr, t, SYS_ppoll, local, local_polled);
		return;
	}
	err = forward_beside(tr, t, SYS_poll, wait);
	if (err) {
		wait_end(tr, t, err);
		return;
	}
	local[2] = put_left(t, w, w->room);
	task_native_later(tr, t, SYS_ppoll, local, local_waited);
}

static void poll_both(struct tracer *tr, struct task *t)
{
	struct wait *w = t->wait;
	uint64_t args[6] = { part_at(w, true), w->n, 0 };
	int err = put_part(t, w, false, part_at(w, false));

	if (!err)
		err = put_part(t, w, true, part_at(w, true));
	if (err)
		wait_end(tr, t, err);
	else
		task_forward(tr, t, SLOT_CALL, SYS_poll, args, -1,
			     host_polled);
}

static int wait_begin(struct tracer *tr, struct task *t, struct wait *w)
{
	uint64_t need = 16 + 2 * w->n * sizeof(*w->v);
	int err = read_timeout(t, w);
	int64_t at;

	if (err)
		return err;
	err = task_slot(t);
	if (err)
		return err;
	if (need <= SLOT_SCRATCH_SIZE) {
		w->room = task_scratch(t);
		return 0;
	}
	at = mem_map_private(tr, t, page_up(need));
	if (at < 0 && at > -4096)
		return (int)at;
	w->room = (uint64_t)at;
	w->room_len = page_up(need);
	return 0;
}

void call_poll(struct tracer *tr, struct task *t)
{
	struct wait *w;
	size_t nhost = 0, nlocal = 0;
	int err;

	if (t->proc->files->nhost == 0) {
		task_allow(tr, t);
		return;
	}
	w = calloc(1, sizeof(*w));
	err = !w ? -ENOMEM : is_select(t) ? read_select_set(t, w) :
					    read_poll_set(t, w);
	if (!err) {
		w->host = calloc(w->n + 1, sizeof(*w->host));
		w->muted = calloc(w->n + 1, sizeof(*w->muted));
		err = w->host && w->muted ? 0 : -ENOMEM;
	}
	for (size_t i = 0; !err && i < w->n; i++) {
		w->v[i].revents = 0;
		if (w->v[i].fd < 0)
			continue;
		w->host[i] = is_host_fd(t, w->v[i].fd);
		nhost += w->host[i];
		nlocal += !w->host[i];
	}
	if (err || nhost == 0) {
		wait_free(w);
		task_allow(tr, t);	/* errors are the kernel's to tell */
		return;
	}
	/* A signal mask for the wait is one for the target's own kernel. */
	if (!nlocal && (t->nr == SYS_poll || t->nr == SYS_select)) {
		wait_free(w);
		task_forward(tr, t, SLOT_CALL, t->nr, t->args, -1, NULL);
		return;
	}
	err = wait_begin(tr, t, w);
	if (err) {
		wait_free(w);
		task_return(tr, t, err);
		return;
	}
	t->wait = w;
	poll_both(tr, t);
}

/* --- descriptors that take a side ------------------------------------------ */

static void took_side(struct tracer *tr, struct task *t, int64_t result)
{
	const int fd = t->u.fd;
	int64_t r;

	if (result < 0) {
		task_return(tr, t, result);
		return;
	}
	r = task_native(tr, t, SYS_dup3, hidden_fd(tr, HIDDEN_PLACEHOLDER),
			(uint64_t)fd, (uint64_t)t->u.flags, 0, 0, 0);
	if (r >= 0)
		r = files_set(t->proc->files, fd, t->u.path ? t->u.path : "",
			      0);
	if (r < 0) {
		shadow_close_fd(tr, t->proc, fd);
		task_return(tr, t, r);
		return;
	}
	task_set_path(t, NULL);
	call_general(tr, t);	/* now both are the host's */
}

/* Is it a local descriptor of the kind? */
static bool is_kind(const struct task *t, int fd, const char *kind)
{
	char path[64], link[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid, fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = '\0';
	return strcmp(link, kind) == 0;
}

/* And is there nothing in it yet? */
static bool is_unused(const struct task *t, int fd, const char *kind,
		      const char *entry)
{
	char path[64], *text cleanup_free = NULL;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", t->tid, fd);
	return is_kind(t, fd, kind) &&
	       fd_read_all(path, 1 << 20, &text) >= 0 && !strstr(text, entry);
}

static void take_side(struct tracer *tr, struct task *t, const char *kind,
		      uint64_t nr)
{
	const int fd = (int)t->args[0];
	uint64_t args[6] = { 0 };
	int64_t flags, cloexec;

	flags = task_native(tr, t, SYS_fcntl, (uint64_t)fd, F_GETFL, 0, 0, 0,
			    0);
	cloexec = task_native(tr, t, SYS_fcntl, (uint64_t)fd, F_GETFD, 0, 0,
			      0, 0);
	if (nr == SYS_inotify_init1)
		args[0] = (uint64_t)flags & IN_NONBLOCK;
	t->u.fd = fd;
	t->u.flags = cloexec & FD_CLOEXEC ? O_CLOEXEC : 0;
	task_set_path(t, kind);
	task_forward(tr, t, SLOT_OPEN, nr, args, fd, took_side);
}

void call_inotify_add(struct tracer *tr, struct task *t)
{
	static const char kind[] = "anon_inode:inotify";
	const int fd = (int)t->args[0];
	char text[PATH_MAX];
	struct place place;

	if (is_hidden_fd(tr, fd) || is_host_fd(t, fd) ||
	    path_read(t, t->args[1], text) < 0 ||
	    path_resolve(tr, t, AT_FDCWD, text, true, &place) < 0 ||
	    place.kind != PLACE_HOST ||
	    !is_unused(t, fd, kind, "inotify wd:"))
		call_general(tr, t);
	else
		take_side(tr, t, kind, SYS_inotify_init1);
}

static bool is_twin(const struct task *t, int fd)
{
	const struct hostfd *h = files_get(t->proc->files, fd);

	return h && h->flags & HOSTFD_TWIN;
}

static int64_t cloexec_of(struct tracer *tr, struct task *t, int fd)
{
	return task_native(tr, t, SYS_fcntl, (uint64_t)fd, F_GETFD, 0, 0, 0,
			   0) & FD_CLOEXEC ? O_CLOEXEC : 0;
}

/* The placeholder of an epoll of the host's gives way to one of the target's. */
static int64_t add_local_twin(struct tracer *tr, struct task *t, int ep)
{
	struct files *files = t->proc->files;
	int64_t own = task_native(tr, t, SYS_epoll_create1, 0, 0, 0, 0, 0, 0);
	char *path cleanup_free = NULL;
	int64_t r;

	if (own < 0)
		return own;
	path = strdup(files_get(files, ep)->path);
	r = task_native(tr, t, SYS_dup3, (uint64_t)own, (uint64_t)ep,
			(uint64_t)cloexec_of(tr, t, ep), 0, 0, 0);
	task_native(tr, t, SYS_close, (uint64_t)own, 0, 0, 0, 0, 0);
	if (r >= 0)
		r = path ? files_set(files, ep, path, HOSTFD_TWIN) : -ENOMEM;
	return r < 0 ? r : 0;
}

/* The host has one of its own now, for its own descriptors. */
static void host_twin_added(struct tracer *tr, struct task *t, int64_t result)
{
	const int ep = t->u.fd;

	if (result >= 0)
		result = files_set(t->proc->files, ep, t->u.path ? t->u.path :
				   "", HOSTFD_TWIN);
	task_set_path(t, NULL);
	if (result < 0)
		task_return(tr, t, result);
	else
		call_general(tr, t);
}

/* What epoll has never waited for: files, directories. */
static int refuse_file(struct tracer *tr, struct task *t, int fd)
{
	const uint64_t args[6] = { (uint64_t)fd, task_scratch(t) };
	struct stat st;

	if (fuse_file(tr, t, fd))
		return -EPERM;
	if (shadow_sync(tr, t, SLOT_CALL, SYS_fstat, args, -1) != 0)
		return 0;
	memcpy(&st, (char *)t->slot + SLOT_SCRATCH, sizeof(st));
	return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? -EPERM : 0;
}

static void add_host_fd(struct tracer *tr, struct task *t, int ep, int fd)
{
	static const char kind[] = "anon_inode:[eventpoll]";
	const uint64_t none[6] = { 0 };
	int err = shadow_ready(tr, t) < 0 ? -EIO : refuse_file(tr, t, fd);

	if (!err && !is_kind(t, ep, kind))
		err = fd_is_open(t, ep) ? -EINVAL : -EBADF;
	if (err) {
		task_return(tr, t, err);
		return;
	}
	if (is_unused(t, ep, kind, "tfd:")) {
		take_side(tr, t, kind, SYS_epoll_create1);
		return;
	}
	t->u.fd = ep;
	task_set_path(t, kind);
	task_forward(tr, t, SLOT_OPEN, SYS_epoll_create1, none, ep,
		     host_twin_added);
}

void call_epoll_ctl(struct tracer *tr, struct task *t)
{
	const int ep = (int)t->args[0], fd = (int)t->args[2];
	const bool ep_host = is_host_fd(t, ep), fd_host = is_host_fd(t, fd);
	int64_t r = 0;

	if (is_hidden_fd(tr, ep) || is_hidden_fd(tr, fd) ||
	    ep_host == fd_host) {
		call_general(tr, t);
	} else if (is_twin(t, ep)) {
		task_allow(tr, t);
	} else if (ep_host) {
		if (fd_is_open(t, fd))
			r = add_local_twin(tr, t, ep);
		task_return(tr, t, r < 0 ? r : task_native_same(tr, t));
	} else {
		add_host_fd(tr, t, ep, fd);
	}
}

/* --- epoll_wait, epoll_pwait -------------------------------------------------- */

/*
 * By a twin, and where the wait has a signal mask, which is one for the target's
 * own kernel: beside each other, as above. The thread sleeps in ppoll(2), which
 * goes on after a signal that nobody handles; epoll_wait(2) would not, when traced.
 * What is ready on the host is taken first, but not all that there is room for, or
 * the target's own might never be seen.
 */
static void epoll_host_args(const struct task *t, int64_t timeout,
			    uint64_t args[6])
{
	const uint64_t max = t->args[2];
	const bool both = is_twin(t, (int)t->args[0]) && (int)max > 1;

	args[0] = t->args[0];
	args[1] = t->args[1];
	args[2] = both ? max / 2 : max;
	args[3] = (uint64_t)timeout;
}

/* A twin's own events, behind `have` of the host's: how many in all. */
static int64_t add_own(struct tracer *tr, struct task *t, int64_t have)
{
	int64_t own = 0;

	if (is_twin(t, (int)t->args[0]) && (uint64_t)have < t->args[2])
		own = task_native(tr, t, SYS_epoll_wait, t->args[0],
				  t->args[1] + (uint64_t)have *
				  sizeof(struct epoll_event),
				  t->args[2] - (uint64_t)have, 0, 0, 0);
	return own < 0 && have > 0 ? have : own + have;
}

static void epoll_both(struct tracer *tr, struct task *t);

/* The thread has slept, and the host's wait is over, too. */
static void epoll_slept(struct tracer *tr, struct task *t, int64_t host)
{
	const struct wait *w = t->wait;
	int64_t result = host_waited(host);

	if (result >= 0)
		result = add_own(tr, t, result);
	if (!result && w->ready < 0)
		result = cut_short(t, w, w->ready);
	if (result || is_over(w))
		wait_over(tr, t, result);
	else
		epoll_both(tr, t);
}

static void epoll_own_waited(struct tracer *tr, struct task *t, int64_t result)
{
	t->wait->ready = result;
	forward_beside_end(tr, t, epoll_slept);
}

/* Until one of a twin's own is ready, the host has answered, or the time of the
 * call is over. */
static void epoll_sleep(struct tracer *tr, struct task *t)
{
	struct {
		int64_t ts[2];
		struct pollfd own;
	} *room = (void *)((char *)t->slot + SLOT_SCRATCH);
	const uint64_t at = task_scratch(t);
	struct wait *w = t->wait;
	uint64_t args[6] = { 0 };
	int err;

	epoll_host_args(t, -1, args);
	err = forward_beside(tr, t, SYS_epoll_wait, args);
	if (err) {
		wait_over(tr, t, err);
		return;
	}
	room->own = (struct pollfd){ .fd = (int)t->args[0], .events = POLLIN };
	task_native_later(tr, t, SYS_ppoll, (uint64_t[6]){
			  at + offsetof(typeof(*room), own),
			  is_twin(t, (int)t->args[0]), put_left(t, w, at),
			  w->mask, w->mask_len }, epoll_own_waited);
}

static void epoll_polled(struct tracer *tr, struct task *t, int64_t result)
{
	if (is_restart_code(result))
		result = -ERESTARTNOHAND;
	if (result >= 0)
		result = add_own(tr, t, result);
	if (result || is_over(t->wait))
		wait_over(tr, t, result);
	else
		epoll_sleep(tr, t);
}

static void epoll_both(struct tracer *tr, struct task *t)
{
	uint64_t args[6] = { 0 };

	epoll_host_args(t, 0, args);
	task_forward(tr, t, SLOT_CALL, SYS_epoll_wait, args, -1, epoll_polled);
}

static int read_epoll_timeout(struct task *t, struct wait *w)
{
	int64_t ts[2];

	w->began = now_seconds();
	w->until = -1;
	if (t->nr != SYS_epoll_pwait2) {
		if ((int)t->args[3] >= 0)
			w->until = now_seconds() + (int)t->args[3] / 1e3;
		return 0;
	}
	if (!t->args[3])
		return 0;
	if (task_read(t, t->args[3], ts, sizeof(ts)) != sizeof(ts))
		return -EFAULT;
	if (ts[0] < 0 || ts[1] < 0 || ts[1] > 999999999)
		return -EINVAL;
	w->until = now_seconds() + (double)ts[0] + (double)ts[1] / 1e9;
	return 0;
}

void call_epoll_wait(struct tracer *tr, struct task *t)
{
	const int ep = (int)t->args[0];
	const bool masked = t->nr != SYS_epoll_wait && t->args[4];
	struct wait *w;
	int err;

	if (!is_host_fd(t, ep) || (!masked && !is_twin(t, ep))) {
		call_general(tr, t);
		return;
	}
	w = calloc(1, sizeof(*w));
	err = w ? read_epoll_timeout(t, w) : -ENOMEM;
	if (!err && is_twin(t, ep) && (int)t->args[2] <= 0)
		err = -EINVAL;
	if (err) {
		wait_free(w);
		task_return(tr, t, err);
		return;
	}
	w->mask = masked ? t->args[4] : 0;
	w->mask_len = masked ? t->args[5] : 0;
	t->wait = w;
	epoll_both(tr, t);
}
