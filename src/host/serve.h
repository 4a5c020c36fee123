/* SPDX-License-Identifier: MIT */
/* serve.h - the daemon's loop: sessions, their requests, their shadows */
#ifndef HOST_SERVE_H
#define HOST_SERVE_H

#include "wire/rules.h"
#include "wire/transport.h"

struct vm;

struct serve {
	const struct rules *policy;	/* borrowed */
	struct vm *vm;			/* borrowed; NULL: loopback, where
					 * guests bring their RAM along */
	struct listener *listener;	/* borrowed; NULL: there is none */
};

/*
 * serve_run() - until SIGTERM or SIGINT, or until the one session or the VM ends
 *
 * first: a session that is open already, taken over, or NULL: then sessions
 * are accepted at the listener, each in a process of its own. 0 or -errno.
 */
int serve_run(const struct serve *conf, struct transport *first);

#endif
