/* SPDX-License-Identifier: MIT */
/*
 * serve.c - the daemon's loops: sessions, their requests, their shadows
 *
 * Theory of operation. A process for each session, and one thread in it, which
 * is the tracer of the session's shadows. It waits for two things: messages of
 * the guest side, and SIGCHLD (a shadow's thread stopped or ended). Every
 * request is checked, carried out and answered before the next one is read;
 * none of them waits for a call that a target chose. The guest side is
 * hostile: whatever does not fit ends its session and nothing else.
 */
#include "host/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "host/fuse.h"
#include "host/sandbox.h"
#include "host/shadow.h"
#include "vm/ram.h"
#include "vm/vm.h"

#define SESSIONS_MAX	256
#define RULES_MAX	256
#define SHADOWS_MAX	32768

#define AWAIT_MS	2000
#define END_MS		5000	/* what sessions get when the daemon ends */

#define TICK_MS		50
#define STUCK_TICKS	(2000 / TICK_MS)
#define FUSE_TICKS	(3000 / TICK_MS)
#define CLOSE_LOOKS	10000

struct session {
	struct transport t;
	const struct serve *conf;
	struct ram own;		/* what a guest in loopback brings along */
	const struct ram *ram;	/* own or the VM's; NULL: no hello yet */
	struct rules rules;	/* what it asked for, as the policy has it */
	struct nursery *nursery;
	struct idmap shadows;	/* by the id that the guest chose */
	struct fuse_mounts mounts;
	bool started;
};

/*
 * The guest's kernel may use the frames of dead targets again as soon as it
 * is told that their session is over, which the end of the transport does: no
 * shadow may be left then, however long it takes. In loopback there are no
 * frames, and a run that waits for us.
 */
static void end_shadows(struct session *s)
{
	bool told = false;

	if (!s->nursery)
		return;
	nursery_kill(s->nursery);
	while (!nursery_await(s->nursery, AWAIT_MS) && !s->t.carries_fds) {
		if (!told)
			log_warn("a shadow has been killed and does not end:"
				 " is there a file server that does not"
				 " answer?");
		told = true;
	}
	nursery_free(s->nursery);
}

static void session_free(struct session *s)
{
	end_shadows(s);
	if (windows_has(s->conf->windows, getpid()))
		windows_end(s->conf->windows, s->conf->vm, &s->conf->place,
			    getpid());
	transport_fini(&s->t);
	ram_fini(&s->own);
	rules_fini(&s->rules);
	idmap_fini(&s->shadows);
	free(s);
}

static struct session *session_new(const struct serve *conf,
				   struct transport *t)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->conf = conf;
	s->t = *t;
	ram_init(&s->own, -1, 0);
	return s;
}

/* --- requests: 0 or -errno, and a text where one helps ------------------- */

/* Loopback: the guest brings a file that is its RAM from end to end. */
static int hello_own_ram(struct session *s, uint64_t size, int *fd, char *text)
{
	struct stat st;
	int err = -EINVAL, seals;

	/* A RAM file that could shrink would kill whoever maps it. */
	seals = *fd < 0 ? -1 : fcntl(*fd, F_GET_SEALS);
	if (seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(*fd, &st) == 0 &&
	    (uint64_t)st.st_size == size) {
		ram_init(&s->own, steal_fd(fd), size);
		err = ram_add(&s->own, 0, size, 0);
	}
	if (err)
		snprintf(text, MSG_TEXT_MAX, "the guest's memory must come as"
			 " a memfd sealed against shrinking");
	else
		s->ram = &s->own;
	return err;
}

static int do_hello(struct session *s, struct msg *m, int *fd, char *text)
{
	if (s->ram)
		return -EPROTO;
	if (m->hello.magic != MSG_MAGIC || m->hello.version != MSG_VERSION) {
		snprintf(text, MSG_TEXT_MAX, "guest and host speak different"
			 " versions of the protocol (%u and %u): use the same"
			 " darkshadow on both sides", m->hello.version,
			 MSG_VERSION);
		return -EPROTO;
	}
	if (!s->conf->vm)
		return hello_own_ram(s, m->hello.ram_size, fd, text);
	if (*fd >= 0 || m->hello.ram_size) {
		snprintf(text, MSG_TEXT_MAX, "this daemon serves the VM %s,"
			 " whose memory it has already: run inside the VM, or"
			 " start a daemon without --vm", s->conf->vm->seen.name);
		return -EINVAL;
	}
	s->ram = &s->conf->vm->ram;
	return 0;
}

static int do_policy(struct session *s, const struct msg *m, char *text)
{
	const struct rules *policy = s->conf->policy;

	if (m->policy.n >= policy->n)
		return -ENOENT;
	if (rules_format(&policy->v[m->policy.n], text, MSG_TEXT_MAX) >=
	    MSG_TEXT_MAX)
		return -ENAMETOOLONG;
	return 0;
}

/* A rule, and how much of its host name is the policy's own word. */
static int add_rule(struct session *s, const char *text,
		    const struct rule *by, char err[RULES_ERR_MAX])
{
	int rc = rules_add(&s->rules, text, err);
	struct rule *r;

	if (rc)
		return rc;
	r = &s->rules.v[s->rules.n - 1];
	rc = rule_limit(r, by);
	if (rc || !r->host || !by->host)
		return rc;
	r->base = strdup(by->host);
	return r->base ? 0 : -ENOMEM;
}

static bool is_below(const char *name, const char *top)
{
	const char *rest = rules_below(top, name);

	return rest && *rest;
}

static bool has_guest(const struct rules *rules, size_t n, const char *guest)
{
	for (size_t i = 0; i < n; i++)
		if (rules->v[i].guest && strcmp(rules->v[i].guest, guest) == 0)
			return true;
	return false;
}

/*
 * What the policy says of names below those that were asked for holds, asked
 * for or not: a narrower rule is not got around by leaving it out.
 */
static int add_nested(struct session *s, char *text)
{
	const struct rules *policy = s->conf->policy;
	const size_t asked = s->rules.n;
	char rule[MSG_RULE_MAX], err[RULES_ERR_MAX];

	for (size_t i = 0; i < policy->n; i++) {
		const struct rule *p = &policy->v[i];
		bool below = false;
		int rc;

		if (!p->guest || has_guest(&s->rules, s->rules.n, p->guest))
			continue;
		for (size_t j = 0; j < asked && !below; j++)
			below = s->rules.v[j].guest &&
				is_below(p->guest, s->rules.v[j].guest);
		if (!below)
			continue;
		if (rules_format(p, rule, sizeof(rule)) >= (int)sizeof(rule))
			return -ENAMETOOLONG;
		rc = add_rule(s, rule, p, err);
		if (rc) {
			snprintf(text, MSG_TEXT_MAX, "%s", err);
			return rc;
		}
	}
	return 0;
}

static int do_rule(struct session *s, struct msg *m, char *text)
{
	const struct rule *by = NULL;
	struct rules asked = { 0 };
	char err[RULES_ERR_MAX];
	int rc;

	if (s->started)
		return -EPROTO;
	m->rule.text[MSG_RULE_MAX - 1] = '\0';
	rc = rules_add(&asked, m->rule.text, err);
	if (rc) {
		snprintf(text, MSG_TEXT_MAX, "%s", err);
	} else if (s->rules.n >= RULES_MAX) {
		snprintf(text, MSG_TEXT_MAX, "more than %d rules", RULES_MAX);
		rc = -E2BIG;
	} else if (!(by = rules_cover(s->conf->policy, &asked.v[0]))) {
		snprintf(text, MSG_TEXT_MAX, "%.900s: the host's policy does"
			 " not allow this; add the rule to the policy file of"
			 " `darkshadow host`", m->rule.text);
		rc = -EACCES;
	} else {
		rc = add_rule(s, m->rule.text, by, err);
		if (rc)
			snprintf(text, MSG_TEXT_MAX, "%s", err);
	}
	rules_fini(&asked);
	return rc;
}

/*
 * What is to be built takes a while, and the guest side goes on meanwhile: on its
 * own core, which it does not leave.
 */
static void leave_core(uint32_t cpu)
{
	cpu_set_t all, others, here;

	if (!cpu || cpu > CPU_SETSIZE || sched_getcpu() != (int)cpu - 1 ||
	    sched_getaffinity(0, sizeof(all), &all) < 0 || CPU_COUNT(&all) < 2)
		return;
	here = cpus_one((int)cpu - 1);
	others = cpus_without(all, &here);
	sched_setaffinity(0, sizeof(others), &others);
	sched_setaffinity(0, sizeof(all), &all);
}

static int do_start(struct session *s, char *text)
{
	char err[SANDBOX_ERR_MAX] = "";
	int rc;

	if (s->started || !s->ram)
		return -EPROTO;
	s->started = true;
	rc = add_nested(s, text);
	if (rc)
		return rc;
	rc = nursery_new(&s->rules, s->ram, &s->nursery, err);
	if (rc)
		snprintf(text, MSG_TEXT_MAX, "%s", err);
	return rc;
}

static struct shadow *session_shadow(struct session *s, uint32_t id)
{
	return id ? idmap_get(&s->shadows, id) : NULL;
}

static int do_shadow_new(struct session *s, const struct msg *m,
			 struct msg *reply)
{
	struct shadow *parent = NULL, *sh;
	int rc;

	if (!m->shadow.id || session_shadow(s, m->shadow.id))
		return -EINVAL;
	if (s->shadows.n >= SHADOWS_MAX)
		return -EAGAIN;
	if (m->shadow.parent) {
		parent = session_shadow(s, m->shadow.parent);
		if (!parent)
			return -ESRCH;
	}
	rc = shadow_new(s->nursery, parent, m->shadow.id, m->shadow.umask,
			m->shadow.clone_flags, &sh);
	if (rc)
		return rc;
	rc = idmap_put(&s->shadows, m->shadow.id, sh);
	if (rc)
		(void)shadow_free(sh);
	else
		reply->reply.value = (uint32_t)sh->inner_pid;
	return rc;
}

static int do_getfd(struct session *s, const struct msg *m, int *fd)
{
	struct shadow *sh = session_shadow(s, m->fd.shadow);
	int got;

	if (!s->t.carries_fds)
		return -EOPNOTSUPP;
	if (!sh)
		return -ESRCH;
	got = shadow_getfd(sh, (int)m->fd.fd);
	if (got < 0)
		return got;
	*fd = got;
	return 0;
}

/* A copy of what is to be seen in the window: a descriptor, or -errno. */
static int window_source(struct session *s, const struct msg *m)
{
	struct shadow *sh;
	int fd;

	if (m->window.fd == UINT32_MAX) {
		fd = nursery_file_fd(s->nursery, m->window.of);
		fd = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -EBADF : fd;
	}
	sh = session_shadow(s, m->window.shadow);
	return sh ? shadow_getfd(sh, (int)m->window.fd) : -ESRCH;
}

static int do_window(struct session *s, const struct msg *m,
		     struct msg *reply)
{
	const struct serve *conf = s->conf;
	int fd cleanup_fd = -1;
	const uint32_t id = m->window.file;
	struct window_map map = { .id = id, .off = m->window.off,
				  .len = m->window.len };
	char err[VM_ERR_MAX] = "";
	struct window_at at;
	int rc;

	if (!conf->vm || nursery_file_fd(s->nursery, id) >= 0)
		return -EINVAL;
	fd = window_source(s, m);
	if (fd < 0)
		return fd;
	map.fd = fd;
	rc = window_open(conf->windows, conf->vm, &conf->place, &map, &at, err);
	if (rc) {
		snprintf(reply->reply_text.text, MSG_TEXT_MAX, "%s", err);
		return rc;
	}
	rc = nursery_file(s->nursery, id, fd);
	if (rc) {
		window_close(conf->windows, conf->vm, &conf->place, id);
		return rc;
	}
	steal_fd(&fd);
	reply->reply.value = (uint32_t)(at.at / PAGE_BYTES);
	reply->reply.flags = EXTENT_READ | (at.written ? EXTENT_WRITE : 0);
	reply->reply.device = at.plugged ? MSG_PLUGGED | at.device : 0;
	return 0;
}

static void do_file_drop(struct session *s, uint32_t id)
{
	const struct serve *conf = s->conf;

	nursery_file_drop(s->nursery, id);
	if (conf->vm)
		window_close(conf->windows, conf->vm, &conf->place, id);
}

static int do_mount(struct session *s, struct shadow *sh, const struct msg *m)
{
	struct msg_mount mount = m->mount;

	if (!rules_has(&s->rules, RULE_FUSE))
		return -EPERM;
	if (m->type == MSG_UMOUNT)
		return fuse_umount(&s->mounts, sh, &mount);
	mount.source[sizeof(mount.source) - 1] = '\0';
	mount.subtype[sizeof(mount.subtype) - 1] = '\0';
	return fuse_mount(&s->mounts, sh, &mount);
}

/*
 * A file of a file system that a target serves is closed by somebody who can
 * wait for it. He is waited for until it is out of the table, of which the next
 * process is to get a copy.
 */
static int do_close(struct session *s, struct shadow *sh, uint32_t fd)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	int err;

	if (!fuse_holds(&s->mounts, sh, fd))
		return shadow_close(sh, fd);
	err = shadow_close_aside(sh, fd);
	for (int i = 0; !err && i < CLOSE_LOOKS &&
	     fuse_holds(&s->mounts, sh, fd); i++)
		nanosleep(&pause, NULL);
	return err;
}

/* Requests about one shadow, which must exist. */
static int do_on_shadow(struct session *s, const struct msg *m)
{
	struct shadow *sh = session_shadow(s, m->shadow.id);

	if (!sh)
		return -ESRCH;
	switch (m->type) {
	case MSG_SHADOW_RESET:
		return shadow_reset(sh);
	case MSG_SHADOW_DROP:
		idmap_take(&s->shadows, sh->id);
		return shadow_free(sh);
	case MSG_THREAD_NEW:
		return shadow_thread_new(sh, m->thread.thread, m->thread.slot,
					 m->thread.slot_gpa, m->thread.seq);
	case MSG_THREAD_DROP:
		shadow_thread_end(sh, m->thread.thread);
		return 0;
	case MSG_CANCEL:
		shadow_cancel(sh, m->thread.thread, m->thread.seq);
		return 0;
	case MSG_RING:
		shadow_ring(sh, m->thread.thread);
		return 0;
	case MSG_ASLEEP:
		return shadow_asleep(sh, m->thread.thread, m->thread.nr);
	case MSG_FSIZE:
		return shadow_limit(sh, m->fsize.bytes);
	case MSG_CLOSE:
		return do_close(s, sh, m->fd.fd);
	case MSG_MOUNT:
	case MSG_UMOUNT:
		return do_mount(s, sh, m);
	case MSG_OWNER:
		return shadow_own(sh, (int)m->owner.fd, m->owner.on);
	case MSG_PLACE:
		shadow_place(sh, m->place.thread, m->place.cpu,
			     m->place.avoid);
		return 0;
	case MSG_MAP:
		if (m->map.n > MSG_EXTENTS_MAX)
			return -EPROTO;
		return shadow_map(sh, m->map.v, m->map.n);
	}
	return -EPROTO;
}

/* Every request that names a shadow names it first. */
_Static_assert(offsetof(struct msg, shadow.id) ==
	       offsetof(struct msg, thread.shadow) &&
	       offsetof(struct msg, shadow.id) ==
	       offsetof(struct msg, fd.shadow) &&
	       offsetof(struct msg, shadow.id) ==
	       offsetof(struct msg, map.shadow), "the shadow comes first");

static int carry_out(struct session *s, struct msg *m, int *fd,
		     struct msg *reply)
{
	char *text = reply->reply_text.text;

	if (m->type > MSG_START && !s->nursery)
		return -EPROTO;
	if (m->type > MSG_START && nursery_dead(s->nursery))
		return -EIO;
	switch (m->type) {
	case MSG_HELLO:
		return do_hello(s, m, fd, text);
	case MSG_POLICY:
		return do_policy(s, m, text);
	case MSG_RULE:
		return do_rule(s, m, text);
	case MSG_START:
		leave_core(m->start.cpu);
		return do_start(s, text);
	case MSG_SHADOW_NEW:
		return do_shadow_new(s, m, reply);
	case MSG_GETFD:
		return do_getfd(s, m, fd);
	case MSG_FILE:
		if (*fd < 0)
			return -EINVAL;
		return nursery_file(s->nursery, m->file.file, steal_fd(fd));
	case MSG_FILE_DROP:
		do_file_drop(s, m->file.file);
		return 0;
	case MSG_WINDOW:
		return do_window(s, m, reply);
	case MSG_REPLY:
	case MSG_REPLY_TEXT:
	case MSG_GONE:
	case MSG_SIGNAL:
		return -EPROTO;
	}
	return do_on_shadow(s, m);
}

/* Whoever has the device of FUSE open, by any of its names. */
static void kill_servers(struct session *s)
{
	for (size_t i = 0; i < s->rules.n; i++) {
		const struct rule *r = &s->rules.v[i];

		if (r->kind == RULE_DEV && strcmp(r->host, "/dev/fuse") == 0)
			nursery_kill_holders(s->nursery, r->guest);
	}
}

/*
 * A signal interrupts what waits for a thread, which then looks whether there
 * is anything to wait for (remote_wait()). It also sees what the loop does not
 * get to see: who is told to end, or whose guest side has gone, and is stuck, ends
 * all the same. The shadows go with us (PTRACE_O_EXITKILL). And where a file
 * system is waited for that a target serves, whose answer may need us, its servers
 * are killed: the kernel ends it then.
 */
static int tick_peer = -1;	/* it says when the guest side has gone */
static int tick_ticks;		/* of this request */
static struct session *tick_servers;	/* not NULL: a target's file system may
					 * be what is waited for */

static void on_tick(int sig)
{
	struct pollfd peer = { .fd = tick_peer, .events = POLLRDHUP };
	static int told;
	sigset_t set;

	(void)sig;
	if (++tick_ticks == FUSE_TICKS && tick_servers)
		kill_servers(tick_servers);
	if (tick_ticks > STUCK_TICKS && tick_peer >= 0 &&
	    poll(&peer, 1, 0) > 0 && peer.revents & (POLLHUP | POLLRDHUP))
		_exit(EXIT_FAILURE);
	if (sigpending(&set) == 0 &&
	    (sigismember(&set, SIGTERM) || sigismember(&set, SIGINT)) &&
	    ++told > STUCK_TICKS)
		_exit(EXIT_FAILURE);
}

static void tick(bool on)
{
	const long us = on ? TICK_MS * 1000 : 0;
	const struct itimerval every = { .it_interval = { .tv_usec = us },
					 .it_value = { .tv_usec = us } };
	const struct sigaction sa = { .sa_handler = on_tick };

	if (on)
		sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

/*
 * Threads of shadows that are waited for may be killed at any moment; a leader's
 * end is not reported as long as that of another thread of its process has not
 * been taken, and it is we who would take it.
 */
static void begin_wait(struct session *s)
{
	tick_ticks = 0;
	tick_peer = s->t.fd;
	tick_servers = s->mounts.n ? s : NULL;
	tick(true);
}

/* What is asked most often waits for nobody, and needs no tick. */
static int do_request(struct session *s, struct msg *m, int *fd,
		      struct msg *reply)
{
	const bool waits = m->type >= MSG_START && m->type != MSG_RING;
	int err;

	if (waits)
		begin_wait(s);
	err = carry_out(s, m, fd, reply);
	if (waits)
		tick(false);
	return err;
}

/* The target has yet to come to where it needs a shadow. */
static void stock(struct session *s)
{
	begin_wait(s);
	nursery_stock(s->nursery);
	tick(false);
}

/* One request and its reply; -errno ends the session. */
static int session_serve(struct session *s)
{
	int fd cleanup_fd = -1;
	struct msg m, reply = { .type = MSG_REPLY };
	int err;

	err = transport_recv(&s->t, &m, &fd);
	if (err)
		return err;
	if (m.type != MSG_GETFD || fd < 0) {
		reply.reply.error = do_request(s, &m, &fd, &reply);
		log_debug("request %u: %d %s", m.type, reply.reply.error,
			  reply.reply_text.text);
	} else {
		return -EPROTO;
	}
	if (reply.reply_text.text[0])
		reply.type = MSG_REPLY_TEXT;
	if (m.type == MSG_RING)
		backoff_rest(&s->t.backoff);
	else if (m.type != MSG_PLACE)
		err = transport_send(&s->t, &reply,
				     m.type == MSG_GETFD ? fd : -1);
	if (m.type == MSG_START && !reply.reply.error)
		stock(s);
	if (reply.reply.error == -EPROTO)
		return -EPROTO;
	return err;
}

/* --- the loops ------------------------------------------------------------ */

/* What a loop waits for beside its peers. */
struct events {
	int fd;			/* owned: epoll of both, readable when one is */
	int signals;		/* owned */
	int vm;			/* borrowed: readable when the VM has ended */
};

static void events_fini(struct events *ev)
{
	close_fd(&ev->fd);
	close_fd(&ev->signals);
}

/* The VM's end is an event from now on; NULL: there is none. */
static int events_watch(struct events *ev, const struct vm *vm)
{
	struct epoll_event in = { .events = EPOLLIN };

	if (!vm)
		return 0;
	ev->vm = vm->pidfd;
	return epoll_ctl(ev->fd, EPOLL_CTL_ADD, ev->vm, &in) < 0 ? -errno : 0;
}

static int events_init(struct events *ev, const struct serve *conf)
{
	struct epoll_event in = { .events = EPOLLIN };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	ev->vm = -1;
	ev->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	ev->fd = epoll_create1(EPOLL_CLOEXEC);
	if (ev->signals < 0 || ev->fd < 0 ||
	    epoll_ctl(ev->fd, EPOLL_CTL_ADD, ev->signals, &in) < 0) {
		int err = -errno;

		events_fini(ev);
		return err;
	}
	return events_watch(ev, conf->vm);
}

/* true: a signal asks us to end */
static bool events_signals(const struct events *ev)
{
	struct signalfd_siginfo si;
	bool end = false;

	while (read(ev->signals, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGCHLD)
			end = true;
	return end;
}

static bool events_vm_ended(const struct events *ev)
{
	struct pollfd vm = { .fd = ev->vm, .events = POLLIN };

	return poll(&vm, 1, 0) > 0;
}

static void drop_vm(struct serve *conf, struct events *ev)
{
	/* The descriptor may have copies, by which epoll would know it. */
	epoll_ctl(ev->fd, EPOLL_CTL_DEL, ev->vm, NULL);
	ev->vm = -1;
	listener_ram(conf->listener, -1);
	vm_free(conf->vm);
	conf->vm = NULL;
}

int serve_find_vm(struct serve *conf, char err[VM_ERR_MAX])
{
	int rc = vm_open(conf->vm_spec, &conf->vm, err);

	if (rc)
		return rc;
	if (*conf->vm->note)
		log_warn("--vm %s: %s", conf->vm_spec, conf->vm->note);
	log_info("VM %s: process %d, %lu MiB of RAM", conf->vm_spec,
		 conf->vm->seen.pid, conf->vm->seen.memory >> 20);
	return 0;
}

/* Threads of our shadows have stopped or ended. */
static int reap_threads(struct session *s)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		struct msg m = { .type = MSG_GONE };
		struct shadow *gone = NULL;
		int err;

		if (s->nursery)
			gone = nursery_stopped(s->nursery, tid, status);
		if (!gone)
			continue;
		log_info("shadow %u ended by itself (wait status %#x)",
			 gone->id, status);
		m.gone.shadow = gone->id;
		m.gone.status = status;
		idmap_take(&s->shadows, gone->id);
		(void)shadow_free(gone);
		err = transport_send(&s->t, &m, -1);
		if (err)
			return err;
	}
	return 0;
}

static int tell_asyncs(struct session *s)
{
	struct nursery *n = s->nursery;
	int err = 0;

	for (size_t i = 0; n && i < n->nasyncs && !err; i++) {
		struct msg m = { .type = MSG_SIGNAL };

		m.signal.shadow = n->asyncs[i].shadow;
		m.signal.fd = n->asyncs[i].fd;
		m.signal.band = n->asyncs[i].band;
		err = transport_send(&s->t, &m, -1);
	}
	if (n)
		n->nasyncs = 0;
	return err;
}

static int session_run(struct session *s, const struct events *ev)
{
	for (;;) {
		int found = transport_wait(&s->t, ev->fd);
		int err = 0;

		if (found < 0)
			return found;
		if ((found & WAIT_OTHER) &&
		    (events_signals(ev) || events_vm_ended(ev)))
			return 0;
		if (found & WAIT_OTHER)
			err = reap_threads(s);
		if (!err && s->nursery && nursery_dead(s->nursery)) {
			log_warn("the first shadow of a session was killed");
			return 0;
		}
		if (!err && (found & WAIT_READY))
			err = session_serve(s);
		if (!err)
			err = tell_asyncs(s);
		if (err == -EPIPE)
			return 0;
		if (err) {
			log_warn("a session ended: %s", strerror(-err));
			return err;
		}
	}
}

/* One session, in this process, until the guest side goes. */
static int serve_session(const struct serve *conf, struct transport *t)
{
	struct session *s = session_new(conf, t);
	struct events ev;
	int err;

	if (!s) {
		transport_fini(t);
		return -ENOMEM;
	}
	err = events_init(&ev, conf);
	if (!err) {
		err = session_run(s, &ev);
		events_fini(&ev);
	}
	session_free(s);
	return err;
}

/* The processes of sessions. */
struct sessions {
	pid_t v[SESSIONS_MAX];
	size_t n;
};

/* Is it one of them? Not any more. */
static bool sessions_take(struct sessions *running, pid_t pid)
{
	for (size_t i = 0; i < running->n; i++) {
		if (running->v[i] != pid)
			continue;
		running->v[i] = running->v[--running->n];
		return true;
	}
	return false;
}

/* A machine that has rebooted may have its memory elsewhere. */
static bool renew_vm(const struct serve *conf)
{
	char err[VM_ERR_MAX];
	int rc = conf->vm ? vm_renew(conf->vm, err) : 0;

	if (rc < 0)
		log_warn("the VM's memory: %s", *err ? err : strerror(-rc));
	if (rc > 0) {
		log_info("the VM has rebooted");
		listener_ram(conf->listener, conf->vm->ram.fd);
	}
	return rc >= 0;
}

/* Memory that guest and host share, as it is now; the descriptor is borrowed. */
static struct window_place window_place(const struct serve *conf)
{
	struct window_place place = { .fd = -1 };

	place.fd = listener_room(conf->listener, &place.start, &place.end);
	return place;
}

/*
 * In a process of its own, for the VMM may take its time: what a daemon has left
 * in it that was killed, or a session (owner), is taken away.
 */
static void tidy_windows(const struct serve *conf, pid_t owner)
{
	struct window_place place = window_place(conf);
	pid_t pid = fork();

	if (pid)
		return;
	place.fd = place.fd < 0 ? -1 : fcntl(place.fd, F_DUPFD_CLOEXEC, 0);
	listener_leave(conf->listener);
	if (owner)
		windows_end(conf->windows, conf->vm, &place, owner);
	else
		windows_recover(conf->windows, conf->vm, &place);
	_exit(0);
}

static void recover_windows(const struct serve *conf)
{
	const struct window_place place = window_place(conf);

	if (!conf->vm || !windows_stray(conf->windows, conf->vm, &place))
		return;
	log_info("memory of devices that an earlier daemon has left in the VM is"
		 " taken away");
	tidy_windows(conf, 0);
}

/*
 * Every session has a process of its own: one that hangs, in a peer that does
 * not read or a file server that does not answer, holds up nobody else, and
 * what one uses up is its own. They end with us, and end their shadows before
 * that: it is SIGTERM that tells them. It has a process group of its own, too,
 * which is that of its shadows: so we know when all of a session that was
 * killed have ended, whose shadows become our children (PR_SET_CHILD_SUBREAPER).
 */
static void accept_session(struct serve *conf, struct events *ev,
			   struct sessions *running)
{
	char err[VM_ERR_MAX];
	const pid_t parent = getpid();
	struct window_place place;
	struct transport t;
	pid_t pid;

	if (listener_accept(conf->listener, &t) < 0)
		return;
	if (conf->vm_spec && !conf->vm) {
		if (serve_find_vm(conf, err) < 0 ||
		    events_watch(ev, conf->vm) < 0) {
			log_err("a run was turned away: --vm %s: %s",
				conf->vm_spec, err);
			listener_handed(conf->listener, &t, -1);
			return;
		}
		listener_ram(conf->listener, conf->vm->ram.fd);
	}
	recover_windows(conf);
	place = window_place(conf);
	pid = running->n < SESSIONS_MAX && renew_vm(conf) ? fork() : -1;
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_CHILD_SUBREAPER, 0);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(EXIT_FAILURE);
		conf->place = place;
		conf->place.fd = place.fd < 0 ? -1 :
				 fcntl(place.fd, F_DUPFD_CLOEXEC, 0);
		listener_leave(conf->listener);
		_exit(serve_session(conf, &t) ? EXIT_FAILURE : 0);
	}
	if (pid < 0)
		log_warn("a run was turned away; %zu are served", running->n);
	else
		running->v[running->n++] = pid;
	listener_handed(conf->listener, &t, pid);
}

/* A session that was killed has left what it had in the VM. */
static void session_ended(const struct serve *conf, pid_t pid)
{
	if (conf->vm && windows_has(conf->windows, pid))
		tidy_windows(conf, pid);
	else if (windows_has(conf->windows, pid))
		windows_end(conf->windows, NULL, NULL, pid);
	listener_ended(conf->listener, pid);
}

static void reap_sessions(const struct serve *conf, struct sessions *running)
{
	pid_t pid;

	/* The others are shadows that outlived their session. */
	while ((pid = waitpid(-1, NULL, WNOHANG | __WALL)) > 0)
		if (sessions_take(running, pid))
			session_ended(conf, pid);
}

static void signal_sessions(const struct sessions *running, int sig)
{
	for (size_t i = 0; i < running->n; i++)
		kill(running->v[i], sig);
}

/* Sessions get the time to end their shadows, and to say so. */
static void end_sessions(const struct serve *conf, struct sessions *running)
{
	signal_sessions(running, SIGTERM);
	for (int ms = 0; ms < END_MS && running->n; ms += 5) {
		(void)poll(NULL, 0, 5);
		reap_sessions(conf, running);
	}
}

static int serve_all(struct serve *conf)
{
	struct sessions running = { .n = 0 };
	struct events ev;
	int err = events_init(&ev, conf);

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	recover_windows(conf);
	while (!err) {
		int found = listener_wait(conf->listener, ev.fd);

		if (found < 0)
			err = found;
		if (found < 0 || ((found & WAIT_OTHER) && events_signals(&ev)))
			break;
		if (events_vm_ended(&ev)) {
			log_info("the VM has ended");
			if (!conf->wait)
				break;
			drop_vm(conf, &ev);
		}
		reap_sessions(conf, &running);
		if (found & WAIT_READY)
			accept_session(conf, &ev, &running);
	}
	end_sessions(conf, &running);
	events_fini(&ev);
	return err;
}

int serve_run(struct serve *conf, struct transport *first)
{
	return first ? serve_session(conf, first) : serve_all(conf);
}
