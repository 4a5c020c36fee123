/* SPDX-License-Identifier: MIT */
/* report.h - `darkshadow study report`: what a study has found */
#ifndef TOOL_REPORT_H
#define TOOL_REPORT_H

#include <stdbool.h>

struct report_options {
	const char *dir;	/* of the study */
	const char *out;	/* where plots and page go; NULL: the same, or
				 * none with JSON, which scripts ask for */
	bool json;
};

int report(const struct report_options *o);	/* exit status */

#endif
