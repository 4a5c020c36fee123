/* SPDX-License-Identifier: MIT */
/*
 * link.h - frames between a client, the mux on the host and the guest's agent
 *
 *	client (guest.c) -- unix socket -- mux.c -- serial line -- agent.c
 *
 * One byte stream leads into the virtual machine. It carries frames of many
 * commands, told apart by an id that the mux gives. Nobody may stop reading
 * it because one command's reader is slow: what is sent as MSG_DATA has to be
 * covered by credit, which the reader's end gave before and gives again once
 * it has passed the bytes on. So nothing blocks and what is queued is bounded.
 *
 * All three are built together and run on one machine: the byte order is its
 * own, and the peers trust each other to send whole frames.
 */
#ifndef VM_LINK_H
#define VM_LINK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINK_DATA	(16u << 10)	/* most bytes in one MSG_DATA */
#define LINK_WINDOW	(256u << 10)	/* credit that a stream begins with */
#define LINK_MAX	(8u << 20)	/* most bytes in any frame */
#define LINK_NSTREAM	3		/* standard input, output, error */

enum msg_type {
	MSG_HELLO = 1,	/* agent: it runs; the payload is text */
	MSG_START,	/* client: struct start and what follows it */
	MSG_DATA,	/* arg is the stream; empty: end of file */
	MSG_CREDIT,	/* arg is the stream, payload a u32: so much more;
			 * id 0: so many bytes more on the line to the agent */
	MSG_CLOSE,	/* arg is the stream: nobody reads it any more */
	MSG_SIGNAL,	/* client: arg is the signal */
	MSG_EXIT,	/* agent: payload a u32 as of wait(); arg: more data */
	MSG_DONE,	/* agent: nothing will follow for this id */
	MSG_GONE,	/* mux: the client has gone */
	MSG_HALT,	/* mux: end the virtual machine */
};

struct frame {
	uint32_t size;		/* of the payload */
	uint16_t type;
	uint16_t arg;
	uint32_t id;
};

#define START_MERGE	1u	/* output and error are one stream */
#define START_KILL	2u	/* the client gone means SIGKILL at once */

/* Then ngroups u32s; then the directory, arguments, environment: strings. */
struct start {
	uint64_t ignored;	/* bit n - 1: signal n is ignored */
	uint32_t flags;
	uint32_t umask;
	uint32_t uid, gid;	/* these three are the mux's to fill in */
	uint32_t ngroups;
	uint32_t argc, envc;
};

struct queue {
	char *data;
	size_t start, len, size;
};

static inline void *link_room(struct queue *q, size_t len)
{
	if (q->start + q->len + len > q->size) {
		if (q->start)
			memmove(q->data, q->data + q->start, q->len);
		q->start = 0;
	}
	if (q->len + len > q->size) {
		q->size = (q->len + len) * 2;
		q->data = realloc(q->data, q->size);
		if (!q->data) {
			fprintf(stderr, "vm: out of memory\n");
			exit(125);
		}
	}
	return q->data + q->start + q->len;
}

static inline void link_put(struct queue *q, const void *data, size_t len)
{
	if (len) {
		memcpy(link_room(q, len), data, len);
		q->len += len;
	}
}

static inline void link_take(struct queue *q, size_t len)
{
	q->start += len;
	q->len -= len;
}

static inline void link_free(struct queue *q)
{
	free(q->data);
	*q = (struct queue){ 0 };
}

static inline void link_send(struct queue *q, uint32_t id, enum msg_type type,
			     unsigned int arg, const void *data, size_t len)
{
	struct frame f = {
		.size = (uint32_t)len,
		.type = (uint16_t)type,
		.arg = (uint16_t)arg,
		.id = id,
	};

	link_put(q, &f, sizeof(f));
	link_put(q, data, len);
}

static inline void link_send_u32(struct queue *q, uint32_t id,
				 enum msg_type type, unsigned int arg,
				 uint32_t value)
{
	link_send(q, id, type, arg, &value, sizeof(value));
}

static inline uint32_t link_u32(const struct frame *f, const char *payload)
{
	uint32_t value = 0;

	if (f->size >= sizeof(value))
		memcpy(&value, payload, sizeof(value));
	return value;
}

/*
 * link_frame() - the next whole frame in the queue
 *
 * 1: *f and *payload are set, and stay so until link_take() of both sizes;
 * 0: there is none yet; -EPROTO: what came are not frames.
 */
static inline int link_frame(struct queue *q, struct frame *f, char **payload)
{
	if (q->len < sizeof(*f))
		return 0;
	memcpy(f, q->data + q->start, sizeof(*f));
	if (f->size > LINK_MAX || !f->type || f->type > MSG_HALT)
		return -EPROTO;
	if (q->len < sizeof(*f) + f->size)
		return 0;
	*payload = q->data + q->start + sizeof(*f);
	return 1;
}

/* link_read() - what there is, at most max; -EAGAIN: nothing; 0: the end */
static inline ssize_t link_read(int fd, struct queue *q, size_t max)
{
	ssize_t n = read(fd, link_room(q, max), max);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	q->len += (size_t)n;
	return n;
}

/* link_write() - what goes out without waiting, at most max bytes */
static inline ssize_t link_write(int fd, struct queue *q, size_t max)
{
	ssize_t n = write(fd, q->data + q->start, q->len < max ? q->len : max);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	link_take(q, (size_t)n);
	return n;
}

#endif
