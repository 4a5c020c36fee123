/* SPDX-License-Identifier: MIT */
/*
 * extents.h - pages in, extents out (DESIGN 2: one extent is one mmap())
 *
 * What a page table has, as proc_pid_pagemap(5) tells it, becomes the maximal
 * ranges that are contiguous in virtual addresses and in frames, of one
 * protection. An extent never reaches beyond what lies between extents_begin()
 * and extents_end(), which is one mapping, or one part of what backs it.
 * Nothing here reads /proc or allocates: `run`, `maps` and `study` share it.
 */
#ifndef PROCESS_EXTENTS_H
#define PROCESS_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGEMAP_PRESENT		(1ULL << 63)
#define PAGEMAP_SWAPPED		(1ULL << 62)
#define PAGEMAP_FILE		(1ULL << 61)	/* or shared anonymous */
#define PAGEMAP_EXCLUSIVE	(1ULL << 56)	/* mapped once */
#define PAGEMAP_PFN		((1ULL << 55) - 1)

struct page_extent {
	uint64_t gva;		/* bytes */
	uint64_t pfn;		/* frame of the first page, not 0 */
	uint64_t npages;
	int prot;		/* PROT_*, as a shadow may map it */
};

/* Pages of 4 KiB. A page that is present is one of zero, file, own, shared. */
struct page_counts {
	uint64_t present;
	uint64_t swapped;
	uint64_t zero;		/* of the kernel's zero page */
	uint64_t file;		/* of the page cache, shared memory included */
	uint64_t own;		/* anonymous, nobody else's */
	uint64_t shared;	/* anonymous, others have it: copy on write */
	uint64_t huge;		/* in huge pages, zero or not */
	uint64_t hidden;	/* present, but its frame is not told */
	uint64_t extents;	/* of present pages that are not hidden */
	uint64_t largest;	/* extent */
};

/* 0, or what extents_add() and extents_end() then return at once. */
typedef int (*extent_fn)(void *ctx, const struct page_extent *e);

/* What is known of pages besides their entries. */
enum { PAGES_ZERO = 1, PAGES_HUGE = 2 };

struct extents {
	struct page_counts counts;
	struct page_extent open;	/* npages 0: there is none */
	int prot;
	bool shared;
	/* Where nobody says PAGES_ZERO, PAGES_HUGE: the frame that is the zero
	 * page (0: not known), and to take whole, aligned 2 MiB for a huge
	 * page. */
	uint64_t zero_pfn;
	bool huge_by_frames;
	extent_fn found;		/* or NULL */
	void *ctx;
};

/*
 * extents_begin() - pages of one mapping follow
 *
 * prot, shared: the mapping's. A page of a private mapping that is not the
 * process's own (copy on write, the zero page, the page cache) may not be
 * written by a shadow, or others would see it (DESIGN 4). zero_pfn and
 * huge_by_frames may be set next.
 */
void extents_begin(struct extents *x, int prot, bool shared, extent_fn found,
		   void *ctx);

/*
 * extents_add() - n entries for the pages from gva on, in ascending order
 *
 * Pages that are left out are absent. flags: PAGES_* that hold for all of
 * them. 0 or what `found` returned.
 */
int extents_add(struct extents *x, uint64_t gva, const uint64_t *entries,
		size_t n, int flags);

/* extents_page() - one page, in a frame that is known; as above */
int extents_page(struct extents *x, uint64_t gva, uint64_t pfn, int prot);

/* extents_end() - what is still open is one, too; more may be added */
int extents_end(struct extents *x);

/* page_counts_add() - *sum += *more; largest is the larger one */
void page_counts_add(struct page_counts *sum, const struct page_counts *more);

#endif
