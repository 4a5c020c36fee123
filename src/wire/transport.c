/* SPDX-License-Identifier: MIT */
/* transport.c - the table of transports, and what is common to them */
#include "wire/transport.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "wire/loopback.h"

static const struct transport_ops *const transports[] = {
	&loopback_ops,
};

const struct transport_ops *transport_find(const char *spec,
					   const char **args)
{
	size_t len = strcspn(spec, ":");

	for (size_t i = 0; i < sizeof(transports) / sizeof(*transports); i++) {
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
	return "loopback";
}

void transport_adopt(struct transport *t, int sock)
{
	*t = (struct transport){ .ops = &loopback_ops, .fd = sock,
				 .carries_fds = true };
}

void transport_fini(struct transport *t)
{
	if (t->ops)
		t->ops->close(t);
	t->ops = NULL;
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
