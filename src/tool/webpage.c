/* SPDX-License-Identifier: MIT */
/*
 * webpage.c - the figures and plots of a study as one HTML file
 *
 * It holds all that it shows, so that it can be sent to somebody, and asks for
 * nothing: its policy forbids scripts and everything from elsewhere. Names of
 * processes come from the file of rows and are escaped.
 */
#include "tool/webpage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "tool/plots.h"
#include "tool/summary.h"

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
	"<meta charset=\"utf-8\">\n"
	"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src"
	" 'none'; style-src 'unsafe-inline'\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n"
	"<title>Page tables: a study by darkshadow</title>\n<style>\n"
	"body { font: 16px/1.5 sans-serif; color: #222; max-width: 54em;"
	" margin: 2em auto; padding: 0 1em }\n"
	"h1, h2 { font-weight: 600; line-height: 1.2 }\n"
	"table { border-collapse: collapse; margin: 1em 0;"
	" font-variant-numeric: tabular-nums }\n"
	"th, td { padding: .2em .8em; text-align: right;"
	" border-bottom: 1px solid #ddd }\n"
	"th:first-child, td:first-child { text-align: left; padding-left: 0 }\n"
	"figure { margin: 2em 0 }\n"
	"figure svg { width: 100%; height: auto }\n"
	"figcaption, .note { color: #555; font-size: .9em }\n"
	"</style>\n</head>\n<body>\n<h1>Page tables</h1>\n";

static void put_escaped(const char *text, FILE *out)
{
	for (; *text; text++)
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		default:
			putc(*text, out);
		}
}

static void put_counts(const struct figures *f, FILE *out)
{
	char first[SUMMARY_TIME_MAX], last[SUMMARY_TIME_MAX];

	summary_time(f->first, first);
	summary_time(f->last, last);
	fprintf(out, "<p>%" PRIu64 " page tables in %" PRIu64 " samples,"
		" %s to %s. %" PRIu64 " have no page, %" PRIu64
		" have huge pages.</p>\n", f->tables, f->samples, first, last,
		f->empty, f->with_huge);
}

static void put_quantities(const struct figures *f, FILE *out)
{
	struct quantity q[FIGURES_QUANTITIES];

	figures_quantities(f, q);
	fputs("<table>\n<tr><th></th>", out);
	for (size_t k = 0; k < FIGURES_PERCENTS; k++)
		fprintf(out, "<th>%s</th>", figures_percents[k].name);
	for (size_t i = 0; i < FIGURES_QUANTITIES; i++) {
		fprintf(out, "</tr>\n<tr><td>%s</td>", q[i].name);
		for (size_t k = 0; k < FIGURES_PERCENTS; k++)
			fprintf(out, "<td>%.*f</td>", q[i].decimals,
				histogram_quantile(q[i].h,
					figures_percents[k].percent));
	}
	fputs("</tr>\n</table>\n<p class=\"note\">Pages are of 4 KiB. Extents"
	      " are the mmap()s that a table takes: ranges that are contiguous"
	      " in virtual and in physical memory. The ratio is that of pages"
	      " to extents. Percentiles are at most 0.1% too small.</p>\n",
	      out);
}

static void put_shares(const struct figures *f, FILE *out)
{
	fputs("<table>\n<tr><th>mmap()s</th><th>page tables</th>", out);
	for (size_t i = 0; i < FIGURES_LIMITS; i++)
		fprintf(out, "</tr>\n<tr><td>under %" PRIu64 "</td>"
			"<td>%.2f%%</td>", figures_limits[i],
			100 * figures_share(f, f->under[i]));
	fputs("</tr>\n</table>\n", out);
}

static void put_relation(const char *name, double r, FILE *out)
{
	if (isnan(r))
		fprintf(out, "<tr><td>%s</td><td>none</td></tr>\n", name);
	else
		fprintf(out, "<tr><td>%s</td><td>%.2f</td></tr>\n", name, r);
}

static void put_relations(const struct figures *f, FILE *out)
{
	fputs("<table>\n<tr><th>size and ratio</th><th>correlation</th></tr>\n",
	      out);
	put_relation("Pearson, of logarithms", f->pearson, out);
	put_relation("Spearman, of ranks", f->spearman, out);
	fputs("</table>\n", out);
}

static void put_top(const char *title, const struct figures *f,
		    const struct top *top, FILE *out)
{
	if (top->n == 0)
		return;
	fprintf(out, "<h2>%s</h2>\n<table>\n<tr><th>%s</th><th>pid</th>"
		"<th>extents</th><th>pages</th><th>ratio</th><th>huge</th>"
		"</tr>\n", title, f->names ? "name" : "hash");
	for (size_t i = 0; i < top->n; i++) {
		const struct study_row *row = &top->v[i];

		fputs("<tr><td>", out);
		put_escaped(row->comm, out);
		fprintf(out, "</td><td>%d</td><td>%" PRIu64 "</td><td>%" PRIu64
			"</td><td>%.2f</td><td>%" PRIu64 "</td></tr>\n",
			row->pid, row->extents, row->pages, row_ratio(row),
			row->huge_pages);
	}
	fputs("</table>\n", out);
}

/* What stands before the element has no place inside HTML. */
static int put_svg(const char *name, int dirfd, FILE *out)
{
	char file[64], *line cleanup_free = NULL, *at;
	bool inside = false;
	size_t cap = 0;
	FILE *in;
	int fd;

	snprintf(file, sizeof(file), "%s.svg", name);
	fd = openat(dirfd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	in = fd_stream(fd < 0 ? -errno : fd, "r");
	if (!in)
		return -errno;
	while (getline(&line, &cap, in) >= 0) {
		at = inside ? line : strstr(line, "<svg");
		inside = at != NULL;
		if (inside)
			fputs(at, out);
	}
	fclose(in);
	return inside ? 0 : -EPROTO;
}

static int put_plots(int dirfd, FILE *out)
{
	int rc = 0;

	for (size_t i = 0; i < PLOTS && rc == 0; i++) {
		fprintf(out, "<figure>\n<h2>%s</h2>\n", plots[i].title);
		rc = put_svg(plots[i].name, dirfd, out);
		fprintf(out, "<figcaption>%s</figcaption>\n</figure>\n",
			plots[i].says);
	}
	return rc;
}

int webpage_write(const struct figures *f, int dirfd, bool drawn)
{
	FILE *out = fd_stream(fd_create_at(dirfd, WEBPAGE_NAME), "w");
	int rc = 0;

	if (!out)
		return -errno;
	fputs(head, out);
	put_counts(f, out);
	put_quantities(f, out);
	put_shares(f, out);
	put_relations(f, out);
	if (drawn)
		rc = put_plots(dirfd, out);
	put_top("Most extents, of each process its worst table", f,
		&f->most_extents, out);
	put_top("Least ratio, of tables with 1000 extents or more", f,
		&f->least_ratio, out);
	fputs("</body>\n</html>\n", out);
	if (ferror(out) && rc == 0)
		rc = -EIO;
	return fclose(out) != 0 && rc == 0 ? -errno : rc;
}
