/* SPDX-License-Identifier: MIT */
/* num.c - sizes and durations */
#include "base/num.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	char name;		/* '\0': there is none behind the number */
	uint64_t factor;
};

static bool parse(const char *text, const struct unit *units, size_t nunits,
		  uint64_t *out)
{
	uint64_t n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9')
		return false;
	for (size_t i = 0; i < nunits; i++)
		if (*end == units[i].name && (!*end || !end[1]))
			return !__builtin_mul_overflow(n, units[i].factor, out);
	return false;
}

bool num_parse_size(const char *text, uint64_t *out)
{
	static const struct unit units[] = {
		{ '\0', 1 }, { 'K', 1 << 10 }, { 'M', 1 << 20 },
		{ 'G', 1 << 30 },
	};

	return parse(text, units, ARRAY_SIZE(units), out);
}

bool num_parse_duration(const char *text, uint64_t *seconds)
{
	static const struct unit units[] = {
		{ '\0', 1 }, { 's', 1 }, { 'm', 60 }, { 'h', 60 * 60 },
		{ 'd', 24 * 60 * 60 },
	};

	return parse(text, units, ARRAY_SIZE(units), seconds);
}
