/* SPDX-License-Identifier: MIT */
/* wait.h - waiting for memory that somebody else writes, and for descriptors */
#ifndef WIRE_WAIT_H
#define WIRE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/* What was found: bits, for transport_wait() and listener_wait() too. */
#define WAIT_READY	1	/* a message, a claim, or an end */
#define WAIT_OTHER	2	/* the other descriptor is readable */

/*
 * How to wait for a word of memory: spin for a moment after something
 * happened, then sleep, the longer the longer it has been quiet. One CPU:
 * never spin.
 */
struct backoff {
	uint64_t active_ns;	/* when something last happened */
	uint64_t busy_max_ns;	/* longest sleep */
	uint64_t idle_max_ns;	/* the same, idle for a second or more */
	bool spins;
};

void backoff_init(struct backoff *b, uint64_t busy_max_ns,
		  uint64_t idle_max_ns);
void backoff_active(struct backoff *b);
/* backoff_rest() - no spinning for what just happened: others need the core */
void backoff_rest(struct backoff *b);
/* backoff_spins() - is this still the moment to spin? */
bool backoff_spins(const struct backoff *b);
/* backoff_step() - how long to sleep now, ns */
uint64_t backoff_step(const struct backoff *b);

/*
 * wait_fds() - poll two descriptors, each may be -1
 *
 * timeout_ns: UINT64_MAX waits for ever. WAIT_READY for fd, WAIT_OTHER for
 * other; 0 after the time, or when a signal came; -errno.
 */
int wait_fds(int fd, int other, uint64_t timeout_ns);

/* wait_drain() - forget what an epoll descriptor has to say by edge */
void wait_drain(int epoll_fd);

#endif
