/* SPDX-License-Identifier: MIT */
/*
 * collapse.h - extents, if a process's memory were in huge pages
 *
 * A *block* is an aligned 2 MiB that lies in one mapping as a whole.
 */
#ifndef TOOL_COLLAPSE_H
#define TOOL_COLLAPSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/extents.h"
#include "process/maps.h"
#include "process/pagemap.h"

/* How many extents a mapping would have, told one extent after the other. */
struct estimate {
	uint64_t first, end;	/* whole blocks of the mapping; first >= end:
				 * nothing of it can be collapsed */
	uint64_t block;		/* counted last */
	uint64_t extents;
};

/*
 * estimate_begin(), estimate_add() - of one mapping, in ascending order
 *
 * Taken for collapsed: every block of private anonymous memory that has pages
 * and is not in one extent already, whether the kernel would succeed or not,
 * and however much memory that takes. What comes out is a bound: huge pages in
 * a row are counted one by one.
 */
void estimate_begin(struct estimate *m, const struct map_line *line);
void estimate_add(struct estimate *m, const struct page_extent *e);

/*
 * collapse() - make huge pages of a process's memory (MADV_COLLAPSE)
 *
 * All blocks that have pages, of all mappings, files included where the kernel
 * has huge pages of them; what cannot be collapsed stays as it is. It takes
 * memory: a block becomes 2 MiB, however little of it was there.
 *
 * dir: /proc/PID, open. *blocks: how many are huge now. 0 or -errno: -EPERM, we
 * lack CAP_SYS_NICE; -EINVAL, the kernel is older than Linux 6.1; -ENODATA,
 * frames are hidden; -ESRCH, its first thread has ended; or as pagemap_open().
 */
int collapse(struct pagemap *pm, pid_t pid, int dir, uint64_t *blocks);

#endif
