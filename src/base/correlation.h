/* SPDX-License-Identifier: MIT */
/* correlation.h - Pearson's correlation of pairs that come one by one */
#ifndef BASE_CORRELATION_H
#define BASE_CORRELATION_H

#include <stdint.h>

/* Zeroed memory has seen no pair. */
struct correlation {
	uint64_t n;
	double mean_x, mean_y;
	double xx, yy, xy;	/* sums of products of deviations */
};

void correlation_add(struct correlation *c, double x, double y);

/* correlation_get() - -1 to 1; NAN where x or y is always the same */
double correlation_get(const struct correlation *c);

#endif
