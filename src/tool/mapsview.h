/* SPDX-License-Identifier: MIT */
/* mapsview.h - an address space as a table, or as JSON */
#ifndef TOOL_MAPSVIEW_H
#define TOOL_MAPSVIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "process/extents.h"
#include "process/maps.h"

struct view {
	FILE *out;		/* borrowed */
	bool json;
	bool summary;		/* without the regions */
	bool colours;
	json_t *regions;	/* owned, while a report is made */
};

/* What was found in a process, all in all. */
struct view_totals {
	pid_t pid;
	const char *name;
	const char *when;	/* "" or how it was met */
	uint64_t regions;
	uint64_t vsz, rss;	/* bytes */
	struct page_counts pages;
	bool knows_zero, knows_huge;
	uint64_t estimate;	/* extents, if it were collapsed: at most */
	bool collapsed;		/* it has been, and then was: */
	uint64_t blocks;	/* of 2 MiB */
	struct page_counts after;
};

/* view_init() - colours where out is a terminal and the user lets us */
void view_init(struct view *v, FILE *out, bool json, bool summary);

/* A report: its beginning, every region, and its end, which is written out. */
void view_begin(struct view *v, pid_t pid, const char *name, const char *when);
void view_region(struct view *v, const struct map_line *line,
		 const struct page_counts *counts, bool knows_zero,
		 bool knows_huge);
void view_end(struct view *v, const struct view_totals *t);

/* view_drop() - instead of view_end(): there will be no end */
void view_drop(struct view *v);

#endif
