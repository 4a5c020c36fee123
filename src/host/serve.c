/* SPDX-License-Identifier: MIT */
/*
 * serve.c - the daemon's loop: sessions, their requests, their shadows
 *
 * Theory of operation. One thread, which is the tracer of every shadow. It
 * waits for three things: messages of the guest sides, new guest sides, and
 * SIGCHLD (a shadow's thread stopped or ended). Every request is checked,
 * carried out and answered before the next one is read; none of them waits
 * for a call that a target chose. The guest side is hostile: whatever does
 * not fit ends its session and nothing else.
 */
#include "host/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "host/sandbox.h"
#include "host/shadow.h"

#define SESSIONS_MAX	256
#define SHADOWS_MAX	32768

struct session {
	struct transport t;
	const struct serve *conf;
	int ram_fd;
	uint64_t ram_size;
	struct rules rules;	/* what it asked for, as the policy has it */
	struct nursery *nursery;
	struct idmap shadows;	/* by the id that the guest chose */
	bool started;
};

static void session_free(struct session *s)
{
	transport_fini(&s->t);
	if (s->nursery)
		nursery_free(s->nursery);
	close_fd(&s->ram_fd);
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
	s->ram_fd = -1;
	return s;
}

/* --- requests: 0 or -errno, and a text where one helps ------------------- */

static int do_hello(struct session *s, struct msg *m, int *fd, char *text)
{
	struct stat st;
	int seals;

	if (s->ram_fd >= 0)
		return -EPROTO;
	if (m->hello.magic != MSG_MAGIC || m->hello.version != MSG_VERSION) {
		snprintf(text, MSG_TEXT_MAX, "guest and host speak different"
			 " versions of the protocol (%u and %u): use the same"
			 " darkshadow on both sides", m->hello.version,
			 MSG_VERSION);
		return -EPROTO;
	}
	/* A RAM file that could shrink would kill whoever maps it. */
	seals = *fd < 0 ? -1 : fcntl(*fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(*fd, &st) < 0 ||
	    (uint64_t)st.st_size != m->hello.ram_size) {
		snprintf(text, MSG_TEXT_MAX, "the guest's memory must come as"
			 " a memfd sealed against shrinking");
		return -EINVAL;
	}
	s->ram_fd = steal_fd(fd);
	s->ram_size = m->hello.ram_size;
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

static int do_rule(struct session *s, struct msg *m, char *text)
{
	struct rules asked = { 0 };
	char err[RULES_ERR_MAX];
	int rc;

	if (s->started)
		return -EPROTO;
	m->rule.text[MSG_RULE_MAX - 1] = '\0';
	rc = rules_add(&asked, m->rule.text, err);
	if (rc) {
		snprintf(text, MSG_TEXT_MAX, "%s", err);
	} else if (!rules_cover(s->conf->policy, &asked.v[0])) {
		snprintf(text, MSG_TEXT_MAX, "%.900s: the host's policy does"
			 " not allow this; add the rule to the policy file of"
			 " `darkshadow host`", m->rule.text);
		rc = -EACCES;
	} else {
		rc = rules_add(&s->rules, m->rule.text, err);
		if (rc)
			snprintf(text, MSG_TEXT_MAX, "%s", err);
	}
	rules_fini(&asked);
	return rc;
}

static int do_start(struct session *s, char *text)
{
	char err[SANDBOX_ERR_MAX] = "";
	int rc;

	if (s->started || s->ram_fd < 0)
		return -EPROTO;
	s->started = true;
	rc = nursery_new(&s->rules, s->ram_fd, s->ram_size, &s->nursery, err);
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
		shadow_free(sh);
	else
		reply->reply.pid = (uint32_t)sh->inner_pid;
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
		shadow_free(sh);
		return 0;
	case MSG_THREAD_NEW:
		return shadow_thread_new(sh, m->thread.thread, m->thread.slot,
					 m->thread.seq);
	case MSG_THREAD_DROP:
		shadow_thread_end(sh, m->thread.thread);
		return 0;
	case MSG_CANCEL:
		shadow_cancel(sh, m->thread.thread, m->thread.seq);
		return 0;
	case MSG_FSIZE:
		return shadow_limit(sh, m->fsize.bytes);
	case MSG_CLOSE:
		return shadow_close(sh, m->fd.fd);
	case MSG_PLACE:
		shadow_place(sh, m->place.thread, m->place.cpu);
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

static int do_request(struct session *s, struct msg *m, int *fd,
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
		nursery_file_drop(s->nursery, m->file.file);
		return 0;
	case MSG_REPLY:
	case MSG_REPLY_TEXT:
	case MSG_GONE:
		return -EPROTO;
	}
	return do_on_shadow(s, m);
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
	err = transport_send(&s->t, &reply, m.type == MSG_GETFD ? fd : -1);
	if (reply.reply.error == -EPROTO)
		return -EPROTO;
	return err;
}

/* --- the loop ----------------------------------------------------------- */

struct loop {
	const struct serve *conf;
	struct session *sessions[SESSIONS_MAX];
	size_t nsessions;
	int sigfd;
};

static void tell_gone(struct loop *l, struct shadow *sh, int status)
{
	for (size_t i = 0; i < l->nsessions; i++) {
		struct session *s = l->sessions[i];
		struct msg m = { .type = MSG_GONE };

		if (s->nursery != sh->nursery)
			continue;
		log_info("shadow %u ended by itself (wait status %#x)", sh->id,
			 status);
		m.gone.shadow = sh->id;
		m.gone.status = status;
		idmap_take(&s->shadows, sh->id);
		shadow_free(sh);
		/* Failing, the session is found dead by its own socket. */
		(void)transport_send(&s->t, &m, -1);
		return;
	}
}

static void reap(struct loop *l)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		for (size_t i = 0; i < l->nsessions; i++) {
			struct nursery *n = l->sessions[i]->nursery;
			struct shadow *gone;

			if (!n)
				continue;
			gone = nursery_stopped(n, tid, status);
			if (gone) {
				tell_gone(l, gone, status);
				break;
			}
		}
	}
}

static void drop_session(struct loop *l, size_t i)
{
	session_free(l->sessions[i]);
	l->sessions[i] = l->sessions[--l->nsessions];
}

static void accept_session(struct loop *l)
{
	struct transport t;
	struct session *s;

	if (l->conf->ops->accept(&t, l->conf->listen_fd) < 0)
		return;
	s = l->nsessions < SESSIONS_MAX ? session_new(l->conf, &t) : NULL;
	if (!s) {
		log_warn("a run was turned away: %zu are served already",
			 l->nsessions);
		transport_fini(&t);
		return;
	}
	l->sessions[l->nsessions++] = s;
}

/* true: a signal asks us to end */
static bool take_signals(struct loop *l)
{
	struct signalfd_siginfo si;
	bool end = false;

	while (read(l->sigfd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGCHLD)
			end = true;
	reap(l);
	return end;
}

static int loop_run(struct loop *l)
{
	struct pollfd p[SESSIONS_MAX + 2];

	for (;;) {
		size_t n = l->nsessions;

		p[0] = (struct pollfd){ .fd = l->sigfd, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = l->conf->listen_fd,
					.events = POLLIN };
		for (size_t i = 0; i < n; i++)
			p[i + 2] = (struct pollfd){
				.fd = l->sessions[i]->t.fd, .events = POLLIN };
		if (poll(p, n + 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (p[0].revents && take_signals(l))
			return 0;
		/* From the end: dropping one moves the last into its place. */
		for (size_t i = n; i-- > 0;) {
			int err;

			if (!p[i + 2].revents)
				continue;
			err = session_serve(l->sessions[i]);
			if (err) {
				if (err != -EPIPE)
					log_warn("a session ended: %s",
						 strerror(-err));
				drop_session(l, i);
			}
		}
		if (l->conf->listen_fd < 0 && l->nsessions == 0)
			return 0;
		if (p[1].revents)
			accept_session(l);
	}
}

int serve_run(const struct serve *conf, struct transport *first)
{
	struct loop l = { .conf = conf, .sigfd = -1 };
	sigset_t set;
	int err = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	l.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l.sigfd < 0)
		return -errno;
	if (first) {
		l.sessions[0] = session_new(conf, first);
		if (!l.sessions[0])
			err = -ENOMEM;
		else
			l.nsessions = 1;
	}
	if (!err)
		err = loop_run(&l);
	while (l.nsessions)
		drop_session(&l, l.nsessions - 1);
	close_fd(&l.sigfd);
	return err;
}
