/* SPDX-License-Identifier: MIT */
/*
 * histogram.c - how often which number occurred
 *
 * Theory of operation. The bits of a double that is positive are in the order
 * of the numbers: above are those of the exponent, then the fraction's. So the
 * number's bits, without the 42 lowest, count bins of which each power of two
 * has 1024, from 1.0 on; the bits back again are the lower end of the bin. Bin
 * 0 is for 0.
 *
 * Percentiles of millions of values could be had exactly by sorting on disk.
 * That takes as much room as the values, and is no use here: values that are a
 * tenth of a percent apart tell nobody anything that one of them does not.
 */
#include "base/histogram.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DROPPED		42		/* of the 52 bits of the fraction */
#define OCTAVES		54		/* 2^0 to 2^53 */
#define NBINS		(1 + OCTAVES * (1 << (52 - DROPPED)))

static uint64_t bits_of(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static size_t bin_of(double x)
{
	if (!(x >= 1))
		return 0;
	if (x > HISTOGRAM_MAX)
		x = HISTOGRAM_MAX;
	return 1 + (size_t)((bits_of(x) - bits_of(1.0)) >> DROPPED);
}

static double lower_end(size_t bin)
{
	uint64_t bits;
	double x;

	if (bin == 0)
		return 0;
	bits = ((uint64_t)(bin - 1) << DROPPED) + bits_of(1.0);
	memcpy(&x, &bits, sizeof(x));
	return x;
}

int histogram_init(struct histogram *h)
{
	*h = (struct histogram){ .bins = calloc(NBINS, sizeof(*h->bins)) };
	return h->bins ? 0 : -ENOMEM;
}

void histogram_fini(struct histogram *h)
{
	free(h->bins);
	*h = (struct histogram){ 0 };
}

void histogram_add(struct histogram *h, double x)
{
	if (h->n == 0 || x < h->min)
		h->min = x;
	if (h->n == 0 || x > h->max)
		h->max = x;
	h->bins[bin_of(x)]++;
	h->sum += x;
	h->n++;
}

double histogram_quantile(const struct histogram *h, double percent)
{
	double wanted = ceil((double)h->n * percent / 100);
	uint64_t seen = 0;

	if (percent <= 0 || percent >= 100)
		return percent <= 0 ? h->min : h->max;
	for (size_t i = 0; i < NBINS; i++) {
		seen += h->bins[i];
		if (seen > 0 && (double)seen >= wanted)
			return fmax(lower_end(i), h->min);
	}
	return h->max;
}

bool histogram_next(const struct histogram *h, size_t *pos, double *value,
		    uint64_t *count)
{
	while (*pos < NBINS && h->bins[*pos] == 0)
		++*pos;
	if (*pos == NBINS)
		return false;
	*value = lower_end(*pos);
	*count = h->bins[(*pos)++];
	return true;
}

int ranks_init(struct ranks *r, const struct histogram *h)
{
	double below = 0;

	r->v = calloc(NBINS, sizeof(*r->v));
	if (!r->v)
		return -ENOMEM;
	for (size_t i = 0; i < NBINS; i++) {
		r->v[i] = below + ((double)h->bins[i] + 1) / 2;
		below += (double)h->bins[i];
	}
	return 0;
}

void ranks_fini(struct ranks *r)
{
	free(r->v);
	r->v = NULL;
}

double ranks_get(const struct ranks *r, double x)
{
	return r->v[bin_of(x)];
}
