/* SPDX-License-Identifier: MIT */
/*
 * collapse.c - extents, if a process's memory were in huge pages
 *
 * Theory of operation. The advice is given from outside, by
 * process_madvise(2), and not by a call that the process is made to make: the
 * moment is that of its end, when it has its memory and does not run any code
 * of its own any more. Frames are read again afterwards, so what is reported
 * is measured.
 */
#include "tool/collapse.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"

#define BLOCK		(2ULL << 20)
#define MADV_COLLAPSE_	25	/* Linux 6.1 */

static uint64_t block_of(uint64_t gva)
{
	return gva & ~(BLOCK - 1);
}

static uint64_t end_of(const struct page_extent *e)
{
	return e->gva + e->npages * PAGE_BYTES;
}

/* --- the estimate -------------------------------------------------------- */

void estimate_begin(struct estimate *m, const struct map_line *line)
{
	*m = (struct estimate){ .block = UINT64_MAX };
	if (!line->shared && !line->ino) {
		m->first = block_of(line->start + BLOCK - 1);
		m->end = block_of(line->end);
	}
}

static bool in_blocks(const struct estimate *m, uint64_t gva)
{
	return m->first <= gva && gva < m->end;
}

/* Part of a block that becomes one extent: which counts once. */
static void add_block(struct estimate *m, uint64_t gva)
{
	if (m->block != block_of(gva))
		m->extents++;
	m->block = block_of(gva);
}

void estimate_add(struct estimate *m, const struct page_extent *e)
{
	uint64_t start = e->gva, end = end_of(e);

	if (start % BLOCK && in_blocks(m, start)) {
		add_block(m, start);
		start = block_of(start) + BLOCK;
	}
	if (start < end && end % BLOCK && in_blocks(m, end)) {
		const uint64_t last = block_of(end);

		/* What comes before it stays as it is. */
		m->extents += start < last;
		add_block(m, last);
		return;
	}
	m->extents += start < end;
}

/* --- the advice ---------------------------------------------------------- */

struct collapser {
	int pidfd;
	struct map_line line;
	uint64_t done;		/* blocks below it have been tried */
	uint64_t blocks;
};

static ssize_t advise(int pidfd, uint64_t at, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)at, len };
	ssize_t n = syscall(SYS_process_madvise, pidfd, &iov, 1,
			    MADV_COLLAPSE_, 0);

	return n < 0 ? -errno : n;
}

static int collapse_extent(void *ctx, const struct page_extent *e)
{
	struct collapser *c = ctx;
	uint64_t at = max_u64(block_of(e->gva), c->done);

	for (; at < end_of(e); at += BLOCK) {
		c->done = at + BLOCK;
		if (at >= c->line.start && c->line.end - at >= BLOCK)
			c->blocks += advise(c->pidfd, at, BLOCK) ==
				     (ssize_t)BLOCK;
	}
	return 0;
}

static int collapse_all(struct pagemap *pm, struct collapser *c,
			struct maps_reader *r)
{
	struct page_counts counts;
	int got, err = 0;

	while (!err && (got = maps_next(r, &c->line)) > 0) {
		c->done = 0;
		if (c->line.end - c->line.start >= BLOCK)
			err = pagemap_walk(pm, &c->line, collapse_extent, c,
					   &counts);
	}
	return err ? err : got;
}

int collapse(struct pagemap *pm, pid_t pid, int dir, uint64_t *blocks)
{
	struct collapser c = { .pidfd = -1 };
	int pidfd cleanup_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct maps_reader r;
	int err;

	if (pidfd < 0)
		return -errno;
	/* Of nothing: is the advice known, and may we give it? */
	err = (int)advise(pidfd, 0, 0);
	if (!err)
		err = pagemap_visible() == -EPERM ? -ENODATA : 0;
	if (!err)
		err = pagemap_open(pm, dir);
	if (!err)
		err = maps_open(&r, dir);
	if (err)
		return err;
	c.pidfd = pidfd;
	err = collapse_all(pm, &c, &r);
	maps_close(&r);
	*blocks = c.blocks;
	return err;
}
