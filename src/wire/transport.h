/* SPDX-License-Identifier: MIT */
/*
 * transport.h - how tracer and daemon reach each other
 *
 * A transport carries messages (wire/msg.h) in order and, where it can,
 * descriptors. Implementations stand in one table. Some have a descriptor to
 * poll, some have memory to look at: transport_wait() and listener_wait() know.
 */
#ifndef WIRE_TRANSPORT_H
#define WIRE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/msg.h"
#include "wire/wait.h"

/* Start with TRANSPORT_NONE: then transport_fini() is always allowed. */
#define TRANSPORT_NONE	((struct transport){ .fd = -1 })
#define LISTENER_NONE	((struct listener){ .fd = -1, .ram_fd = -1 })

struct transport {
	const struct transport_ops *ops;
	int fd;			/* owned; readable when there is something, or -1 */
	void *priv;		/* owned by the implementation */
	struct backoff backoff;	/* where memory is looked at */
	bool carries_fds;
	bool keep;		/* guest: see transport_settled() */
	char *memory;		/* guest: owned path of what it shares with the
				 * host, or NULL */
	uint64_t bytes_sent;	/* for --stats */
	uint64_t bytes_received;
};

/* Where sessions come from: of the daemon. */
struct listener {
	const struct transport_ops *ops;
	int fd;			/* owned; readable when there is something, or -1 */
	int ram_fd;		/* borrowed, or -1 */
	uint64_t window;	/* bytes that are wanted beside channels */
	void *priv;
	struct backoff backoff;
};

struct transport_ops {
	const char *name;
	/*
	 * Guest side: reach a daemon. args is what followed "NAME:", or NULL.
	 * 0 or -errno: see transport_connect().
	 */
	int (*connect)(struct transport *t, const char *args);
	/* Host side: 0 or -errno; see listener_open(). */
	int (*listen)(struct listener *l, const char *args);
	/* A session, or -EAGAIN: there is none just now. */
	int (*accept)(struct listener *l, struct transport *t);
	/*
	 * After the fork for a session: in the parent, which keeps nothing of
	 * t, with the process that serves it (-1: nobody will); and in that
	 * process, which keeps nothing of l. ended: that process is no more.
	 */
	void (*handed)(struct listener *l, struct transport *t, pid_t pid);
	void (*leave)(struct listener *l);
	void (*ended)(struct listener *l, pid_t pid);
	void (*ram)(struct listener *l);	/* ram_fd has changed; or NULL */
	/* listener_room(), or NULL: there is none */
	int (*room)(struct listener *l, uint64_t *start, uint64_t *end);
	void (*unlisten)(struct listener *l);
	/* One whole message: bytes, 0 when the peer has gone, or -errno. */
	ssize_t (*send)(struct transport *t, const struct msg *msg, int fd);
	ssize_t (*recv)(struct transport *t, struct msg *msg, int *fd);
	void (*close)(struct transport *t);
	/*
	 * Where a descriptor cannot say it all, or NULL: would recv, or
	 * accept, have something to say (a message, an end, an error)? They
	 * also do what is to be done regularly.
	 */
	bool (*pending)(struct transport *t);
	bool (*claimed)(struct listener *l);
	/* A sign of life for the peer, or NULL. */
	void (*beat)(struct transport *t);
	/* transport_settled(), or NULL: always */
	bool (*settled)(struct transport *t);
};

/*
 * transport_find() - the implementation that SPEC = NAME[:ARGS] names
 *
 * *args points into spec behind the colon, or is NULL. NULL: no such name.
 */
const struct transport_ops *transport_find(const char *spec,
					   const char **args);

/* transport_names() - "loopback, ...", for messages */
const char *transport_names(void);

/* transport_adopt() - a session over a socket that is connected already */
void transport_adopt(struct transport *t, int sock);

/*
 * transport_connect() - the guest side reaches a daemon
 *
 * 0, or -errno. Worth another try after a while, for nobody is there yet:
 * -ENOENT, -ECONNREFUSED, -EAGAIN; or all places are taken: -EBUSY. For good:
 * -ENODEV: args name no device, and none was found; -EPROTO: the daemon is of
 * another version; others as of open(2) and connect(2).
 */
int transport_connect(struct transport *t, const struct transport_ops *ops,
		      const char *args);

/* transport_retry() - is it worth another try? */
bool transport_retry(int err);

void transport_fini(struct transport *t);

/*
 * transport_send() - send msg, whose type is set; its length is filled in
 *
 * fd: passed along, stays the caller's; -1 for none. 0 or -errno (-EPIPE: the
 * peer has gone, or does not read; -EOPNOTSUPP: no descriptor goes this way).
 */
int transport_send(struct transport *t, struct msg *msg, int fd);

/*
 * transport_recv() - the next message, waiting for it
 *
 * *fd: a descriptor that came with it, the caller's, or -1. 0, -EPIPE when
 * the peer has gone, -EPROTO for a message that is not as its type says.
 */
int transport_recv(struct transport *t, struct msg *msg, int *fd);

/*
 * transport_pending() - would transport_recv() return at once?
 *
 * With a message, or because the peer has gone.
 */
bool transport_pending(struct transport *t);

/*
 * transport_wait() - until transport_pending(), or other is readable
 *
 * other: -1 for none. WAIT_READY and WAIT_OTHER, or 0 when a signal came or
 * the implementation wants to be called again; -errno.
 */
int transport_wait(struct transport *t, int other);

/*
 * transport_beat() - tell the peer that we live
 *
 * To be called every few seconds at least where nothing is sent or received.
 */
void transport_beat(struct transport *t);

/*
 * transport_settled() - the guest side: is all over on the host?
 *
 * Then no shadow of this session is left there to touch what it was told of,
 * and no transport_recv() will have anything. As long as it is not so, what
 * the caller has open holds the frames that shadows map; if that is to outlive
 * the caller, .keep set makes transport_fini() leave it to a process that
 * waits for it. (One that is killed need not say so.)
 */
bool transport_settled(struct transport *t);

/*
 * listener_open() - the daemon's side of SPEC = NAME:ARGS
 *
 * ram_fd: an open file of the daemon's own, borrowed, through which all of its
 * shadows have the guest's memory, or -1: there is none. window: where the
 * memory is ours to make, so many bytes of it are for listener_room().
 *
 * 0 or -errno. -EINPROGRESS: worth another try, shadows of an earlier daemon
 * have yet to end. -EADDRINUSE: another daemon serves there. -EINVAL: args are not
 * understood, or the file cannot be used. -ENOSPC: the file is too small.
 * -EEXIST: the file holds something else.
 */
int listener_open(struct listener *l, const struct transport_ops *ops,
		  const char *args, int ram_fd, uint64_t window);
/* listener_ram() - it is another file from now on */
void listener_ram(struct listener *l, int ram_fd);
/*
 * listener_room() - what of the memory that guest and host share is for others
 *
 * A descriptor of it, borrowed, or -1: [*start, *end) in it, whole pages.
 */
int listener_room(struct listener *l, uint64_t *start, uint64_t *end);
int listener_wait(struct listener *l, int other);	/* see above */
int listener_accept(struct listener *l, struct transport *t);
void listener_handed(struct listener *l, struct transport *t, pid_t pid);
void listener_leave(struct listener *l);
void listener_ended(struct listener *l, pid_t pid);
/* listener_fini() - take away what runs would look for */
void listener_fini(struct listener *l);

#endif
