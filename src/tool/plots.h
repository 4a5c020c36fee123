/* SPDX-License-Identifier: MIT */
/* plots.h - the plots of a study, by gnuplot: SVG and PNG */
#ifndef TOOL_PLOTS_H
#define TOOL_PLOTS_H

#include "tool/figures.h"

#define PLOTS		3
#define PLOTS_SCRIPT	"plots.gnuplot"

/* Files are NAME.svg and NAME.png. */
struct plot {
	const char *name;
	const char *title;
	const char *says;	/* a sentence on how to read it */
};

extern const struct plot plots[PLOTS];

/*
 * plots_draw() - write PLOTS_SCRIPT, with its data, and have gnuplot run it
 *
 * Files that are there are replaced. 0, or -errno: -ENOENT if there is no
 * gnuplot, -ECHILD if it failed, and said why on standard error.
 */
int plots_draw(const struct figures *f, int dirfd);

#endif
