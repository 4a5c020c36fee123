/* SPDX-License-Identifier: MIT */
/*
 * extents.c - the compressor, against page tables that are made up
 *
 * Random mappings with random pages, given in random pieces. Expanding the
 * extents must give back every page that has a frame, and nothing else; no two
 * neighbours may be one; none may leave its mapping or mix protections; and
 * the counts must be those of counting pages one by one.
 */
#include "process/extents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "tap.h"

#define PAGES	2048
#define ROUNDS	4000
#define BASE	0x7f0000000000ULL	/* 2 MiB aligned */
#define ZERO	0x77ULL

static unsigned int seed = 11;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static uint64_t addr(size_t page)
{
	return BASE + page * PAGE_BYTES;
}

/* One mapping, and what came out of it. */
struct table {
	uint64_t entries[PAGES];
	bool left_out[PAGES];
	int prot;
	bool shared;
	struct page_extent v[PAGES];
	size_t n;
};

static uint64_t random_flags(void)
{
	/* Bits that say nothing of interest: soft-dirty, uffd-wp, guard. */
	const uint64_t noise = pick(8) ? 0 : (uint64_t)(1 + pick(7)) << 57 |
					     (uint64_t)pick(2) << 55;

	return PAGEMAP_PRESENT | (noise & ~(7ULL << 61)) |
	       (pick(4) ? PAGEMAP_EXCLUSIVE : 0) |
	       (pick(4) ? 0 : PAGEMAP_FILE);
}

/* Stretches of pages in a row, holes, swapped and hidden ones. */
static void make_table(struct table *t)
{
	size_t i = 0;

	*t = (struct table){ .prot = (int)pick(8), .shared = pick(2) };
	while (i < PAGES) {
		size_t n = 1 + pick(pick(3) ? 6 : 700), kind = pick(10);
		uint64_t pfn = 0x1000 + pick(1 << 20), flags = random_flags();
		const bool gaps = pick(2);

		if (pick(3) == 0)	/* aligned as a huge page is */
			pfn = (pfn & ~511ULL) | i % 512;
		if (i && pick(3) == 0)	/* goes on, perhaps as something else */
			pfn = max_u64(t->entries[i - 1] & PAGEMAP_PFN,
				      0x1000) + 1;
		for (; n-- && i < PAGES; i++, pfn++) {
			if (kind == 0)
				continue;
			if (kind == 1)
				t->entries[i] = PAGEMAP_SWAPPED | pick(1000);
			else if (kind == 2)
				t->entries[i] = flags & ~PAGEMAP_PFN;
			else if (kind == 3)
				t->entries[i] = PAGEMAP_PRESENT | ZERO;
			else
				t->entries[i] = flags | pfn;
			t->left_out[i] = gaps && pick(40) == 0;
		}
	}
}

static int keep(void *ctx, const struct page_extent *e)
{
	struct table *t = ctx;

	t->v[t->n++] = *e;
	return 0;
}

/* In pieces, with what is left out left out. */
static int compress(struct table *t, struct extents *x)
{
	int err = 0;

	extents_begin(x, t->prot, t->shared, keep, t);
	x->zero_pfn = ZERO;
	x->huge_by_frames = true;
	for (size_t i = 0, n; i < PAGES && !err; i += n) {
		size_t most = 1 + pick(pick(2) ? 10 : PAGES);

		for (n = 0; i + n < PAGES && n < most &&
		     !t->left_out[i + n]; n++)
			;
		if (n)
			err = extents_add(x, addr(i), t->entries + i, n, 0);
		else
			n = 1;
	}
	return err ? err : extents_end(x);
}

static bool has_frame(const struct table *t, size_t i)
{
	return !t->left_out[i] && t->entries[i] & PAGEMAP_PRESENT &&
	       t->entries[i] & PAGEMAP_PFN;
}

/* DESIGN 4: written by a shadow is only what is the process's own. */
static int prot_of(const struct table *t, uint64_t e)
{
	bool own = e & PAGEMAP_EXCLUSIVE && !(e & PAGEMAP_FILE);

	return t->shared || own ? t->prot : t->prot & ~PROT_WRITE;
}

static bool gives_back(const struct table *t)
{
	size_t next = 0;

	for (size_t k = 0; k < t->n; k++) {
		const struct page_extent *e = &t->v[k];
		size_t first = (e->gva - BASE) / PAGE_BYTES;

		if (first < next || !e->npages || first + e->npages > PAGES)
			return false;
		for (; next < first; next++)
			if (has_frame(t, next))
				return false;
		for (uint64_t i = 0; i < e->npages; i++, next++)
			if (!has_frame(t, next) || e->pfn + i !=
			    (t->entries[next] & PAGEMAP_PFN) ||
			    e->prot != prot_of(t, t->entries[next]))
				return false;
	}
	for (; next < PAGES; next++)
		if (has_frame(t, next))
			return false;
	return true;
}

static bool is_maximal(const struct table *t)
{
	for (size_t k = 1; k < t->n; k++) {
		const struct page_extent *a = &t->v[k - 1], *b = &t->v[k];

		if (a->gva + a->npages * PAGE_BYTES == b->gva &&
		    a->pfn + a->npages == b->pfn && a->prot == b->prot)
			return false;
	}
	return true;
}

/* Page by page. Huge: 512 of one extent, aligned in both spaces. */
static struct page_counts count_pages(const struct table *t)
{
	struct page_counts c = { .extents = t->n };

	for (size_t i = 0; i < PAGES; i++) {
		const uint64_t e = t->left_out[i] ? 0 : t->entries[i];

		c.swapped += !(e & PAGEMAP_PRESENT) && e & PAGEMAP_SWAPPED;
		if (!(e & PAGEMAP_PRESENT))
			continue;
		c.present++;
		c.hidden += !(e & PAGEMAP_PFN);
		if ((e & PAGEMAP_PFN) == ZERO)
			c.zero++;
		else if (e & PAGEMAP_FILE)
			c.file++;
		else if (e & PAGEMAP_EXCLUSIVE)
			c.own++;
		else
			c.shared++;
	}
	for (size_t k = 0; k < t->n; k++) {
		const struct page_extent *e = &t->v[k];
		uint64_t in_a_row = 0;

		c.largest = max_u64(c.largest, e->npages);
		for (uint64_t i = 0; i < e->npages; i++) {
			uint64_t page = e->gva / PAGE_BYTES + i;

			in_a_row = page % 512 ? in_a_row + (in_a_row > 0) : 1;
			if ((page ^ (e->pfn + i)) % 512)
				break;
			if (in_a_row == 512)
				c.huge += 512;
		}
	}
	return c;
}

static void test_random(void)
{
	static struct table t;
	bool back = true, maximal = true, counted = true, huge = false;
	struct extents x;

	for (int i = 0; i < ROUNDS; i++) {
		struct page_counts c;

		make_table(&t);
		if (compress(&t, &x) < 0)
			back = false;
		back &= gives_back(&t);
		maximal &= is_maximal(&t);
		c = count_pages(&t);
		counted &= memcmp(&c, &x.counts, sizeof(c)) == 0;
		huge |= c.huge > 0;
	}
	ok(back, "expanding extents gives back every page, and no other");
	ok(maximal, "extents are maximal");
	ok(counted && huge, "counts are those of the pages");
}

/* Pages in a row, in two mappings. */
static void test_borders(void)
{
	static struct table t;
	const uint64_t e[] = { PAGEMAP_PRESENT | PAGEMAP_EXCLUSIVE | 0x100,
			       PAGEMAP_PRESENT | PAGEMAP_EXCLUSIVE | 0x101 };
	const uint64_t mixed[] = { e[0], e[1] & ~PAGEMAP_EXCLUSIVE };
	struct extents x;

	t = (struct table){ .n = 0 };
	extents_begin(&x, PROT_READ, false, keep, &t);
	extents_add(&x, addr(0), e, 1, 0);
	extents_end(&x);
	extents_add(&x, addr(1), e + 1, 1, 0);
	extents_end(&x);
	ok(t.n == 2, "what is ended does not go on in the next mapping");
	t.n = 0;
	extents_begin(&x, PROT_READ | PROT_WRITE, false, keep, &t);
	extents_add(&x, addr(0), mixed, 2, 0);
	extents_end(&x);
	ok(t.n == 2 && t.v[0].prot == (PROT_READ | PROT_WRITE) &&
	   t.v[1].prot == PROT_READ,
	   "what others have, too, is another extent, and read-only");
	t.n = 0;
	extents_begin(&x, PROT_READ, false, keep, &t);
	extents_add(&x, addr(0), mixed, 2, 0);
	extents_end(&x);
	ok(t.n == 1 && t.v[0].npages == 2,
	   "where nothing can be written it is the same one");
	t.n = 0;
	extents_begin(&x, PROT_READ | PROT_WRITE, true, keep, &t);
	extents_add(&x, addr(0), mixed, 2, 0);
	extents_end(&x);
	ok(t.n == 1 && t.v[0].prot == (PROT_READ | PROT_WRITE),
	   "and so where all may be");
}

static void test_flags(void)
{
	const uint64_t e[] = { PAGEMAP_PRESENT, PAGEMAP_PRESENT,
			       PAGEMAP_PRESENT | PAGEMAP_EXCLUSIVE };
	struct extents x;

	extents_begin(&x, PROT_READ, false, NULL, NULL);
	extents_add(&x, addr(0), e, 3, PAGES_ZERO | PAGES_HUGE);
	extents_add(&x, addr(3), e, 3, 0);
	extents_end(&x);
	ok(x.counts.huge == 3 && x.counts.zero == 2 && x.counts.shared == 2 &&
	   x.counts.own == 2, "what is known of pages besides is counted");
	ok(x.counts.extents == 0 && x.counts.hidden == 6,
	   "pages without a frame are counted, and are no extents");
}

static int refuse(void *ctx, const struct page_extent *e)
{
	(void)e;
	++*(int *)ctx;
	return -ENOSPC;
}

static void test_stops(void)
{
	const uint64_t e[] = { PAGEMAP_PRESENT | 10, PAGEMAP_PRESENT | 20,
			       PAGEMAP_PRESENT | 30 };
	struct extents x;
	int calls = 0;

	extents_begin(&x, PROT_READ, false, refuse, &calls);
	ok(extents_add(&x, addr(0), e, 3, 0) == -ENOSPC && calls == 1,
	   "what the callback returns ends it");
}

int main(void)
{
	test_random();
	test_borders();
	test_flags();
	test_stops();
	return tap_end();
}
