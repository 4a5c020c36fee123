/* SPDX-License-Identifier: MIT */
/*
 * mm.h - a target's address space as the tracer knows it
 *
 * A sorted list of regions, and for every shadow that maps it the ranges that
 * it has yet to hear of. What is told is always the truth of now: a range is
 * looked up when it is sent, so the order of changes within it is of no
 * consequence.
 */
#ifndef GUEST_MM_H
#define GUEST_MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/idmap.h"
#include "capsule/abi.h"
#include "guest/arena.h"
#include "guest/bar.h"
#include "guest/patch.h"
#include "guest/pins.h"
#include "wire/msg.h"

/* A file or device that regions map; the tracer keeps it open for the shadows. */
struct mapfile {
	struct mapfile *next;
	unsigned int refs;	/* regions */
	uint32_t id;
	int fd;			/* owned; -1: the daemon's own, in a VM */
	bool device;		/* nobody else's: two may have one inode */
	dev_t dev;
	ino_t ino;
	bool sysv;		/* System V memory numbers its own inodes */
	bool writable;		/* opened for writing: may be mapped shared */
	bool told;		/* the daemon has it */
	struct file_frames *frames;	/* in a VM: owned */
	/* A device's memory in a VM: [off, off + len) of it is at window in the
	 * memory of a PCI device (vm/window.h): that which guest and host share,
	 * or `own`; NULL: none is. */
	const struct bar *bar;
	struct bar own;		/* owned */
	uint64_t window, off, len;
};

/* Memory that several processes share (MAP_SHARED|MAP_ANONYMOUS). */
struct shared_mem {
	unsigned int refs;	/* regions */
	uint64_t off, len;
};

enum region_kind {
	REGION_PRIVATE,		/* arena; copied at fork */
	REGION_SHARED,		/* arena; shared at fork */
	REGION_FILE,		/* a file, private (read-only) or shared */
	REGION_SLOTS,		/* arena; the slots (capsule/abi.h) */
	REGION_FRAMES,		/* in a VM: off is a guest physical address */
};

struct region {
	uint64_t start, end;
	uint64_t off;		/* in arena or file */
	uint64_t limit;		/* arena: the offsets up to here are its own */
	uint64_t born;		/* in the order of struct stub_log; 0: now */
	int prot;
	enum region_kind kind;
	bool file_shared;	/* REGION_FILE: MAP_SHARED */
	bool dontfork, wipeonfork;
	struct mapfile *file;		/* REGION_FILE; FRAMES of a file */
	struct file_frames *frames;	/* FRAMES of a file: referenced */
	struct shared_mem *shared;	/* REGION_SHARED */
};

struct range {
	uint64_t start, end;
};

/* What one shadow has not been told; when it is too much, all in between. */
#define DIRTY_MAX 128

struct mm_view {
	struct mm_view *next;
	struct range dirty[DIRTY_MAX];
	size_t ndirty;
};

/* Private memory that is pinned (in a VM), by one registered buffer: all of that, or
 * what is left of it. */
struct pin {
	uint64_t start, end;
	uint32_t slot;
	bool shared;		/* perhaps another is left of the same buffer */
	uint64_t wanted;	/* mm->calls of then */
};

struct mm {
	unsigned int refs;	/* processes */
	struct memory *memory;	/* borrowed */
	struct region *v;	/* owned, sorted, disjoint */
	size_t n, cap;
	struct mm_view *views;	/* borrowed list */
	uint64_t brk_start, brk;
	uint64_t *slots_used;	/* bitmap of SLOT_MAX */
	uint64_t slots_off;	/* where the slots are in the arena */
	bool program;		/* not our own yet, which is about to exec one */
	struct stub_ctl *ctl;	/* owned mapping of the first of them */
	struct patches patches;
	struct mm_view fresh;	/* in a VM: ranges to be looked at */
	bool whole;		/* in a VM: want_whole() has nothing to do */
	bool writes_files;	/* in a VM: by mappings, or has done so */
	struct pin *pins;	/* in a VM: owned, sorted, disjoint */
	size_t npins, pins_cap;
	uint64_t calls;		/* in a VM: that were settled */
	struct idmap sites;	/* enum site_state (patch.c), by a hash */
};

/* What all address spaces of a run share. */
struct memory {
	uint64_t base;		/* GVA of the gate in every target */
	struct arena arena;
	struct pinner *pinner;	/* owned; NULL: loopback */
	struct mapfile *arena_file;	/* in a VM: referenced */
	struct bar shared;	/* in a VM: the memory that guest and host
				 * share */
	struct mapfile *files;
	/* Called when the last region of a file is gone. */
	void (*file_gone)(void *ctx, struct mapfile *file);
	void *ctx;
};

int mm_new(struct memory *memory, struct mm **out);
void mm_unref(struct mm *mm);

static inline uint64_t memory_slots(const struct memory *m)
{
	return m->base + (SLOT_BASE - GATE_BASE);
}

static inline uint64_t memory_slot(const struct memory *m, int index)
{
	return memory_slots(m) + (uint64_t)index * SLOT_STRIDE;
}

/* mm_map_slots() - n slots from the first on, mapped here; NULL: errno */
void *mm_map_slots(const struct mm *mm, int first, size_t n);
/* mm_lane() - the i-th of the slots that are nobody's; it lives as long as mm */
struct slot *mm_lane(const struct mm *mm, int i);

/* mm_find() - the first region that ends above addr, or NULL */
struct region *mm_find(const struct mm *mm, uint64_t addr);

/* mm_find_device() - the first region in the range that is a device's, or NULL */
const struct region *mm_find_device(const struct mm *mm, struct range at);

/*
 * mm_insert() - what is mapped at r->start..r->end now; replaces what was
 *
 * Takes over the references that r holds. 0 or -ENOMEM.
 */
int mm_insert(struct mm *mm, const struct region *r);

/*
 * mm_replace() - what is mapped in [start, end) now: v[0..n), sorted, inside
 *
 * As mm_insert() otherwise.
 */
int mm_replace(struct mm *mm, uint64_t start, uint64_t end,
	       const struct region *v, size_t n);

/* mm_remove() - nothing is mapped there any more; memory is given back */
int mm_remove(struct mm *mm, uint64_t start, uint64_t end);

/* What has come to be mapped since, all being before MM_NOW, a change spares. */
#define MM_NOW UINT64_MAX

/* mm_remove_older(), mm_protect_older() - it was unmapped, or given this
 * protection, at that time; 0 or -ENOMEM */
int mm_remove_older(struct mm *mm, struct range at, uint64_t when);
int mm_protect_older(struct mm *mm, struct range at, int prot, uint64_t when);

/* mm_split() - make addr a border between regions; 0 or -ENOMEM */
int mm_split(struct mm *mm, uint64_t addr);

/* mm_dirty() - every view must be told of the range again */
void mm_dirty(struct mm *mm, uint64_t start, uint64_t end);

/* mm_view_add() - one view must be told of the range again */
void mm_view_add(struct mm_view *view, uint64_t start, uint64_t end);

void mm_view_attach(struct mm *mm, struct mm_view *view);
void mm_view_detach(struct mm *mm, struct mm_view *view);

/*
 * mm_view_next() - up to max extents that the view has not been told of
 *
 * Returns how many; 0 when it knows everything.
 */
size_t mm_view_next(struct mm *mm, struct mm_view *view, struct extent *out,
		    size_t max);

/* mm_pin_find() - index of the first pin that ends above addr */
size_t mm_pin_find(const struct mm *mm, uint64_t addr);
int mm_pin_add(struct mm *mm, const struct pin *pin);	/* 0 or -ENOMEM */
/* mm_pin_drop() - its frames may move, but for those of a buffer that another pin
 * is left of */
void mm_pin_drop(struct mm *mm, size_t index);

/*
 * memory_file() - the mapfile for an open file; takes fd over
 *
 * One that is known by device and inode is used again, and fd closed, unless
 * only the new one may be written. Holds a reference for the caller.
 */
int memory_file(struct memory *m, int fd, struct mapfile **out);
/*
 * memory_device() - a mapfile of its own for a device; takes fd over, or -1
 *
 * Holds a reference for the caller. 0 or -ENOMEM.
 */
int memory_device(struct memory *m, int fd, struct mapfile **out);
void memory_file_unref(struct memory *m, struct mapfile *file);

#endif
