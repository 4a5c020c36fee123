/* SPDX-License-Identifier: MIT */
/*
 * ring.h - messages in memory that two parties share who do not trust each other
 *
 * One producer, one consumer. Counters run freely and wrap; each side keeps
 * its own outside the shared memory and only publishes it there.
 */
#ifndef WIRE_RING_H
#define WIRE_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/msg.h"

#define RING_CELLS	8u		/* a power of two */
#define RING_CELL_BYTES	3136		/* a message, in whole cache lines */
#define RING_START	0xfffffff0u	/* wraps early, and so in every test */

struct ring {
	_Alignas(64) uint32_t head;	/* written: the producer's */
	_Alignas(64) uint32_t tail;	/* taken: the consumer's */
	_Alignas(64) uint8_t cells[RING_CELLS][RING_CELL_BYTES];
};

/* One side's view. */
struct ring_end {
	struct ring *ring;	/* borrowed, shared */
	uint32_t at;		/* our counter: never read from the ring */
};

/* ring_init() - empty; nobody may use it meanwhile */
void ring_init(struct ring *r);

static inline void ring_open(struct ring_end *e, struct ring *r)
{
	*e = (struct ring_end){ .ring = r, .at = RING_START };
}

/* ring_put() - 0; -EAGAIN: full; -EPROTO: the consumer's counter is nonsense */
int ring_put(struct ring_end *e, const struct msg *msg);

/*
 * ring_take() - copy the next message out
 *
 * Bytes, at most sizeof(*msg) and at least MSG_HEAD: what msg->len says is
 * yet to be compared with them. -EAGAIN: there is none; -EPROTO: the
 * producer's counter or the length is nonsense.
 */
ssize_t ring_take(struct ring_end *e, struct msg *msg);

/* ring_waits() - would ring_take() return anything but -EAGAIN? */
bool ring_waits(const struct ring_end *e);

#endif
