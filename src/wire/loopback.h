/* SPDX-License-Identifier: MIT */
/* loopback.h - tracer and daemon on one machine: an AF_UNIX seqpacket pair */
#ifndef WIRE_LOOPBACK_H
#define WIRE_LOOPBACK_H

#include "wire/transport.h"

/*
 * connect: ARGS is the socket of a daemon started by hand. listen: the same;
 * the socket file is made with mode 0600, and a dead daemon's is replaced.
 * -EADDRINUSE: a daemon listens there already.
 */
extern const struct transport_ops loopback_ops;

/*
 * loopback_bind() - a listening socket file, mode 0600, of a SOCK_* type
 *
 * *out: the caller's. 0; -EADDRINUSE: somebody listens there; -errno.
 */
int loopback_bind(const char *path, int type, int *out);

#endif
