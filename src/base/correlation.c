/* SPDX-License-Identifier: MIT */
/*
 * correlation.c - Pearson's correlation
 *
 * Sums of squares would cancel out after millions of pairs that are far from
 * zero. So deviations are summed up from the means so far, which are corrected
 * with each pair (Welford 1962).
 */
#include "base/correlation.h"

#include <math.h>

void correlation_add(struct correlation *c, double x, double y)
{
	double dx = x - c->mean_x, dy = y - c->mean_y;

	c->n++;
	c->mean_x += dx / (double)c->n;
	c->mean_y += dy / (double)c->n;
	c->xx += dx * (x - c->mean_x);
	c->yy += dy * (y - c->mean_y);
	c->xy += dx * (y - c->mean_y);
}

double correlation_get(const struct correlation *c)
{
	double r;

	if (!(c->xx > 0) || !(c->yy > 0))
		return NAN;
	r = c->xy / sqrt(c->xx) / sqrt(c->yy);
	return fmax(-1, fmin(1, r));
}
