/* SPDX-License-Identifier: MIT */
/*
 * pagemap.c - our own page table, read in stretches and all of it
 *
 * What is walked with the kernel's help (PAGEMAP_SCAN, where it has it) must be
 * what a look at every single entry finds.
 */
#include "process/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "tap.h"

#define PAGES	20000
#define TERA	(1ULL << 40)

static unsigned int seed = 5;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static char *map(size_t len, int prot)
{
	char *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS |
		       MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	madvise(p, len, MADV_NOHUGEPAGE);
	return p;
}

static struct map_line line_of(const char *p, size_t len)
{
	return (struct map_line){ .start = (uint64_t)(uintptr_t)p,
				  .end = (uint64_t)(uintptr_t)p + len,
				  .prot = PROT_READ | PROT_WRITE };
}

/* Far apart, close together, and in rows; some are only read. */
static size_t touch_some(char *p, size_t *zeros)
{
	size_t present = 0;

	*zeros = 0;
	for (size_t at = pick(50); at < PAGES;
	     at += 1 + pick(pick(3) ? 4 : 300))
		for (size_t n = 1 + pick(20); n-- && at < PAGES; at++) {
			volatile char *page = p + at * PAGE_BYTES;

			present++;
			if (pick(5)) {
				*page = 1;
			} else {
				(void)*page;
				++*zeros;
			}
		}
	return present;
}

static int keep_last(void *ctx, const struct page_extent *e)
{
	struct page_extent *last = ctx;

	if (e->gva < last->gva + last->npages * PAGE_BYTES)
		return -EILSEQ;
	*last = *e;
	return 0;
}

static void test_walk(struct pagemap *pm)
{
	static uint64_t entries[PAGES];
	char *p = map(PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE);
	const struct map_line line = line_of(p, PAGES * PAGE_BYTES);
	struct page_extent last = { .gva = 0 };
	int fd cleanup_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct page_counts c;
	struct extents x;
	size_t zeros, present = touch_some(p, &zeros);

	ok(pagemap_walk(pm, &line, keep_last, &last, &c) == 0,
	   "a mapping is walked, in ascending order");
	ok(c.present == present, "every page that was touched is present");
	ok(!pagemap_knows_zero(pm) || (c.zero == zeros &&
				       c.own == present - zeros),
	   "what was only read is the zero page, the rest our own");
	extents_begin(&x, line.prot, false, NULL, NULL);
	pagemap_read(fd, line.start, PAGES, entries);
	extents_add(&x, line.start, entries, PAGES, 0);
	extents_end(&x);
	ok(c.extents == x.counts.extents && c.largest == x.counts.largest &&
	   c.present == x.counts.present && c.hidden == x.counts.hidden,
	   "extents are those of reading every entry");
	munmap(p, PAGES * PAGE_BYTES);
}

static void test_reservation(struct pagemap *pm)
{
	char *p = map(TERA, PROT_READ | PROT_WRITE);
	const struct map_line line = line_of(p, TERA);
	struct page_counts c = { 0 };

	if (!pagemap_knows_zero(pm) || pagemap_visible() < 0) {
		ok(true, "a reservation # skip takes root and Linux 6.7");
		return;
	}
	p[0] = p[TERA / 2] = p[TERA - 1] = 1;
	ok(pagemap_walk(pm, &line, NULL, NULL, &c) == 0 && c.present == 3 &&
	   c.extents == 3, "a reservation of a tebibyte has its three pages");
	munmap(p, TERA);
}

static void test_huge(struct pagemap *pm)
{
	const size_t huge = 2 << 20;
	char *p = map(4 * huge, PROT_READ | PROT_WRITE);
	const struct map_line line = line_of(p, 4 * huge);
	struct page_counts c = { 0 };

	madvise(p, 4 * huge, MADV_HUGEPAGE);
	memset(p, 1, 4 * huge);
	ok(pagemap_walk(pm, &line, NULL, NULL, &c) == 0 &&
	   c.present == 4 * huge / PAGE_BYTES && c.huge % 512 == 0 &&
	   c.huge <= c.present, "huge pages are counted whole");
	printf("# %llu huge pages\n", (unsigned long long)c.huge / 512);
	munmap(p, 4 * huge);
}

static void test_total(struct pagemap *pm, int dir)
{
	struct pagemap_totals t;

	ok(pagemap_total(pm, dir, &t) == 0 && t.regions > 0 &&
	   t.pages.present > 0 && t.vsz >= t.rss,
	   "a process as a whole");
	ok(t.pages.present == t.pages.zero + t.pages.file + t.pages.own +
			      t.pages.shared,
	   "a page is of one kind");
}

/* maps_next() and maps_read() tell the same, of one that does not change. */
static void test_lines(void)
{
	struct maps all = { 0 };
	struct maps_reader r;
	struct map_line line;
	char path[64];
	int dir cleanup_fd = -1;
	pid_t pid = fork();
	size_t n = 0;
	bool same;

	if (pid == 0) {
		pause();
		_exit(0);
	}
	snprintf(path, sizeof(path), "/proc/%d", pid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	same = maps_read(pid, &all) == 0 && maps_open(&r, dir) == 0;
	while (same && maps_next(&r, &line) > 0) {
		same = n < all.n && line.end == all.v[n].end &&
		       line.ino == all.v[n].ino &&
		       strcmp(line.name, all.v[n].name) == 0;
		n++;
	}
	/* The kernel's own is the last, if it is there. */
	ok(same && n + 1 >= all.n, "lines are read one by one");
	maps_close(&r);
	maps_fini(&all);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void write_maps(int dir, const char *text, size_t len)
{
	int fd cleanup_fd = openat(dir, "maps", O_WRONLY | O_CREAT | O_TRUNC |
				   O_CLOEXEC, 0600);

	if (fd < 0 || fd_pwrite_all(fd, text, len, 0) < 0)
		exit(1);
}

static int first_line(int dir)
{
	struct maps_reader r;
	struct map_line line;
	int got = maps_open(&r, dir);

	if (!got)
		got = maps_next(&r, &line);
	maps_close(&r);
	return got;
}

static void test_bad_lines(void)
{
	static const char whole[] = "1000-2000 r--p 0 00:00 0 /x\n";
	static char large[64 << 10];
	char name[] = "/tmp/ds-unit.XXXXXX", file[64];
	int dir cleanup_fd = -1;

	if (!mkdtemp(name))
		exit(1);
	dir = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	write_maps(dir, whole, sizeof(whole) - 1);
	ok(first_line(dir) == 1, "a line is read");
	write_maps(dir, whole, sizeof(whole) - 2);
	ok(first_line(dir) == -EPROTO, "one without an end is refused");
	memset(large, 'x', sizeof(large));
	write_maps(dir, large, sizeof(large));
	ok(first_line(dir) == -EPROTO, "one without end is, too");
	write_maps(dir, "", 0);
	ok(first_line(dir) == 0, "there may be none");
	snprintf(file, sizeof(file), "%s/maps", name);
	unlink(file);
	rmdir(name);
}

int main(void)
{
	int dir cleanup_fd = open("/proc/self", O_PATH | O_DIRECTORY |
				  O_CLOEXEC);
	struct pagemap *pm = NULL;

	ok(pagemap_new(&pm) == 0 && pagemap_open(pm, dir) == 0,
	   "our own page table is opened");
	test_walk(pm);
	test_reservation(pm);
	test_huge(pm);
	test_total(pm, dir);
	test_lines();
	test_bad_lines();
	pagemap_free(pm);
	return tap_end();
}
