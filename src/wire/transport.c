/* SPDX-License-Identifier: MIT */
/* transport.c - the table of transports, and what is common to them */
#include "wire/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "wire/hypercall.h"
#include "wire/loopback.h"
#include "wire/shm.h"

static const struct transport_ops *const transports[] = {
	&loopback_ops, &shm_ops, &hypercall_ops,
};

const struct transport_ops *transport_find(const char *spec,
					   const char **args)
{
	size_t len = strcspn(spec, ":");

	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		if (strlen(transports[i]->name) != len ||
		    strncmp(transports[i]->name, spec, len) != 0)
			continue;
		*args = spec[len] ? spec + len + 1 : NULL;
		return transports[i];
	}
	return NULL;
}

const char *transport_names(void)
{
	return "loopback, shm, hypercall";
}

void transport_adopt(struct transport *t, int sock)
{
	*t = (struct transport){ .ops = &loopback_ops, .fd = sock,
				 .carries_fds = true };
}

int transport_connect(struct transport *t, const struct transport_ops *ops,
		      const char *args)
{
	int err;

	*t = TRANSPORT_NONE;
	err = ops->connect(t, args);
	if (err)
		t->ops = NULL;
	return err;
}

bool transport_retry(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED || err == -EAGAIN ||
	       err == -EBUSY;
}

void transport_fini(struct transport *t)
{
	if (t->ops)
		t->ops->close(t);
	t->ops = NULL;
	free(t->memory);
	t->memory = NULL;
}

int transport_send(struct transport *t, struct msg *msg, int fd)
{
	ssize_t n;

	msg->len = (uint32_t)msg_size(msg->type);
	n = t->ops->send(t, msg, fd);
	if (n < 0)
		return (int)n;
	t->bytes_sent += (uint64_t)n;
	return 0;
}

int transport_recv(struct transport *t, struct msg *msg, int *fd)
{
	ssize_t n = t->ops->recv(t, msg, fd);

	if (n == 0)
		return -EPIPE;
	if (n < 0)
		return (int)n;
	t->bytes_received += (uint64_t)n;
	if ((size_t)n < MSG_HEAD || msg->len != (size_t)n ||
	    msg_size(msg->type) != (size_t)n) {
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		return -EPROTO;
	}
	return 0;
}

bool transport_pending(struct transport *t)
{
	if (t->ops->pending)
		return t->ops->pending(t);
	return wait_fds(t->fd, -1, 0) != 0;
}

/*
 * Memory that the peer writes, a descriptor (an epoll, or none) that may tell
 * of it, and another one. The other one first: memory that is never at rest
 * must not keep signals from being seen.
 */
static int wait_memory(bool (*look)(void *), void *at, int fd, int other,
		       struct backoff *b)
{
	int found = wait_fds(-1, other, 0);
	bool ready;

	if (found < 0)
		return found;
	do
		ready = look(at);
	while (!ready && !found && backoff_spins(b));
	if (!ready && !found) {
		found = wait_fds(fd, other, backoff_step(b));
		if (found < 0)
			return found;
		/* What was said is for look() to find, and is said once. */
		if (found & WAIT_READY)
			wait_drain(fd);
		ready = look(at);
	}
	if (ready)
		backoff_active(b);
	return (found & WAIT_OTHER) | (ready ? WAIT_READY : 0);
}

static bool look_transport(void *t)
{
	return ((struct transport *)t)->ops->pending(t);
}

static bool look_listener(void *l)
{
	return ((struct listener *)l)->ops->claimed(l);
}

int transport_wait(struct transport *t, int other)
{
	if (t->ops->pending)
		return wait_memory(look_transport, t, t->fd, other,
				   &t->backoff);
	return wait_fds(t->fd, other, UINT64_MAX);
}

void transport_beat(struct transport *t)
{
	if (t->ops && t->ops->beat)
		t->ops->beat(t);
}

bool transport_settled(struct transport *t)
{
	return !t->ops || !t->ops->settled || t->ops->settled(t);
}

int listener_open(struct listener *l, const struct transport_ops *ops,
		  const char *args, int ram_fd, uint64_t window)
{
	int err;

	*l = LISTENER_NONE;
	l->ram_fd = ram_fd;
	l->window = window;
	err = ops->listen(l, args);
	if (!err)
		l->ops = ops;
	return err;
}

void listener_ram(struct listener *l, int ram_fd)
{
	l->ram_fd = ram_fd;
	if (l->ops->ram)
		l->ops->ram(l);
}

int listener_room(struct listener *l, uint64_t *start, uint64_t *end)
{
	return l && l->ops && l->ops->room ? l->ops->room(l, start, end) : -1;
}

int listener_wait(struct listener *l, int other)
{
	if (l->ops->claimed)
		return wait_memory(look_listener, l, l->fd, other,
				   &l->backoff);
	return wait_fds(l->fd, other, UINT64_MAX);
}

int listener_accept(struct listener *l, struct transport *t)
{
	int err;

	*t = TRANSPORT_NONE;
	err = l->ops->accept(l, t);
	if (err)
		t->ops = NULL;
	return err;
}

void listener_handed(struct listener *l, struct transport *t, pid_t pid)
{
	l->ops->handed(l, t, pid);
	*t = TRANSPORT_NONE;
}

void listener_leave(struct listener *l)
{
	l->ops->leave(l);
	*l = LISTENER_NONE;
}

void listener_ended(struct listener *l, pid_t pid)
{
	if (l->ops->ended)
		l->ops->ended(l, pid);
}

void listener_fini(struct listener *l)
{
	if (l->ops)
		l->ops->unlisten(l);
	*l = LISTENER_NONE;
}
