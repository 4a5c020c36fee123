/* SPDX-License-Identifier: MIT */
/* client.h - the guest side of the control stream: requests and their replies */
#ifndef GUEST_CLIENT_H
#define GUEST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/rules.h"
#include "wire/transport.h"

struct client {
	struct transport t;
	bool dead;		/* the daemon is gone; every request is -EIO */
	bool starting;		/* the reply to client_start() is not here yet */
	int refused;		/* ... and it was this -errno, not 0 */
	bool unsure;		/* shadows may live that we know nothing of:
				 * set with dead, or by who was told so */
	uint32_t gone[64];	/* shadows that died, not yet taken */
	size_t ngone;
	struct msg_signal signals[64];	/* of descriptors, not yet taken */
	size_t nsignals;
	char text[MSG_TEXT_MAX];	/* of the last reply */
	uint32_t value, flags, device;	/* the same */
	unsigned int asked;	/* replies that have yet to be taken, ... */
	uint32_t drops;		/* ... bit i: the i-th is that to a drop */
	int asked_err;
	bool drop_failed;
};

/*
 * client_request() - send, and wait for the reply
 *
 * fd: sent along, or -1. got: where a descriptor in the reply goes, or NULL.
 * Returns the reply's 0 or -errno; -EIO when the daemon is gone; -EOPNOTSUPP
 * for a descriptor where the transport carries none.
 */
int client_request(struct client *c, struct msg *m, int fd, int *got);

/*
 * client_ask() - the same, but the reply is taken before that of the next request
 * client_asked() - 0, or the first error of what has been asked since
 */
int client_ask(struct client *c, struct msg *m, int fd);
int client_asked(struct client *c);

/*
 * client_drop() - send that something is to be no more
 * client_dropped() - is all of that no more? false: it may live on (unsure)
 *
 * The replies are taken by client_dropped(), or before that of the next request.
 * -ESRCH in one: it was no more.
 */
void client_drop(struct client *c, struct msg *m);
bool client_dropped(struct client *c);

/* client_notify() - send what has no reply */
void client_notify(struct client *c, struct msg *m);

/*
 * client_hello() - RAM and rules; -errno with client.text to show
 *
 * No rules: what the daemon's policy allows is asked for, and put there.
 */
int client_hello(struct client *c, int ram_fd, uint64_t ram_size,
		 struct rules *rules);

/*
 * client_start() - what the first shadow comes from is to be made
 * client_started() - it is; other requests wait for that, too
 *
 * It takes the daemon as long as it takes to launch a program. When it cannot:
 * -errno with client.text to show, and dead.
 */
int client_start(struct client *c);
int client_started(struct client *c);

/*
 * client_poll() - take what came unasked, without waiting
 *
 * Afterwards dead and gone are up to date.
 */
void client_poll(struct client *c);

/* client_next_signal() - take one; false: there is none */
bool client_next_signal(struct client *c, struct msg_signal *out);

/* client_note_gone() - a shadow has ended; the loop looks after its target */
void client_note_gone(struct client *c, uint32_t shadow);

/* client_settle() - unsure no longer, if the host side says that all is over */
void client_settle(struct client *c);

#endif
