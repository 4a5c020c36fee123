/* SPDX-License-Identifier: MIT */
/* progress.c - one line on a terminal that says how far a study is */
#include "tool/progress.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"

#define EVERY_NS	(200 * NS_PER_MS)

static void begin(const struct progress *p)
{
	fprintf(stderr, "\r\033[Ksample %" PRIu64, p->sample);
	if (p->samples)
		fprintf(stderr, " of %" PRIu64, p->samples);
}

void progress_tables(struct progress *p, uint64_t tables)
{
	int64_t now = clock_ns(CLOCK_MONOTONIC);

	if (!p->shown || now - p->told_ns < EVERY_NS)
		return;
	p->told_ns = now;
	begin(p);
	fprintf(stderr, ": %" PRIu64 " page tables", tables);
}

void progress_wait(const struct progress *p, int64_t wait_s)
{
	if (!p->shown)
		return;
	begin(p);
	fprintf(stderr, " in %" PRId64 ":%02" PRId64 ":%02" PRId64,
		wait_s / 3600, wait_s / 60 % 60, wait_s % 60);
}

void progress_end(const struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
}
