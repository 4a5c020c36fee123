/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - how often which number occurred, in memory that is bounded
 *
 * Bins are so narrow that the values in one differ by less than 1 in 1024.
 * A whole number up to 2048 has a bin of its own. What is told of a value is
 * the lower end of its bin: exact there, and elsewhere at most 0.1% too small.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_ERROR		(1.0 / 1024)	/* relative */
#define HISTOGRAM_MAX		9007199254740992.0	/* 2^53 */

struct histogram {
	uint64_t *bins;		/* owned */
	uint64_t n;
	double min, max;	/* exact; 0 if there is nothing */
	double sum;
};

int histogram_init(struct histogram *h);	/* 0 or -ENOMEM */
void histogram_fini(struct histogram *h);

/* histogram_add() - x: 0, or from 1 to HISTOGRAM_MAX */
void histogram_add(struct histogram *h, double x);

/*
 * histogram_quantile() - the smallest value that so many percent of all values
 * do not exceed; 0 and 100: min and max; 0 if there is nothing
 */
double histogram_quantile(const struct histogram *h, double percent);

/*
 * histogram_next() - walk the bins that are not empty, upwards: start with
 * *pos = 0; false at the end
 */
bool histogram_next(const struct histogram *h, size_t *pos, double *value,
		    uint64_t *count);

/*
 * Ranks of values, as Spearman's correlation takes them: values of one bin
 * share the mean of their ranks.
 */
struct ranks {
	double *v;		/* owned */
};

int ranks_init(struct ranks *r, const struct histogram *h); /* or -ENOMEM */
void ranks_fini(struct ranks *r);
double ranks_get(const struct ranks *r, double x);	/* 1 is the lowest */

#endif
