/* SPDX-License-Identifier: MIT */
/* bar.c - memory of a PCI device of the guest, as targets map it */
#include "guest/bar.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"

/* Of PCI devices that is a physical address (pci_mmap_resource_range()). */
static int find_first(struct bar *bar)
{
	void *p = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, bar->fd, 0);
	const struct map_line *line;
	struct maps maps = { 0 };
	int err;

	if (p == MAP_FAILED)
		return -errno;
	err = maps_read(getpid(), &maps);
	line = maps_at(&maps, (uintptr_t)p);
	if (line)
		bar->first = line->off + ((uintptr_t)p - line->start);
	maps_fini(&maps);
	munmap(p, PAGE_BYTES);
	return err;
}

int bar_open(struct bar *bar, const char *path)
{
	struct stat st = { .st_ino = 0 };
	int err;

	if (bar->open)
		return 0;
	if (!path)
		return -ENODEV;
	bar->fd = open(path, O_RDWR | O_CLOEXEC);
	bar->read_fd = open(path, O_RDONLY | O_CLOEXEC);
	err = bar->fd < 0 || bar->read_fd < 0 || fstat(bar->fd, &st) < 0 ?
	      -errno : find_first(bar);
	bar->dev = st.st_dev;
	bar->ino = st.st_ino;
	bar->open = true;
	if (err)
		bar_close(bar);
	return err;
}

void bar_close(struct bar *bar)
{
	if (!bar->open)
		return;
	close_fd(&bar->fd);
	close_fd(&bar->read_fd);
	bar->open = false;
}

bool bar_is(const struct bar *bar, const struct map_line *line)
{
	return bar->open && line->shared && line->ino == bar->ino &&
	       line->dev == bar->dev;
}
