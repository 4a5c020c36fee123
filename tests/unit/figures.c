/* SPDX-License-Identifier: MIT */
/*
 * figures.c - the statistics of a study, against the same done the long way
 *
 * Percentiles against a sorted array, Spearman's correlation against ranks of
 * one, Pearson's against its definition, SipHash against its authors' values.
 */
#include "tool/figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/siphash.h"
#include "tap.h"

#define N	20000

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* From 1 to 2^20, most of them small. */
static double random_value(unsigned int *seed)
{
	return floor(exp2(20.0 * rand_r(seed) / RAND_MAX));
}

/* --- numbers ------------------------------------------------------------- */

static void test_durations(void)
{
	static const struct {
		const char *text;
		uint64_t s;
	} good[] = {
		{ "0", 0 }, { "90", 90 }, { "90s", 90 }, { "15m", 900 },
		{ "2h", 7200 }, { "3d", 259200 },
	};
	static const char *const bad[] = {
		"", "m", "-1s", "+1s", " 1s", "1 s", "1w", "1sm", "1M", "0x1",
		"1.5h", "18446744073709551616", "18446744073709551615m",
	};
	uint64_t s;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		okf(num_parse_duration(good[i].text, &s) && s == good[i].s,
		    "'%s' is so many seconds", good[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		okf(!num_parse_duration(bad[i], &s), "'%s' is no duration",
		    bad[i]);
	ok(num_parse_size("3M", &s) && s == 3 << 20 &&
	   !num_parse_size("3m", &s), "units of sizes are others");
}

static void test_siphash(void)
{
	struct siphash_key key = { { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };
	char text[15];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)i;
	ok(siphash(&key, text, 0) == 0x726fdb47dd0e0e31,
	   "SipHash of nothing is what its authors say");
	ok(siphash(&key, text, 15) == 0xa129ca6149be45e5,
	   "and of fifteen bytes");
	ok(siphash(&key, text, 8) != siphash(&key, text, 7), "and not of eight"
	   " what it is of seven");
}

/* --- histogram ----------------------------------------------------------- */

static void test_quantiles(void)
{
	static const double percents[] = { 0.1, 1, 10, 50, 90, 99, 99.9 };
	static double v[N];
	struct histogram h;
	unsigned int seed = 1;

	if (!ok(histogram_init(&h) == 0, "a histogram"))
		return;
	ok(histogram_quantile(&h, 50) == 0, "nothing has no median");
	for (size_t i = 0; i < N; i++) {
		v[i] = random_value(&seed);
		histogram_add(&h, v[i]);
	}
	qsort(v, N, sizeof(*v), compare);
	for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
		double want = v[(size_t)ceil(N * percents[i] / 100) - 1];
		double got = histogram_quantile(&h, percents[i]);

		okf(got <= want && got > want * (1 - HISTOGRAM_ERROR) &&
		    (want > 2048 || got == want),
		    "%g%% are at most %.0f, or %.0f", percents[i], want, got);
	}
	ok(histogram_quantile(&h, 0) == v[0] &&
	   histogram_quantile(&h, 100) == v[N - 1], "the ends are exact");
	histogram_fini(&h);
}

static void test_extremes(void)
{
	struct histogram h;
	double value;
	uint64_t count;
	size_t pos = 0;

	if (!ok(histogram_init(&h) == 0, "a histogram"))
		return;
	for (int i = 0; i < 3; i++)
		histogram_add(&h, 0);
	histogram_add(&h, 1);
	histogram_add(&h, HISTOGRAM_MAX);
	ok(histogram_next(&h, &pos, &value, &count) && value == 0 &&
	   count == 3, "zeros are counted by themselves");
	ok(histogram_next(&h, &pos, &value, &count) && value == 1 &&
	   count == 1, "and ones");
	ok(histogram_next(&h, &pos, &value, &count) &&
	   value == HISTOGRAM_MAX && count == 1, "and the largest");
	ok(!histogram_next(&h, &pos, &value, &count), "and there is no more");
	ok(histogram_quantile(&h, 60) == 0 && histogram_quantile(&h, 61) == 1,
	   "a percentile is the least value that is enough");
	histogram_fini(&h);
}

/* --- correlation --------------------------------------------------------- */

static double pearson(const double *x, const double *y, size_t n)
{
	long double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;

	for (size_t i = 0; i < n; i++) {
		mx += x[i] / (long double)n;
		my += y[i] / (long double)n;
	}
	for (size_t i = 0; i < n; i++) {
		xx += (x[i] - mx) * (x[i] - mx);
		yy += (y[i] - my) * (y[i] - my);
		xy += (x[i] - mx) * (y[i] - my);
	}
	return (double)(xy / sqrtl(xx * yy));
}

static void test_correlation(void)
{
	static double x[N], y[N];
	struct correlation c = { 0 }, same = { 0 }, line = { 0 };
	unsigned int seed = 2;

	for (size_t i = 0; i < N; i++) {
		/* Far from zero, where sums of squares lose it all. */
		x[i] = 1e9 + random_value(&seed);
		y[i] = 1e9 + random_value(&seed) + x[i] / 3;
		correlation_add(&c, x[i], y[i]);
		correlation_add(&same, x[i], 7);
		correlation_add(&line, x[i], -2 * x[i]);
	}
	ok(fabs(correlation_get(&c) - pearson(x, y, N)) < 1e-9,
	   "Pearson's correlation is what its definition says");
	ok(isnan(correlation_get(&same)), "with a constant there is none");
	ok(fabs(correlation_get(&line) + 1) < 1e-9, "a line that falls is -1");
}

/* The mean of the places that the value has in the sorted array. */
static double rank_of(const double *sorted, size_t n, double x)
{
	size_t below = 0, up_to = 0;

	for (size_t i = 0; i < n; i++) {
		below += sorted[i] < x;
		up_to += sorted[i] <= x;
	}
	return ((double)below + 1 + (double)up_to) / 2;
}

static double spearman(const double *x, const double *y, size_t n)
{
	double *v = calloc(4 * n, sizeof(*v)), r;

	if (!v)
		return NAN;
	memcpy(v, x, n * sizeof(*v));
	memcpy(v + n, y, n * sizeof(*v));
	qsort(v, n, sizeof(*v), compare);
	qsort(v + n, n, sizeof(*v), compare);
	for (size_t i = 0; i < n; i++) {
		v[2 * n + i] = rank_of(v, n, x[i]);
		v[3 * n + i] = rank_of(v + n, n, y[i]);
	}
	r = pearson(v + 2 * n, v + 3 * n, n);
	free(v);
	return r;
}

static void test_ranks(void)
{
	static double v[2000];
	struct histogram h;
	struct ranks r;
	unsigned int seed = 3;
	bool same = true;

	if (!ok(histogram_init(&h) == 0, "a histogram"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		v[i] = fmod(random_value(&seed), 2048);
		histogram_add(&h, v[i]);
	}
	qsort(v, ARRAY_SIZE(v), sizeof(*v), compare);
	ok(ranks_init(&r, &h) == 0, "its ranks");
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		same = same && ranks_get(&r, v[i]) ==
			       rank_of(v, ARRAY_SIZE(v), v[i]);
	ok(same, "ranks are what sorting says, ties share theirs");
	ranks_fini(&r);
	histogram_fini(&h);
}

/* --- a file -------------------------------------------------------------- */

struct dir {
	char name[64];
	struct study_writer w;
};

static bool dir_open(struct dir *d, bool names)
{
	char err[STUDY_ERR_MAX];

	if (study_writer_open(&d->w, d->name, names, err) == 0)
		return true;
	printf("# %s\n", err);
	return false;
}

static bool dir_make(struct dir *d)
{
	strcpy(d->name, "/tmp/ds-figures.XXXXXX");
	return mkdtemp(d->name) && dir_open(d, true);
}

static void dir_remove(struct dir *d)
{
	static const char *const files[] = { "tables.csv", "key" };
	char path[128];

	study_writer_fini(&d->w);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", d->name, files[i]);
		unlink(path);
	}
	rmdir(d->name);
}

static bool put(struct dir *d, int64_t time, pid_t pid, uint64_t pages,
		uint64_t extents)
{
	struct study_row row = { .time = time, .pid = pid, .pages = pages,
				 .extents = extents };

	return study_writer_put(&d->w, &row, "it") == 0;
}

static void test_top(void)
{
	static const uint64_t want[] = { 900, 500, 400 };
	char err[STUDY_ERR_MAX];
	struct figures f;
	struct dir d;
	bool same;

	if (!ok(dir_make(&d), "a study"))
		return;
	/* Process 1 grows and shrinks, 2 and 3 stay between. */
	put(&d, 100, 1, 1000, 300);
	put(&d, 100, 2, 1000, 500);
	put(&d, 100, 3, 1000, 400);
	put(&d, 200, 1, 1000, 900);
	put(&d, 200, 3, 1000, 100);
	put(&d, 300, 1, 1000, 450);
	ok(figures_read(&f, d.name, err) == 0 && f.tables == 6 &&
	   f.samples == 3, "six tables in three samples");
	same = f.most_extents.n == 3;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		same = same && f.most_extents.v[i].extents == want[i];
	ok(same, "each process is among the furthest once, as it was worst");
	ok(f.least_ratio.n == 0, "what is cheap is in no list of ratios");
	figures_fini(&f);
	dir_remove(&d);
}

static void test_top_is_full(void)
{
	char err[STUDY_ERR_MAX];
	struct figures f;
	struct dir d;
	bool same = true;

	if (!ok(dir_make(&d), "a study"))
		return;
	/* In an order that goes through all: 7 and 40 share no factor. */
	for (int i = 0; i < 400; i++)
		put(&d, 100 + i / 40, 1 + i * 7 % 40, 100000,
		    2000 + (uint64_t)(i * 7 % 40) * 10 + (uint64_t)i % 3);
	ok(figures_read(&f, d.name, err) == 0, "of forty processes");
	for (size_t i = 0; i < FIGURES_TOP; i++)
		same = same && f.most_extents.v[i].pid == 40 - (pid_t)i &&
		       f.least_ratio.v[i].pid == 40 - (pid_t)i &&
		       f.most_extents.v[i].extents == 2000 + 10 * (39 - i) + 2;
	ok(same, "the ten furthest are told, in their order");
	figures_fini(&f);
	dir_remove(&d);
}

static void test_relation(void)
{
	static double x[2000], y[2000];
	char err[STUDY_ERR_MAX];
	unsigned int seed = 4;
	struct figures f;
	struct dir d;

	if (!ok(dir_make(&d), "a study"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
		uint64_t pages = (uint64_t)random_value(&seed);
		uint64_t extents = 1 + pages * (unsigned int)(rand_r(&seed) %
				   1000) / 1001;

		put(&d, 100, 1, pages, extents);
		x[i] = log((double)pages);
		y[i] = log((double)pages / (double)extents);
	}
	put(&d, 200, 2, 0, 0);
	ok(figures_read(&f, d.name, err) == 0 && f.empty == 1 &&
	   f.tables == ARRAY_SIZE(x) + 1 && f.ratio.n == ARRAY_SIZE(x),
	   "a table without a page is counted, and has no ratio");
	ok(fabs(f.pearson - pearson(x, y, ARRAY_SIZE(x))) < 1e-9,
	   "Pearson's correlation is that of the logarithms");
	okf(fabs(f.spearman - spearman(x, y, ARRAY_SIZE(x))) < 1e-3,
	    "Spearman's is that of the ranks: %.4f", f.spearman);
	figures_fini(&f);
	dir_remove(&d);
}

static void test_names(void)
{
	struct study_row row = { .time = 1, .pid = 1 };
	struct dir d;

	if (!ok(dir_make(&d), "a study with names"))
		return;
	study_writer_put(&d.w, &row, "g++ (x)");
	ok(!strcmp(row.comm, "g++ (x)"), "a name stays as it is");
	study_writer_put(&d.w, &row, "=1,\"\n\\\x1b\xc3");
	ok(!strcmp(row.comm, "\\x3d1\\x2c\\x22\\x0a\\x5c\\x1b\\xc3"),
	   "what ends a field, or drives something, does not");
	study_writer_put(&d.w, &row, "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n");
	ok(strlen(row.comm) == 60, "there is room for the worst");
	study_writer_fini(&d.w);
	ok(dir_open(&d, true) && d.w.samples == 1 && d.w.cut == 0,
	   "and all of it is read again");
	dir_remove(&d);
}

int main(void)
{
	test_durations();
	test_siphash();
	test_quantiles();
	test_extremes();
	test_correlation();
	test_ranks();
	test_top();
	test_top_is_full();
	test_relation();
	test_names();
	return tap_end();
}
