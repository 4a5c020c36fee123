/* SPDX-License-Identifier: MIT */
/*
 * collapse.c - how many extents there would be, against doing it
 *
 * A made-up mapping of a few blocks; each that is to be collapsed is given
 * frames of its own in a row, and what comes out of that is compressed.
 */
#include "tool/collapse.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/num.h"
#include "tap.h"

#define BLOCK	512		/* pages */
#define PAGES	(6 * BLOCK)
#define BASE	0x7f0000000000ULL
#define ROUNDS	3000

static unsigned int seed = 3;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

/* Pages from BASE on, of which [first, end) is the mapping. */
struct table {
	uint64_t pfn[PAGES];
	size_t first, end;
};

static void make_table(struct table *t)
{
	*t = (struct table){ .first = pick(2 * BLOCK) };
	t->end = t->first + 1 + pick((unsigned int)(PAGES - t->first));
	if (pick(3) == 0)
		t->first &= ~(BLOCK - 1UL);
	for (size_t i = t->first; i < t->end;) {
		size_t n = 1 + pick(pick(2) ? 8 : 3 * BLOCK);
		uint64_t pfn = pick(4) ? 1 + pick(1 << 24) : 0;

		for (; n-- && i < t->end; i++)
			t->pfn[i] = pfn ? pfn++ : 0;
	}
}

static int add(void *ctx, const struct page_extent *e)
{
	estimate_add(ctx, e);
	return 0;
}

static uint64_t count(const struct table *t, extent_fn fn, void *ctx)
{
	struct extents x;

	extents_begin(&x, PROT_READ, true, fn, ctx);
	for (size_t i = t->first; i < t->end; i++)
		if (t->pfn[i])
			extents_page(&x, BASE + i * PAGE_BYTES, t->pfn[i],
				     PROT_READ);
	extents_end(&x);
	return x.counts.extents;
}

/* A block with pages that are not all in a row already. */
static bool is_mixed(const uint64_t *pfn)
{
	bool any = false, row = true;

	for (size_t i = 0; i < BLOCK; i++) {
		any |= pfn[i] != 0;
		row &= pfn[i] && pfn[i] == pfn[0] + i;
	}
	return any && !row;
}

static void do_collapse(struct table *t)
{
	for (size_t b = 0; b < PAGES; b += BLOCK) {
		if (b < t->first || b + BLOCK > t->end ||
		    !is_mixed(t->pfn + b))
			continue;
		/* Never in a row with another. */
		for (size_t i = 0; i < BLOCK; i++)
			t->pfn[b + i] = (2 * b + (1 << 25)) + i;
	}
}

static uint64_t estimate(const struct table *t, bool shared, ino_t ino)
{
	const struct map_line line = {
		.start = BASE + t->first * PAGE_BYTES,
		.end = BASE + t->end * PAGE_BYTES,
		.shared = shared, .ino = ino,
	};
	struct estimate m;

	estimate_begin(&m, &line);
	count(t, add, &m);
	return m.extents;
}

int main(void)
{
	static struct table t;
	bool right = true, others = true, fewer = false;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t before, guess;

		make_table(&t);
		before = count(&t, NULL, NULL);
		others &= estimate(&t, true, 0) == before &&
			  estimate(&t, false, 1) == before;
		guess = estimate(&t, false, 0);
		do_collapse(&t);
		right &= guess == count(&t, NULL, NULL);
		fewer |= guess < before / 2;
	}
	ok(right && fewer, "the estimate is what huge pages would give");
	ok(others, "of files and shared memory nothing is said");
	return tap_end();
}
