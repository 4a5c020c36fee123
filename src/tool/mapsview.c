/* SPDX-License-Identifier: MIT */
/* mapsview.c - an address space as a table, or as JSON */
#include "tool/mapsview.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "tool/text.h"

/* vm.max_map_count, unless somebody has changed it. */
#define MAPS_DEFAULT	65530

/* So many extents of so few pages each are worth a colour. */
#define MANY_EXTENTS	100
#define SCATTERED	2.0

#define BOLD		"\033[1m"
#define DIM		"\033[2m"
#define YELLOW		"\033[33m"

#define CELL_MAX	24

static bool wants_colours(FILE *out)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fileno(out)) && !(no && *no) && term &&
	       strcmp(term, "dumb") != 0;
}

void view_init(struct view *v, FILE *out, bool json, bool summary)
{
	*v = (struct view){ .out = out, .json = json, .summary = summary,
			    .colours = !json && wants_colours(out) };
}

static double per_extent(const struct page_counts *c)
{
	return c->extents ? (double)(c->present - c->hidden) /
			    (double)c->extents : 0;
}

/* --- the table ----------------------------------------------------------- */

/* What goes under the columns that regions and the total have. */
struct row {
	char size[TEXT_SIZE_MAX], present[CELL_MAX], extents[CELL_MAX],
	     ratio[CELL_MAX], largest[CELL_MAX], huge[CELL_MAX],
	     shared[CELL_MAX], zero[CELL_MAX];
};

static void set_pages(char cell[CELL_MAX], uint64_t npages, bool known)
{
	char buf[TEXT_SIZE_MAX];

	snprintf(cell, CELL_MAX, "%s", !known ? "?" : npages ?
		 text_size(npages * PAGE_BYTES, buf) : "-");
}

static void fill_row(struct row *row, uint64_t size,
		     const struct page_counts *c, bool knows_zero,
		     bool knows_huge)
{
	const bool framed = !c->hidden;

	text_size(size, row->size);
	set_pages(row->present, c->present, true);
	set_pages(row->largest, c->largest, framed);
	set_pages(row->huge, c->huge, knows_huge);
	set_pages(row->shared, c->file + c->shared, true);
	set_pages(row->zero, c->zero, knows_zero);
	strcpy(row->extents, framed ? "-" : "?");
	strcpy(row->ratio, row->extents);
	if (framed && c->extents) {
		snprintf(row->extents, CELL_MAX, "%" PRIu64, c->extents);
		snprintf(row->ratio, CELL_MAX, "%.1f", per_extent(c));
	}
}

static void print_row(const struct view *v, const char *colour,
		      const char *address, const char *prot,
		      const struct row *r, const char *backing)
{
	fprintf(v->out, "%s%-12s %6s %-4s %7s %7s %7s %7s %6s %6s %6s  %s%s\n",
		v->colours ? colour : "", address, r->size, prot, r->present,
		r->extents, r->ratio, r->largest, r->huge, r->shared, r->zero,
		backing, v->colours && *colour ? "\033[0m" : "");
}

static void print_head(const struct view *v)
{
	static const struct row head = {
		"SIZE", "PRESENT", "EXTENTS", "PER-EXT", "LARGEST", "HUGE",
		"SHARED", "ZERO",
	};

	print_row(v, BOLD, "ADDRESS", "PROT", &head, "BACKING");
}

static const char *colour_of(const struct page_counts *c)
{
	if (!c->present)
		return DIM;
	return c->extents >= MANY_EXTENTS && per_extent(c) < SCATTERED ?
	       YELLOW : "";
}

static void set_prot(const struct map_line *line, char text[5])
{
	text[0] = line->prot & PROT_READ ? 'r' : '-';
	text[1] = line->prot & PROT_WRITE ? 'w' : '-';
	text[2] = line->prot & PROT_EXEC ? 'x' : '-';
	text[3] = line->shared ? 's' : 'p';
	text[4] = '\0';
}

static void print_region(const struct view *v, const struct map_line *line,
			 const struct page_counts *c, bool knows_zero,
			 bool knows_huge)
{
	char address[CELL_MAX], prot[5], backing[PATH_MAX];
	struct row row;

	snprintf(address, sizeof(address), "%012" PRIx64, line->start);
	set_prot(line, prot);
	text_plain(*line->name ? line->name : "[anonymous]", backing,
		   sizeof(backing));
	fill_row(&row, line->end - line->start, c, knows_zero, knows_huge);
	print_row(v, colour_of(c), address, prot, &row, backing);
}

static void print_need(const struct view *v, const struct view_totals *t)
{
	const struct page_counts *c = &t->pages;

	if (c->hidden) {
		fprintf(v->out, "How many mmap()s a shadow needs is not"
			" known: page frames are hidden.\n");
		return;
	}
	fprintf(v->out, "A shadow needs %" PRIu64 " mmap()s for %" PRIu64
		" pages", c->extents, c->present);
	if (t->collapsed && !t->blocks)
		fprintf(v->out, "; no huge page could be made of them.\n");
	else if (t->collapsed)
		fprintf(v->out, "; %" PRIu64 " for %" PRIu64 " pages, now that"
			" %" PRIu64 " huge pages have been made.\n",
			t->after.extents, t->after.present, t->blocks);
	else if (t->estimate < c->extents)
		fprintf(v->out, ", or at most %" PRIu64 " if all private"
			" anonymous memory were in huge pages.\n", t->estimate);
	else
		fprintf(v->out, ".\n");
	if (c->extents > MAPS_DEFAULT)
		fprintf(v->out, "That is more than vm.max_map_count is on most"
			" hosts (%d): raise it there.\n", MAPS_DEFAULT);
}

static void print_end(const struct view *v, const struct view_totals *t)
{
	char regions[CELL_MAX], rss[TEXT_SIZE_MAX];
	struct row row;

	snprintf(regions, sizeof(regions), "%" PRIu64 " regions", t->regions);
	fill_row(&row, t->vsz, &t->pages, t->knows_zero, t->knows_huge);
	print_row(v, BOLD, "total", "", &row, regions);
	fprintf(v->out, "Resident, as the kernel counts it: %s.",
		text_size(t->rss, rss));
	if (t->pages.swapped)
		fprintf(v->out, " Swapped out: %" PRIu64 " pages.",
			t->pages.swapped);
	putc('\n', v->out);
	print_need(v, t);
}

/* --- JSON ---------------------------------------------------------------- */

static json_t *number(uint64_t n, bool known)
{
	return known ? json_integer((json_int_t)n) : json_null();
}

static void set_counts(json_t *o, const struct page_counts *c,
		       bool knows_zero, bool knows_huge)
{
	const bool framed = !c->hidden;

	json_object_set_new(o, "present", number(c->present, true));
	json_object_set_new(o, "swapped", number(c->swapped, true));
	json_object_set_new(o, "own", number(c->own, true));
	json_object_set_new(o, "file", number(c->file, true));
	json_object_set_new(o, "shared", number(c->shared, true));
	json_object_set_new(o, "zero", number(c->zero, knows_zero));
	json_object_set_new(o, "huge", number(c->huge, knows_huge));
	json_object_set_new(o, "extents", number(c->extents, framed));
	json_object_set_new(o, "largest", number(c->largest, framed));
	json_object_set_new(o, "pages_per_extent", framed && c->extents ?
			    json_real(per_extent(c)) : json_null());
}

/* Beyond what a number of JSON holds there are addresses, too. */
static json_t *address(uint64_t gva)
{
	return json_sprintf("0x%" PRIx64, gva);
}

static void keep_region(struct view *v, const struct map_line *line,
			const struct page_counts *c, bool knows_zero,
			bool knows_huge)
{
	char prot[5];
	json_t *o;

	set_prot(line, prot);
	o = json_pack("{s:o, s:o, s:I, s:s, s:o, s:I, s:I}",
		      "start", address(line->start),
		      "end", address(line->end),
		      "size", (json_int_t)(line->end - line->start),
		      "prot", prot, "backing", text_json(line->name),
		      "offset", (json_int_t)line->off,
		      "inode", (json_int_t)line->ino);
	set_counts(o, c, knows_zero, knows_huge);
	json_array_append_new(v->regions, o);
}

static void print_json(struct view *v, const struct view_totals *t)
{
	json_t *totals = json_pack("{s:I, s:I, s:I}",
				   "regions", (json_int_t)t->regions,
				   "vsz", (json_int_t)t->vsz,
				   "rss", (json_int_t)t->rss);
	json_t *all = json_pack("{s:i, s:o, s:o}", "pid", (int)t->pid,
				"name", text_json(t->name),
				"when", text_json(t->when)), *after;

	set_counts(totals, &t->pages, t->knows_zero, t->knows_huge);
	json_object_set_new(totals, "extents_if_huge",
			    number(t->estimate, !t->pages.hidden));
	json_object_set_new(all, "totals", totals);
	if (t->collapsed) {
		after = json_pack("{s:I}", "blocks", (json_int_t)t->blocks);
		set_counts(after, &t->after, t->knows_zero, t->knows_huge);
		json_object_set_new(all, "collapsed", after);
	}
	if (!v->summary)
		json_object_set(all, "regions", v->regions);
	json_dumpf(all, v->out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putc('\n', v->out);
	json_decref(all);
}

/* --- a report ------------------------------------------------------------ */

void view_begin(struct view *v, pid_t pid, const char *name, const char *when)
{
	char plain[64];

	v->regions = NULL;
	if (v->json) {
		v->regions = json_array();
		return;
	}
	text_plain(name, plain, sizeof(plain));
	fprintf(v->out, "Process %d (%s)%s%s\n", pid, plain,
		*when ? ", " : "", when);
	print_head(v);
}

void view_region(struct view *v, const struct map_line *line,
		 const struct page_counts *counts, bool knows_zero,
		 bool knows_huge)
{
	if (v->summary)
		return;
	if (v->json)
		keep_region(v, line, counts, knows_zero, knows_huge);
	else
		print_region(v, line, counts, knows_zero, knows_huge);
}

void view_drop(struct view *v)
{
	json_decref(v->regions);
	v->regions = NULL;
}

void view_end(struct view *v, const struct view_totals *t)
{
	if (v->json)
		print_json(v, t);
	else
		print_end(v, t);
	fflush(v->out);
	view_drop(v);
}
