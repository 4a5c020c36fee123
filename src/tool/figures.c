/* SPDX-License-Identifier: MIT */
/*
 * figures.c - what a study's rows say when they are taken together
 *
 * Theory of operation. The file is read twice. The first time everything is
 * counted, the second time the ranks are known by which Spearman's correlation
 * compares. What was written between the two is not seen.
 */
#include "tool/figures.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

const uint64_t figures_limits[FIGURES_LIMITS] = { 1000, 10000, 65530 };

const struct percent figures_percents[FIGURES_PERCENTS] = {
	{ "min", 0 }, { "p10", 10 }, { "p50", 50 }, { "p90", 90 },
	{ "p99", 99 }, { "p99.9", 99.9 }, { "max", 100 },
};

void figures_quantities(const struct figures *f,
			struct quantity out[FIGURES_QUANTITIES])
{
	out[0] = (struct quantity){ "pages", &f->pages, 0 };
	out[1] = (struct quantity){ "extents", &f->extents, 0 };
	out[2] = (struct quantity){ "ratio", &f->ratio, 2 };
	out[3] = (struct quantity){ "huge_pages", &f->huge, 0 };
}

double figures_share(const struct figures *f, uint64_t tables)
{
	return f->tables ? (double)tables / (double)f->tables : 0;
}

double row_ratio(const struct study_row *row)
{
	return row->extents ? (double)row->pages / (double)row->extents : 0;
}

/* --- those furthest out -------------------------------------------------- */

static bool more_extents(const struct study_row *a, const struct study_row *b)
{
	return a->extents > b->extents;
}

static bool less_ratio(const struct study_row *a, const struct study_row *b)
{
	return row_ratio(a) < row_ratio(b);
}

static bool same_process(const struct study_row *a, const struct study_row *b)
{
	return a->pid == b->pid && strcmp(a->comm, b->comm) == 0;
}

static void top_add(struct top *top, const struct study_row *row,
		    bool (*further)(const struct study_row *,
				    const struct study_row *))
{
	size_t at = 0, end = 0;

	while (at < top->n && !further(row, &top->v[at]))
		if (same_process(&top->v[at++], row))
			return;
	if (at == FIGURES_TOP)
		return;
	/* Those between move down, as far as where the process was, or out. */
	while (end < top->n && (end < at || !same_process(&top->v[end], row)))
		end++;
	if (end == FIGURES_TOP)
		end--;
	if (end == top->n)
		top->n++;
	memmove(&top->v[at + 1], &top->v[at], (end - at) * sizeof(*row));
	top->v[at] = *row;
}

/* --- both passes --------------------------------------------------------- */

static size_t step_of(double x)
{
	double step = log2(x) * DENSITY_PER_OCTAVE;

	return step < DENSITY_SIZE ? (size_t)step : DENSITY_SIZE - 1;
}

static void add(struct figures *f, struct correlation *logs,
		const struct study_row *row)
{
	double ratio = row_ratio(row);

	if (f->tables == 0)
		f->first = row->time;
	f->samples += f->tables == 0 || row->time != f->last;
	f->last = row->time;
	f->tables++;
	f->empty += row->extents == 0;
	f->with_huge += row->huge_pages > 0;
	histogram_add(&f->pages, (double)row->pages);
	histogram_add(&f->extents, (double)row->extents);
	histogram_add(&f->huge, (double)row->huge_pages);
	for (size_t i = 0; i < FIGURES_LIMITS; i++)
		f->under[i] += row->extents < figures_limits[i];
	if (row->extents == 0)
		return;
	histogram_add(&f->ratio, ratio);
	correlation_add(logs, log((double)row->pages), log(ratio));
	++*figures_density(f, step_of((double)row->pages), step_of(ratio));
	top_add(&f->most_extents, row, more_extents);
	if (row->extents >= LEAST_RATIO_EXTENTS)
		top_add(&f->least_ratio, row, less_ratio);
}

static int count_all(struct figures *f, struct study_reader *r,
		     char err[STUDY_ERR_MAX])
{
	struct correlation logs = { 0 };
	struct study_row row;
	int rc;

	while ((rc = study_reader_next(r, &row, err)) > 0)
		add(f, &logs, &row);
	f->names = r->names;
	f->torn = r->torn;
	f->pearson = correlation_get(&logs);
	return rc;
}

static int rank_all(struct figures *f, struct study_reader *r,
		    const struct ranks *pages, const struct ranks *ratio,
		    char err[STUDY_ERR_MAX])
{
	struct correlation ranks = { 0 };
	struct study_row row;
	int rc;

	study_reader_again(r);
	while ((rc = study_reader_next(r, &row, err)) > 0)
		if (row.extents)
			correlation_add(&ranks,
					ranks_get(pages, (double)row.pages),
					ranks_get(ratio, row_ratio(&row)));
	f->spearman = correlation_get(&ranks);
	return rc;
}

static int read_twice(struct figures *f, struct study_reader *r,
		      char err[STUDY_ERR_MAX])
{
	struct ranks pages = { 0 }, ratio = { 0 };
	int rc = count_all(f, r, err);

	if (rc)
		return rc;
	if (ranks_init(&pages, &f->pages) == 0 &&
	    ranks_init(&ratio, &f->ratio) == 0) {
		rc = rank_all(f, r, &pages, &ratio, err);
	} else {
		rc = -ENOMEM;
		snprintf(err, STUDY_ERR_MAX, "not enough memory");
	}
	ranks_fini(&pages);
	ranks_fini(&ratio);
	return rc;
}

int figures_read(struct figures *f, const char *dir, char err[STUDY_ERR_MAX])
{
	struct study_reader r;
	int rc;

	*f = (struct figures){
		.density = calloc(DENSITY_SIZE * DENSITY_SIZE,
				  sizeof(*f->density)),
	};
	if (!f->density || histogram_init(&f->pages) ||
	    histogram_init(&f->extents) || histogram_init(&f->huge) ||
	    histogram_init(&f->ratio)) {
		figures_fini(f);
		snprintf(err, STUDY_ERR_MAX, "not enough memory");
		return -ENOMEM;
	}
	rc = study_reader_open(&r, dir, err);
	if (rc == 0) {
		rc = read_twice(f, &r, err);
		study_reader_fini(&r);
	}
	if (rc)
		figures_fini(f);
	return rc;
}

void figures_fini(struct figures *f)
{
	histogram_fini(&f->pages);
	histogram_fini(&f->extents);
	histogram_fini(&f->huge);
	histogram_fini(&f->ratio);
	free(f->density);
	f->density = NULL;
}
