/* SPDX-License-Identifier: MIT */
/*
 * mm.c - regions and views, against a table with one entry a page
 *
 * Random maps, unmaps and splits; after each, and whenever a shadow is told,
 * expanding the extents must give back every page and nothing else.
 */
#include "guest/mm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "tap.h"

#define PAGES	512
#define BASE	0x10000000ULL
#define ROUNDS	20000

struct page {
	bool mapped;
	uint64_t off;
	int prot;
};

static struct page model[PAGES], shadow[PAGES];
static unsigned int seed = 7;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static uint64_t addr(unsigned int page)
{
	return BASE + page * PAGE_BYTES;
}

static void random_change(struct mm *mm)
{
	static const int prots[] = { PROT_NONE, PROT_READ,
				     PROT_READ | PROT_WRITE };
	unsigned int from = pick(PAGES), n = 1 + pick(PAGES - from);
	struct region r = { .start = addr(from), .end = addr(from + n),
			    .prot = prots[pick(3)], .kind = REGION_PRIVATE };

	n = 1 + pick(n < 40 ? n : 40);
	r.end = addr(from + n);
	switch (pick(4)) {
	case 0:
		mm_remove(mm, r.start, r.end);
		memset(model + from, 0, n * sizeof(*model));
		return;
	case 1:
		mm_split(mm, r.start);
		return;
	}
	if (arena_alloc(&mm->memory->arena, r.end - r.start, &r.off) < 0)
		abort();
	r.limit = r.off + (r.end - r.start);
	mm_insert(mm, &r);
	for (unsigned int i = 0; i < n; i++)
		model[from + i] = (struct page){ true, r.off + i * PAGE_BYTES,
						 r.prot };
}

static bool regions_right(const struct mm *mm)
{
	for (size_t i = 0; i < mm->n; i++) {
		const struct region *r = &mm->v[i];

		if (r->start >= r->end || (i && mm->v[i - 1].end > r->start) ||
		    r->off + (r->end - r->start) > r->limit)
			return false;
	}
	for (unsigned int i = 0; i < PAGES; i++) {
		const struct region *r = mm_find(mm, addr(i));
		bool mapped = r && r->start <= addr(i);

		if (mapped != model[i].mapped)
			return false;
		if (mapped && (r->off + (addr(i) - r->start) != model[i].off ||
			       r->prot != model[i].prot))
			return false;
	}
	return true;
}

static void apply(const struct extent *e)
{
	for (uint64_t at = 0; at < e->len; at += PAGE_BYTES) {
		struct page *p = &shadow[(e->gva + at - BASE) / PAGE_BYTES];

		*p = (struct page){ 0 };
		if (e->kind == EXTENT_RAM)
			*p = (struct page){ true, e->off + at,
				e->flags & EXTENT_WRITE ?
				PROT_READ | PROT_WRITE : PROT_READ };
	}
}

/* What cannot be read is not mapped in a shadow. */
static bool shadow_right(void)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		bool mapped = model[i].mapped && model[i].prot;

		if (shadow[i].mapped != mapped)
			return false;
		if (mapped && (shadow[i].off != model[i].off ||
			       shadow[i].prot != model[i].prot))
			return false;
	}
	return true;
}

static bool tell(struct mm *mm, struct mm_view *view, size_t max,
		 bool *maximal)
{
	struct extent v[MSG_EXTENTS_MAX];
	size_t n;

	while ((n = mm_view_next(mm, view, v, max)) > 0) {
		if (n > max)
			return false;
		for (size_t i = 0; i < n; i++) {
			apply(&v[i]);
			if (i && v[i - 1].kind == EXTENT_RAM &&
			    v[i].kind == EXTENT_RAM &&
			    v[i - 1].gva + v[i - 1].len == v[i].gva &&
			    v[i - 1].off + v[i - 1].len == v[i].off &&
			    v[i - 1].flags == v[i].flags)
				*maximal = false;
		}
	}
	return shadow_right();
}

int main(void)
{
	struct memory memory = { 0 };
	struct mm_view view = { 0 };
	struct mm *mm;
	bool regions = true, told = true, maximal = true;

	ok(arena_init(&memory.arena) == 0 && mm_new(&memory, &mm) == 0,
	   "an address space is made");
	mm_view_attach(mm, &view);
	for (int i = 0; i < ROUNDS && regions && told; i++) {
		random_change(mm);
		if (i % 16 == 0)
			regions = regions_right(mm);
		if (pick(20) == 0)
			told = tell(mm, &view, 1 + pick(MSG_EXTENTS_MAX),
				    &maximal);
	}
	ok(regions, "regions are sorted, disjoint and hold the right pages");
	ok(told && tell(mm, &view, MSG_EXTENTS_MAX, &maximal),
	   "a view that is told everything knows every page, and no other");
	ok(maximal, "extents are maximal");
	mm_view_detach(mm, &view);
	mm_remove(mm, BASE, addr(PAGES));
	ok(mm->n == 0, "nothing is left when everything is removed");
	mm_unref(mm);
	arena_fini(&memory.arena);
	return tap_end();
}
