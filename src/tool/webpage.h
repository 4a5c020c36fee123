/* SPDX-License-Identifier: MIT */
/* webpage.h - the figures and plots of a study as one HTML file */
#ifndef TOOL_WEBPAGE_H
#define TOOL_WEBPAGE_H

#include "tool/figures.h"

#define WEBPAGE_NAME	"report.html"

/*
 * webpage_write() - write it into the directory, with what plots_draw() has
 * drawn there if drawn says so; 0 or -errno
 */
int webpage_write(const struct figures *f, int dirfd, bool drawn);

#endif
