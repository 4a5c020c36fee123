/* SPDX-License-Identifier: MIT */
/* num.h - sizes, durations, alignment and checked ranges */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES	4096ULL		/* x86-64 has no other base page */
/* The user half of the address space, with page tables of four levels. */
#define USER_END	0x7ffffffff000ULL
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

static inline uint64_t page_down(uint64_t x)
{
	return x & ~(PAGE_BYTES - 1);
}

static inline uint64_t page_up(uint64_t x)
{
	return page_down(x + PAGE_BYTES - 1);
}

/* range_inside() - does [off, off + len) lie in [0, size), without wrapping? */
static inline bool range_inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/*
 * num_parse_size() - a number, in units of 1024, 1024^2 or 1024^3 behind which
 * stands K, M or G; false: it is none, or too large
 */
bool num_parse_size(const char *text, uint64_t *out);

/*
 * num_parse_duration() - seconds, or behind which stands s, m, h or d; false:
 * it is none, or too large
 */
bool num_parse_duration(const char *text, uint64_t *seconds);

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
