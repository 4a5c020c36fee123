/* SPDX-License-Identifier: MIT */
/*
 * ring.c - messages in memory that two parties share who do not trust each other
 *
 * Theory of operation. The producer fills the cell at head modulo the number
 * of cells and then publishes head + 1; the consumer copies the cell out and
 * then publishes tail + 1. What the other party may do at any moment is write
 * anything anywhere. So:
 *
 *  - our own counter is kept in memory of our own; of the shared counters
 *    only the other party's is read, once, and a distance that a ring cannot
 *    have ends the session;
 *  - a length is read once, compared with constants, and then only our copy
 *    of it counts; the message is checked after it was copied, never in place;
 *  - a cell index is a counter of our own, masked: it cannot leave the ring.
 *
 * What the other party can achieve is to send us nonsense, which it could
 * have sent anyway.
 *
 * The memory may be a device's BAR that is mapped uncached: whole aligned
 * words, and no more of them than the message has.
 */
#include "wire/ring.h"

#include <errno.h>

_Static_assert(sizeof(struct msg) <= RING_CELL_BYTES, "a message fits a cell");
_Static_assert(sizeof(struct msg) % 8 == 0, "messages are whole words");
_Static_assert(RING_CELL_BYTES % 64 == 0, "cells are whole cache lines");
_Static_assert((RING_CELLS & (RING_CELLS - 1)) == 0, "counters wrap");

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *p, uint32_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

typedef uint64_t word __attribute__((may_alias));

/* volatile: each word is read or written once, whatever a compiler prefers. */
static void copy_words(volatile word *to, const volatile word *from,
		       size_t bytes)
{
	for (size_t i = 0; i < (bytes + 7) / 8; i++)
		to[i] = from[i];
}

static void *cell(const struct ring_end *e)
{
	return e->ring->cells[e->at & (RING_CELLS - 1)];
}

void ring_init(struct ring *r)
{
	store(&r->head, RING_START);
	store(&r->tail, RING_START);
}

int ring_put(struct ring_end *e, const struct msg *msg)
{
	uint32_t used = e->at - load(&e->ring->tail);

	if (used > RING_CELLS || msg->len > sizeof(*msg))
		return -EPROTO;
	if (used == RING_CELLS)
		return -EAGAIN;
	copy_words(cell(e), (const void *)msg, msg->len);
	store(&e->ring->head, ++e->at);
	return 0;
}

ssize_t ring_take(struct ring_end *e, struct msg *msg)
{
	uint32_t used = load(&e->ring->head) - e->at;
	const struct msg *from = cell(e);
	uint32_t len;

	if (used == 0)
		return -EAGAIN;
	if (used > RING_CELLS)
		return -EPROTO;
	len = load(&from->len);
	if (len < MSG_HEAD || len > sizeof(*msg))
		return -EPROTO;
	copy_words((void *)msg, (const void *)from, len);
	store(&e->ring->tail, ++e->at);
	return (ssize_t)len;
}

bool ring_waits(const struct ring_end *e)
{
	return load(&e->ring->head) != e->at;
}
