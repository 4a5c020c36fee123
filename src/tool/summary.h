/* SPDX-License-Identifier: MIT */
/* summary.h - the figures of a study as text, and as JSON */
#ifndef TOOL_SUMMARY_H
#define TOOL_SUMMARY_H

#include <stdio.h>

#include "tool/figures.h"

#define SUMMARY_TIME_MAX	32

void summary_print(const struct figures *f, FILE *out);
int summary_json(const struct figures *f, FILE *out);	/* or -ENOMEM */

/* summary_time() - "2026-11-28 17:44 UTC" */
void summary_time(int64_t time, char buf[SUMMARY_TIME_MAX]);

#endif
