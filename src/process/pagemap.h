/* SPDX-License-Identifier: MIT */
/*
 * pagemap.h - page tables of processes (proc_pid_pagemap(5))
 *
 * What needs which privilege:
 * - to open /proc/PID/pagemap and maps: to be allowed to look into the process
 *   (ptrace(2), PTRACE_MODE_READ): one's own processes, all of them with
 *   CAP_SYS_PTRACE;
 * - frame numbers, so extents: CAP_SYS_ADMIN when the file is opened, and again
 *   when it is read. Without it they read as 0, and pages are counted as
 *   hidden;
 * - huge pages and the zero page: nothing more since Linux 6.7 (PAGEMAP_SCAN).
 *   Before it they are known by their frames. That takes no kpageflags: the
 *   zero page is where our own page table has it, and a frame's flags say that
 *   it is part of something huge, but not that it is mapped as one.
 *
 * Memory is bounded: a buffer of a few thousand entries, whatever the process
 * has. Mappings without any permission are not read: no shadow maps them, and
 * they are what programs reserve address space with.
 */
#ifndef PROCESS_PAGEMAP_H
#define PROCESS_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/extents.h"
#include "process/maps.h"

/*
 * pagemap_read() - entries of n pages from start on, as the kernel has them
 *
 * fd: /proc/PID/pagemap, open. 0 or -errno; -EIO: the process has no memory any
 * more.
 */
int pagemap_read(int fd, uint64_t start, uint64_t n, uint64_t *out);

/* pagemap_visible() - 0, or -EPERM: frames read as 0 without CAP_SYS_ADMIN */
int pagemap_visible(void);

/* Buffers to read page tables with, one process after the other. */
struct pagemap;

int pagemap_new(struct pagemap **out);		/* 0 or -ENOMEM */
void pagemap_free(struct pagemap *pm);		/* pm may be NULL */

/*
 * pagemap_open() - the page table of the process whose /proc/PID is open
 *
 * dir: a directory with the file pagemap, borrowed; recorded ones will do. What
 * was open before is closed. 0 or -errno: -EACCES, it is not ours to look into;
 * -ESRCH, -ENOENT, it has gone.
 */
int pagemap_open(struct pagemap *pm, int dir);

/* Can counts of the open page table tell these? Else they are 0. */
bool pagemap_knows_zero(const struct pagemap *pm);
bool pagemap_knows_huge(const struct pagemap *pm,
			const struct page_counts *counts);

/*
 * pagemap_walk() - what a mapping has present
 *
 * found (or NULL) is called with every extent in ascending order; what it
 * returns other than 0 ends the walk. *counts are of this mapping. Pages come
 * and go meanwhile, unless the process is stopped. 0, that, or -errno as
 * pagemap_read() has it.
 */
int pagemap_walk(struct pagemap *pm, const struct map_line *line,
		 extent_fn found, void *ctx, struct page_counts *counts);

/*
 * pagemap_sizes() - as the kernel counts them, in bytes; 0 or -errno
 *
 * *vsz is 0 where there is no memory: a kernel thread, a zombie.
 */
int pagemap_sizes(int dir, uint64_t *vsz, uint64_t *rss);

/* A whole process. */
struct pagemap_totals {
	struct page_counts pages;
	uint64_t regions;	/* lines of /proc/PID/maps */
	uint64_t vsz, rss;	/* bytes */
	bool knows_zero, knows_huge;
	bool knows_frames;	/* false: no extents, for lack of privilege */
};

/*
 * pagemap_total() - all mappings of the process whose /proc/PID is open
 *
 * 0 or -errno as pagemap_open() has it. A process without memory has no
 * regions.
 */
int pagemap_total(struct pagemap *pm, int dir, struct pagemap_totals *out);

#endif
