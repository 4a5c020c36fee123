/* SPDX-License-Identifier: MIT */
/* summary.c - the figures of a study as text, and as JSON */
#include "tool/summary.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <time.h>

#include "base/num.h"

void summary_time(int64_t time, char buf[SUMMARY_TIME_MAX])
{
	time_t t = (time_t)time;
	struct tm tm;

	if (!gmtime_r(&t, &tm) ||
	    !strftime(buf, SUMMARY_TIME_MAX, "%Y-%m-%d %H:%M UTC", &tm))
		snprintf(buf, SUMMARY_TIME_MAX, "?");
}

/* --- text ---------------------------------------------------------------- */

static void print_counts(const struct figures *f, FILE *out)
{
	char first[SUMMARY_TIME_MAX], last[SUMMARY_TIME_MAX];

	summary_time(f->first, first);
	summary_time(f->last, last);
	fprintf(out, "%" PRIu64 " page tables in %" PRIu64 " samples, %s to"
		" %s\n", f->tables, f->samples, first, last);
	fprintf(out, "%" PRIu64 " with no page, %" PRIu64 " with huge pages,"
		" which have %.1f%% of all pages\n", f->empty, f->with_huge,
		f->pages.sum > 0 ? 100 * f->huge.sum / f->pages.sum : 0);
}

static void print_quantities(const struct figures *f, FILE *out)
{
	struct quantity q[FIGURES_QUANTITIES];

	figures_quantities(f, q);
	fprintf(out, "\n%-11s", "");
	for (size_t k = 0; k < FIGURES_PERCENTS; k++)
		fprintf(out, "%10s", figures_percents[k].name);
	for (size_t i = 0; i < FIGURES_QUANTITIES; i++) {
		fprintf(out, "\n%-11s", q[i].name);
		for (size_t k = 0; k < FIGURES_PERCENTS; k++)
			fprintf(out, "%10.*f", q[i].decimals,
				histogram_quantile(q[i].h,
					figures_percents[k].percent));
	}
	fputs("\n(above 2048: at most 0.1% too small)\n", out);
}

static void print_relation(const char *name, double r, FILE *out)
{
	if (isnan(r))
		fprintf(out, "%-24s none: one of them never changes\n", name);
	else
		fprintf(out, "%-24s%6.2f\n", name, r);
}

static void print_top(const char *title, const struct figures *f,
		      const struct top *top, FILE *out)
{
	if (top->n == 0)
		return;
	fprintf(out, "\n%s\n%9s  %-16s %10s %10s %9s %10s\n", title, "PID",
		f->names ? "NAME" : "HASH", "EXTENTS", "PAGES", "RATIO",
		"HUGE");
	for (size_t i = 0; i < top->n; i++)
		fprintf(out, "%9d  %-16s %10" PRIu64 " %10" PRIu64
			" %9.2f %10" PRIu64 "\n", top->v[i].pid,
			top->v[i].comm, top->v[i].extents, top->v[i].pages,
			row_ratio(&top->v[i]), top->v[i].huge_pages);
}

void summary_print(const struct figures *f, FILE *out)
{
	print_counts(f, out);
	print_quantities(f, out);
	putc('\n', out);
	for (size_t i = 0; i < FIGURES_LIMITS; i++)
		fprintf(out, "under %5" PRIu64 " extents%13.2f%%\n",
			figures_limits[i],
			100 * figures_share(f, f->under[i]));
	fputs("\npages and ratio: 0 is no relation, 1 and -1 a perfect one\n",
	      out);
	print_relation("Pearson, of logarithms", f->pearson, out);
	print_relation("Spearman, of ranks", f->spearman, out);
	print_top("most extents, of each process its worst table", f,
		  &f->most_extents, out);
	print_top("least ratio, of those with 1000 extents or more", f,
		  &f->least_ratio, out);
}

/* --- JSON ---------------------------------------------------------------- */

static json_t *json_count(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *json_number(double x)
{
	return isnan(x) ? json_null() : json_real(x);
}

static json_t *json_quantity(const struct quantity *q)
{
	json_t *o = json_object();

	for (size_t k = 0; k < FIGURES_PERCENTS; k++) {
		double v = histogram_quantile(q->h,
					      figures_percents[k].percent);

		json_object_set_new(o, figures_percents[k].name, q->decimals ?
				    json_real(v) : json_count((uint64_t)v));
	}
	return o;
}

static json_t *json_under(const struct figures *f)
{
	json_t *o = json_object();
	char name[24];

	for (size_t i = 0; i < FIGURES_LIMITS; i++) {
		snprintf(name, sizeof(name), "%" PRIu64, figures_limits[i]);
		json_object_set_new(o, name, json_real(figures_share(f,
							f->under[i])));
	}
	return o;
}

static json_t *json_top(const struct top *top)
{
	json_t *all = json_array();

	for (size_t i = 0; i < top->n; i++) {
		const struct study_row *row = &top->v[i];

		json_array_append_new(all, json_pack(
			"{s:I, s:i, s:s, s:I, s:I, s:f, s:I, s:I, s:I}",
			"time", (json_int_t)row->time,
			"pid", (int)row->pid, "comm", row->comm,
			"pages", (json_int_t)row->pages,
			"extents", (json_int_t)row->extents,
			"ratio", row_ratio(row),
			"vsz_kib", (json_int_t)row->vsz_kib,
			"rss_kib", (json_int_t)row->rss_kib,
			"huge_pages", (json_int_t)row->huge_pages));
	}
	return all;
}

int summary_json(const struct figures *f, FILE *out)
{
	struct quantity q[FIGURES_QUANTITIES];
	json_t *o = json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o}",
			      "names", f->names,
			      "samples", json_count(f->samples),
			      "first", json_count((uint64_t)f->first),
			      "last", json_count((uint64_t)f->last),
			      "tables", json_count(f->tables),
			      "empty", json_count(f->empty),
			      "with_huge", json_count(f->with_huge));
	int rc;

	if (!o)
		return -ENOMEM;
	figures_quantities(f, q);
	for (size_t i = 0; i < FIGURES_QUANTITIES; i++)
		json_object_set_new(o, q[i].name, json_quantity(&q[i]));
	json_object_set_new(o, "percentile_error",
			    json_real(HISTOGRAM_ERROR));
	json_object_set_new(o, "under", json_under(f));
	json_object_set_new(o, "pearson", json_number(f->pearson));
	json_object_set_new(o, "spearman", json_number(f->spearman));
	json_object_set_new(o, "most_extents", json_top(&f->most_extents));
	json_object_set_new(o, "least_ratio", json_top(&f->least_ratio));
	rc = json_dumpf(o, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putc('\n', out);
	json_decref(o);
	return rc ? -ENOMEM : 0;
}
