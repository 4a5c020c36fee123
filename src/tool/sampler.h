/* SPDX-License-Identifier: MIT */
/* sampler.h - the page tables of all processes, at one time */
#ifndef TOOL_SAMPLER_H
#define TOOL_SAMPLER_H

#include <stdint.h>

#include "tool/progress.h"
#include "tool/studyfile.h"

struct sampler {
	struct study_writer *file;	/* borrowed */
	uint64_t spread_s;	/* for how long a sample may take its time; 0:
				 * it hurries */
	struct progress *progress;	/* borrowed: told of each process */
};

/*
 * sampler_take() - a row for each page table that there is
 *
 * The caller has seen to it that frames are visible (pagemap_visible()). 0, or
 * -errno of the file. Processes that end meanwhile have no row, nor have those
 * that we may not look into; *refused: how many these are.
 */
int sampler_take(const struct sampler *s, uint64_t *refused);

#endif
