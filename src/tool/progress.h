/* SPDX-License-Identifier: MIT */
/* progress.h - one line on a terminal that says how far a study is */
#ifndef TOOL_PROGRESS_H
#define TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool shown;		/* standard error is a terminal */
	uint64_t sample;	/* which this is, from 1 on */
	uint64_t samples;	/* the last one; 0: there is no end */
	int64_t told_ns;	/* when it was last written */
};

/* What is passed: how many there are so far, how long is still to wait. */
void progress_tables(struct progress *p, uint64_t tables);
void progress_wait(const struct progress *p, int64_t wait_s);

/* progress_end() - the line is empty, for whatever is written next */
void progress_end(const struct progress *p);

#endif
