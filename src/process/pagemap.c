/* SPDX-License-Identifier: MIT */
/*
 * pagemap.c - page tables of processes
 *
 * Theory of operation. A mapping may be a reservation of terabytes of which a
 * few pages are there (sanitizers, Go, Java), and /proc/PID/pagemap has eight
 * bytes for each page that is not. So the kernel is first asked by PAGEMAP_SCAN
 * for *stretches* that have pages; the file is read there only, for the
 * frames. Stretches with a small gap in between are read together. They also
 * tell, to everybody, what is huge and what is the zero page.
 *
 * Kernels before Linux 6.7 do not have it, nor has a recorded file: then all of
 * a mapping is read.
 */
#include "process/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"

#define READ_PAGES	4096	/* entries at once */
#define STRETCHES	512	/* at once */

/* To read so many absent entries costs less than another call. */
#define GAP_PAGES	64

/* linux/fs.h, Linux 6.7 */
struct stretch {
	uint64_t start, end;
	uint64_t categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end;
	uint64_t vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};

#define SCAN		_IOWR('f', 16, struct scan_arg)
#define SCAN_PRESENT	(1ULL << 3)
#define SCAN_SWAPPED	(1ULL << 4)
#define SCAN_ZERO	(1ULL << 5)
#define SCAN_HUGE	(1ULL << 6)

struct pagemap {
	int fd;			/* owned */
	bool scans;
	uint64_t zero_pfn;	/* 0: not known */
	uint64_t entries[READ_PAGES];
	struct stretch stretches[STRETCHES];
};

int pagemap_read(int fd, uint64_t start, uint64_t n, uint64_t *out)
{
	size_t want = n * sizeof(*out), have = 0;

	while (have < want) {
		ssize_t got = pread(fd, (char *)out + have, want - have,
				    (off_t)(start / PAGE_BYTES * sizeof(*out) +
					    have));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		have += (size_t)got;
	}
	return 0;
}

/* The entry of a page of ours. */
static int own_entry(const void *p, uint64_t *entry)
{
	int fd cleanup_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno :
			pagemap_read(fd, (uint64_t)(uintptr_t)p, 1, entry);
}

int pagemap_visible(void)
{
	uint64_t entry = 0;
	int err = own_entry(&entry, &entry);

	if (err)
		return err;
	return entry & PAGEMAP_PFN ? 0 : -EPERM;
}

/* Memory that was read and never written is the zero page, ours as well. */
static uint64_t find_zero_pfn(void)
{
	volatile char *p = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE |
				MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;

	if (p == MAP_FAILED)
		return 0;
	(void)*p;
	(void)own_entry((const void *)p, &entry);
	munmap((void *)p, PAGE_BYTES);
	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_PFN : 0;
}

int pagemap_new(struct pagemap **out)
{
	struct pagemap *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return -ENOMEM;
	pm->fd = -1;
	*out = pm;
	return 0;
}

void pagemap_free(struct pagemap *pm)
{
	if (!pm)
		return;
	close_fd(&pm->fd);
	free(pm);
}

/* How many stretches are in [*start, end); *start is where the rest begins. */
static int scan(struct pagemap *pm, uint64_t *start, uint64_t end)
{
	struct scan_arg arg = {
		.size = sizeof(arg), .start = *start, .end = end,
		.vec = (uint64_t)(uintptr_t)pm->stretches,
		.vec_len = STRETCHES,
		.anyof = SCAN_PRESENT | SCAN_SWAPPED,
		.returned = SCAN_PRESENT | SCAN_SWAPPED | SCAN_ZERO |
			    SCAN_HUGE,
	};
	int n = ioctl(pm->fd, SCAN, &arg);

	if (n < 0)
		return -errno;
	*start = arg.walk_end;
	return n;
}

/* Frames of another machine, or of another day, are none of ours. */
static bool is_recorded(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC;
}

int pagemap_open(struct pagemap *pm, int dir)
{
	uint64_t start = PAGE_BYTES;

	close_fd(&pm->fd);
	pm->fd = openat(dir, "pagemap", O_RDONLY | O_CLOEXEC);
	if (pm->fd < 0)
		return -errno;
	pm->scans = scan(pm, &start, start + PAGE_BYTES) >= 0;
	if (is_recorded(pm->fd))
		pm->zero_pfn = 0;
	else if (!pm->scans && !pm->zero_pfn)
		pm->zero_pfn = find_zero_pfn();
	return 0;
}

bool pagemap_knows_zero(const struct pagemap *pm)
{
	return pm->scans || pm->zero_pfn;
}

bool pagemap_knows_huge(const struct pagemap *pm,
			const struct page_counts *counts)
{
	return pm->scans || !counts->hidden;
}

static int flags_of(const struct stretch *s)
{
	return (s->categories & SCAN_ZERO ? PAGES_ZERO : 0) |
	       (s->categories & SCAN_HUGE ? PAGES_HUGE : 0);
}

/* All of [start, end). */
static int walk_whole(struct pagemap *pm, struct extents *x, uint64_t start,
		      uint64_t end, int flags)
{
	int err = 0;

	while (start < end && !err) {
		const uint64_t n = min_u64(READ_PAGES,
					   (end - start) / PAGE_BYTES);

		err = pagemap_read(pm->fd, start, n, pm->entries);
		if (!err)
			err = extents_add(x, start, pm->entries, n, flags);
		start += n * PAGE_BYTES;
	}
	return err;
}

/* Those of n stretches that are read together; at least the first. */
static size_t neighbours(const struct stretch *s, size_t n)
{
	size_t i = 1;

	while (i < n && s[i].start - s[i - 1].end <= GAP_PAGES * PAGE_BYTES &&
	       s[i].end - s[0].start <= READ_PAGES * PAGE_BYTES)
		i++;
	return i;
}

static int walk_together(struct pagemap *pm, struct extents *x,
			 const struct stretch *s, size_t n)
{
	const uint64_t first = s->start;
	int err = pagemap_read(pm->fd, first,
			       (s[n - 1].end - first) / PAGE_BYTES,
			       pm->entries);

	for (size_t i = 0; i < n && !err; i++)
		err = extents_add(x, s[i].start, pm->entries +
				  (s[i].start - first) / PAGE_BYTES,
				  (s[i].end - s[i].start) / PAGE_BYTES,
				  flags_of(&s[i]));
	return err;
}

static int walk_stretches(struct pagemap *pm, struct extents *x, size_t n)
{
	const struct stretch *s = pm->stretches;
	int err = 0;

	for (size_t i = 0, m; i < n && !err; i += m) {
		m = neighbours(s + i, n - i);
		err = m > 1 ? walk_together(pm, x, s + i, m) :
			      walk_whole(pm, x, s[i].start, s[i].end,
					 flags_of(&s[i]));
	}
	return err;
}

static int walk_scanned(struct pagemap *pm, struct extents *x, uint64_t start,
			uint64_t end)
{
	int err = 0;

	while (start < end && !err) {
		const uint64_t from = start;
		int n = scan(pm, &start, end);

		if (n == -EINTR)
			continue;
		/* The mapping has gone meanwhile, or the process. */
		if (n < 0 || start <= from)
			return n < 0 ? n : -EIO;
		err = walk_stretches(pm, x, (size_t)n);
	}
	return err;
}

int pagemap_walk(struct pagemap *pm, const struct map_line *line,
		 extent_fn found, void *ctx, struct page_counts *counts)
{
	struct extents x;
	int err = 0;

	extents_begin(&x, line->prot, line->shared, found, ctx);
	x.zero_pfn = pm->scans ? 0 : pm->zero_pfn;
	x.huge_by_frames = !pm->scans;
	if (line->prot)
		err = pm->scans ?
		      walk_scanned(pm, &x, line->start, line->end) :
		      walk_whole(pm, &x, line->start, line->end, 0);
	if (!err)
		err = extents_end(&x);
	*counts = x.counts;
	return err;
}

/* statm: "size resident ...", in pages */
int pagemap_sizes(int dir, uint64_t *vsz, uint64_t *rss)
{
	int fd cleanup_fd = openat(dir, "statm", O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (sscanf(text, "%" SCNu64 " %" SCNu64, vsz, rss) != 2)
		return -EPROTO;
	*vsz *= PAGE_BYTES;
	*rss *= PAGE_BYTES;
	return 0;
}

static int add_line(struct pagemap *pm, const struct map_line *line,
		    struct pagemap_totals *t)
{
	struct page_counts counts;
	int err = pagemap_walk(pm, line, NULL, NULL, &counts);

	page_counts_add(&t->pages, &counts);
	t->regions++;
	return err;
}

int pagemap_total(struct pagemap *pm, int dir, struct pagemap_totals *out)
{
	struct maps_reader r;
	struct map_line line;
	int err, got = 1;

	*out = (struct pagemap_totals){ .vsz = 0 };
	err = pagemap_sizes(dir, &out->vsz, &out->rss);
	if (err || !out->vsz)
		return err;
	err = pagemap_open(pm, dir);
	if (!err)
		err = maps_open(&r, dir);
	if (err)
		return err;
	while (!err && (got = maps_next(&r, &line)) > 0)
		err = add_line(pm, &line, out);
	maps_close(&r);
	out->knows_zero = pagemap_knows_zero(pm);
	out->knows_huge = pagemap_knows_huge(pm, &out->pages);
	out->knows_frames = !out->pages.hidden;
	return err ? err : got;
}
