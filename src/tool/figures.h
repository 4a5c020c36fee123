/* SPDX-License-Identifier: MIT */
/*
 * figures.h - what a study's rows say when they are taken together
 *
 * Of a process that was sampled often there is a row, and so a page table, a
 * sample. Memory is bounded, however many rows there are.
 */
#ifndef TOOL_FIGURES_H
#define TOOL_FIGURES_H

#include <stdint.h>

#include "base/correlation.h"
#include "base/histogram.h"
#include "tool/studyfile.h"

#define FIGURES_TOP	10
#define FIGURES_LIMITS	3

/* Sizes and ratios in steps of an eighth of an octave, for a plot of both. */
#define DENSITY_PER_OCTAVE	8
#define DENSITY_SIZE		(36 * DENSITY_PER_OCTAVE)

/* Those that are furthest out, one row for each process. */
struct top {
	struct study_row v[FIGURES_TOP];	/* the furthest comes first */
	size_t n;
};

struct figures {
	bool names;			/* comm is no hash */
	bool torn;			/* the file ended in half a row */
	uint64_t samples;
	int64_t first, last;		/* times; if there are tables */
	uint64_t tables;
	uint64_t empty;			/* with no page present */
	uint64_t with_huge;		/* with a huge page */
	struct histogram pages, extents, huge;	/* of all tables */
	struct histogram ratio;		/* of those that are not empty, as is
					 * all that follows */
	uint64_t under[FIGURES_LIMITS];	/* figures_limits[], of all tables */
	double pearson;			/* of logarithms: pages and ratio */
	double spearman;		/* NAN: one of them never changes */
	struct top most_extents, least_ratio;
	uint64_t *density;		/* owned: see figures_density() */
};

/* Numbers of extents that a table may be under; the last is the default of
 * vm.max_map_count, beyond which no process can map them. */
extern const uint64_t figures_limits[FIGURES_LIMITS];

/* What is in no list of least ratios: it is cheap to map all the same. */
#define LEAST_RATIO_EXTENTS	1000

/* figures_read() - of DIR/tables.csv: 0, or -errno and a sentence in err */
int figures_read(struct figures *f, const char *dir, char err[STUDY_ERR_MAX]);
void figures_fini(struct figures *f);

/* figures_density() - tables whose pages and ratio are x and y steps above 1 */
static inline uint64_t *figures_density(const struct figures *f, size_t x,
					size_t y)
{
	return &f->density[x * DENSITY_SIZE + y];
}

/* The quantities of a table, and what is told of each. */
#define FIGURES_QUANTITIES	4
#define FIGURES_PERCENTS	7

struct quantity {
	const char *name;
	const struct histogram *h;	/* borrowed */
	int decimals;
};

struct percent {
	const char *name;
	double percent;
};

extern const struct percent figures_percents[FIGURES_PERCENTS];

void figures_quantities(const struct figures *f,
			struct quantity out[FIGURES_QUANTITIES]);

double figures_share(const struct figures *f, uint64_t tables);	/* 0 to 1 */

double row_ratio(const struct study_row *row);	/* 0 if it is empty */

#endif
