/* SPDX-License-Identifier: MIT */
/*
 * pins.h - frames of targets that stay where they are (DESIGN 5)
 *
 * Theory of operation. A shadow maps frames of guest RAM; the guest's kernel
 * knows nothing of that and moves, reclaims and copies pages as it likes. Two
 * kinds of reference keep it from doing so, both held by the tracer, so that
 * they outlive the target's own memory until its shadow is gone:
 *
 * - private memory: a long-term pin (FOLL_LONGTERM, core-api/pin_user_pages in
 *   the kernel's documentation). It is taken by a call made in the target, as
 *   the kernel pins the caller's memory, and belongs to a descriptor of the
 *   tracer's, who lets it go. Pinning also makes the pages present and the
 *   target's own. At fork the kernel copies pinned pages for the child at
 *   once: the parent keeps its frames. There are two kinds:
 *   - PIN_IO_URING: a registered buffer of an io_uring, one of a few that
 *     every target has open;
 *   - PIN_XDP: the memory of an AF_XDP socket, which the target has open only
 *     while it registers, and cannot let go. It takes a descriptor a pin, and
 *     CAP_NET_RAW. The sockets live in a network namespace without devices.
 * - pages of files, shared memory included: references held by a pipe, by
 *   vmsplice(2) from a mapping of the tracer's own. A page-cache page is the
 *   same frame for everyone who maps the file, so this is done once a file,
 *   whoever maps it, and its frames are read from the tracer's own page table.
 *
 * A reference is let go when no shadow maps the frame any more. References of
 * files wait until the shadows have been told (pinner_release()), and all of
 * them as long as the host may use a frame that no shadow maps: nobody knows
 * what the shadows do (the daemon is gone, a shadow could not be ended), or
 * direct I/O is under way to what was memory when it began (held). When the
 * tracer is killed its keeper has the descriptors, and waits for the host side
 * (wire/channel.c).
 */
#ifndef GUEST_PINS_H
#define GUEST_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIN_RINGS	4
#define PIN_RING_SLOTS	16384	/* IORING_MAX_REG_BUFFERS, io_uring/rsrc.c */
#define PIN_SLOTS	(PIN_RINGS * PIN_RING_SLOTS)
#define PIN_MAX		(1ULL << 30)	/* bytes of one registered buffer */

struct file_frames;

enum pin_kind { PIN_ANY, PIN_IO_URING, PIN_XDP };

struct pinner {
	enum pin_kind kind;
	int rings[PIN_RINGS];	/* PIN_IO_URING: owned; -1: there are none */
	int sockets[PIN_SLOTS];	/* PIN_XDP: owned; 0: none */
	bool secluded;		/* our network namespace is the sockets' */
	uint64_t used[PIN_SLOTS / 64];
	uint32_t next;		/* where to look for a free slot */
	uint64_t dropped;	/* bytes that the kernel has yet to let go */
	const bool *unsure;	/* nothing is to be let go while it is set */
	unsigned int held;	/* nor as long as calls use what was dropped */
	uint64_t late[PIN_SLOTS / 64];	/* slots to drop when it is not */
	bool any_late;
	struct file_frames *late_files;	/* owned */
};

/*
 * pinner_init() - by what memory is to be pinned
 *
 * PIN_ANY: what the kernel lets us have, PIN_IO_URING if it can be. 0 or
 * -errno: the kernel does not.
 */
int pinner_init(struct pinner *p, enum pin_kind kind, const bool *unsure);
void pinner_fini(struct pinner *p);

/* pinner_take() - a free slot, or -EAGAIN: PIN_SLOTS are in use */
int pinner_take(struct pinner *p, uint32_t *slot);

/*
 * pinner_socket() - PIN_XDP: a slot's socket, to register memory with
 *
 * The pinner's own, until the slot is dropped. A descriptor or -errno. The
 * calling thread is in a network namespace without devices from then on.
 */
int pinner_socket(struct pinner *p, uint32_t slot);

/* pinner_waits() - is there anything for pinner_release()? */
bool pinner_waits(const struct pinner *p);

/* pinner_release() - shadows know of all that was dropped: let it go */
void pinner_release(struct pinner *p);

/* pinner_drop() - what is registered in the slot, bytes of it, is let go */
void pinner_drop(struct pinner *p, uint32_t slot, uint64_t bytes);

/*
 * Frames of a file, from page `first` of it on; a page that is not there (a
 * hole behind the end) is 0. Guest physical page numbers.
 */
struct file_frames {
	struct file_frames *next;	/* of the file, unless dropped */
	unsigned int refs;	/* the file's, and regions' */
	uint64_t first, n;	/* pages */
	int pipe;		/* owned: holds the references */
	uint64_t pfn[];
};

/*
 * file_frames_get() - the part of a file that contains the page, pinned
 *
 * list: what is known of the file, added to. npages: how many are wanted; a
 * part may be shorter or longer. 0 or -errno (-ENXIO: behind the end). *out is
 * the list's; it goes on for who counts itself among its refs.
 */
int file_frames_get(struct file_frames **list, int fd, uint64_t page,
		    uint64_t npages, struct file_frames **out);
/* file_frames_free() - all of them, at the next pinner_release() */
void file_frames_free(struct pinner *p, struct file_frames **list);

/* file_frames_unref() - goes at the next pinner_release() if it was the last */
void file_frames_unref(struct pinner *p, struct file_frames *f);

/*
 * file_frames_drop() - parts that touch [page, page + npages): not known
 *
 * They are looked for again when they are wanted again. The frames stay
 * pinned while there are other references.
 */
void file_frames_drop(struct pinner *p, struct file_frames **list,
		      uint64_t page, uint64_t npages);

/* pins_possible() - 0, or -EINVAL: the kernel does not populate memory */
int pins_possible(void);

#endif
