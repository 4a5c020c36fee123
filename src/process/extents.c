/* SPDX-License-Identifier: MIT */
/*
 * extents.c - pages in, extents out
 *
 * Theory of operation. Entries are looked at in *runs*: as long as each is the
 * one before it plus one, all that it says but the frame is the same, so that
 * one comparison is all that a page in a row costs. What a run says is counted
 * at its end, and the run then goes on with the extent that is open, or closes
 * it. Two runs may be one extent: a page that is mapped once and one that is
 * not differ in their entries, and in a read-only mapping in nothing else.
 */
#include "process/extents.h"

#include <string.h>
#include <sys/mman.h>

#include "base/num.h"

#define HUGE_PAGES	512ULL

void extents_begin(struct extents *x, int prot, bool shared, extent_fn found,
		   void *ctx)
{
	*x = (struct extents){ .prot = prot, .shared = shared, .found = found,
			       .ctx = ctx };
}

/* Whole 2 MiB that are aligned in both address spaces, in pages. */
static uint64_t huge_pages(const struct page_extent *e)
{
	const uint64_t first = e->gva / PAGE_BYTES, end = first + e->npages;
	const uint64_t from = (first + HUGE_PAGES - 1) & ~(HUGE_PAGES - 1);
	const uint64_t to = end & ~(HUGE_PAGES - 1);

	return (first ^ e->pfn) % HUGE_PAGES == 0 && from < to ? to - from : 0;
}

int extents_end(struct extents *x)
{
	const struct page_extent e = x->open;

	if (!e.npages)
		return 0;
	x->open.npages = 0;
	x->counts.extents++;
	x->counts.largest = max_u64(x->counts.largest, e.npages);
	if (x->huge_by_frames)
		x->counts.huge += huge_pages(&e);
	return x->found ? x->found(x->ctx, &e) : 0;
}

static int extend(struct extents *x, const struct page_extent *more)
{
	struct page_extent *open = &x->open;
	int err;

	if (open->npages && open->prot == more->prot &&
	    open->gva + open->npages * PAGE_BYTES == more->gva &&
	    open->pfn + open->npages == more->pfn) {
		open->npages += more->npages;
		return 0;
	}
	err = extents_end(x);
	*open = *more;
	return err;
}

int extents_page(struct extents *x, uint64_t gva, uint64_t pfn, int prot)
{
	const struct page_extent page = { gva, pfn, 1, prot };

	return extend(x, &page);
}

/* What of an entry matters here. */
static inline uint64_t plain(uint64_t e)
{
	if (e & PAGEMAP_PRESENT)
		return e & (PAGEMAP_PRESENT | PAGEMAP_FILE |
			    PAGEMAP_EXCLUSIVE | PAGEMAP_PFN);
	return e & PAGEMAP_SWAPPED;
}

static void count(struct extents *x, uint64_t e, uint64_t n, int flags)
{
	const uint64_t pfn = e & PAGEMAP_PFN;
	struct page_counts *c = &x->counts;

	c->present += n;
	if (!pfn)
		c->hidden += n;
	if (flags & PAGES_HUGE)
		c->huge += n;
	if ((flags & PAGES_ZERO && !(e & PAGEMAP_EXCLUSIVE)) ||
	    (pfn && pfn == x->zero_pfn))
		c->zero += n;
	else if (e & PAGEMAP_FILE)
		c->file += n;
	else if (e & PAGEMAP_EXCLUSIVE)
		c->own += n;
	else
		c->shared += n;
}

/* Only what is the process's own, or truly shared, may be written. */
static int prot_of(const struct extents *x, uint64_t e)
{
	if (!x->shared && (!(e & PAGEMAP_EXCLUSIVE) || e & PAGEMAP_FILE))
		return x->prot & ~PROT_WRITE;
	return x->prot;
}

static int add_run(struct extents *x, uint64_t gva, uint64_t e, uint64_t n,
		   int flags)
{
	const struct page_extent run = { gva, e & PAGEMAP_PFN, n,
					 prot_of(x, e) };

	if (e & PAGEMAP_SWAPPED)
		x->counts.swapped += n;
	if (!(e & PAGEMAP_PRESENT))
		return 0;
	count(x, e, n, flags);
	return run.pfn ? extend(x, &run) : 0;
}

int extents_add(struct extents *x, uint64_t gva, const uint64_t *entries,
		size_t n, int flags)
{
	int err = 0;

	for (size_t i = 0, len; i < n && !err; i += len) {
		const uint64_t e = plain(entries[i]);
		/* Absent, swapped and hidden ones are all the same. */
		const uint64_t step = (e & PAGEMAP_PFN) != 0;

		for (len = 1; i + len < n &&
		     plain(entries[i + len]) == e + len * step; len++)
			;
		err = add_run(x, gva + i * PAGE_BYTES, e, len, flags);
	}
	return err;
}

void page_counts_add(struct page_counts *sum, const struct page_counts *more)
{
	sum->present += more->present;
	sum->swapped += more->swapped;
	sum->zero += more->zero;
	sum->file += more->file;
	sum->own += more->own;
	sum->shared += more->shared;
	sum->huge += more->huge;
	sum->hidden += more->hidden;
	sum->extents += more->extents;
	sum->largest = max_u64(sum->largest, more->largest);
}
