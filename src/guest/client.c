/* SPDX-License-Identifier: MIT */
/* client.c - the guest side of the control stream */
#include "guest/client.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define ASKED_MAX 8	/* net.unix.max_dgram_qlen may be 10 (unix(7)) */

/* What it does with the shadows, and when, is not known. */
static void lose(struct client *c)
{
	c->dead = c->unsure = true;
}

void client_settle(struct client *c)
{
	if (c->unsure && transport_settled(&c->t))
		c->unsure = false;
}

void client_note_gone(struct client *c, uint32_t shadow)
{
	if (c->ngone < sizeof(c->gone) / sizeof(*c->gone))
		c->gone[c->ngone++] = shadow;
	else
		lose(c);	/* nothing is left to be served by */
}

bool client_next_signal(struct client *c, struct msg_signal *out)
{
	if (!c->nsignals)
		return false;
	*out = c->signals[0];
	c->nsignals--;
	memmove(c->signals, c->signals + 1, c->nsignals * sizeof(*out));
	return true;
}

/* What comes unasked; false: it was asked for. */
static bool take_unasked(struct client *c, const struct msg *m)
{
	if (m->type == MSG_GONE)
		client_note_gone(c, m->gone.shadow);
	else if (m->type != MSG_SIGNAL)
		return false;
	else if (c->nsignals < sizeof(c->signals) / sizeof(*c->signals))
		c->signals[c->nsignals++] = m->signal;
	return true;
}

static int receive(struct client *c, struct msg *m, int *fd)
{
	int err = transport_recv(&c->t, m, fd);

	if (err || (m->type != MSG_REPLY && m->type != MSG_REPLY_TEXT &&
		    m->type != MSG_GONE && m->type != MSG_SIGNAL)) {
		lose(c);
		return -EIO;
	}
	return 0;
}

static int send_request(struct client *c, struct msg *m, int fd)
{
	int err;

	if (c->dead)
		return -EIO;
	err = transport_send(&c->t, m, fd);
	if (!err || err == -EOPNOTSUPP)
		return err;
	lose(c);
	return -EIO;
}

static int receive_reply(struct client *c, int *got)
{
	struct msg reply;
	int with;

	do {
		if (receive(c, &reply, &with) < 0)
			return -EIO;
	} while (take_unasked(c, &reply));
	c->text[0] = '\0';
	if (reply.type == MSG_REPLY_TEXT) {
		memcpy(c->text, reply.reply_text.text, sizeof(c->text));
		c->text[sizeof(c->text) - 1] = '\0';
	}
	c->value = reply.reply.value;
	c->flags = reply.reply.flags;
	c->device = reply.reply.device;
	if (got)
		*got = with;
	else
		close_fd(&with);
	return reply.reply.error;
}

static void note_error(struct client *c, int err, bool drop)
{
	if (drop && err && err != -ESRCH)
		c->drop_failed = c->unsure = true;
	else if (!drop && !c->asked_err)
		c->asked_err = err;
}

static void take_asked(struct client *c)
{
	for (; c->asked; c->asked--, c->drops >>= 1)
		note_error(c, receive_reply(c, NULL), c->drops & 1);
}

static int ask(struct client *c, struct msg *m, int fd, bool drop)
{
	int err = client_started(c);

	/* Both sides would wait for room in the end, for ever. */
	if (!err && c->asked == ASKED_MAX)
		take_asked(c);
	if (!err)
		err = send_request(c, m, fd);
	if (!err)
		c->drops |= (uint32_t)drop << c->asked++;
	return err;
}

int client_ask(struct client *c, struct msg *m, int fd)
{
	return ask(c, m, fd, false);
}

int client_asked(struct client *c)
{
	int err;

	take_asked(c);
	err = c->asked_err;
	c->asked_err = 0;
	return err;
}

void client_drop(struct client *c, struct msg *m)
{
	const int err = ask(c, m, -1, true);

	if (err)
		note_error(c, err, true);
}

bool client_dropped(struct client *c)
{
	bool all;

	take_asked(c);
	all = !c->drop_failed;
	c->drop_failed = false;
	return all;
}

int client_request(struct client *c, struct msg *m, int fd, int *got)
{
	int err = client_started(c);

	if (!err)
		err = send_request(c, m, fd);
	take_asked(c);
	return err ? err : receive_reply(c, got);
}

void client_notify(struct client *c, struct msg *m)
{
	if (!c->dead && transport_send(&c->t, m, -1) < 0)
		lose(c);
}

void client_poll(struct client *c)
{
	take_asked(c);
	while (!c->dead && !c->starting && transport_pending(&c->t)) {
		struct msg m;
		int with;

		if (receive(c, &m, &with) < 0)
			return;
		close_fd(&with);
		if (!take_unasked(c, &m))
			lose(c);	/* to nothing that we asked */
	}
}

/* All that the daemon's policy allows. */
static int ask_policy(struct client *c, struct rules *rules)
{
	char err[RULES_ERR_MAX];
	int rc = 0;

	for (uint32_t i = 0; !rc; i++) {
		struct msg m = { .type = MSG_POLICY };

		m.policy.n = i;
		rc = client_request(c, &m, -1, NULL);
		if (rc == -ENOENT)
			return 0;
		if (!rc)
			rc = rules_add(rules, c->text, err);
	}
	return rc;
}

int client_hello(struct client *c, int ram_fd, uint64_t ram_size,
		 struct rules *rules)
{
	struct msg m = { .type = MSG_HELLO };
	int err;

	m.hello.magic = MSG_MAGIC;
	m.hello.version = MSG_VERSION;
	m.hello.ram_size = ram_size;
	err = client_request(c, &m, ram_fd, NULL);
	if (!err && rules->n == 0)
		err = ask_policy(c, rules);
	for (size_t i = 0; !err && i < rules->n; i++) {
		m = (struct msg){ .type = MSG_RULE };
		if (rules_format(&rules->v[i], m.rule.text, MSG_RULE_MAX) >=
		    MSG_RULE_MAX)
			return -ENAMETOOLONG;
		err = client_request(c, &m, -1, NULL);
	}
	return err;
}

int client_start(struct client *c)
{
	const int cpu = c->t.carries_fds ? sched_getcpu() : -1;
	struct msg m = { .type = MSG_START };
	int err;

	m.start.cpu = (uint32_t)(cpu + 1);
	err = send_request(c, &m, -1);
	c->starting = !err;
	return err;
}

int client_started(struct client *c)
{
	int err;

	if (!c->starting)
		return 0;
	c->starting = false;
	err = receive_reply(c, NULL);
	c->refused = err;
	if (err)
		c->dead = true;
	return err;
}
