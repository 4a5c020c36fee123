/* SPDX-License-Identifier: MIT */
/* num.c - sizes */
#include "base/num.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool num_parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMG";
	const char *unit = NULL;
	uint64_t n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		return false;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return false;
	}
	return !__builtin_mul_overflow(n, unit ? 1ULL << 10 * (unit - units + 1) :
				       1, out);
}
