/* SPDX-License-Identifier: MIT */
/*
 * transport.h - how tracer and daemon reach each other
 *
 * A transport carries messages (wire/msg.h) in order and, where it can,
 * descriptors. Implementations stand in one table; loopback is the first.
 */
#ifndef WIRE_TRANSPORT_H
#define WIRE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/msg.h"

struct transport {
	const struct transport_ops *ops;
	int fd;			/* owned; readable when a message is there */
	bool carries_fds;
	uint64_t bytes_sent;	/* for --stats */
	uint64_t bytes_received;
};

struct transport_ops {
	const char *name;
	/*
	 * Guest side: reach a daemon. args is what followed "NAME:", or NULL.
	 * Host side: listen() makes a descriptor to poll, accept() a session.
	 * 0 or -errno.
	 */
	int (*connect)(struct transport *t, const char *args);
	int (*listen)(const char *args, int *fd);
	int (*accept)(struct transport *t, int listen_fd);
	/* One whole message: bytes, 0 when the peer has gone, or -errno. */
	ssize_t (*send)(struct transport *t, const struct msg *msg, int fd);
	ssize_t (*recv)(struct transport *t, struct msg *msg, int *fd);
	void (*close)(struct transport *t);
};

/*
 * transport_find() - the implementation that SPEC = NAME[:ARGS] names
 *
 * *args points into spec behind the colon, or is NULL. NULL: no such name.
 */
const struct transport_ops *transport_find(const char *spec,
					   const char **args);

/* transport_names() - "loopback", for messages */
const char *transport_names(void);

/* transport_adopt() - a session over a socket that is connected already */
void transport_adopt(struct transport *t, int sock);

void transport_fini(struct transport *t);

/*
 * transport_send() - send msg, whose type is set; its length is filled in
 *
 * fd: passed along, stays the caller's; -1 for none. 0 or -errno (-EPIPE: the
 * peer has gone).
 */
int transport_send(struct transport *t, struct msg *msg, int fd);

/*
 * transport_recv() - the next message, waiting for it
 *
 * *fd: a descriptor that came with it, the caller's, or -1. 0, -EPIPE when
 * the peer has gone, -EPROTO for a message that is not as its type says.
 */
int transport_recv(struct transport *t, struct msg *msg, int *fd);

#endif
