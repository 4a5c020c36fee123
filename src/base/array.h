/* SPDX-License-Identifier: MIT */
/* array.h - arrays that grow */
#ifndef BASE_ARRAY_H
#define BASE_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

#define ARRAY_LEAST	16	/* elements */

/*
 * array_room() - v, or where it has gone, with room for n elements of a size
 *
 * v has room for *cap; NULL: none. NULL is returned without memory, and then v
 * is as it was.
 */
static inline void *array_room(void *v, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap ? *cap : ARRAY_LEAST;

	if (v && n <= *cap)
		return v;
	while (more < n)
		more *= 2;
	v = reallocarray(v, more, size);
	if (v)
		*cap = more;
	return v;
}

#endif
