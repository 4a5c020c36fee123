/* SPDX-License-Identifier: MIT */
/*
 * channel.h - sessions in a piece of memory that guest and host share
 *
 * What shm and hypercall have in common: the layout of the memory, how a run
 * gets a channel of it, both ends of a channel, the daemon's table of them.
 */
#ifndef WIRE_CHANNEL_H
#define WIRE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/ring.h"
#include "wire/transport.h"

#define SHM_MAGIC	0x776f646168736b64ULL	/* "dkshadow" */
#define SHM_VERSION	1u
#define SHM_DEFAULT	(4ULL << 20)	/* bytes at least, where we make it */
#define CHANNELS_MAX	64u
#define BELLS		8u		/* [0]: claims; others: by channel */

/* All of it is the daemon's to write. */
struct shm_header {
	uint64_t magic;
	uint32_t version;
	uint32_t channels;
	uint64_t used;		/* bytes; what follows is the window
				 * (vm/window.h) */
	uint32_t doorbell;	/* peer id of bell 0; 0: there are none */
	uint32_t pad;
	/* Never 0 while a daemon is there, another one for each. */
	_Alignas(64) uint64_t daemon;
	uint32_t beat;
};

struct channel {
	/* The guest's to write, but for taking away what is dead. */
	_Alignas(64) uint64_t claim;	/* 0: free; a run's nonce */
	uint64_t ready;		/* the same, once boot is there */
	uint64_t boot[2];	/* of the guest, to tell a reboot */
	uint32_t beat;
	/* The host's. */
	_Alignas(64) uint64_t served;	/* the claim that is, or 0: nobody
					 * touches that guest's frames */
	uint64_t refused;	/* the claim that will not be, or 0 */
	struct ring to_host, to_guest;
};

#define SHM_HEADER_BYTES 4096

/*
 * shm_bytes() - how large the memory is to be for all channels and a window
 *
 * A power of two, as PCI wants it; 0: there is no such number.
 */
uint64_t shm_bytes(uint64_t window);

/* shm_channels() - how many channels fit into so many bytes */
uint32_t shm_channels(uint64_t bytes);

static inline struct channel *shm_channel(void *shm, uint32_t i)
{
	return (struct channel *)((char *)shm + SHM_HEADER_BYTES) + i;
}

/* --- the guest's end -------------------------------------------------------*/

/*
 * channel_connect() - claim a channel, and wait until it is served
 *
 * shm: mapped, size bytes; taken over with success, unmapped by close. bell:
 * the doorbell register of the device, or NULL; regs: the mapping that it is
 * in, of a page, taken over too. ops: whose session it will be.
 *
 * 0; -EAGAIN: no daemon is there; -EBUSY: all channels are taken, or the
 * daemon takes no more; -EPROTO: a daemon of another version.
 */
int channel_connect(struct transport *t, const struct transport_ops *ops,
		    void *shm, size_t size, void *regs,
		    volatile uint32_t *bell);

/* --- the host's table ------------------------------------------------------*/

struct table;

/*
 * table_new() - the daemon's view of memory of size bytes
 *
 * bells: eventfds that the guest can ring, BELLS of them, borrowed; or NULL.
 * ram_fd: see listener_open(). 0 or -errno.
 */
int table_new(struct table **out, const int *bells, int ram_fd);

/*
 * table_attach() - serve in this memory from now on, resetting what is in it
 *
 * Taken over (munmap) with success. Sessions that are served in another one
 * come to their end. -ENOSPC: not even one channel fits. -EINPROGRESS: shadows
 * of the daemon that served there are left.
 */
int table_attach(struct table *tb, void *shm, size_t size);

/* table_doorbell() - the peer id that rings bell 0 */
void table_doorbell(struct table *tb, uint32_t peer);

/* table_evict() - end all sessions: the guest that they were of is no more */
void table_evict(struct table *tb);

/* table_look() - beat, and look after the channels; true: one is claimed */
bool table_look(struct table *tb);

/* table_room() - [*start, *end), whole pages, is not for channels */
void table_room(const struct table *tb, uint64_t *start, uint64_t *end);

int table_accept(struct table *tb, const struct transport_ops *ops,
		 struct transport *t);
void table_handed(struct table *tb, struct transport *t, pid_t pid);
void table_ended(struct table *tb, pid_t pid);
void table_ram(struct table *tb, int ram_fd);
/* table_leave() - in the process of a session: free, and change nothing */
void table_leave(struct table *tb);
/* table_free() - tell the guests that the daemon goes */
void table_free(struct table *tb);

/* --- both ends: for struct transport_ops ---------------------------------- */

ssize_t channel_send(struct transport *t, const struct msg *msg, int fd);
ssize_t channel_recv(struct transport *t, struct msg *msg, int *fd);
void channel_close(struct transport *t);
bool channel_pending(struct transport *t);
bool channel_settled(struct transport *t);
void channel_beat(struct transport *t);

#endif
