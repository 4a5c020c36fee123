/* SPDX-License-Identifier: MIT */
/* ram.c - GPA to file offset, against a table with an entry a page */
#include "vm/ram.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "tap.h"

#define PAGES	96		/* of the model's address space, and its file */
#define ROUNDS	2000
#define PROBES	400
#define P	PAGE_BYTES
#define GIB	(1ULL << 30)

static bool refused(const struct ram *ram, uint64_t gpa, uint64_t len)
{
	uint64_t off = 42;

	return ram_find(ram, gpa, len, &off) == -EFAULT && off == 42;
}

static bool at(const struct ram *ram, uint64_t gpa, uint64_t len,
	       uint64_t want)
{
	uint64_t off = 42;

	return ram_find(ram, gpa, len, &off) == 0 && off == want;
}

/* A q35 of 3 GiB, as QEMU 7.2 shows it. */
static void test_q35(void)
{
	struct ram ram;

	ram_init(&ram, -1, 3 * GIB);
	ok(refused(&ram, 0, P), "without ranges there is no RAM");
	ok(ram_add(&ram, 4 * GIB, GIB, 2 * GIB) == 0 &&
	   ram_add(&ram, 0, 0xa0000, 0) == 0 &&
	   ram_add(&ram, 0x100000, 2 * GIB - 0x100000, 0x100000) == 0,
	   "ranges come in any order");
	ok(ram.n == 3 && ram.v[0].gpa == 0 && ram.v[1].gpa == 0x100000 &&
	   ram.v[2].gpa == 4 * GIB, "and are kept sorted");
	ok(at(&ram, 0, 0xa0000, 0) && at(&ram, 0x9f000, P, 0x9f000),
	   "low memory is at its own offset");
	ok(refused(&ram, 0xa0000, P) && refused(&ram, 0x9f000, 2 * P) &&
	   refused(&ram, 0xff000, 2 * P), "640K to 1M is a hole");
	ok(at(&ram, 2 * GIB - P, P, 2 * GIB - P) &&
	   refused(&ram, 2 * GIB - P, 2 * P) && refused(&ram, 2 * GIB, P) &&
	   refused(&ram, 4 * GIB - P, P) && refused(&ram, 4 * GIB - P, 2 * P),
	   "2 GiB to 4 GiB is a hole");
	ok(at(&ram, 4 * GIB, GIB, 2 * GIB) &&
	   at(&ram, 5 * GIB - P, P, 3 * GIB - P), "4 GiB is at 2 GiB");
	ok(refused(&ram, 5 * GIB - P, 2 * P) && refused(&ram, 5 * GIB, P) &&
	   refused(&ram, 4 * GIB, GIB + 1), "RAM ends");
	ok(refused(&ram, 0, 0) && refused(&ram, 4 * GIB, 0) &&
	   refused(&ram, UINT64_MAX, 0), "nothing is nowhere");
	ok(refused(&ram, UINT64_MAX, UINT64_MAX) &&
	   refused(&ram, P, UINT64_MAX) &&
	   refused(&ram, 4 * GIB, UINT64_MAX - 4 * GIB + 1) &&
	   refused(&ram, 4 * GIB, UINT64_MAX - 4 * GIB) &&
	   refused(&ram, UINT64_MAX - P + 1, P) &&
	   refused(&ram, UINT64_MAX - P + 1, 2 * P) &&
	   refused(&ram, 0, UINT64_MAX), "what wraps is refused");
	ok(at(&ram, 1, 1, 1) && refused(&ram, 0x9ffff, 2),
	   "single bytes have a place, too");
	ram_fini(&ram);
	ok(ram.fd == -1 && ram.n == 0 && refused(&ram, 0, P),
	   "after the end there is no RAM");
}

static void test_refused_ranges(void)
{
	struct ram ram;

	ram_init(&ram, -1, 16 * P);
	ok(ram_add(&ram, 4 * P, 4 * P, 0) == 0, "a range");
	ok(ram_add(&ram, 4 * P, 4 * P, 0) == -EEXIST &&
	   ram_add(&ram, 0, 5 * P, 8 * P) == -EEXIST &&
	   ram_add(&ram, 7 * P, P, 8 * P) == -EEXIST &&
	   ram_add(&ram, 3 * P, 8 * P, 8 * P) == -EEXIST,
	   "one that overlaps it is refused");
	ok(ram_add(&ram, 8 * P, 0, 0) == -EINVAL &&
	   ram_add(&ram, 8 * P + 1, P, 0) == -EINVAL &&
	   ram_add(&ram, 8 * P, P + 1, 0) == -EINVAL &&
	   ram_add(&ram, 8 * P, P, 1) == -EINVAL, "so is a piece of a page");
	ok(ram_add(&ram, 8 * P, P, 16 * P) == -EINVAL &&
	   ram_add(&ram, 8 * P, 2 * P, 15 * P) == -EINVAL &&
	   ram_add(&ram, 8 * P, P, 0 - P) == -EINVAL &&
	   ram_add(&ram, 8 * P, 0 - P, P) == -EINVAL,
	   "what the file does not have");
	ok(ram_add(&ram, 0 - P, P, 0) == -EINVAL &&
	   ram_add(&ram, 0 - P, 2 * P, 0) == -EINVAL &&
	   ram_add(&ram, INT64_MAX - P + 1, P, 0) == -EINVAL,
	   "and what is at the end of the world");
	ok(ram_add(&ram, 8 * P, 4 * P, 12 * P) == 0 &&
	   refused(&ram, 7 * P, 2 * P) && at(&ram, 7 * P, P, 3 * P) &&
	   at(&ram, 8 * P, P, 12 * P),
	   "neighbours that are apart in the file are two");
	ok(ram_add(&ram, 12 * P, P, 0) == 0 && refused(&ram, 11 * P, 2 * P),
	   "whatever their order there");
	ok(ram_add(&ram, 13 * P, P, P) == 0 && at(&ram, 12 * P, 2 * P, 0),
	   "neighbours in both are one");
	ram_fini(&ram);
}

/* The model: the page of the file behind each guest page, or -1. */
static int model[PAGES];

static unsigned int seed = 1;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static void model_reset(void)
{
	for (int i = 0; i < PAGES; i++)
		model[i] = -1;
}

/* Whether ram_add() should, and has, in both. */
static bool add_both(struct ram *ram)
{
	const unsigned int gpa = pick(PAGES), len = pick(12) + 1;
	const unsigned int off = pick(2) ? gpa % 64 : pick(PAGES);
	int want = off + len <= PAGES ? 0 : -EINVAL;

	for (unsigned int i = gpa; i < gpa + len && i < PAGES && !want; i++)
		if (model[i] >= 0)
			want = -EEXIST;
	if (gpa + len > PAGES)		/* the model has no such page */
		return true;
	if (ram_add(ram, gpa * P, len * P, off * P) != want)
		return false;
	for (unsigned int i = 0; i < len && !want; i++)
		model[gpa + i] = (int)(off + i);
	return true;
}

static bool find_both(const struct ram *ram)
{
	const uint64_t gpa = pick(PAGES * (unsigned int)P),
		       len = pick(pick(4) ? 3 * P : 20 * P) + 1;
	const uint64_t last = gpa + len - 1;
	bool good = last / P < PAGES && model[gpa / P] >= 0;

	for (uint64_t i = gpa / P; good && i < last / P; i++)
		good = model[i + 1] == model[i] + 1;
	if (!good)
		return refused(ram, gpa, len);
	return at(ram, gpa, len, (uint64_t)model[gpa / P] * P + gpa % P);
}

static bool sorted(const struct ram *ram)
{
	for (size_t i = 1; i < ram->n; i++)
		if (ram->v[i].gpa < ram->v[i - 1].gpa + ram->v[i - 1].len)
			return false;
	return true;
}

static void test_random(void)
{
	bool added = true, found = true, order = true;

	for (int round = 0; round < ROUNDS; round++) {
		struct ram ram;

		model_reset();
		ram_init(&ram, -1, PAGES * P);
		for (unsigned int i = pick(16); i > 0; i--)
			added = add_both(&ram) && added;
		order = sorted(&ram) && order;
		for (int i = 0; i < PROBES; i++)
			found = find_both(&ram) && found;
		ram_fini(&ram);
	}
	ok(added, "random ranges are taken or refused as the model has it");
	ok(order, "they are sorted and disjoint");
	ok(found, "random questions are answered as the model has it");
}

int main(void)
{
	test_q35();
	test_refused_ranges();
	test_random();
	return tap_end();
}
